"""A session ends by itself, by idling and by age; nobody tries for ever."""

from __future__ import annotations

from citywatch.adapters.console import sessions as module
from citywatch.adapters.console.sessions import IDLE_MS, WHOLE_MS, Sessions, Visitor
from citywatch.core.approvals.people import Duty, Right
from citywatch.service.pace import Pace

ANN = Visitor("person:ann", (Duty.AUDITOR,), "link")
T = 1_000_000_000


def test_a_session_lives_while_it_is_used_and_no_longer_than_a_shift() -> None:
    sessions = Sessions()
    token = sessions.begin(ANN, T)
    now = T
    while now + IDLE_MS - 1 < T + WHOLE_MS:
        now += IDLE_MS - 1
        assert sessions.find(token, now) is not None
    assert sessions.find(token, T + WHOLE_MS) is None
    assert sessions.find(token, now) is None, "what ended does not begin again"


def test_a_session_that_nobody_uses_ends() -> None:
    sessions = Sessions()
    token = sessions.begin(ANN, T)
    assert sessions.find(token, T + IDLE_MS) is None
    again = sessions.begin(ANN, T)
    assert sessions.find(again, T - 1) is None, "a clock that goes back ends it too"


def test_watching_keeps_no_session_alive() -> None:
    sessions = Sessions()
    token = sessions.begin(ANN, T)
    session = sessions.find(token, T)
    assert session is not None
    assert sessions.holds(session, T + IDLE_MS - 1)
    assert not sessions.holds(session, T + IDLE_MS)


def test_each_sign_in_is_a_session_of_its_own_with_a_proof_of_its_own() -> None:
    sessions = Sessions()
    first, second = sessions.begin(ANN, T), sessions.begin(ANN, T)
    one, other = sessions.find(first, T), sessions.find(second, T)
    assert one is not None
    assert other is not None
    assert first != second
    assert one.proves(one.proof)
    assert not one.proves(other.proof)
    assert not one.proves("")
    sessions.end(first)
    assert sessions.find(first, T) is None
    assert sessions.find(second, T) is other


def test_there_are_no_more_sessions_than_can_be_kept_and_the_idlest_goes(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(module, "MOST", 3)
    sessions = Sessions()
    tokens = [sessions.begin(ANN, T + at) for at in range(3)]
    sessions.find(tokens[0], T + 10)
    sessions.begin(ANN, T + 11)
    assert [sessions.find(one, T + 12) is not None for one in tokens] == [True, False, True]


def test_a_role_gives_its_rights_and_nothing_else() -> None:
    assert ANN.may(Right.AUDIT)
    assert ANN.may(Right.SEE)
    assert not any(ANN.may(right) for right in (Right.ANSWER, Right.OPERATE, Right.CHANGE_POLICY))


def test_who_tries_too_often_waits_and_nobody_else_does() -> None:
    pace = Pace(3, 1_000)
    assert [pace.allows("a", T + at) for at in range(5)] == [True, True, True, False, False]
    assert pace.allows("b", T)
    assert pace.allows("a", T + 1_001)


def test_a_good_try_does_not_count_and_gives_no_other_back() -> None:
    pace = Pace(3, 1_000)
    for at in range(20):
        assert pace.allows("a", T + at)
        pace.take_back("a")
    assert [pace.allows("a", T + 20) for _ in range(3)] == [True, True, True]
    pace.take_back("a")
    assert [pace.allows("a", T + 21) for _ in range(2)] == [True, False]
    pace.take_back("nobody")
