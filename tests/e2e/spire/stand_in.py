"""The issuer outside, for tests: our own Workload API over the state folder of another city, because SPIRE is a
program of another language. Gives the agent `gate` its papers on a Unix socket, and writes tokens of others where it is
asked to.

    stand_in.py CONFIG SOCKET TOKENS
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from citywatch.adapters.workload import WorkloadApi, WorkloadKey, measure_program, open_server
from citywatch.core.names import AgentId
from citywatch.main.assembly import City, open_city
from citywatch.main.place import read_place
from citywatch.main.workload import workloads
from citywatch.service.authority import p256
from citywatch.service.freshness import Freshness

AUDIENCES = ("spiffe://t.example/agent/gate", "https://elsewhere.example")


async def main(config: str, socket: str, tokens: str) -> None:
    place = read_place(Path(config))
    async with open_city(place) as city:
        command = (sys.executable, str(Path(__file__)))
        measured = await asyncio.to_thread(measure_program, command, str(place.state.parent), (), (), None)
        city_workloads = workloads(city)
        await city_workloads.register("gate", measured, "test", lambda *_: True)
        key = WorkloadKey()

        async def there() -> object:
            return measured

        run = await city_workloads.begin("gate", p256(key.public), there, "test")  # type: ignore[arg-type]

        async def look() -> int:
            return (await city.look_at_authority()).active

        fresh = Freshness(run, look)
        await fresh.look()
        Path(socket).unlink(missing_ok=True)
        async with open_server(WorkloadApi(fresh, key), socket):
            print("serving", flush=True)
            while True:
                await fresh.look()
                await _write_tokens(city, Path(tokens))
                await asyncio.sleep(0.2)


async def _write_tokens(city: City, folder: Path) -> None:
    """What a Workload API would give the clerk: a token for each audience."""
    agent = AgentId("t.example", "clerk")
    for number, audience in enumerate(AUDIENCES):
        issued = city.authority().issue_jwt(agent, "A" * 43, audience, now=city.clock.now_ms(), ttl=600_000)
        fresh = folder / f".{number}"
        fresh.write_bytes(issued.value)
        os.replace(fresh, folder / f"{number}.jwt")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
