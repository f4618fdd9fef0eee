"""One running agent: started under its own account, ended with all that it started.

Decides whether it may be started at all. INVARIANTS: under an account that is nobody else's, unless the operator wrote
`--unsafe-same-user`; with the environment that is given and no more; whoever ends `citywatch run`, however, ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from citywatch.adapters.workload.measure import SEARCH
from citywatch.core.errors import Malformed
from citywatch.core.identity.workload import Measured

GRACE_S: Final = 5.0
SOCKET: Final = "SPIFFE_ENDPOINT_SOCKET"


class Program:
    """A started program. `pid` is that of the process above it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    async def wait(self) -> int:
        """Until it has ended; as a shell counts: 128 and the signal's number if one ended it."""
        return await self._process.wait()

    def tell(self, number: signal.Signals) -> None:
        """Send a signal to the program and to what is in its group."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def stop(self) -> None:
        """Let it end by itself for a moment, then end it and all that it started."""
        self.tell(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.wait(), GRACE_S)
        self.tell(signal.SIGKILL)
        await self.wait()


def check_account(unsafe_same_user: bool) -> None:
    """Raise `Malformed` unless we may start a program: as root under its own account, or under ours if told so."""
    if os.geteuid() == 0 and unsafe_same_user:
        raise Malformed("`--unsafe-same-user` would run the program as root: leave it out")
    if os.geteuid() != 0 and not unsafe_same_user:
        raise Malformed(
            "only root can give a program an account of its own: run this as root, or say `--unsafe-same-user` and let "
            "every program of yours that it starts, or that attaches to it, be taken for it"
        )


async def start_program(measured: Measured, uid: int | None, socket: str, environment: Mapping[str, str]) -> Program:
    """Start what was measured, under `uid` (None: ours). `environment` holds the variables that it is to get."""
    order = {
        "command": measured.command,
        "folder": measured.folder,
        "environment": {"PATH": SEARCH, "LANG": "C.UTF-8", **environment, SOCKET: f"unix://{socket}"},
        "uid": uid,
        "parent": os.getpid(),
    }
    with os.fdopen(os.memfd_create("citywatch-order"), "wb") as file:
        file.write(json.dumps(order).encode("utf-8"))
        file.flush()
        file.seek(0)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(Path(__file__).with_name("enter.py")), str(file.fileno())),
            env={},
            cwd="/",
            pass_fds=(file.fileno(),),
            start_new_session=True,
        )
    return Program(process)
