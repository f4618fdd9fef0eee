"""What other rules would have decided of each recorded call, in a log that is folded again.

Decides nothing: `fold` says what was known at each entry, the gates are asked about it.

INVARIANTS
1. Under the rules by which the log was written, nothing changes.
2. What was erased, and all that rests on it, is `UNVERIFIABLE`; what rested on something else that is not kept is
   `GONE`. Neither is ever taken for agreement, and a gate that refuses without it is one that refuses.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final

import msgspec

from citywatch.core import events
from citywatch.core.call import Allow, Ask, Call, Decision, Deny
from citywatch.core.content.model import Model
from citywatch.core.enforce.admit import admit
from citywatch.core.enforce.needs import PINNED, TOOL_CALL
from citywatch.core.enforce.rules import Rules
from citywatch.core.errors import Code
from citywatch.service.fold import Fold, Folded
from citywatch.service.ports import Store
from citywatch.service.recorded import recorded, verdict
from citywatch.service.unknowns import Status

BEFORE_POLICY: Final = frozenset(
    (
        Code.ID_IN_USE,
        Code.INPUT_UNEXPECTED,
        Code.TOOL_NOT_APPROVED,
        Code.TOOL_CHANGED,
        Code.OUTCOME_UNKNOWN,
        Code.ALREADY_HAPPENED,
        Code.HANDLE_UNKNOWN,
        Code.HANDLE_EXPIRED,
    )
)
"""Refusals that no policy has a say in: they stand, whatever is tried."""


class Rehearsed(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded call: its entry, and what the rules that are tried say of it. `decision` is None if they cannot."""

    index: int
    event: events.Decided
    status: Status
    decision: Decision | None = None
    why: str = ""


class Rehearsal:
    """One log under one set of rules; `run` it once."""

    def __init__(
        self,
        log: Store,
        rows: Store,
        rules: Rules,
        rebuild: Callable[[events.Decided, bytes], Call],
        model: Model | None = None,
    ) -> None:
        """`rows` is an empty store that this owns; `rebuild` makes a call of an entry and its payload."""
        self._bare = msgspec.structs.replace(rules, observe=False, temporal=())
        self._fold = Fold(log, rows, rules, rebuild, self._judge, model)
        self._found: Rehearsed | None = None

    async def run(self) -> AsyncIterator[Rehearsed]:
        """Every recorded call in its order, judged again."""
        async for one in self._fold.run():
            if one.then is None:
                yield _undecided(one, *_doubt(one))
            else:
                assert self._found is not None
                yield self._found

    def _judge(self, one: Folded) -> Decision | None:
        self._found = self._again(one)
        return self._found.decision

    def _again(self, one: Folded) -> Rehearsed:
        event, then = one.event, one.then
        assert then is not None
        if event.code in BEFORE_POLICY and not event.forwarded:
            return _decided(one, Status.SAME, recorded(event), "no policy has a say in it")
        if _is_replaced(one):
            return _undecided(one, Status.GONE, "the definition that was approved then is not kept")
        if one.doubt is not None:  # INVARIANT: 2. These gates only narrow: what is refused without them is refused.
            bare = msgspec.structs.replace(then.known, flow=None, rules=self._bare)
            decision = admit(then.call, then.authority, bare, then.need, event.at)
            if isinstance(decision, Allow):
                return _undecided(one, *one.doubt)
        else:
            decision = admit(then.call, then.authority, then.known, then.need, event.at)
        if isinstance(decision, Ask) and not one.asked:
            said = "a person answered it, and what they were asked is not kept"
            return _undecided(one, Status.UNVERIFIABLE, said)
        same = verdict(decision) == event.verdict
        if not same and one.reweighed and not (_certain(decision) or _certain(recorded(event))):
            why = "the content model that read what was said then had other weights"
            return _undecided(one, Status.UNVERIFIABLE, why)
        status, why = Status.SAME if same else Status.CHANGED, one.doubt[1] if one.doubt else ""
        return _decided(one, status, decision, why)


def _is_replaced(one: Folded) -> bool:
    """Whether the rules know another definition of this tool than the one that was approved then, or none."""
    event, rules = one.event, one.then.known.rules  # type: ignore[union-attr]
    tool = rules.tools.get((event.server, event.name or "")) if event.method in PINNED else None
    configured = rules.knows(event.server)
    pinned = event.pin is not None and event.method == TOOL_CALL
    return pinned and configured and (tool is None or tool.digest != event.pin)


def _decided(one: Folded, status: Status, decision: Decision, why: str) -> Rehearsed:
    return Rehearsed(index=one.index, event=one.event, status=status, decision=decision, why=why)


def _undecided(one: Folded, status: Status, why: str) -> Rehearsed:
    return Rehearsed(index=one.index, event=one.event, status=status, why=why)


def _doubt(one: Folded) -> tuple[Status, str]:
    assert one.doubt is not None
    return one.doubt


def _certain(decision: Decision) -> bool:
    """Whether a refusal is one in which no scan of a text has a say."""
    return isinstance(decision, Deny) and decision.reason.code is not Code.SUSPECTED_INJECTION
