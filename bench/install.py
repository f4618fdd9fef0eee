"""What a base install weighs: `tools.footprint`'s rows, with the rest of the bench."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from tools.footprint import measure, rows


def run() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="footprint-") as folder:
        return rows(measure(Path(folder)))
