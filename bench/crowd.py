"""What a message costs in a city of ten thousand registered agents, beside one where only those who speak are.

Two gateways, each started by its own command line as in `bench.a2a`; the one has `CROWD` more agents, each in the file
and registered with a key. `crowd.cpu_us` is user and system time of the gateway's process by message, before a stub;
`crowd.rss_mib` what of its memory is resident once it has served; `crowd.start_s` how long it takes from its command
line until it listens. The ratio is to the gateway without the crowd, in the same rounds, each of which begins with the
other one. Run it: `python -m bench.crowd`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.a2a import DOMAIN, EACH, ROUNDS, Town, cpu
from bench.decide import row
from bench.gateway import make, spawn

CROWD = 10_000
BATCH = 500
STARTS = 3
ALONE = "the gateway without them"


class Crowded(Town):
    """A town with so many more agents than those that speak."""

    def __init__(self, folder: Path, stack: ExitStack, crowd: int) -> None:
        self._crowd = crowd
        super().__init__(folder, stack)

    async def _set_up(self) -> None:
        await super()._set_up()
        from citywatch.adapters.sqlite import open_store
        from citywatch.core.identity.registration import AgentRow, KeyRow, agent_key, format_row, key_key
        from citywatch.core.names import AgentId
        from citywatch.service.ports import Append

        names = [f"other-{number:05}" for number in range(self._crowd)]
        file = self.folder / "citywatch.yaml"
        config = json.loads(file.read_text())
        config["agents"] |= {name: {"roles": ["bench"]} for name in names}
        file.write_text(json.dumps(config))
        store = open_store(self.folder / ".citywatch" / "citywatch.db")
        for start in range(0, len(names), BATCH):
            puts: list[tuple[tuple[str, str], bytes | None]] = []
            for number, name in enumerate(names[start : start + BATCH], start):
                agent, key = str(AgentId(DOMAIN, name)), f"{number:043}"
                puts.append((agent_key(name), format_row(AgentRow(agent=agent, keys=(key,), added_at=0))))
                puts.append((key_key(key), format_row(KeyRow(agent=agent))))
            await store.append(Append(puts=tuple(puts)))
        await store.close()


def resident(town: Town) -> float:
    """MiB of a gateway's memory that are resident."""
    lines = Path(f"/proc/{town.gateway.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def start(town: Town, stack: ExitStack) -> float:
    """Seconds until the gateway listens, started anew."""
    town.gateway.terminate()
    town.gateway.wait()
    began = time.perf_counter()
    town.gateway = spawn(stack, town.folder, [sys.executable, "-m", "citywatch", "up"], town.http)
    return time.perf_counter() - began


async def measure(towns: tuple[Town, Town]) -> tuple[list[list[float]], list[list[float]]]:
    """By town, microseconds by message in each round, and the memory after it; by turns."""
    spent: list[list[float]] = [[], []]
    held: list[list[float]] = [[], []]
    for number in range(ROUNDS):
        for which in (0, 1) if number % 2 else (1, 0):
            town = towns[which]
            spent[which].append(await cpu(town.gateway, town.names, town.speaker, EACH))
            held[which].append(resident(town))
    return spent, held


def run() -> list[dict[str, Any]]:
    """All rows."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        os.chmod(name, 0o700)
        alone = Crowded(make(Path(name) / "alone"), stack, 0)
        crowded = Crowded(make(Path(name) / "crowded"), stack, CROWD)
        spent, held = asyncio.run(measure((alone, crowded)))
        starts = [[start(town, stack) for _ in range(STARTS)] for town in (alone, crowded)]
    told = ROUNDS * EACH * len(alone.names)
    return [
        row("crowd.cpu_us", spent[1], "us", told, ALONE, spent[0]),
        row("crowd.rss_mib", held[1], "MiB", told, ALONE, held[0]),
        row("crowd.start_s", starts[1], "s", STARTS, ALONE, starts[0]),
    ]


if __name__ == "__main__":
    for found in run():
        print(found)
