"""What a running gateway believes changes everywhere in one, whatever else it waits for."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from citywatch.adapters.keys import KeyKind, create_key
from citywatch.adapters.tls import GatewayPin, GatewayTls
from citywatch.core.errors import Code, Unavailable
from citywatch.core.names import AgentId
from citywatch.main.assembly import City, open_city
from citywatch.main.place import read_place
from citywatch.main.trust import Trust
from citywatch.service.authority import Authority, p256
from citywatch.service.rotation import activate_generation, prepare_generation, retire_generation
from tests.unit.adapters.test_tls import listening

DOMAIN = "city.example"
CONFIG = f"""\
trust_domain: {DOMAIN}
listen: ["https://127.0.0.1:0"]
agents: {{billing: {{}}}}
servers:
  bank: {{url: http://127.0.0.1:1/mcp, tools: {{look: {{effect: read}}}}}}
"""


class Unwritable:
    """A store that can be read; who wants to write waits for ever, or is told that it is away."""

    def __init__(self, store: Any, waits: bool) -> None:
        self._store = store
        self._waits = waits
        self.asked = 0

    async def append(self, append: object) -> object:
        self.asked += 1
        if self._waits:
            await asyncio.Event().wait()
        raise Unavailable(Code.STORE_UNAVAILABLE, "away")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Gate:
    """A gateway's trust with a listener, and agents of any generation that come to it."""

    def __init__(self, city: City, trust: Trust, tls: GatewayTls) -> None:
        self.city, self.trust, self.tls = city, trust, tls
        self.store = city.store
        self._made = 0

    def agent(self, number: int) -> GatewayPin:
        self._made += 1
        name = f"agent-{self._made}.pem"
        key = create_key(self.city.keys, name, KeyKind.P256)
        certificates, tokens = self.city.keys_of(number)
        generation = self.city.row().generation(number)
        authority = Authority(DOMAIN, generation, certificates=certificates, tokens=tokens, chance=self.city.chance)
        now = self.city.clock.now_ms()
        leaf = authority.issue_x509(AgentId(DOMAIN, "billing"), p256(key.public), now=now, ttl=600_000)
        shown = [leaf.value], self.city.keys.path / name
        return GatewayPin(self.city.bundle(), self.city.clock.now_ms, 0, certificate=shown)

    async def lets_in(self, pin: GatewayPin) -> bool:
        async with listening(self.tls) as port:
            with suppress(ssl.SSLError, ConnectionError):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", port, ssl=pin.context, server_hostname="localhost"
                )
                try:
                    return bool(await reader.read())
                finally:
                    writer.transport.abort()
        return False

    async def looks(self, sequence: int, *, waits: bool) -> None:
        """One look; returns as soon as the bundle that is given away is the one of this sequence."""
        unwritable = Unwritable(self.store, waits)
        self.city.store = unwritable  # type: ignore[assignment]
        looking = asyncio.create_task(self.trust.look_again())
        while self.city.bundle().sequence != sequence:
            await asyncio.sleep(0)
        if not waits:
            with pytest.raises(Unavailable):
                await looking
            assert unwritable.asked
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        self.city.store = self.store


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[Gate]:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "all.cedar").write_text('@id("all") permit(principal, action, resource is Server);')
    (tmp_path / "citywatch.yaml").write_text(CONFIG)
    async with open_city(read_place(tmp_path / "citywatch.yaml")) as city:
        trust = Trust(city)
        await trust.begin()
        tls = await trust.tls()
        assert tls is not None
        yield Gate(city, trust, tls)
        await trust.close()


@pytest.mark.parametrize("waits", [True, False], ids=["a log that waits", "a log that is away"])
async def test_the_bundle_that_is_given_away_and_the_one_that_listeners_believe_are_one(
    gate: Gate, waits: bool
) -> None:
    """Also while the entry for a fresh certificate is not written yet, or cannot be."""
    city, store, clock = gate.city, gate.store, gate.city.clock
    await prepare_generation(store, clock, "r1", city.draw_generation(2), DOMAIN, "test")
    await gate.looks(2, waits=waits)
    assert await gate.lets_in(gate.agent(2))
    old = gate.agent(1)
    assert await gate.lets_in(old)
    await activate_generation(store, clock, "r1", 2, DOMAIN, "test")
    await gate.trust.look_again()  # what is shown is of the second from here on
    await retire_generation(store, clock, "r1", 1, DOMAIN, "test")
    assert await gate.lets_in(old)  # nobody has looked
    await gate.looks(4, waits=waits)
    assert not await gate.lets_in(old)
    assert await gate.lets_in(gate.agent(2))


async def test_a_certificate_that_could_not_be_renewed_is_renewed_at_the_next_look(gate: Gate) -> None:
    before = gate.tls._shown
    assert before is not None
    await prepare_generation(gate.store, gate.city.clock, "r1", gate.city.draw_generation(2), DOMAIN, "test")
    await gate.looks(2, waits=False)
    assert gate.tls._shown is not None
    assert gate.tls._shown[0] == before[0]
    await gate.trust.look_again()
    after = gate.tls._shown
    assert after is not None
    assert after[0] != before[0]
    await gate.trust.look_again()
    assert gate.tls._shown is after
