"""A peer that hangs or breaks, as a real process behind a real gateway: its caller is told, and nobody else notices.

Nothing here waits for a time to pass: what has to go on does so while the hanging calls are open, which the peer's own
ledger says.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.gateway.desk import DEADLINE_S, HERE, Desk, listens, wait_for
from tests.ports import free_port

CALLERS = ("clerk", "visitor")
PLACES, FAILURES = 3, 2
POLICY = '@id("talk") permit(principal, action in Action::"send_message", resource is Peer);'


class Town(Desk):
    """Two peers that two agents may speak to; `moody` can be made to hang or to break."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        super().__init__(folder, stack)
        self.ports = {"moody": free_port(), "steady": free_port()}
        limits = f"{{calls_per_caller: {PLACES}, call_wait: 100ms, breaker_failures: {FAILURES}, breaker_rest: 1s}}"
        peers = "".join(
            f"  {name}:\n    url: http://127.0.0.1:{port}/a2a\n    callers: [clerk, visitor]\n    timeout: 5s\n"
            f"    card: http://127.0.0.1:{port}/.well-known/agent-card.json\n"
            for name, port in self.ports.items()
        )
        file = folder / "citywatch.yaml"
        text = file.read_text().replace("agents:\n", "agents:\n  visitor: {}\n")
        file.write_text(f"{text}limits: {limits}\npeers:\n{peers}")
        (folder / "policies" / "talk.cedar").write_text(POLICY)

    def start(self) -> None:
        self.start_upstream()
        for name, port in self.ports.items():
            (self.folder / name).mkdir()
            self._spawn([sys.executable, str(HERE.parents[1] / "fault" / "slow_agent.py"), str(port), name])
            wait_for(lambda port=port: listens(port), f"the peer {name}")  # type: ignore[misc]
        for name in CALLERS:
            self.run("agent", "add", name)
        self.run("tools", "approve", "--yes")
        self.up()
        self.papers = {name: self.run("agent", "token", name).stdout.strip() for name in CALLERS}

    def heard(self, word: str) -> int:
        ledger = self.folder / "moody" / "heard"
        return ledger.read_text().splitlines().count(word) if ledger.exists() else 0

    @asynccontextmanager
    async def caller(self, name: str) -> AsyncIterator[Caller]:
        headers = {"Authorization": f"Bearer {self.papers[name]}", "A2A-Version": "1.0"}
        async with httpx.AsyncClient(headers=headers, timeout=DEADLINE_S) as http:
            yield Caller(http, self.port)


class Caller:
    """What an agent says, and the code of the refusal that comes, or nothing."""

    def __init__(self, http: httpx.AsyncClient, port: int) -> None:
        self._http = http
        self._port = port
        self._said = 0

    async def say(self, word: str = "hello", peer: str = "moody") -> str:
        self._said += 1
        message = {"messageId": f"m{self._said}", "role": "ROLE_USER", "parts": [{"text": word}]}
        body = {"jsonrpc": "2.0", "id": self._said, "method": "SendMessage", "params": {"message": message}}
        told: dict[str, Any] = (await self._http.post(f"http://127.0.0.1:{self._port}/a2a/{peer}", json=body)).json()
        if "error" not in told:
            return ""
        found: str = told["error"]["data"][-1]["metadata"]["code"]
        return found


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with ExitStack() as stack:
        found = Town(tmp_path, stack)
        found.start()
        yield found


async def until(condition: Any, what: str) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.02)
    assert condition(), what


async def test_a_peer_that_hangs_costs_its_caller_and_nobody_else_and_is_tried_by_one_call(town: Town) -> None:
    async with town.caller("clerk") as clerk, town.caller("visitor") as visitor:
        hanging = [asyncio.create_task(clerk.say("hang")) for _ in range(PLACES)]
        await until(lambda: town.heard("hang") == PLACES, "the calls to hang")
        # While they are open: another caller, another peer, and the caller's own next call.
        assert [await visitor.say() for _ in range(5)] == [""] * 5
        assert [await clerk.say(peer="steady") for _ in range(5)] == [""] * 5
        assert await clerk.say() in ("upstream_crowded", "circuit_open")  # the first of them may have timed out by now
        assert await asyncio.gather(*hanging) == ["upstream_timeout"] * PLACES
        came = town.heard("hello")
        assert await clerk.say() == "circuit_open"
        assert town.heard("hello") == came, "what a breaker refuses does not reach the peer"
        assert await visitor.say() == ""
        assert await clerk.say(peer="steady") == ""
        # Half-open: one call tries, and while nobody knows what comes of it, no other does.
        trial, before = await half_open(town, clerk)
        assert [await clerk.say() for _ in range(3)] == ["circuit_open"] * 3
        assert town.heard("hang") == before + 1
        (town.folder / "moody" / "go").touch()
        assert await trial == ""
        assert [await clerk.say() for _ in range(5)] == [""] * 5


async def half_open(town: Town, clerk: Caller) -> tuple[asyncio.Task[str], int]:
    """The call that the breaker lets through to try, under way; and how many had hung before it."""
    before = town.heard("hang")
    async with asyncio.timeout(DEADLINE_S):
        while True:
            trial = asyncio.create_task(clerk.say("hang"))
            while not trial.done() and town.heard("hang") == before:
                await asyncio.sleep(0.01)
            if town.heard("hang") > before:
                return trial, before
            assert trial.result() == "circuit_open"


async def test_a_peer_that_breaks_is_left_alone_and_recovers(town: Town) -> None:
    async with town.caller("clerk") as clerk, town.caller("visitor") as visitor:
        assert await clerk.say() == ""
        for _ in range(FAILURES):
            assert await clerk.say("break") == "upstream_unavailable"
        assert await clerk.say("break") == "circuit_open"
        assert town.heard("break") == FAILURES
        assert await visitor.say() == ""
        assert await clerk.say(peer="steady") == ""
        async with asyncio.timeout(DEADLINE_S):
            while await clerk.say():  # until its rest is over; then the first call closes it
                await asyncio.sleep(0.05)
        assert [await clerk.say() for _ in range(5)] == [""] * 5
