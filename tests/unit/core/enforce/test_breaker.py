"""The breaker beside a slow twin that reads its whole diary anew for each question, and each of its sentences alone."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from citywatch.core.enforce.breaker import MOST, Breaker, Came, Patience, Resting, Through, ask, told

PATIENCE = Patience(failures=3, rest_ms=100)


class Diary:
    """All that happened, in order: `("asked", now)` where a call went out, `("came", call, what, now)` for its end."""

    def __init__(self, patience: Patience) -> None:
        self.patience = patience
        self.pages: list[tuple[object, ...]] = []

    def read(self, now: int) -> tuple[str, int, int]:
        """In which state all of that leaves it: closed, resting (and how long), trying or ready; how many went out."""
        state, failures, rest, began, out, valid = "closed", 0, self.patience.rest_ms, 0, 0, set[int]()
        for page in self.pages:
            if page[0] == "asked":
                if state == "open":  # it would not be in here had the rest not been over
                    state, valid = "trying", set()
                valid.add(out)
                out += 1
                continue
            _, call, came, at = page
            assert isinstance(at, int)
            if call not in valid:
                continue
            if state == "closed":
                failures = 0 if came is Came.ANSWERED else failures + (came is Came.FAILED)
                if failures == self.patience.failures:
                    state, began, rest, valid = "open", at, self.patience.rest_ms, set()
            elif came is Came.ANSWERED:
                state, failures, valid = "closed", 0, set()
            elif came is Came.FAILED:
                rest = min(2 * rest, MOST * self.patience.rest_ms)
                state, began, valid = "open", at, set()
            else:
                state, valid = "open", set()
        if state == "open":
            resting = began <= now < began + rest
            return ("resting", began + rest - now, out) if resting else ("ready", 0, out)
        return state, 0, out


class Beside(RuleBasedStateMachine):
    """Whatever is asked and comes of it, in whatever order, both say the same."""

    @initialize(failures=st.integers(1, 4), rest=st.integers(1, 50))
    def begin(self, failures: int, rest: int) -> None:
        self.patience = Patience(failures=failures, rest_ms=rest)
        self.fast, self.slow = Breaker(), Diary(self.patience)
        self.now = 1_000
        self.open: dict[int, int] = {}

    @rule(by=st.integers(0, 200))
    def wait(self, by: int) -> None:
        self.now += by

    @rule(by=st.integers(1, 2_000))
    def put_the_clock_back(self, by: int) -> None:
        self.now = max(0, self.now - by)

    @rule()
    def call(self) -> None:
        state, wait, out = self.slow.read(self.now)
        found = ask(self.fast, self.patience, self.now)
        if state in ("closed", "ready"):
            assert isinstance(found, Through)
            self.fast = found.breaker
            self.open[out] = found.turn
            self.slow.pages.append(("asked", self.now))
        else:
            assert isinstance(found, Resting)
            assert found.wait_ms == (wait if state == "resting" else self.patience.rest_ms)

    @rule(which=st.integers(0, 30), came=st.sampled_from(Came))
    def end(self, which: int, came: Came) -> None:
        if not self.open:
            return
        call = sorted(self.open)[which % len(self.open)]
        self.fast = told(self.fast, self.patience, self.open.pop(call), came, self.now)
        self.slow.pages.append(("came", call, came, self.now))

    @invariant()
    def one_at_a_time_while_it_tries(self) -> None:
        if hasattr(self, "fast") and self.fast.trying:
            assert self.slow.read(self.now)[0] == "trying"


TestBeside = Beside.TestCase


def after(breaker: Breaker, *came: Came, now: int = 0) -> Breaker:
    for one in came:
        found = ask(breaker, PATIENCE, now)
        assert isinstance(found, Through)
        breaker = told(found.breaker, PATIENCE, found.turn, one, now)
    return breaker


def test_it_opens_after_failures_in_a_row_and_not_after_as_many_with_an_answer_between() -> None:
    assert isinstance(ask(after(Breaker(), *[Came.FAILED] * 3), PATIENCE, 1), Resting)
    between = after(Breaker(), Came.FAILED, Came.FAILED, Came.ANSWERED, Came.FAILED, Came.FAILED)
    assert isinstance(ask(between, PATIENCE, 1), Through)


def test_who_leaves_before_the_answer_says_nothing_of_the_server() -> None:
    assert after(Breaker(), *[Came.LEFT] * 9) == Breaker()


def test_each_failed_try_makes_the_rest_twice_as_long_up_to_a_bound() -> None:
    breaker, now, rests = after(Breaker(), *[Came.FAILED] * 3), 0, []
    for _ in range(9):
        rests.append(breaker.until - now)
        now = breaker.until
        breaker = after(breaker, Came.FAILED, now=now)
    assert rests == [100, 200, 400, 800, 1600, 3200, 3200, 3200, 3200]


def test_a_late_failure_of_a_call_from_before_does_not_open_it_again() -> None:
    first = ask(Breaker(), PATIENCE, 0)
    assert isinstance(first, Through)
    opened = after(first.breaker, *[Came.FAILED] * 3)
    closed = after(opened, Came.ANSWERED, now=opened.until)
    assert not closed.opened
    assert told(closed, PATIENCE, first.turn, Came.FAILED, opened.until) == closed
