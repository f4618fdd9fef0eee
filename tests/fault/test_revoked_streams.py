"""Two gateway processes on one state folder: a third revokes, and what is open at both is closed."""

from __future__ import annotations

import asyncio

from tests.e2e.gateway.desk import Desk, wait_for
from tests.fault.test_two_gateways import Replica, caller, replicas

__all__ = ["replicas"]


async def test_streams_at_both_are_closed_with_the_reason_while_their_server_still_works(
    replicas: tuple[Desk, Replica, Replica],
) -> None:
    desk, *both = replicas
    async with caller(desk) as http:
        nap = {"seconds": 100}
        naps = [asyncio.ensure_future(one.ask(http, "nap", nap, progressToken=1)) for one in both]
        await asyncio.to_thread(wait_for, lambda: told(desk) == len(both), "both streams to begin")
        await asyncio.sleep(0.5)
        assert not any(nap.done() for nap in naps)
        await asyncio.to_thread(desk.run, "agent", "revoke", "clerk", "--reason", "turned")
        async with asyncio.timeout(10):
            assert await asyncio.gather(*naps) == ["agent_revoked", "agent_revoked"]
    assert not (desk.folder / "wake").exists()
    settled = [event for event in desk.events() if event["type"] == "settled"]
    assert [(event["outcome"], event["code"]) for event in settled] == [("failed", "agent_revoked")] * 2


def told(desk: Desk) -> int:
    """How often an agent was told something unasked."""
    return sum(event["type"] == "decided" and event["method"] == "notifications/progress" for event in desk.events())
