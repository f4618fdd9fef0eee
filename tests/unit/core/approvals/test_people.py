"""Whom an act reaches, what a role lets somebody do, and how many have to say yes."""

from __future__ import annotations

import pytest

from citywatch.core.approvals.people import APART, RIGHTS, Approvals, Duty, Person, Quorum, Right, is_act_of, reached

ANNA = Person(name="anna", roles=(Duty.APPROVER,), answers=("bank/*",))
BEN = Person(name="ben", roles=(Duty.APPROVER, Duty.OPERATOR), answers=("*",))
CARA = Person(name="cara", roles=(Duty.AUDITOR,))
PEOPLE = {one.name: one for one in (ANNA, BEN, CARA)}


@pytest.mark.parametrize(
    ("acts", "named"),
    [(("*",), True), (("bank/*",), True), (("bank/send",), True), (("bank/read", "mail/*"), False), ((), False)],
)
def test_an_act_is_named_by_itself_by_its_server_or_by_all(acts: tuple[str, ...], named: bool) -> None:
    assert is_act_of(acts, "bank", "send") is named


def test_who_audits_never_answers_and_who_answers_never_changes_policy() -> None:
    for one, other in APART:
        assert {one, other} in ({Duty.APPROVER, Duty.AUDITOR}, {Duty.APPROVER, Duty.POLICY})
    assert Right.ANSWER not in RIGHTS[Duty.AUDITOR] | RIGHTS[Duty.POLICY] | RIGHTS[Duty.OPERATOR]
    assert Right.CHANGE_POLICY not in RIGHTS[Duty.APPROVER]
    assert not CARA.may(Right.ANSWER)
    assert BEN.may(Right.OPERATE)
    assert not ANNA.may(Right.OPERATE)


def test_an_act_reaches_those_who_answer_it_and_whom_its_quorum_names() -> None:
    approvers = Quorum(acts=("*",), need=1)
    assert reached(PEOPLE, approvers, "bank", "send") == ("anna", "ben")
    assert reached(PEOPLE, approvers, "mail", "send") == ("ben",)
    assert reached(PEOPLE, Quorum(acts=("*",), need=1, of=("anna", "cara")), "bank", "send") == ("anna",)
    assert reached(PEOPLE, Quorum(acts=("*",), need=1, of=("operator",)), "bank", "send") == ("ben",)
    assert reached({}, approvers, "bank", "send") == ()


def test_somebody_whose_role_is_no_approvers_answers_nothing_whatever_their_acts() -> None:
    odd = Person(name="odd", roles=(Duty.AUDITOR,), answers=("*",))
    assert reached({"odd": odd}, Quorum(acts=("*",), need=1, of=("odd", "auditor")), "bank", "send") == ()


def test_the_first_rule_that_names_an_act_says_how_many() -> None:
    two, three = Quorum(acts=("bank/send",), need=2), Quorum(acts=("bank/*",), need=3)
    told = Approvals(quorum=(two, three), not_own=("bank/send",))
    assert told.quorum_of("bank", "send") is two
    assert told.quorum_of("bank", "close") is three
    assert told.quorum_of("mail", "send").need == 1
    assert told.is_not_own("bank", "send")
    assert not told.is_not_own("bank", "close")
