"""citywatch with its clock put forward or back: `python shifted.py COMMAND…`, by the milliseconds in the file `shift`.

Everything else is the real command line; the file is read anew each time, so that a running process ages with it.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from citywatch.adapters.system import SystemClock
from citywatch.main import cli

SHIFT = Path("shift")


def now_ms(self: SystemClock) -> int:
    shift = int(SHIFT.read_text() or 0) if SHIFT.exists() else 0
    return time.time_ns() // 1_000_000 + shift


if __name__ == "__main__":
    SystemClock.now_ms = now_ms  # type: ignore[method-assign]
    cli(sys.argv[1:])
