"""What a person's answer covers: who may give it, and for which later calls it stands.

    a no: this act towards the same values, however they are written, for as long as the ticket lasts
    a yes: the one call that was shown; where the approver said for how long, also calls that differ in words alone

Decides on answers that people gave, and on nothing that a model said. A no that held for one call letter by letter
would be asked again with another comma: whoever asks often enough is let through by mistake.

INVARIANTS
1. An irreversible act towards a party that nobody entitled named is answered by a principal who may steer it, never
   only by whoever is on call. A no may come from anybody.
2. A yes that outlives its call covers arguments that stand exactly as they were shown, words aside, and what was shown
   as the reason to ask: a value, link or account that was not shown is asked about.
3. A no covers every way of writing what was shown.
4. Where an act is not for those to approve whose authority it uses, none of them is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from citywatch.core.approvals.people import is_act_of
from citywatch.core.approvals.standing import Yes
from citywatch.core.approvals.ticket import Shown
from citywatch.core.call import Call, Effect
from citywatch.core.canonical import digest
from citywatch.core.enforce.arguments import Argument
from citywatch.core.enforce.rules import Rules
from citywatch.core.flow.history import History, Value
from citywatch.core.flow.readings import Typed
from citywatch.core.manifest import Role, ToolManifest

MAX_SHOWN = 64
_CONTENT: Final = Role.CONTENT  # bound once: up to Python 3.11 each look-up runs code of the class
_SORTED: Final = msgspec.json.Encoder(order="sorted")
Key = tuple[str, str]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a person said of one act: `state` is approved or denied; it holds before `until` (ms since 1970).

    `exact` hashes the arguments as they were written, words aside. `yes` is what an approval rests on.
    """

    state: str
    until: int
    by: str
    ticket: str
    exact: str
    shown: tuple[Shown, ...]
    reason: str = ""
    yes: Yes | None = None


def answer_key(call: Call, traced: Iterable[Argument], read: Callable[[Value], Typed] = Typed) -> Key:
    """The row for an answer about this act on these control values: one for all ways of writing them.

    `traced` are the values of the call (`arguments`), at most `MAX_VALUES`; `read` may remember how a value reads.
    """
    values = sorted([(one.path, one.role, read(one.value).normal) for one in traced if one.role is not _CONTENT])
    return ("answer", _digest("normal", call, values))


def exactly(call: Call, manifest: ToolManifest) -> str:
    """All arguments of a call as they were written, hashed, but those that only carry words along."""
    words = {name for name, one in manifest.parameters.items() if one.role is Role.CONTENT}
    return _digest("exact", call, {name: value for name, value in call.arguments.items() if name not in words})


def answerers(
    call: Call, effect: Effect, stopped: Iterable[Shown], rules: Rules, history: History, own: Sequence[str] = ()
) -> tuple[str, ...] | None:
    """# INVARIANT: 1. Those whose task it is and who may steer the act; if there are none, all who may steer it.

    Where nobody approves what their own authority is used for (`Rules.not_own`), `own` are those whose it is.
    """
    if effect is not Effect.IRREVERSIBLE or not any(role == Role.DESTINATION for role, _ in stopped):
        return None
    may = {name for name, one in rules.principals.items() if one.steers(call.server, call.name or "")}
    if is_act_of(rules.not_own, call.server, call.name or ""):  # INVARIANT: 4.
        return tuple(sorted(may.difference(own)))
    spoken = (one for one in history.prompts if history.items[one.item].speaks_for(call.task))
    theirs = may & {prompt.source.partition(":")[2] for prompt in spoken}
    return tuple(sorted(theirs or may))


def let_through(ticket: str, by: str) -> str:
    """What an entry says first of a call that a person let through."""
    return f"ticket {ticket} by {by}"


def covers(answer: Answer | None, call: Call, manifest: ToolManifest, stopped: Sequence[Shown], now: int) -> bool:
    """# INVARIANT: 2. Whether a standing yes speaks of this call."""
    return (
        answer is not None
        and answer.state == "approved"
        and now < answer.until
        and answer.exact == exactly(call, manifest)
        and _typed(stopped) <= _typed(answer.shown)
    )


def refuses(answer: Answer | None, stopped: Sequence[Shown], now: int) -> bool:
    """# INVARIANT: 3. Whether a person said no to any of what stops this call."""
    if answer is None or answer.state != "denied" or now >= answer.until:
        return False
    return not (answer.shown and stopped) or bool(_normals(stopped) & _normals(answer.shown))


def noted(before: Answer | None, answer: Answer, now: int) -> Answer:
    """The row after an answer. A no is kept beside earlier ones; a yes takes nothing back that was refused."""
    if before is None or now >= before.until:
        return answer
    if before.state == "denied" and answer.state == "denied":
        kept = tuple(dict.fromkeys((*answer.shown, *before.shown)))[:MAX_SHOWN]
        return msgspec.structs.replace(answer, shown=kept, until=max(answer.until, before.until))
    return before if before.state == "denied" else answer


def _digest(what: str, call: Call, values: object) -> str:
    head = f"citywatch/answer/v1\n{what}\n{call.agent}\n{call.server}\n{call.name or ''}\n"
    return digest(head.encode() + _SORTED.encode(values))


def _normals(values: Iterable[Shown]) -> set[tuple[str, str]]:
    return {(role, "" if value is None else Typed(value).normal) for role, value in values}


def _typed(values: Iterable[Shown]) -> set[tuple[str, str]]:
    """1, 1.0, "1" and true are equal or look alike, and are not the same argument."""
    return {(role, repr(value)) for role, value in values}
