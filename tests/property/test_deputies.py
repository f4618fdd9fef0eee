"""Random people, absences and votes: those count whom a slow definition names, which tries every right to vote."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from citywatch.core.approvals.audience import Audience
from citywatch.core.approvals.people import Approvals, Duty, Person, Quorum
from citywatch.core.approvals.quorum import counted
from citywatch.core.approvals.standing import Yes, standing_votes
from citywatch.core.approvals.ticket import Vote
from spec import approvals as law

NAMES = ("anna", "ben", "cara", "dora", "eve")
PRINCIPALS = ("alice", "bob")
SOME = st.lists(st.sampled_from(NAMES), max_size=3, unique=True).map(tuple)
PEOPLE = st.fixed_dictionaries(
    {
        name: st.builds(
            Person,
            name=st.just(name),
            roles=st.sampled_from(((Duty.APPROVER,), (Duty.APPROVER, Duty.OPERATOR), (Duty.AUDITOR,))),
            answers=st.sampled_from((("bank/pay",), ("*",), ("mail/*",))),
            speaks_for=st.lists(st.sampled_from(PRINCIPALS), max_size=2, unique=True).map(tuple),
            deputies=SOME,
        )
        for name in NAMES
    }
)
VOTES = st.lists(
    st.builds(
        Vote,
        person=st.sampled_from((*NAMES, "gone")),
        place=st.sampled_from(("", *NAMES)),
        yes=st.booleans(),
        at=st.just(0),
        method=st.just("unsigned"),
    ),
    max_size=6,
)
AWAY = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(NAMES), max_size=4)
OWN = st.lists(st.sampled_from(PRINCIPALS), max_size=1)
OF = st.sampled_from((("approver",), ("operator",), ("anna", "ben"), ("anna", "operator")))


def audience_of(people: dict[str, Person], away: dict[str, str], of: tuple[str, ...], not_own: bool) -> Audience:
    """As the rows would say it: `absence.standing_in` has let through only what the file allows."""
    said = {
        name: deputy
        for name, deputy in away.items()
        if deputy in people[name].deputies
        and deputy != name
        and Duty.APPROVER in people[name].roles
        and Duty.APPROVER in people[deputy].roles
    }
    approvals = Approvals(
        quorum=(Quorum(acts=("*",), need=2, of=of),), not_own=("*",) if not_own else (), unsafe_unsigned=True
    )
    return Audience(people, approvals, said)


def told(people: dict[str, Person], of: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "approver": Duty.APPROVER in one.roles,
            "reached": Duty.APPROVER in one.roles
            and one.answers != ("mail/*",)
            and (name in of or any(role.value in of for role in one.roles)),
            "speaks_for": one.speaks_for,
            "deputies": one.deputies,
        }
        for name, one in people.items()
    }


@given(PEOPLE, AWAY, VOTES, OF, st.booleans(), OWN)
def test_whose_votes_count_is_what_the_definition_says(
    people: dict[str, Person],
    away: dict[str, str],
    votes: list[Vote],
    of: tuple[str, ...],
    not_own: bool,
    own: list[str],
) -> None:
    votes = [msgspec.structs.replace(one, place="") if one.place == one.person else one for one in votes]
    audience = audience_of(people, away, of, not_own)
    yes = Yes(server="bank", tool="pay", authority=tuple(own), of=None, votes=tuple(votes), need=2)
    found = [one.person for one in counted(standing_votes(yes, votes, audience, {}))]
    asked = [(one.person, one.place or one.person, one.yes, "") for one in votes]
    assert found == law.who_counts(asked, told(people, of), away, set(own), not_own)
    assert len(set(found)) == len(found)


@given(PEOPLE, AWAY, VOTES, OF, st.booleans(), OWN, st.sampled_from(NAMES))
def test_whoever_is_let_vote_counts_and_an_absence_never_adds_a_voice(
    people: dict[str, Person],
    away: dict[str, str],
    votes: list[Vote],
    of: tuple[str, ...],
    not_own: bool,
    own: list[str],
    who: str,
) -> None:
    audience, alone = audience_of(people, away, of, not_own), audience_of(people, {}, of, not_own)
    yes = Yes(server="bank", tool="pay", authority=tuple(own), of=None, votes=tuple(votes), need=2)
    there = audience.places_of(yes, who)
    for place in there:
        vote = Vote(person=who, place="" if place == who else place, yes=True, at=0, method="unsigned")
        assert audience.stands(yes, vote) is not bool(audience.conflict(yes, who, place))
        assert place in alone.places(yes)
    assert not there or who not in audience.away
    assert len(audience.reached(yes)) <= len(alone.places(yes))
    assert (who in audience.reached(yes)) == any(not audience.conflict(yes, who, place) for place in there)
    assert audience.reached(yes) == audience.reached(msgspec.structs.replace(yes, votes=())), "nothing said shows"
    for name in PRINCIPALS:
        place = audience.place_for(yes, who, name)
        assert (place in there) == bool(there)
