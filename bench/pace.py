"""An open-loop client: requests leave when they are due, whether earlier ones have been answered or not.

A closed loop (wrk) waits for a slow server and so never sees how long its queue became; the tail is measured here from
the moment a request was due.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping

CONNECTIONS = 32


class _Connection(asyncio.Protocol):
    """One kept-alive connection, one request at a time; `waiting` are requests that are due and found none free."""

    def __init__(self, taken: list[float], waiting: deque[tuple[float, bytes]], idle: list[_Connection]) -> None:
        self.taken, self.waiting, self.idle = taken, waiting, idle
        self.due = 0.0
        self.buffer = b""

    def ask(self, due: float, request: bytes) -> None:
        self.due = due
        self.transport.write(request)  # type: ignore[attr-defined]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end].lower()
        if not head.startswith(b"http/1.1 200"):
            raise SystemExit(f"unexpected reply: {head[:200]!r}")
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(self.buffer) < end + 4 + length:
            return
        self.buffer = b""
        self.taken.append((time.perf_counter() - self.due) * 1000)
        if self.waiting:
            self.ask(*self.waiting.popleft())
        else:
            self.idle.append(self)


def percentiles(
    port: int, path: str, headers: Mapping[str, str], halves: tuple[str, str], rate: float, seconds: int
) -> dict[str, float]:
    """Latency in milliseconds at p50, p99 and p99.9, at `rate` requests a second for `seconds`."""
    taken = sorted(asyncio.run(_load(port, path, headers, halves, rate, seconds)))
    parts = {"p50": 0.5, "p99": 0.99, "p99_9": 0.999}
    return {name: taken[min(len(taken) - 1, int(len(taken) * part))] for name, part in parts.items()}


async def _load(
    port: int, path: str, headers: Mapping[str, str], halves: tuple[str, str], rate: float, seconds: int
) -> list[float]:
    loop, taken = asyncio.get_running_loop(), []  # type: ignore[var-annotated]
    waiting: deque[tuple[float, bytes]] = deque()
    idle: list[_Connection] = []
    connections = [
        (await loop.create_connection(lambda: _Connection(taken, waiting, idle), "127.0.0.1", port))[1]
        for _ in range(CONNECTIONS)
    ]
    idle += connections
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    start, count, sent = time.perf_counter(), int(rate * seconds), 0
    while sent < count:
        now = time.perf_counter()
        while sent < count and start + sent / rate <= now:
            body = f"{halves[0]}{sent}{halves[1]}"
            request = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}Content-Length: {len(body)}\r\n\r\n{body}"
            if idle:
                idle.pop().ask(start + sent / rate, request.encode())
            else:
                waiting.append((start + sent / rate, request.encode()))
            sent += 1
        await asyncio.sleep(0.0005)
    end = time.perf_counter() + 30
    while len(taken) < count and time.perf_counter() < end:
        await asyncio.sleep(0.01)
    for connection in connections:
        connection.transport.close()
    if len(taken) < count:
        raise SystemExit(f"{count - len(taken)} of {count} requests were never answered")
    return taken
