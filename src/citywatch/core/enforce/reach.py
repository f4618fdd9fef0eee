"""What a hijacked agent can reach unasked, as a list: every (act, destination, data) that the live rules let through.

Decides nothing; `probe` fills it by asking `admit`. Assumes *havoc*: what the agent could do with one value that it can
come by in some way, it does.

INVARIANTS
1. It names too much, never too little: any call that `admit` lets through under the premise is covered (`covers`).
2. What needs no source (the object of what can be taken back, words without a link) is the attacker's choice.
3. Data goes where the act's audience may see it; each audience that a manifest names is asked about.

Not listed: what a client needs to find its tools (`past.PLUMBING`), and the end of a session.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from citywatch.core.call import Call
from citywatch.core.enforce.held import FREE, Holding
from citywatch.core.enforce.rules import Rules
from citywatch.core.enforce.samples import ANYTHING, ENTITLED, NOUN, OWN, PLANNED, QUOTED, VOUCHED
from citywatch.core.enforce.steering import Finding
from citywatch.core.flow.history import History
from citywatch.core.label import Label, may_flow
from citywatch.core.manifest import EVERYBODY, audience_of
from citywatch.core.plan.contract import Progress


class Premise(msgspec.Struct, frozen=True, kw_only=True):
    """What is taken for granted. `history` holds the samples that the premise makes possible (`premises`).

    `label` is the context's. `speakers` are the principals who have spoken; `entitled`: they may have named something.
    """

    told: str
    history: History
    label: Label
    speakers: tuple[str, ...] = ()
    entitled: bool = False
    held: Holding = FREE
    progress: Progress | None = None


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """An act that can be reached. `ways` are, for each argument, the ways to come by a value that passes there.

    `aims` are the arguments that say to whom or what; `bare`: it can be done without any of them. `data` are the
    audiences whose data can go out with it. `conditional`: no representative passed the policies, some call may.
    """

    act: str
    effect: str
    ways: Mapping[str, tuple[str, ...]]
    aims: tuple[str, ...]
    bare: bool
    data: tuple[str, ...]
    conditional: bool


class Row(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One thing that can be reached: an act, with an argument that an attacker can fill in this way, with this data."""

    effect: str
    act: str
    argument: str
    way: str
    data: str
    conditional: bool


def rows(acts: Iterable[Act]) -> tuple[Row, ...]:
    """The list. Where an attacker may choose anything, what else would pass there is not listed beside it."""
    found: set[Row] = set()
    for act in acts:
        aimed = [(a, way) for a in act.aims for way in _widest(act.ways.get(a, ()))]
        if not aimed or (act.bare and all(way != ANYTHING for _, way in aimed)):
            aimed.append(("", ""))
        found.update(
            Row(effect=act.effect, act=act.act, argument=a, way=way, data=data, conditional=act.conditional)
            for a, way in aimed
            for data in act.data
        )
    return tuple(sorted(found))


def merged(surveys: Iterable[tuple[Act, ...]]) -> tuple[Act, ...]:
    """What can be reached under any of several premises."""
    found: dict[str, Act] = {}
    for act in (act for acts in surveys for act in acts):
        before = found.get(act.act)
        if before is None:
            found[act.act] = act
            continue
        found[act.act] = msgspec.structs.replace(
            before,
            ways={a: _both(before.ways.get(a, ()), act.ways.get(a, ())) for a in {**before.ways, **act.ways}},
            bare=before.bare or act.bare,
            data=_both(before.data, act.data),
            conditional=before.conditional and act.conditional,
        )
    return tuple(found[name] for name in sorted(found))


def covers(acts: Iterable[Act], call: Call, found: Iterable[Finding], label: Label, rules: Rules) -> bool:
    """Whether a tool call that was let through is among what can be reached. `found` is what `admit` found of it."""
    act = next((one for one in acts if one.act == f"{call.server}/{call.name}"), None)
    if act is None:
        return False
    for one in found:
        argument = next((a for a in call.arguments if at(one.path, a)), None)
        if argument is None:  # the act as such: it takes nothing that could be named
            if not act.bare:
                return False
            continue
        ways = act.ways.get(argument, act.ways.get(NOUN, ()))
        if ANYTHING not in ways and not any(_is(one, way) for way in ways):
            return False
    audience = audiences(rules)
    tool = rules.tools[(call.server, call.name or "")]
    reaches = audience_of(tool.manifest.audience)
    carried = [name for name, readers in audience.items() if readers == label.readers]
    return not may_flow(label, reaches) or all(name in act.data for name in carried)


def audiences(rules: Rules) -> dict[str, frozenset[str] | None]:
    """Everybody, and each set of readers that a manifest gives to a field of a reply, by name."""
    named = {
        tuple(sorted(output.readers))
        for tool in rules.tools.values()
        for output in tool.manifest.output.values()
        if EVERYBODY not in output.readers
    }
    return {EVERYBODY: None, **{", ".join(names): frozenset(names) for names in sorted(named)}}


_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    OWN: ("own",),
    QUOTED: ("quoted",),
    VOUCHED: ("vouched",),
    PLANNED: ("planned",),
    ANYTHING: ("clean", "anchored", "spoken"),
}
"""How `steering` calls what passes by a way. Every other rule of its, also one yet to come, is a person's word."""


def _is(one: Finding, way: str) -> bool:
    if way.startswith("known "):
        return one.how == "known" and f"`{way.removeprefix('known ')}`" in one.where
    if way == ENTITLED:
        return one.how != "known" and all(one.how not in names for names in _NAMES.values())
    return one.how in _NAMES[way]


def _widest(ways: tuple[str, ...]) -> tuple[str, ...]:
    return (ANYTHING,) if ANYTHING in ways else ways


def _both(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*one, *other)))


def at(path: str, argument: str) -> bool:
    return path == argument or path.startswith((f"{argument}.", f"{argument}["))
