"""A peer that hangs or breaks, as a real process behind a real gateway: its caller is told, and nobody else notices.

Nothing here waits for a time to pass: what has to go on does so while the hanging calls are open, which the peer's own
ledger says.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
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
    """Two peers that two agents may speak to. `moody` can be made to hang or to break; as `hasty` it is the same agent,
    for whoever does not wait. A breaker rests for so long."""

    def __init__(self, folder: Path, stack: ExitStack, rest: str) -> None:
        super().__init__(folder, stack)
        self.ports = {"moody": free_port(), "steady": free_port()}
        limits = f"{{calls_per_caller: {PLACES}, call_wait: 10ms, breaker_failures: {FAILURES}, breaker_rest: {rest}}}"
        peers = "".join(
            f"  {name}:\n    url: http://127.0.0.1:{port}/a2a\n    callers: [clerk, visitor]\n    timeout: {patience}\n"
            f"    card: http://127.0.0.1:{port}/.well-known/agent-card.json\n"
            for name, port, patience in (
                ("moody", self.ports["moody"], "5m"),
                ("hasty", self.ports["moody"], "300ms"),
                ("steady", self.ports["steady"], "5m"),
            )
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
def town(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Town]:
    with ExitStack() as stack:
        found = Town(tmp_path, stack, request.param)
        found.start()
        yield found


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.02)


async def others_go_on(clerk: Caller, visitor: Caller) -> None:
    """Another caller of the same peer, and another peer of the same caller."""
    assert [await visitor.say() for _ in range(5)] == [""] * 5
    assert [await clerk.say(peer="steady") for _ in range(5)] == [""] * 5


@pytest.mark.parametrize("town", ["1h"], indirect=True)
async def test_calls_that_hang_take_the_places_of_their_caller_alone(town: Town) -> None:
    async with town.caller("clerk") as clerk, town.caller("visitor") as visitor:
        hanging = [asyncio.create_task(clerk.say("hang")) for _ in range(PLACES)]
        await until(lambda: town.heard("hang") == PLACES)
        await others_go_on(clerk, visitor)
        assert await clerk.say() == "upstream_crowded"
        assert not any(one.done() for one in hanging), "all of that while they hang"
        (town.folder / "moody" / "go").touch()
        assert await asyncio.gather(*hanging) == [""] * PLACES
        assert await clerk.say() == ""


@pytest.mark.parametrize("town", ["1h"], indirect=True)
@pytest.mark.parametrize(
    ("word", "peer", "told"), [("hang", "hasty", "upstream_timeout"), ("break", "moody", "upstream_unavailable")]
)
async def test_a_peer_that_fails_its_caller_again_and_again_is_left_alone_by_that_caller(
    town: Town, word: str, peer: str, told: str
) -> None:
    async with town.caller("clerk") as clerk, town.caller("visitor") as visitor:
        assert [await clerk.say(word, peer) for _ in range(FAILURES)] == [told] * FAILURES
        came = town.heard(word)
        assert [await clerk.say(word, peer) for _ in range(5)] == ["circuit_open"] * 5
        assert town.heard(word) == came, "what a breaker refuses does not reach the peer"
        assert await visitor.say() == ""
        assert await clerk.say(peer="steady") == ""


@pytest.mark.parametrize("town", ["100ms"], indirect=True)
async def test_a_peer_that_was_left_alone_is_tried_by_one_call_and_spoken_to_again(town: Town) -> None:
    async with town.caller("clerk") as clerk, town.caller("visitor") as visitor:
        assert [await clerk.say("break") for _ in range(FAILURES)] == ["upstream_unavailable"] * FAILURES
        trial = await half_open(town, clerk)
        assert [await clerk.say() for _ in range(3)] == ["circuit_open"] * 3, "nobody knows yet what comes of it"
        await others_go_on(clerk, visitor)
        assert town.heard("hang") == 1
        (town.folder / "moody" / "go").touch()
        assert await trial == ""
        assert [await clerk.say() for _ in range(5)] == [""] * 5


async def half_open(town: Town, clerk: Caller) -> asyncio.Task[str]:
    """The call that the breaker lets through to try, under way."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            trial = asyncio.create_task(clerk.say("hang"))
            while not trial.done() and not town.heard("hang"):
                await asyncio.sleep(0.01)
            if town.heard("hang"):
                return trial
            assert trial.result() == "circuit_open"
