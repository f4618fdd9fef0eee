"""A gateway that dies by SIGKILL at one named step of the sequence: `python doomed.py STEP`, in a folder like a user's.

It is the real gateway; only the step named is wrapped. It arms itself with the file `armed`, so that set-up may pass.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from citywatch.adapters.gateway import app
from citywatch.adapters.gateway.writing import Send
from citywatch.adapters.sqlite import SqliteStore
from citywatch.adapters.upstream import HttpUpstream
from citywatch.main import cli

STEPS = (
    "before load",
    "after load",
    "before the decision commits",
    "after the decision commits",
    "before forwarding",
    "after forwarding",
    "before the reply commits",
    "after the reply commits",
    "before release",
    "after release",
)
IN_STREAM = "inside a stream"


def main(step: str) -> None:
    if step == IN_STREAM:
        _die_inside_a_stream()
        cli(["up"])
    when, _, what = step.partition(" ")
    owner, name, turn = {
        "load": (SqliteStore, "load", None),
        "the decision commits": (SqliteStore, "append", "decided"),
        "forwarding": (HttpUpstream, "send", None),
        "the reply commits": (SqliteStore, "append", "settled"),
        "release": (app, "write", None),
    }[what]
    original: Callable[..., Awaitable[Any]] = getattr(owner, name)

    async def doomed(*arguments: Any, **named: Any) -> Any:
        due = Path("armed").exists() and (turn is None or _is_turn(arguments[1], turn))
        if due and when == "before":
            _die()
        result = await original(*arguments, **named)
        if due and when == "after":
            if what == "release":
                await _written()
            _die()
        return result

    setattr(owner, name, doomed)
    cli(["up"])


def _die_inside_a_stream() -> None:
    """Die when the first message of a stream has been written to its agent."""
    deliver = app.Gateway._deliver

    async def doomed(self: app.Gateway, send: Send, *arguments: Any) -> None:
        async def send_then_die(event: Any) -> None:
            await send(event)
            if Path("armed").exists() and b'"method"' in event.get("body", b""):
                await _written()
                _die()

        await deliver(self, send_then_die, *arguments)

    app.Gateway._deliver = doomed  # type: ignore[assignment,method-assign]


async def _written() -> None:
    """uvloop hands bytes to the kernel at the end of a turn of its loop. Who has read them may hang up meanwhile."""
    with suppress(asyncio.CancelledError):
        for _ in range(5):
            await asyncio.sleep(0)


def _is_turn(append: Any, turn: str) -> bool:
    return any(f'"type":"{turn}"'.encode() in entry.leaf for entry in append.entries)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1])
