"""Caveats meet as a lattice does, and no link leaves more than the links before it, whatever it says."""

from __future__ import annotations

from decimal import Decimal
from itertools import product
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.grants import AGENTS, NOW, Author, put_together, town
from citywatch.core.canonical import canonical
from citywatch.core.delegation.caveats import (
    ANYTHING,
    NOTHING,
    PARTS,
    Caveats,
    excess,
    meet,
    meet_limits,
    normal,
    normal_choice,
)
from citywatch.core.delegation.chain import MAX_LINKS, Verified, read_chain, verify_chain
from citywatch.core.delegation.grant import format_grant, parse_grant, parse_link
from citywatch.core.delegation.holds import Act, beyond
from citywatch.core.delegation.wording import format_caveats, format_limit, parse_caveats
from citywatch.core.errors import Code, Refused
from citywatch.core.limit import Dates, Equal, Limit, Numbers, keeps

TOOLS = ("s/a", "s/b", "m/c")
PATTERNS = (*TOOLS, "s/*", "m/*", "*")
ORIGINS = ("server:crm", "server:bank", "outside:web/get", "principal:anna")
READERS = ("anna", "bob")
VALUES: tuple[Any, ...] = (
    1, 2, 5, 1.5, True, False, "p", "1", "2 EUR", "2.00 EUR", "2026-11-25", "2026-11-26T10:00:00Z", [1], [1, 2],
    ["p", True], [], {"a": 1}, None, "",
)  # fmt: skip
ENDS = st.sampled_from([None, *map(Decimal, (1, 2, 5))])
DAYS = st.sampled_from([None, "2026-11-25", "2026-11-26"])


def range_of(kind: type[Any], *more: str) -> Any:
    def build(low: Any, high: Any) -> Limit:
        low, high = (high, low) if low is not None and high is not None and low > high else (low, high)
        found: Limit = kind(low, high, *more)
        return found

    return build


LIMITS: st.SearchStrategy[Limit] = st.one_of(
    st.sampled_from([value for value in VALUES if value is not None]).map(Equal),
    st.lists(st.sampled_from([value for value in VALUES if type(value) in (int, float, str, bool)]), max_size=4).map(
        normal_choice
    ),
    st.builds(range_of(Numbers), ENDS, ENDS),
    st.builds(range_of(Numbers, "EUR"), ENDS, ENDS),
    st.builds(range_of(Dates), DAYS, DAYS),
)
CAVEATS = st.builds(
    Caveats,
    audience=st.none() | st.frozensets(st.sampled_from(["x.example", "y.example"])),
    tools=st.none() | st.lists(st.sampled_from(PATTERNS)).map(normal),
    skills=st.none() | st.lists(st.sampled_from(PATTERNS)).map(normal),
    arguments=st.dictionaries(
        st.sampled_from(TOOLS[:2]), st.dictionaries(st.sampled_from("xy"), LIMITS, min_size=1), max_size=2
    ),
    calls=st.none() | st.integers(0, 3),
    readers=st.none() | st.frozensets(st.sampled_from(READERS)),
    origins=st.none() | st.lists(st.sampled_from([*ORIGINS, "server:*"])).map(normal),
    not_after=st.none() | st.integers(1, 3),
    depth=st.none() | st.integers(0, 3),
)
ARGUMENTS: tuple[dict[str, Any], ...] = (
    {}, {"x": 1}, {"x": True, "y": "p"}, {"x": [1, 2], "y": 2}, {"x": "2 EUR", "y": "2026-11-25"},
)  # fmt: skip
LABELS = (
    (frozenset[str](), frozenset[str]()),
    (frozenset({"anna"}), frozenset({"server:crm"})),
    (None, frozenset({"server:crm", "outside:web/get"})),
    (frozenset({"anna", "bob"}), None),
)
ACTS = [
    Act(name=name, arguments=arguments, readers=readers, origins=origins, skill=skill)
    for name, arguments, (readers, origins), skill in product((*TOOLS, "s/*"), ARGUMENTS, LABELS, (False, True))
]


def written(caveats: Caveats) -> bytes:
    """As bytes, for Python says that `True == 1`."""
    arguments = {
        tool: {name: format_limit(limit) for name, limit in limits.items()}
        for tool, limits in caveats.arguments.items()
    }
    return canonical(
        {**format_caveats(caveats), "arguments": arguments, "not_after": caveats.not_after, "depth": caveats.depth}
    )


def kept(caveats: Caveats) -> list[bool]:
    return [beyond(caveats, act) is None for act in ACTS]


@given(LIMITS, LIMITS)
def test_the_meet_of_two_limits_admits_what_both_admit(one: Limit, two: Limit) -> None:
    both = meet_limits(one, two)
    assert [keeps(both, value) for value in VALUES] == [keeps(one, value) and keeps(two, value) for value in VALUES]


@given(LIMITS, LIMITS, LIMITS)
def test_the_meet_of_limits_is_the_greatest_below_both(one: Limit, two: Limit, low: Limit) -> None:
    def below(a: Limit, b: Limit) -> bool:
        return canonical(format_limit(meet_limits(a, b))) == canonical(format_limit(a))

    both = meet_limits(one, two)
    assert below(both, one)
    assert below(both, two)
    assert below(low, both) == (below(low, one) and below(low, two))
    assert below(NOTHING, both)


@given(CAVEATS, CAVEATS, CAVEATS)
def test_caveats_meet_in_any_order_and_grouping_and_a_second_time_to_no_effect(
    one: Caveats, two: Caveats, three: Caveats
) -> None:
    assert written(meet(one, two)) == written(meet(two, one))
    assert written(meet(meet(one, two), three)) == written(meet(one, meet(two, three)))
    assert written(meet(one, one)) == written(one) == written(meet(one, ANYTHING)) == written(meet(ANYTHING, one))
    assert written(meet(meet(one, two), two)) == written(meet(one, two))


@given(CAVEATS, CAVEATS)
def test_the_meet_of_caveats_leaves_exactly_what_both_leave(one: Caveats, two: Caveats) -> None:
    assert kept(meet(one, two)) == [a and b for a, b in zip(kept(one), kept(two), strict=True)]


@given(CAVEATS, CAVEATS)
def test_what_claims_no_more_is_its_own_meet_where_it_speaks(stated: Caveats, left: Caveats) -> None:
    both = meet(left, stated)
    assert excess(both, both) is None
    if excess(stated, both) is None:
        for name in PARTS:
            assert getattr(stated, name) in (None, getattr(both, name))
        for tool, limits in stated.arguments.items():
            for argument, limit in limits.items():
                met = both.arguments[tool][argument]
                assert [keeps(met, value) for value in VALUES] == [keeps(limit, value) for value in VALUES]


@given(CAVEATS)
def test_caveats_are_read_as_they_were_written(caveats: Caveats) -> None:
    whole = msgspec.structs.replace(caveats, not_after=1, depth=1)
    text = format_caveats(whole)
    open_ended = [
        limit
        for limits in caveats.arguments.values()
        for limit in limits.values()
        if isinstance(limit, Numbers | Dates) and limit.low is None and limit.high is None
    ]
    if open_ended:  # nobody can write that an argument is some number
        return
    assert written(parse_caveats(text, not_after=1, depth=1)) == written(whole)


@given(st.randoms(use_true_random=False))
def test_adding_a_link_never_widens(chance: Random) -> None:
    """An honest chain, and one link more by its holder that claims whatever it likes."""
    author = Author(chance)
    honest = author.honest(chance.randint(1, 3))
    people, last = town(), parse_link(honest.texts[-1])
    claims = format_caveats(author.caveats(author.act()))
    grant = {
        **msgspec.json.decode(format_grant(last.grant)),
        "parent": last.hash,
        "delegator": last.grant.delegate,
        "delegator_thumb": last.grant.delegate_thumb,
        "delegate": AGENTS[1],
        "delegate_thumb": people[AGENTS[1]].thumb,
        "caveats": claims,
        "depth": last.grant.depth + chance.randint(-2, 1),
        "not_after": last.grant.not_after + chance.randint(-1, 1),
    }
    before = read_chain(honest.texts)
    try:
        after = read_chain([*honest.texts, put_together(canonical(grant), people[last.grant.delegate].signer)])
    except Refused:  # it claims more, and is not even looked at
        return
    acts = [honest.act, *(author.act() for _ in range(20))]
    for act in acts:
        assert beyond(before.caveats, act) is None or beyond(after.caveats, act) is not None
    assert written(meet(before.caveats, after.caveats)) == written(after.caveats)
    assert set(before.budgets) <= set(after.budgets)
    assert before.names <= after.names


def test_and_links_were_added_and_refused() -> None:
    """The property above would hold of nothing as well."""
    outcomes = set()
    for seed in range(60):
        author = Author(Random(seed))
        honest = author.honest(1)
        outcomes |= {beyond(read_chain(honest.texts).caveats, author.act()) is None for _ in range(10)}
    assert outcomes == {True, False}


@given(st.randoms(use_true_random=False))
def test_a_chain_that_is_remembered_gives_what_it_gave_and_asks_everything_else_anew(chance: Random) -> None:
    author, verified = Author(chance), Verified(2)
    for _ in range(3):
        honest = author.honest()
        fresh = verify_chain(honest.texts, honest.asking, honest.trust, honest.now)
        for _ in range(2):
            assert verify_chain(honest.texts, honest.asking, honest.trust, honest.now, verified) == fresh
        for changed in (
            (msgspec.structs.replace(honest.asking, key="x" * 43), honest.trust, honest.now),
            (msgspec.structs.replace(honest.asking, task=None), honest.trust, honest.now),
            (honest.asking, msgspec.structs.replace(honest.trust, revoked={f"grant:{fresh.head}"}), honest.now),
            (honest.asking, msgspec.structs.replace(honest.trust, domain="other.test"), honest.now),
            (honest.asking, msgspec.structs.replace(honest.trust, roots={}), honest.now),
            (honest.asking, honest.trust, NOW + 10**9),
        ):
            with pytest.raises(Refused):
                verify_chain(honest.texts, *changed, verified)


@given(st.randoms(use_true_random=False))
def test_a_grant_is_read_as_it_was_written(chance: Random) -> None:
    for text in Author(chance).honest().texts:
        grant = parse_link(text).grant
        assert parse_grant(format_grant(grant)) == grant


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode), st.integers(0, 2))
def test_any_bytes_in_place_of_a_link_are_refused(data: bytes, place: int) -> None:
    texts = list(Author(Random(1)).honest(3).texts)
    texts[place] = data.decode("utf-8", "replace")
    with pytest.raises(Refused) as refused:
        read_chain(texts)
    assert refused.value.code is Code.CHAIN_MALFORMED
    assert refused.value.detail.isprintable()


@given(st.randoms(use_true_random=False), st.data())
def test_no_letter_of_a_link_can_be_changed(chance: Random, data: st.DataObject) -> None:
    honest = Author(chance).honest()
    place = data.draw(st.integers(0, len(honest.texts) - 1))
    text = honest.texts[place]
    at = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from([one for one in "Aa0-_.=" if one != text[at]]))
    texts = [*honest.texts]
    texts[place] = text[:at] + letter + text[at + 1 :]
    with pytest.raises(Refused):
        read_chain(texts)


def test_there_is_an_end_to_a_chain() -> None:
    texts = Author(Random(3)).honest(1).texts
    for several in ((), texts * (MAX_LINKS + 1)):
        with pytest.raises(Refused) as refused:
            read_chain(several)
        assert refused.value.code is Code.CHAIN_MALFORMED
    assert len(read_chain(texts).hashes) == 1


@given(st.randoms(use_true_random=False))
def test_a_chain_of_another_domain_is_never_wider_than_its_ceiling_nor_than_any_of_its_links(chance: Random) -> None:
    author = Author(chance)
    abroad = author.abroad()
    found = verify_chain(abroad.texts, abroad.asking, abroad.trust, abroad.now)
    ceiling = abroad.trust.abroad[found.home].ceiling
    links = [parse_link(text).grant.caveats for text in abroad.texts]
    assert beyond(found.caveats, abroad.act) is None
    for act in (abroad.act, *(author.act() for _ in range(10))):
        left = [beyond(one, act) is None for one in (ceiling, *links)]
        assert (beyond(found.caveats, act) is None) == all(left)


def test_and_ceilings_took_away_what_links_had_left() -> None:
    """The property above would hold of ceilings that leave everything as well."""
    found = set()
    for seed in range(80):
        author = Author(Random(seed))
        abroad = author.abroad(1)
        given = verify_chain(abroad.texts, abroad.asking, abroad.trust, abroad.now)
        for act in (author.act() for _ in range(10)):
            found.add((beyond(given.chain.caveats, act) is None, beyond(given.caveats, act) is None))
    assert found == {(True, True), (True, False), (False, False)}
