"""`make bench`: every row, measured in one run, as a table and (with `--json FILE`) as a list of objects."""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
from pathlib import Path
from typing import Any

PARTS = (
    "gates",
    "decide",
    "tokens",
    "plan",
    "chain",
    "message",
    "access",
    "content",
    "flow",
    "worm",
    "people",
    "tickets",
    "console",
    "gateway",
    "a2a",
    "crowd",
    "revoke",
    "approve",
    "fastmcp",
    "log",
    "install",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("parts", nargs="*", help=f"only these of: {', '.join(PARTS)}")
    chosen = parser.parse_args()
    unknown = set(chosen.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    rows: list[dict[str, Any]] = []
    print(f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}")
    for part in chosen.parts or PARTS:
        found = importlib.import_module(f"bench.{part}").run()
        for one in found:
            show(one)
        rows += found
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=2) + "\n")
    if not rows:
        sys.exit("nothing was measured")


def show(one: dict[str, Any]) -> None:
    against = f"  {one['ratio']} x {one['against']}" if one["ratio"] is not None else ""
    print(f"{one['name']:<32}{one['value']:>14} {one['unit']:<4} spread {one['spread']:<7} n {one['n']:<9}{against}")


if __name__ == "__main__":
    main()
