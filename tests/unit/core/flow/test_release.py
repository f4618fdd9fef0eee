"""A release lowers, by a rule that has a name, for a reason that can be read."""

from __future__ import annotations

import pytest

from citywatch.core.flow.release import MAX_REASON, REASONS, Way, release
from citywatch.core.label import BOTTOM, TOP, Label

HIGH = Label(frozenset({"principal:alice", "outside:bank/inbox"}), frozenset({"hr"}))
LOW = Label(frozenset({"principal:alice"}), frozenset({"hr"}))


def test_a_release_says_from_where_to_where_and_why() -> None:
    found = release(HIGH, LOW, Way.NAMED, path="to", role="destination", source="principal:alice $", items=("d",))
    assert (found.was, found.now, found.how, found.path, found.items) == (HIGH, LOW, "named", "to", ("d",))
    assert found.reason == REASONS[Way.NAMED]


@pytest.mark.parametrize(
    ("was", "now"),
    [
        (LOW, HIGH),
        (Label(frozenset({"principal:bob"}), None), Label(frozenset({"principal:alice"}), None)),
        (LOW, Label(None, LOW.readers)),
        (BOTTOM, TOP),
        (Label(frozenset(), None), Label(frozenset(), frozenset({"hr"}))),
    ],
)
def test_what_would_raise_a_label_or_trade_an_origin_is_no_release(was: Label, now: Label) -> None:
    with pytest.raises(ValueError, match="would not let the label down"):
        release(was, now, Way.NAMED)


@pytest.mark.parametrize("reason", ["", " ", "\n"])
@pytest.mark.parametrize("way", [Way.APPROVED, Way.DISCLOSED, Way.CLEARED])
def test_a_person_gives_a_reason_of_their_own(way: Way, reason: str) -> None:
    with pytest.raises(ValueError, match="without a reason"):
        release(HIGH, LOW, way, reason=reason)
    assert release(HIGH, LOW, way, reason="I asked her").reason == "I asked her"


def test_every_rule_has_a_reason_or_takes_a_persons() -> None:
    assert set(Way) - set(REASONS) == {Way.APPROVED, Way.DISCLOSED, Way.CLEARED}
    assert all(REASONS[way].strip() for way in REASONS)


def test_a_reason_is_bounded() -> None:
    assert len(release(HIGH, LOW, Way.APPROVED, reason="x" * 9999).reason) == MAX_REASON
