"""Two gateway processes on one state folder: what a temporal rule counts, they count together."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.e2e.gateway.desk import Desk
from tests.fault.test_two_gateways import Replica, caller

ALLOWED = 5
CALLERS = 12
LOOKED = 'event is "call" and tool is "desk/look"'
RULE = f"forbid too-many-looks per agent when {LOOKED} and count within 1d ({LOOKED}) >= {ALLOWED + 1};"


@pytest.fixture
def replicas(ready_desk: Desk) -> Iterator[tuple[Desk, Replica, Replica]]:
    (ready_desk.folder / "past.rules").write_text(RULE)
    one, other = Replica(ready_desk, "one"), Replica(ready_desk, "other")
    for replica in (one, other):
        file = ready_desk.folder / replica.file
        file.write_text(f"{file.read_text()}\ntemporal_rules: past.rules\n")
    try:
        one.up()
        other.up()
        yield ready_desk, one, other
    finally:
        for replica in (one, other):
            if replica.process is not None and replica.process.poll() is None:
                replica.process.kill()
                replica.process.wait()


async def test_a_count_raced_through_two_processes_is_passed_by_nobody(
    replicas: tuple[Desk, Replica, Replica],
) -> None:
    desk, one, other = replicas
    async with caller(desk) as http:
        codes = Counter(
            await asyncio.gather(
                *(replica.ask(http, "look", {}) for _ in range(CALLERS) for replica in (one, other)),
            )
        )
        # Who loses the race for the row three times is told so, and may ask again: that is no way past the count.
        assert codes.keys() <= {"done", "rule_matched", "conflict"}
        for _ in range(ALLOWED - codes["done"]):
            assert await one.ask(http, "look", {}) == "done"
        for replica in (one, other):
            assert await replica.ask(http, "look", {}) == "rule_matched"
    one.down()
    one.up()
    async with caller(desk) as http:
        assert await one.ask(http, "look", {}) == "rule_matched", "a restart forgets nothing"
    decided = [event for event in desk.events() if event["type"] == "decided" and event["name"] == "look"]
    assert sum(event["decision"] == "allow" for event in decided) == ALLOWED
    assert len({event["replica"] for event in decided}) >= 2, "both had a part in it"
