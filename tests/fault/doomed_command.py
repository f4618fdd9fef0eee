"""A command that dies by SIGKILL before or after one of its entries: `python doomed_command.py WHEN NUMBER COMMAND...`.

It is the real command; only its appends are counted.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from citywatch.adapters.sqlite import SqliteStore
from citywatch.main import cli
from citywatch.service.ports import Append


def main(when: str, number: int, arguments: list[str]) -> None:
    append, seen = SqliteStore.append, [0]

    async def doomed(self: SqliteStore, put: Append) -> Any:
        seen[0] += bool(put.entries)
        due = bool(put.entries) and seen[0] == number
        if due and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        outcome = await append(self, put)
        if due:
            os.kill(os.getpid(), signal.SIGKILL)
        return outcome

    SqliteStore.append = doomed  # type: ignore[method-assign,assignment]
    cli(arguments)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
