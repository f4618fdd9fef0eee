"""Ten thousand registered agents: a call reads the rows that it read with ten, and the lists stay readable."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from citywatch.adapters.memory import MemoryStore
from citywatch.adapters.sqlite import open_store
from citywatch.core.identity.registration import AgentRow, KeyRow, agent_key, format_row, key_key
from citywatch.core.names import AgentId
from citywatch.service.halts import Halts
from citywatch.service.ports import Append, Key, Loaded, Puts
from tests.e2e.gateway.desk import Desk
from tests.fault.test_killed_gateway import ask
from tests.simulation.city import DOMAIN, City, code_of
from tests.simulation.test_revocation import admin, watch_of

MANY = 10_000
BATCH = 500


def registered(domain: str, many: int) -> list[Puts]:
    """The rows of so many agents, in batches."""
    rows: list[tuple[Key, bytes]] = []
    for number in range(many):
        name, key = f"agent-{number:05}", f"{number:043}"
        agent = str(AgentId(domain, name))
        rows.append((agent_key(name), format_row(AgentRow(agent=agent, keys=(key,), added_at=0))))
        rows.append((key_key(key), format_row(KeyRow(agent=agent))))
    return [tuple(rows[start : start + BATCH]) for start in range(0, len(rows), BATCH)]


class Counted(MemoryStore):
    """Notes what is read of it while it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[Key] = []
        self.scanned: list[str] = []

    async def load(self, keys: Sequence[Key], budgets: Sequence[tuple[str, int]]) -> Loaded:
        self.loaded += keys
        return await super().load(keys, budgets)

    async def scan(self, kind: str) -> Any:
        self.scanned.append(kind)
        return await super().scan(kind)

    def forget(self) -> None:
        self.loaded, self.scanned = [], []


async def read_by(city: City, store: Counted) -> tuple[list[Key], list[str]]:
    """What one call reads, and a look at what was revoked while nobody was."""
    looks = watch_of(city)
    await looks.look()
    store.forget()
    assert code_of(await city.ask(city.call())) is None
    await looks.look()
    return store.loaded, store.scanned


async def test_a_call_reads_no_more_rows_than_with_ten() -> None:
    reads = []
    for many in (10, MANY):
        store = Counted()
        city = await City(store=store).settle_in()
        for puts in registered(DOMAIN, many):
            await store.append(Append(puts=puts))
        reads.append(await read_by(city, store))
    (few, scans), (lots, scans_of_lots) = reads
    assert len(few) == len(lots)
    assert scans == scans_of_lots == []


async def test_one_of_them_is_revoked_and_stopped_and_the_others_go_on() -> None:
    store = Counted()
    city = await City(store=store).settle_in()
    for puts in registered(DOMAIN, MANY):
        await store.append(Append(puts=puts))
    store.forget()
    await admin(city).revoke_agent("agent-00007", "gone", "op")
    await Halts(store=store, clock=city.clock, replica="r1").halt("agent-00008", "op", "fire")
    assert store.scanned == [], "neither goes over all of them"
    assert code_of(await city.ask(city.call())) is None
    for name, told in (("agent-00007", "agent_revoked"), ("agent-00008", "halted"), ("agent-09999", None)):
        agent = str(AgentId(DOMAIN, name))
        call = msgspec.structs.replace(city.call(), agent=agent)
        papers = city.credential(agent=agent, key=f"{int(name[-5:]):043}")
        assert code_of(await city.ask(call, papers)) == told


@pytest.fixture
def crowded(ready_desk: Desk) -> Desk:
    """The desk among ten thousand others."""

    async def fill() -> None:
        store = open_store(ready_desk.folder / ".citywatch" / "citywatch.db")
        for puts in registered("t.example", MANY):
            await store.append(Append(puts=puts))
        await store.close()

    asyncio.run(fill())
    return ready_desk


def test_a_gateway_starts_serves_and_lists_them(crowded: Desk) -> None:
    crowded.up()
    reply = ask(crowded, crowded.token(), "look", {})
    assert reply is not None
    assert not reply["result"].get("isError", False)
    listed = crowded.run("agent", "list").stdout.splitlines()
    assert len(listed) == 2 * (MANY + 1)
    assert listed[:2] == [
        "agent-00000  spiffe://t.example/agent/agent-00000  added 1970-01-01 00:00  good standing",
        f"    key {0:043}",
    ]
    assert [line for line in listed if line.startswith("clerk  ")]
    crowded.run("agent", "revoke", "agent-04242", "--reason", "gone")
    listed = crowded.run("agent", "list").stdout.splitlines()
    assert [line for line in listed if line.endswith("revoked: gone")] == [
        "agent-04242  spiffe://t.example/agent/agent-04242  added 1970-01-01 00:00  revoked: gone"
    ]
