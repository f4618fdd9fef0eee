"""A draft of a server's manifests, as text to paste into `citywatch.yaml`: guesses that an operator reads and decides.

Decides how much of a guess holds before anybody has looked. INVARIANTS
1. A draft that is pasted unread takes nothing away from silence: the effect stays `irreversible`, the audience
   `everybody`, every output `untrusted`, and no role stands in it that a value could use which silence would have
   stopped. Each weaker guess is a comment, marked `# decide:` and with what to write. The names by which we guess are
   the server's own, and what a server says of itself is never believed. With `unsafe_guesses` the guesses stand in it
   themselves, and the text says so first.
2. The text loads in our own reader and gives `Draft.tools` again, whatever names and descriptions a server chose: what
   stands in it of the server's is quoted, in ASCII, on its line. A name that the file could not hold is left out, and
   said to be.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from citywatch.config.guess import WEAKER, EffectGuess, RoleGuess, guess_effect, guess_role
from citywatch.core.call import Effect
from citywatch.core.enforce.places import Place, places
from citywatch.core.errors import Malformed
from citywatch.core.flow.fields import parse_path
from citywatch.core.manifest import UNTRUSTED, Output, Parameter, ParameterType, Role, ToolManifest

MAX_TOOL_NAME: Final = 128
MAX_KEY: Final = 900
"""Characters of a quoted key: YAML takes no more than 1,024 before the colon."""
MAX_FIELDS: Final = 64
_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*\Z")
_NOT_TEXT: Final = frozenset(("yes", "no", "on", "off", "true", "false", "null", "y", "n"))


class Guessed(msgspec.Struct, frozen=True):
    """One place with what was guessed of it and the role that stands in the draft."""

    place: Place
    guess: RoleGuess
    role: Role


class Drafted(msgspec.Struct, frozen=True, kw_only=True):
    """One tool of a draft: what was guessed, and the manifest that stands in the text."""

    name: str
    effect: EffectGuess
    places: tuple[Guessed, ...]
    manifest: ToolManifest


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """The text, what it says when it is loaded, and how many decisions it leaves to the operator."""

    text: str
    tools: Mapping[str, ToolManifest]
    drafted: tuple[Drafted, ...]
    decisions: int


def draft_manifests(
    server: str,
    definitions: Iterable[Mapping[str, Any]],
    declared: Iterable[str] = (),
    *,
    unsafe_guesses: bool = False,
) -> Draft:
    """Draft the `tools` of one server from the definitions that it offers. `declared` stand in the file already."""
    known = frozenset(declared)
    drafted: dict[str, Drafted] = {}
    blocks: list[str] = []
    for definition in definitions:
        name = definition.get("name")
        why = _unusable(name, MAX_TOOL_NAME) or ("it is defined twice" if name in drafted else "")
        if why or not isinstance(name, str):
            blocks.append(f"      # left out, so that silence holds: {_shown(name)}: {why}")
            continue
        drafted[name] = one = _tool(name, definition, unsafe_guesses)
        blocks += _written(one, definition, twice=name in known)
    decisions = sum(line.count("# decide:") for line in blocks)
    stands = "As it stands it takes nothing away from silence; it leaves"
    if unsafe_guesses:
        stands = "UNSAFE: guesses by the server's own words stand in it; it leaves"
    head = [
        f"# A draft of {len(drafted)} tools. {stands} {decisions}",
        "# decisions to you, each marked `decide:`. Names and types are the server's own words: go by what you know.",
        "servers:",
        f"  {_key(server)}:",
        "    tools:",
    ]
    text = "\n".join((*(head if drafted else []), *blocks, ""))
    tools = {name: one.manifest for name, one in drafted.items()}
    return Draft(text=text, tools=tools, drafted=tuple(drafted.values()), decisions=decisions)


def _tool(name: str, definition: Mapping[str, Any], unsafe: bool) -> Drafted:
    schema = definition.get("inputSchema")
    found = places(schema) if isinstance(schema, Mapping) else ()
    usable = [one for one in found if not _unusable(one.path) and not one.path.startswith("__")]
    first = guess_effect(definition, frozenset())
    guesses = [(one, _of_place(one, first.effect is Effect.READ)) for one in usable]
    roles = frozenset(one.role for place, one in guesses if not (one.option or place.members or place.listed))
    effect = guess_effect(definition, roles)
    chosen = tuple(
        Guessed(place, one, (one.role or Role.DESTINATION) if unsafe else _safe(place, one)) for place, one in guesses
    )
    return Drafted(
        name=name,
        effect=effect,
        places=chosen,
        manifest=ToolManifest(
            effect=effect.effect if unsafe else Effect.IRREVERSIBLE,
            parameters={one.place.path: Parameter(type=_type(one), role=one.role) for one in chosen},
            output=_outputs(definition),
        ),
    )


def _of_place(place: Place, reads: bool) -> RoleGuess:
    if len(place.tops) > 1:  # one declaration would hold for two arguments, and they need not do the same
        return RoleGuess(None, "two arguments share this place", sure=False)
    if place.members:
        return RoleGuess(None, "whatever it holds beside the members below", sure=False)
    return guess_role(place, reads)


def _safe(place: Place, guess: RoleGuess) -> Role:
    """# INVARIANT: 1. What is weaker than silence, or holds for more than was guessed, waits for a person."""
    if guess.role is None or guess.role in WEAKER or not guess.sure or place.members:
        return Role.DESTINATION
    return guess.role


def _type(one: Guessed) -> ParameterType | None:
    return one.guess.type if one.role is one.guess.role and not one.place.listed else None


def _outputs(definition: Mapping[str, Any]) -> dict[str, Output]:
    """Every field that the output schema names: as if a third party had written it."""
    schema = definition.get("outputSchema")
    found = ["$"]
    for place in places(schema) if isinstance(schema, Mapping) else ():
        path = "$" + "".join(_steps(place.path))
        try:
            parse_path(path)
        except Malformed:
            continue
        if len(found) < MAX_FIELDS and not (place.members or place.listed or _unusable(path)):
            found.append(path)
    return dict.fromkeys(found, UNTRUSTED)


def _steps(path: str) -> Iterator[str]:
    """A place as steps of a path. What SDK servers wrap a plain value in, `result`, is no step (`receive`)."""
    inner = re.sub(r"\Aresult(?=[.\[]|\Z)", "", path)
    for part in filter(None, inner.split(".")):
        name = part.partition("[")[0]
        yield (f".{name}" if name else "") + "[*]" * part.count("[]")


# -- as text ---------------------------------------------------------------------------------------------------------


def _written(one: Drafted, definition: Mapping[str, Any], *, twice: bool) -> Iterator[str]:
    """The lines of one tool."""
    yield f"      {_key(one.name)}:" + ("  # citywatch.yaml declares it already: keep one of the two" if twice else "")
    yield f"        effect: {one.manifest.effect.value}  # {_effect(one.effect)}"
    yield "        audience: [everybody]  # decide: who reads what this tool is given, if not everybody?"
    if one.places:
        yield "        parameters:"
    for place in one.places:
        kind = _type(place)
        typed = "" if kind is None else f"type: {kind.value}, "
        yield f"          {_key(place.place.path)}: {{{typed}role: {place.role.value}}}  # {_reason(place)}"
    left = _left_out(definition, one)
    if left:
        yield f"          # left out, so that each is a destination: {', '.join(map(_shown, left))}"
    yield "        output:  # decide: which of these can nobody but this server fill? Only you can vouch for them"
    for path in one.manifest.output:
        yield f"          {_key(path)}: untrusted"


def _effect(guess: EffectGuess) -> str:
    why = _comment(guess.why)
    if guess.effect is Effect.IRREVERSIBLE:
        return why
    less = (
        "only destinations and commands need a source"
        if guess.effect is Effect.READ
        else "objects, amounts and times need none"
    )
    return f"decide: `{guess.effect.value}`? {why}; WEAKER: {less} then"


def _reason(one: Guessed) -> str:
    why, role = _comment(one.guess.why), one.guess.role
    if role is None:
        return f"decide: {why}"
    if role in WEAKER:
        return f"decide: `{role.value}`? {why}; WEAKER: {WEAKER[role]}"
    return why if one.guess.sure else f"decide: `{role.value}`? {why}; not sure"


def _left_out(definition: Mapping[str, Any], one: Drafted) -> list[str]:
    schema = definition.get("inputSchema")
    written = {place.place.path for place in one.places}
    offered = places(schema) if isinstance(schema, Mapping) else ()
    return [place.path[:40] for place in offered if place.path not in written][:8]


def _unusable(name: Any, longest: int = MAX_KEY) -> str:
    """Why the file cannot hold a name; empty if it can."""
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        return "its name is not one line of visible text"
    if len(name) > longest or len(_quoted(name)) > MAX_KEY:
        return "its name is too long"
    return ""


def _key(name: str) -> str:
    """A name as a key: as it stands where YAML reads it as text, otherwise quoted."""
    return name if _PLAIN.match(name) and name.lower() not in _NOT_TEXT else _quoted(name)


def _quoted(name: str) -> str:
    """Double quotes and ASCII: nothing that a terminal obeys or an eye mistakes, and never half a character."""
    letters = (
        f"\\{letter}" if letter in '"\\' else letter if " " <= letter <= "~" else f"\\U{ord(letter):08X}"
        for letter in name
    )
    return f'"{"".join(letters)}"'


def _shown(name: Any) -> str:
    return json.dumps(name[:40] if isinstance(name, str) else None)


def _comment(text: str) -> str:
    """Part of a comment: one line of ASCII, whatever a server's words are in it."""
    return json.dumps(" ".join(text.split())[:200])[1:-1].replace('\\"', '"').replace("decide:", "decide -")
