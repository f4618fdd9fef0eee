"""`citywatch demo`: attacks on a mesh of agents, played on this machine with real agents, servers and a gateway.

Decides nothing; the scenarios are in `examples/`, which a checkout has and a wheel carries along. INVARIANT: what is
missing is named, with what brings it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

import click

from citywatch.core.errors import Malformed

PACKED = Path(__file__).resolve().parent.parent / "_demo"
"""Where a wheel has the examples; they are a package of their own, beside ours."""
CHECKOUT = Path(__file__).resolve().parents[3]
NEEDS = ("a2a", "anyio", "httpx", "httpx2", "mcp", "starlette")


def register(cli: click.Group) -> None:
    cli.add_command(demo)


@click.command()
@click.argument("name", required=False)
@click.option("--attack", "seed", metavar="SEED", help="Draw the attack from this seed; `random` draws a new one.")
@click.option("--keep", type=click.Path(path_type=Path), metavar="FOLDER", help="Keep databases, city and log here.")
@click.option("--console", "watched", is_flag=True, help="Show it in a browser too; waits for Enter before and after.")
def demo(name: str | None, seed: str | None, keep: Path | None, watched: bool) -> None:
    """Play an attack on a mesh of agents: undefended, and through citywatch. Without NAME, list what there is."""
    sys.path.insert(0, str(examples_root()))
    check_needs()
    play = importlib.import_module("examples.scenarios.demo")
    try:
        status: int = play.play(name, seed, keep, watched)
    except play.NoScenario as fault:
        raise Malformed(str(fault)) from None
    sys.exit(status)


def examples_root() -> Path:
    """The folder that holds `examples`; `Malformed` where neither a checkout nor a wheel has it."""
    for root in (CHECKOUT, PACKED):
        if (root / "examples" / "scenarios" / "demo.py").is_file():
            return root
    raise Malformed("the examples are not here: run this from a checkout, or install the wheel of citywatch anew")


def check_needs() -> None:
    """Raise `Malformed` with the extra that brings what is missing."""
    missing = [one for one in NEEDS if importlib.util.find_spec(one) is None]
    if missing:
        raise Malformed(f"the demo needs {', '.join(missing)}: pip install 'citywatch[demo]'")
