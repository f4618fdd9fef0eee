"""A chain is handed on offline: no more than is left, by nobody but its holder, and as the gateway will read it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from citywatch.core.delegation.chain import read_chain
from citywatch.core.errors import CitywatchError, Malformed
from citywatch.sdk import Chain
from tests.unit.sdk.chains import HELPER, UNTIL, Hand


def test_what_is_handed_on_is_a_chain_of_what_is_left(tmp_path: Path) -> None:
    hand, helper = Hand(), Hand()
    mine = Chain((hand.root(),))
    assert (mine.task, mine.principal, mine.until) == ("t-1", "principal:alice", UNTIL)
    at = datetime(2030, 1, 1, tzinfo=UTC)
    theirs = mine.hand_on(hand.write(tmp_path), HELPER, helper.thumb, {"tools": ["desk/look"]}, until=at, depth=0)
    whole = read_chain(theirs.links)
    assert whole.caveats.tools == frozenset({"desk/look"})
    assert theirs.left == {"audience": ["t.example"], "calls": 9, "tools": ["desk/look"]}
    assert theirs.until == int(at.timestamp() * 1000)
    theirs.save(tmp_path / "chain.json")
    assert Chain.load(tmp_path / "chain.json").links == theirs.links
    with pytest.raises(Malformed, match="its depth is 0"):
        theirs.hand_on(helper.write(tmp_path), HELPER, helper.thumb)


def test_more_than_is_left_is_not_handed_on(tmp_path: Path) -> None:
    hand = Hand()
    key, mine = hand.write(tmp_path), Chain((hand.root(),))
    for left in ({"calls": 10}, {"tools": ["*"]}, {"audience": ["other.example"]}):
        with pytest.raises(Malformed, match="more than the chain leaves"):
            mine.hand_on(key, HELPER, hand.thumb, left)
    with pytest.raises(Malformed, match="more than the chain leaves"):
        mine.hand_on(key, HELPER, hand.thumb, until=datetime(2090, 1, 1, tzinfo=UTC))
    with pytest.raises(Malformed, match="does not know"):
        mine.hand_on(key, HELPER, hand.thumb, {"color": "red"})
    with pytest.raises(Malformed, match="without a zone"):
        mine.hand_on(key, HELPER, hand.thumb, until=datetime(2030, 1, 1))  # noqa: DTZ001


def test_nobody_but_its_holder_hands_it_on(tmp_path: Path) -> None:
    """A thief who has the chain and another key gets an error here, and no link that a gateway would take."""
    mine = Chain((Hand().root(),))
    with pytest.raises(CitywatchError, match="not signed with its delegator's key"):
        mine.hand_on(Hand().write(tmp_path), HELPER, Hand().thumb)


def test_a_file_that_holds_no_chain_or_no_key_is_named(tmp_path: Path) -> None:
    file = tmp_path / "chain.json"
    for text, why in (("{", "cannot be read"), ("7", "holds no chain"), ("[7]", "holds no chain"), ("[]", "one to")):
        file.write_text(text)
        with pytest.raises(CitywatchError, match=why):
            Chain.load(file)
    with pytest.raises(Malformed, match="cannot be read"):
        Chain.load(tmp_path / "none.json")
    hand = Hand()
    for key in (file, tmp_path / "none.pem"):
        with pytest.raises(Malformed, match="holds no key"):
            Chain((hand.root(),)).hand_on(key, HELPER, hand.thumb)


def test_links_that_are_no_chain_are_none() -> None:
    with pytest.raises(CitywatchError):
        Chain((Hand().root(), Hand().root()))
    with pytest.raises(CitywatchError):
        Chain(("a.b.c",))
