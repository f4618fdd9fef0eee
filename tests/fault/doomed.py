"""A gateway that dies by SIGKILL at one named step of the sequence: `python doomed.py STEP`, in a folder like a user's.

It is the real gateway; only the step named is wrapped. It arms itself with the file `armed`, so that set-up may pass.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from citywatch.adapters.gateway import app
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
)


def main(step: str) -> None:
    when, _, what = step.partition(" ")
    owner, name, turn = {
        "load": (SqliteStore, "load", None),
        "the decision commits": (SqliteStore, "append", "decided"),
        "forwarding": (HttpUpstream, "send", None),
        "the reply commits": (SqliteStore, "append", "settled"),
        "release": (app, "_write", None),
    }[what]
    original: Callable[..., Awaitable[Any]] = getattr(owner, name)

    async def doomed(*arguments: Any, **named: Any) -> Any:
        due = Path("armed").exists() and (turn is None or _is_turn(arguments[1], turn))
        if due and when == "before":
            _die()
        result = await original(*arguments, **named)
        if due and when == "after":
            _die()
        return result

    setattr(owner, name, doomed)
    cli(["up"])


def _is_turn(append: Any, turn: str) -> bool:
    return any(f'"type":"{turn}"'.encode() in entry.leaf for entry in append.entries)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1])
