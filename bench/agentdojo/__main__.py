"""`make bench-agentdojo`: hijacked agents and honest work of AgentDojo through the real gateway, as rows.

One process per core, one user task at a time in each. ARGS: `--suites`, `--attacks`, `--variants` narrow it;
`--parts pairs,replay,adaptive,cost` chooses; `--notes FILE` writes each executed hijack and each honest call that was
stopped. Run it: `make bench-agentdojo`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from bench import flow
from bench.agentdojo import replay, suites
from bench.agentdojo.attackers import EXCLUDED
from bench.agentdojo.defence import FLOW, UNDEFENDED, VARIANTS
from bench.agentdojo.pairs import Tally
from bench.agentdojo.rows import Row, adaptive_rows, pair_rows, replay_rows, show
from bench.agentdojo.work import Notes, run_adversary, run_replay, run_unit

PARTS = ("pairs", "replay", "adaptive", "cost")


def pairs(chosen: argparse.Namespace, pool: Any) -> tuple[list[Row], Notes]:
    """Every pair in every wording, and the honest runs."""
    work = [
        (name, task_id, chosen.variants, chosen.attacks)
        for name, suite in suites.load(chosen.suites).items()
        for task_id in suite.user_tasks
    ]
    tally: Tally = Counter()
    noted: list[tuple[str, ...]] = []
    for found, notes in pool.map(run_unit, work):
        tally.update(found)
        noted += notes
    for (name, task_id), why in EXCLUDED.items():
        print(f"excluded: {name}/{task_id}, {tally['', chosen.attacks[0], 'excluded']} pairs in each wording: {why}")
    rows = [row for variant in chosen.variants for row in pair_rows(tally, variant, chosen.attacks)]
    return rows, noted


def transcripts(chosen: argparse.Namespace, pool: Any) -> tuple[list[Row], Notes]:
    """Real transcripts, without a plan: nobody knows one for them."""
    why = replay.absent()
    if why is not None:
        print(why)
        return [], []
    noted, variant = list[tuple[str, ...]](), "no_plan" if FLOW else UNDEFENDED
    rows: list[Row] = []
    for head, advice in (("replay", True), ("replay.no_model", False)) if FLOW else (("replay", False),):
        counted = replay.Counted()
        for found, notes in pool.map(run_replay, [(variant, at, chosen.jobs, advice) for at in range(chosen.jobs)]):
            counted.update(found)
            noted += notes if advice or not FLOW else []
        if not rows:
            for kind, reason in sorted(key for key in counted if key[0] == "left_out" and key[1]):
                print(f"left out of replay: {counted[kind, reason]} x {reason}")
        rows += replay_rows(counted, head)
    return rows, noted


def adaptive(chosen: argparse.Namespace, pool: Any) -> tuple[list[Row], Notes]:
    """The white-box adversary, against the variant without a plan."""
    variant = "no_plan" if FLOW else UNDEFENDED
    work = [
        (name, injection_id, variant, chosen.adaptive_tasks, chosen.exhaustive)
        for name, suite in suites.load(chosen.suites).items()
        for injection_id in suite.injection_tasks
    ]
    tried, noted = Counter[tuple[str, ...]](), list[tuple[str, ...]]()
    for found, notes in pool.map(run_adversary, work):
        tried.update(found)
        noted += notes
    return adaptive_rows(tried), noted


def main(arguments: Sequence[str]) -> int:
    chosen = parse(arguments)
    begun, rows, noted = time.monotonic(), list[Row](), list[tuple[str, ...]]()
    print(f"AgentDojo {suites.VERSION}; flow gates in this tree: {'yes' if FLOW else 'no'}")
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(chosen.jobs, fresh) as pool:
        for part in chosen.parts:
            found, notes = PART[part](chosen, pool)
            for row in found:
                print(show(row), flush=True)
            rows += found
            noted += notes
    print(f"{time.monotonic() - begun:.0f} s on {chosen.jobs} processes")
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=2) + "\n")
    if chosen.notes:
        chosen.notes.write_text("".join(json.dumps(note) + "\n" for note in noted))
    if not rows:
        print("nothing was measured", file=sys.stderr)
    return 0 if rows else 1


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.agentdojo", description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--notes", type=Path, help="also write what was executed or stopped to this file")
    parser.add_argument("--suites", type=_words(suites.NAMES), default=suites.NAMES)
    parser.add_argument("--attacks", type=_words(suites.ATTACKS), default=suites.ATTACKS)
    variants = (*VARIANTS, UNDEFENDED)
    parser.add_argument("--variants", type=_words(variants), default=variants if FLOW else (UNDEFENDED,))
    parser.add_argument("--parts", type=_words(PARTS), default=tuple(PART))
    parser.add_argument("--adaptive-tasks", type=int, default=6, help="user tasks for each injection task")
    parser.add_argument("--exhaustive", action="store_true", help="try every rewrite, not only until one gets through")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    return parser.parse_args(arguments)


def _words(known: Sequence[str]) -> Any:
    def read(text: str) -> tuple[str, ...]:
        words = tuple(text.split(","))
        for word in words:
            if word not in known:
                raise argparse.ArgumentTypeError(f"`{word}` is none of {', '.join(known)}")
        return words

    return read


def cost(chosen: argparse.Namespace, pool: Any) -> tuple[list[Row], Notes]:
    """What it takes, on texts that are none of AgentDojo's (`bench.flow`), with nothing else of this run at work."""
    return [{**row, "count": None} for row in flow.run()], []


PART = {"pairs": pairs, "replay": transcripts, "adaptive": adaptive, "cost": cost}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
