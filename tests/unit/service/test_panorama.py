"""The picture counts what the log says, draws acts the way they went, and stays bounded."""

from __future__ import annotations

import msgspec
import pytest

from citywatch.core import events
from citywatch.core.log.entry import encode_event
from citywatch.service import panorama as module
from citywatch.service.panorama import ELSEWHERE, GATE, STANDING, Panorama
from tests.unit.service.test_decisions import VERDICTS, decided, settled

ALLOW, ASK, DENY, WOULD = VERDICTS


def folded(*told: events.Event, peers: dict[str, str] | None = None) -> Panorama:
    found = Panorama(peers or {})
    for index, event in enumerate(told):
        found.fold(index, encode_event(event))
    return found


def test_a_road_counts_what_passed_what_was_asked_and_what_was_stopped() -> None:
    found = folded(
        decided(1, "billing", "ledger", "pay", ALLOW, 1),
        decided(2, "billing", "ledger", "pay", ASK, 2),
        decided(3, "billing", "ledger", "pay", DENY, 3),
        decided(4, "billing", "ledger", "pay", WOULD, 4),
        settled(1, "withheld", 5),
    )
    assert set(found.roads) == {("a:billing", "s:ledger"), ("s:ledger", "a:billing")}
    road, back = found.roads["a:billing", "s:ledger"], found.roads["s:ledger", "a:billing"]
    assert (road.passed, road.asked, road.stopped, road.last) == (2, 1, 1, 4), "what is only observed goes through"
    assert (back.stopped, back.passed) == (1, 0)
    told = found.since(4)
    assert [(one.source, one.target, one.became, one.code) for one in told] == [
        ("s:ledger", "a:billing", "withheld", "suspected_injection")
    ]
    assert told[0].decided == 0, "what is shown of a reply leads to the decision it belongs to"


def test_a_peer_of_ours_is_the_agent_that_it_is_and_a_request_of_a_server_goes_the_other_way() -> None:
    said = msgspec.structs.replace(
        decided(1, "router", "billing-desk", "pay", ALLOW, 1), hears=("spiffe://t.example/agent/billing\nkey",)
    )
    refused = decided(2, "router", "billing-desk", "pay", DENY, 2)
    asked = msgspec.structs.replace(decided(3, "router", "crm", "sampling", ALLOW, 3), direction="to_agent")
    found = folded(said, refused, asked, peers={"billing-desk": "billing"})
    assert set(found.roads) == {("a:router", "a:billing"), ("s:crm", "a:router")}
    assert (found.roads["a:router", "a:billing"].passed, found.roads["a:router", "a:billing"].stopped) == (1, 1)


def test_a_task_is_a_road_from_a_person_and_who_is_turned_away_never_came_in() -> None:
    found = folded(
        events.TaskStarted(
            at=1, replica="r", task="t", principal="ann", agent="spiffe://t.example/agent/router", by="x", body="b"
        ),
        events.Rejected(at=2, replica="r", code="credential_missing", detail="", peer="::1", server="", count=7),
    )
    assert found.roads["p:ann", "a:router"].passed == 1
    assert (found.recent[-1].source, found.recent[-1].target, found.recent[-1].count) == (GATE, GATE, 7)


def test_an_agent_that_is_turned_away_is_named_and_its_road_counts_it() -> None:
    billing = "spiffe://t.example/agent/billing"
    away = events.Rejected(
        at=3, replica="r", code="agent_quarantined", detail="", peer=billing, server="ledger", count=4
    )
    nobody = msgspec.structs.replace(away, peer="127.0.0.1")
    found = folded(away, nobody)
    assert found.roads["a:billing", "s:ledger"].stopped == 4
    assert found.turned_away == 4
    assert [one.source for one in found.recent] == ["a:billing", GATE]


def test_what_becomes_of_an_agent_is_told_and_a_stopped_task_is_not_an_agent() -> None:
    billing = "spiffe://t.example/agent/billing"
    by = {"replica": "r", "by": "x", "reason": "y"}
    found = folded(
        events.Quarantined(at=1, agent=billing, since=0, **by),
        events.QuarantineLifted(at=2, agent=billing, **by),
        events.Halted(at=3, what="all", **by),
        events.Halted(at=4, what="task:t", **by),
        events.Resumed(at=5, what=billing, **by),
        events.AgentRevoked(at=6, agent=billing, **by),
    )
    assert [(one.source, one.became) for one in found.recent] == [
        ("a:billing", "quarantined"),
        ("a:billing", "lifted"),
        (GATE, "halted"),
        ("a:billing", "resumed"),
        ("a:billing", "revoked"),
    ]
    assert {one.became for one in found.recent} == set(STANDING)


def test_there_are_no_more_places_than_can_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 6)
    found = folded(*(decided(number, f"a{number}", f"s{number}", "pay", ALLOW, number) for number in range(50)))
    assert len(found.places) == 7
    assert ELSEWHERE in found.places
    assert sum(road.passed for road in found.roads.values()) == 50, "what is past the bound is counted all the same"


def test_a_leaf_that_nobody_can_read_is_passed_over() -> None:
    found = Panorama()
    found.fold(0, b'{"type":"decided"}')
    found.fold(1, b'{"type":"tomorrow"}')
    assert not found.roads
