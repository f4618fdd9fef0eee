"""How well people see what they are asked: a fold over the log that anybody can do again.

Decides what is known of each approver, per class of tickets, and whether their yes counts. Does not decide what they
are shown (`queue`), nor the arithmetic (`signal`); it says nothing of anybody who was shown nothing.

INVARIANTS
1. It reads events alone, in the log's order; what a ticket was counts only if its seal fits.
2. Somebody loses their weight only by what is known: the upper end of the interval of their detection is below the bar.
3. Who lost it gets it back by an exercise, of which they see enough and refuse no more than half of what is honest.
4. Weight only narrows: without it a no still counts, and no yes does.
5. Of a real call nothing is assumed: a false denial is one of a ticket that we know to be honest.
6. What expired is counted against those who had opened it and gave no answer; what nobody opened, against nobody.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import msgspec

from citywatch.core import events
from citywatch.core.approvals.seal import Kind, is_what_was_sealed
from citywatch.core.approvals.signal import cohen, fisher, krippendorff, median, sensitivity, wilson
from citywatch.core.approvals.statement import APPROVE
from citywatch.core.approvals.ticket import State

SHIFT_MS: Final = 4 * 3_600_000
"""After so long without an answer a new shift begins."""
DRIFT_ERROR: Final = 0.01
"""How often a drift is found that is none, at most."""
RECENT: Final = 20
"""Of how many targets the bar looks at the last."""
LEAST_TARGETS: Final = 4
EXERCISE: Final = 8
"""How many tickets of an exercise give a weight back."""


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """Which share of made-up attacks an approver has to see."""

    detects: float = 0.6


class Weight:
    """Whether the yes of one approver counts, by what they said of tickets of which it is known what they were."""

    __slots__ = ("_bar", "_exercise", "_recent", "counts")

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._recent: deque[bool] = deque(maxlen=RECENT)
        self._exercise: list[tuple[bool, bool]] = []
        """Since the weight was lost: whether it was a target, and whether it was approved."""
        self.counts = True

    @property
    def exercised(self) -> int | None:
        """How many of an exercise were answered since the weight was lost; None while it is there."""
        return None if self.counts else len(self._exercise)

    def judged(self, target: bool, yes: bool) -> None:
        """What they said of a ticket that was a target (to be denied), or was not."""
        if target:
            self._recent.append(not yes)
        if self.counts:
            n = len(self._recent)
            _, most = wilson(sum(self._recent), n)
            if n >= LEAST_TARGETS and most < self._bar.detects:  # INVARIANT: 2
                self.counts = False
                self._exercise.clear()
            return
        self._exercise.append((target, yes))
        if len(self._exercise) >= EXERCISE:
            seen = [not approved for was, approved in self._exercise if was]
            refused = [not approved for was, approved in self._exercise if not was]
            enough = len(seen) >= LEAST_TARGETS and sum(seen) >= self._bar.detects * len(seen)
            if enough and 2 * sum(refused) <= len(refused):  # INVARIANT: 3
                self.counts = True
                self._recent.clear()
            self._exercise.clear()


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one approver in one class of tickets; shares come with the counts they are made of.

    `detects` is the share of made-up attacks that they denied, with its 95 % interval. Times are medians in
    milliseconds; `pace` is the median of a decision's time over what reading all of it takes. `expired` counts what
    they opened, and left without an answer until its time was over; `escapes` what they approved, and was taken back.
    """

    answered: int
    approved: int
    targets: int
    hits: int
    detects: tuple[float, float]
    clean: int
    false_denials: int
    sensitivity: float
    criterion: float
    pace: float | None
    waited: float | None
    escapes: int
    expired: int


class Waits(msgspec.Struct, frozen=True, kw_only=True):
    """What became of all that people were asked: how many tickets were answered, how many expired without an answer,
    and how many of those nobody had opened. `median` and `most` are how long an answer took in milliseconds: half of
    them, and nine of ten, took no longer."""

    asked: int
    answered: int
    expired: int
    unopened: int
    median: float | None
    most: float | None


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """Approvals in the first and the second half of somebody's latest shift: how many of how many, and how likely so
    much more would be by chance. `found`: less likely than `DRIFT_ERROR`."""

    first: tuple[int, int]
    second: tuple[int, int]
    chance: float

    @property
    def found(self) -> bool:
        return self.chance < DRIFT_ERROR


class _Ticket:
    __slots__ = (
        "answers", "asked", "category", "decided", "expired", "kind", "opened", "reading", "reversed", "seal", "signed",
        "waits",
    )  # fmt: skip

    def __init__(self) -> None:
        self.seal = ""
        self.kind: Kind | None = None
        self.category = ""
        self.opened: dict[str, int] = {}
        self.reading = 0
        self.waits = 0
        self.answers: dict[str, tuple[bool, int]] = {}
        self.reversed = False
        self.signed = False
        self.asked: int | None = None
        self.decided: int | None = None
        self.expired = False


class _Person:
    __slots__ = ("answered", "left", "shift", "weight")

    def __init__(self, bar: Bar) -> None:
        self.answered: list[str] = []
        self.left: list[str] = []
        """What expired after they had opened it, and before they had answered."""
        self.shift: list[tuple[int, bool]] = []
        self.weight = Weight(bar)


class Vigilance:
    """All that the log says of approvers."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._tickets: dict[str, _Ticket] = {}
        self._people: dict[str, _Person] = {}

    def note(self, event: events.Event) -> None:
        """Take one event in; those that are about nothing here change nothing."""
        match event:
            case events.TicketAsked():
                ticket = self._ticket(event.ticket)
                ticket.asked = event.at if ticket.asked is None else ticket.asked
            case events.TicketSealed():
                self._opened(event)
            case events.TicketSigned():
                self._ticket(event.ticket).signed = True
                self._answered(event.ticket, event.by, event.answer == APPROVE, event.at)
            case events.TicketAnswered():
                ticket = self._ticket(event.ticket)
                ticket.decided = event.at if ticket.decided is None else ticket.decided
                if not self._ticket(event.ticket).signed:  # else it says what the people's answers came to
                    self._answered(event.ticket, event.by, event.answer == "approved", event.at)
            case events.TicketExpired():
                self._expired(event)
            case events.TicketUnsealed():
                self._unsealed(event)
            case events.ApprovalReversed():
                self._ticket(event.ticket).reversed = True

    def people(self) -> tuple[str, ...]:
        """Everybody who answered anything, or let something expire."""
        return tuple(sorted(self._people))

    def counts(self, who: str) -> bool:
        """# INVARIANT: 4. Whether this approver's yes counts."""
        person = self._people.get(who)
        return person is None or person.weight.counts

    def reversed(self) -> frozenset[str]:
        """The tickets whose approval was found wrong later."""
        return frozenset(name for name, one in self._tickets.items() if one.reversed)

    def categories(self, who: str) -> tuple[str, ...]:
        """The classes of tickets that somebody answered, or let expire."""
        person = self._person(who)
        return tuple(sorted({self._tickets[one].category for one in (*person.answered, *person.left)}))

    def rates(self, who: str, category: str | None = None) -> Rates:
        """What is known of an approver, in one class of tickets or (None) in all."""
        mine = [(one, *one.answers[who]) for one in map(self._tickets.__getitem__, self._person(who).answered)]
        mine = [each for each in mine if category is None or each[0].category == category]
        targets = [yes for one, yes, _ in mine if one.kind is Kind.CANARY]
        clean = [yes for one, yes, _ in mine if one.kind is Kind.CLEAN]
        real = [(one, yes, at) for one, yes, at in mine if one.kind is not Kind.CANARY and one.kind is not Kind.CLEAN]
        hits, false = targets.count(False), clean.count(False)
        seen, line = sensitivity((hits, len(targets)), (false, len(clean)))
        taken = [(at - one.opened[who]) / one.reading for one, _, at in mine if who in one.opened and one.reading]
        return Rates(
            answered=len(mine),
            approved=sum(yes for _, yes, _ in real),
            targets=len(targets),
            hits=hits,
            detects=wilson(hits, len(targets)),
            clean=len(clean),
            false_denials=false,
            sensitivity=seen,
            criterion=line,
            pace=median(taken),
            waited=median([float(at - one.waits) for one, _, at in real if one.waits]),
            escapes=sum(yes and one.reversed for one, yes, _ in real),
            expired=sum(category in (None, self._tickets[name].category) for name in self._person(who).left),
        )

    def waits(self) -> Waits:
        """What became of all that was asked, and how long it took."""
        asked = [one for one in self._tickets.values() if one.asked is not None]
        over = [one for one in asked if one.expired]
        took = sorted(
            float(one.decided - one.asked) for one in asked if one.decided is not None and one.asked is not None
        )
        return Waits(
            asked=len(asked),
            answered=len(took),
            expired=len(over),
            unopened=sum(not one.opened for one in over),  # INVARIANT: 6
            median=median(took),
            most=took[-(-9 * len(took) // 10) - 1] if took else None,
        )

    def exercised(self, who: str) -> int | None:
        """How many of an exercise somebody has answered whose yes does not count; None if it counts."""
        person = self._people.get(who)
        return None if person is None else person.weight.exercised

    def drift(self, who: str) -> Drift:
        """Whether somebody says yes more often as their shift goes on."""
        shift = [yes for _, yes in self._person(who).shift]
        half = len(shift) // 2
        first, second = (sum(shift[:half]), half), (sum(shift[half:]), len(shift) - half)
        return Drift(first=first, second=second, chance=fisher(first, second))

    def agreement(self, one: str, other: str) -> tuple[float | None, int]:
        """Cohen's kappa of two people over the tickets that both answered, and how many those are."""
        pairs = [
            (each.answers[one][0], each.answers[other][0])
            for each in self._tickets.values()
            if one in each.answers and other in each.answers
        ]
        return cohen(pairs), len(pairs)

    def reliability(self) -> float | None:
        """Krippendorff's alpha of all who answered the same tickets."""
        return krippendorff([[yes for yes, _ in one.answers.values()] for one in self._tickets.values()])

    # -- the fold -----------------------------------------------------------------------------------------------------

    def _ticket(self, name: str) -> _Ticket:
        return self._tickets.setdefault(name, _Ticket())

    def _person(self, who: str) -> _Person:
        return self._people.setdefault(who, _Person(self._bar))

    def _opened(self, event: events.TicketSealed) -> None:
        ticket = self._ticket(event.ticket)
        ticket.seal = ticket.seal or event.seal
        ticket.category, ticket.reading, ticket.waits = event.category, event.reading_ms, event.asked
        ticket.opened.setdefault(event.by, event.at)

    def _expired(self, event: events.TicketExpired) -> None:
        ticket = self._ticket(event.ticket)
        if event.state != State.PENDING or ticket.expired:
            return
        ticket.expired = True
        for who in ticket.opened:
            if who not in ticket.answers:  # INVARIANT: 6
                self._person(who).left.append(event.ticket)

    def _answered(self, name: str, who: str, yes: bool, at: int) -> None:
        ticket, person = self._ticket(name), self._person(who)
        if who in ticket.answers:
            return
        ticket.answers[who] = (yes, at)
        person.answered.append(name)
        if ticket.kind is None:
            if person.shift and at - person.shift[-1][0] > SHIFT_MS:
                person.shift.clear()
            person.shift.append((at, yes))

    def _unsealed(self, event: events.TicketUnsealed) -> None:
        ticket = self._ticket(event.ticket)
        if ticket.kind is not None or not is_what_was_sealed(
            ticket.seal, event.ticket, event.kind, event.category, event.salt
        ):  # INVARIANT: 1
            return
        ticket.kind = Kind(event.kind)
        for who, (yes, at) in ticket.answers.items():
            if ticket.kind is not Kind.CALL:
                person = self._people[who]
                person.shift = [one for one in person.shift if one != (at, yes)]
                person.weight.judged(ticket.kind is Kind.CANARY, yes)
