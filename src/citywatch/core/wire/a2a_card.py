"""An agent's card, as its peer offers it and as we serve it.

Decides whether a value is a card that a person can approve, and what of an approved one callers see: our address in the
place of the peer's, no way around us, no word that a reader of cards would not know. A card of A2A 0.3 is read too.
INVARIANTS: a card that leads elsewhere than to the configured address is malformed; what is served holds nothing that
the approved card does not, but our address and the signature; it has one canonical form, that of `a2a-sdk`: without
members that are empty or false.
SPEC: A2A 1.0 §8 (agent cards, JWS over RFC 8785); 0.3 §5.5.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from citywatch.core.errors import Malformed
from citywatch.core.wire.a2a import VERSION

PATH: Final = "/.well-known/agent-card.json"
BINDING: Final = "JSONRPC"
MAX_SKILLS: Final = 256
_TEXTS: Final = ("name", "description", "version")
_KEPT: Final = (*_TEXTS, "documentationUrl", "iconUrl")
_MODES: Final = ("defaultInputModes", "defaultOutputModes")
_SKILL_TEXTS: Final = ("id", "name", "description")
_SKILL_LISTS: Final = ("tags", "examples", "inputModes", "outputModes")
_WORD: Final = re.compile(r"[A-Za-z0-9._/@+-]{1,128}\Z")


def check_card(value: object, url: str) -> dict[str, Any]:
    """The card, if it is one for the agent at `url`; raise `Malformed` otherwise."""
    card = _object(value, "the card")
    for name in _TEXTS:
        _expect(type(card.get(name)) is str and bool(card[name]), f"`{name}` is missing or no text")
    for name in (*_MODES,):
        _texts(card.get(name, []), name)
    _object(card.get("capabilities", {}), "`capabilities`")
    skills = card.get("skills")
    _expect(type(skills) is list and len(skills) <= MAX_SKILLS, f"`skills` is no list of at most {MAX_SKILLS}")
    assert isinstance(skills, list)
    for one in skills:
        skill = _object(one, "a skill")
        _expect(all(type(skill.get(name)) is str for name in _SKILL_TEXTS), "a skill has no id, name or description")
        _expect(_WORD.match(skill["id"]) is not None, "a skill's id is no plain word")
        for name in _SKILL_LISTS:
            _texts(skill.get(name, []), name)
    ids = [one["id"] for one in skills]
    _expect(len(set(ids)) == len(ids), "two skills have one id")
    addresses = _addresses(card)
    _expect(bool(addresses), f"it offers no {BINDING} of A2A {VERSION}")
    _expect(url.rstrip("/") in addresses, f"it leads elsewhere than to {url}")
    return card


def served(card: Mapping[str, Any], url: str, skills: tuple[str, ...]) -> dict[str, Any]:
    """A checked card as its callers see it: our address, and those `skills` that are offered here (none named: all)."""
    capabilities = card.get("capabilities", {})
    told: dict[str, Any] = {name: card[name] for name in _KEPT if type(card.get(name)) is str}
    told |= {name: card[name] for name in _MODES if name in card}
    told["supportedInterfaces"] = [{"url": url, "protocolBinding": BINDING, "protocolVersion": VERSION}]
    told["capabilities"] = {"streaming": capabilities.get("streaming") is True}
    told["skills"] = [
        {name: one[name] for name in (*_SKILL_TEXTS, *_SKILL_LISTS) if name in one}
        for one in card["skills"]
        if not skills or one["id"] in skills
    ]
    plain = _plain(told)
    assert isinstance(plain, dict)
    return plain


def _addresses(card: Mapping[str, Any]) -> set[str]:
    """Where the card says that JSON-RPC is taken; in one of 0.3 that is `url`, if it prefers that."""
    found = set()
    interfaces = card.get("supportedInterfaces", [])
    _expect(type(interfaces) is list, "`supportedInterfaces` is no list")
    for one in interfaces:
        said = _object(one, "an interface")
        address = said.get("url")
        if said.get("protocolBinding") == BINDING and said.get("protocolVersion") == VERSION and type(address) is str:
            found.add(address.rstrip("/"))
    old = card.get("url")
    if not interfaces and type(old) is str and card.get("preferredTransport", BINDING) == BINDING:
        found.add(old.rstrip("/"))
    return found


def _plain(value: Any) -> Any:
    """Without what is empty or false, at any depth; None if nothing is left."""
    if isinstance(value, dict):
        return {key: kept for key, one in value.items() if (kept := _plain(one)) is not None} or None
    if isinstance(value, list):
        return [kept for one in value if (kept := _plain(one)) is not None] or None
    return None if value == "" or value is False else value


def _object(value: object, what: str) -> dict[str, Any]:
    _expect(type(value) is dict, f"{what} is no object")
    assert isinstance(value, dict)
    return value


def _texts(value: object, name: str) -> None:
    _expect(type(value) is list and all(type(one) is str for one in value), f"`{name}` is no list of texts")


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Malformed(f"the agent card is malformed: {otherwise}")
