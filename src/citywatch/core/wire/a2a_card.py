"""An agent's card, as its peer offers it and as we serve it.

Decides whether a value is a card that a person can approve, and what of an approved one callers see: our address in the
place of the peer's, no way around us, no word that a reader of cards would not know. A card of A2A 0.3 is read and can
be approved, for a person wants to know what it says; its agent is not spoken to, and that is said (`check_spoken`).
INVARIANTS: a card that leads elsewhere than to the configured address is malformed; what is served holds nothing that
the approved card does not, but our address, the bindings in which we take messages and the signature; what is signed
has one canonical form, that of `a2a-sdk`: without members that are empty or false.
SPEC: A2A 1.0 §8 (agent cards, JWS over RFC 8785); 0.3 §5.5.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.wire.a2a import VERSION

PATH: Final = "/.well-known/agent-card.json"
BINDINGS: Final = ("JSONRPC", "HTTP+JSON")
"""What a peer may speak; an agent is served both, whichever that is (ADR 31)."""
MAX_SKILLS: Final = 256
_TEXTS: Final = ("name", "description", "version")
_KEPT: Final = (*_TEXTS, "documentationUrl", "iconUrl")
_MODES: Final = ("defaultInputModes", "defaultOutputModes")
_SKILL_TEXTS: Final = ("id", "name", "description")
_SKILL_LISTS: Final = ("tags", "examples", "inputModes", "outputModes")
_EXTENSION: Final = ("uri", "description", "required", "params")
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
    _expect(bool(_interfaces(card)), "it says nowhere where the agent is")
    _expect(_at(card, url, None), f"it leads elsewhere than to {url}")
    return card


def check_spoken(card: Mapping[str, Any], url: str, binding: str) -> None:
    """Raise `Refused` unless this card's agent takes A2A 1.0 in this binding at the configured address."""
    if not _at(card, url, (binding, VERSION)):
        said = ", ".join(sorted({f"{one} {version}" for _, one, version in _interfaces(card)}))
        detail = f"this gateway speaks A2A {VERSION} over {binding} there; the agent's card offers {said[:200]}"
        raise Refused(Code.REVISION_UNSUPPORTED, detail)


def served(
    card: Mapping[str, Any],
    url: str,
    skills: tuple[str, ...],
    binding: str = BINDINGS[0],
    *,
    pushes: bool = False,
    extensions: tuple[str, ...] = (),
) -> dict[str, Any]:
    """A checked card as its callers see it: our address, and those `skills` that are offered here (none named: all).

    `binding` is the peer's own, and so the first one; `pushes`: the caller can have them sent.
    `extensions` are those of the card that a caller may ask for.
    """
    capabilities = card.get("capabilities", {})
    told: dict[str, Any] = {name: card[name] for name in _KEPT if type(card.get(name)) is str}
    told |= {name: card[name] for name in _MODES if name in card}
    spoken = sorted(BINDINGS, key=lambda one: one != binding)
    told["supportedInterfaces"] = [{"url": url, "protocolBinding": one, "protocolVersion": VERSION} for one in spoken]
    told["capabilities"] = {
        name: True
        for name, offered in (("streaming", True), ("pushNotifications", pushes))
        if offered and capabilities.get(name) is True
    }
    offered = capabilities.get("extensions", [])
    told["capabilities"]["extensions"] = [
        {name: one[name] for name in _EXTENSION if name in one}
        for one in (offered if type(offered) is list else [])
        if type(one) is dict and one.get("uri") in extensions
    ]
    told["skills"] = [
        {name: one[name] for name in (*_SKILL_TEXTS, *_SKILL_LISTS) if name in one}
        for one in card["skills"]
        if not skills or one["id"] in skills
    ]
    plain = _plain(told)
    assert isinstance(plain, dict)
    return plain


def pushes(card: Mapping[str, Any]) -> bool:
    """Whether a card says that its agent pushes."""
    capabilities = card.get("capabilities")
    return type(capabilities) is dict and capabilities.get("pushNotifications") is True


def content(card: Mapping[str, Any]) -> dict[str, Any]:
    """What a card says, whoever signed it: the same words under another signature are the same card."""
    return {key: value for key, value in card.items() if key != "signatures"}


def _at(card: Mapping[str, Any], url: str, spoken: tuple[str, str] | None) -> bool:
    """Whether the card names this address, in this binding and version (None: in any)."""
    return any(
        address == url.rstrip("/") and spoken in (None, (binding, version))
        for address, binding, version in _interfaces(card)
    )


def _interfaces(card: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Address, binding and version of each way to speak to the agent. SPEC: 0.3 §5.5.5: there `url` is the first."""
    interfaces = card.get("supportedInterfaces", [])
    _expect(type(interfaces) is list, "`supportedInterfaces` is no list")
    more = card.get("additionalInterfaces", []) if not interfaces else []
    _expect(type(more) is list, "`additionalInterfaces` is no list")
    found = [_words(one, ("url", "protocolBinding", "protocolVersion")) for one in interfaces]
    if not interfaces and type(card.get("url")) is str:
        version = card.get("protocolVersion")
        old = version if type(version) is str else "0.3"
        told = {"url": card["url"], "transport": card.get("preferredTransport", BINDINGS[0])}
        found = [(*_words(one, ("url", "transport"))[:2], old) for one in (told, *more)]
    return [(address.rstrip("/"), binding, version) for address, binding, version in found]


def _words(value: object, names: tuple[str, ...]) -> tuple[str, str, str]:
    said = _object(value, "an interface")
    words = [one if type(one := said.get(name)) is str else "" for name in names]
    return words[0], words[1], words[2] if len(words) > 2 else ""


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
