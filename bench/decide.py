"""What a decision costs: compiled, and by cedarpy, over the same policies and the same requests, in one run.

Policy only: verifying the caller and the other gates are measured by the row that counts them all. Every request has
arguments of its own; nothing is cached between decisions. Run it: `python -m bench.decide`.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

from bench.policies import SEED, generate, requests
from citywatch.core.call import Allow
from citywatch.core.policy.decide import Policies, decide, decide_reference
from citywatch.core.policy.facts import Facts

SIZES = (10, 100, 1000)
CALLS = 4_000
REFERENCE_CALLS = 300
ROUNDS = 5

Decider = Callable[[Policies, Facts], Any]


def timed(function: Decider, policies: Policies, calls: list[Facts]) -> list[float]:
    """Microseconds of each call, the collector held off so that its pauses are not taken for ours."""
    clock, taken = time.perf_counter_ns, []
    gc.collect()
    gc.disable()
    for facts in calls:
        before = clock()
        function(policies, facts)
        taken.append((clock() - before) / 1000)
    gc.enable()
    return taken


def quantile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def row(
    name: str, rounds: list[float], unit: str, n: int, against: str = "", floor: list[float] | None = None
) -> dict[str, Any]:
    """One figure: the median of its rounds, their spread, and the ratio to a peer measured in the same rounds."""
    value = statistics.median(rounds)
    ratio = value / statistics.median(floor) if floor else None
    spread = (max(rounds) - min(rounds)) / value if value else 0.0
    return {
        "name": name,
        "value": round(value, 3),
        "unit": unit,
        "n": n,
        "seed": SEED,
        "against": against,
        "ratio": None if ratio is None else round(ratio, 4),
        "spread": round(spread, 3),
    }


def run() -> list[dict[str, Any]]:
    """All rows. `ratio` is ours over cedarpy's p50 (less is faster), or over our own at 100 policies."""
    rows: list[dict[str, Any]] = []
    halves: dict[int, list[float]] = {}
    compiled: list[float] = []
    for size in SIZES:
        generated = generate(size)
        calls = requests(generated, CALLS)
        timed(decide, generated.policies, calls[:500])
        ours = [timed(decide, generated.policies, calls) for _ in range(ROUNDS)]
        peer = [timed(decide_reference, generated.policies, calls[:REFERENCE_CALLS]) for _ in range(ROUNDS)]
        halves[size] = [quantile(round_, 0.5) for round_ in ours]
        cedar = [quantile(round_, 0.5) for round_ in peer]
        rows.append(row(f"policy.p50_us.{size}", halves[size], "us", CALLS, "cedarpy", cedar))
        rows.append(row(f"policy.p99_us.{size}", [quantile(r, 0.99) for r in ours], "us", CALLS))
        rows.append(row(f"policy.cedarpy_p50_us.{size}", cedar, "us", REFERENCE_CALLS))
        compiled.append(100 * (1 - len(generated.policies.fallen_back) / size))
        allowed = sum(isinstance(decide(generated.policies, facts), Allow) for facts in calls)
        rows.append(row(f"policy.allowed_pct.{size}", [100 * allowed / CALLS], "%", CALLS))
    rows.append(row("policy.compiled_pct", [min(compiled)], "%", sum(SIZES)))
    rows.append(row("policy.growth.1000_to_100", halves[1000], "us", CALLS, "policy.p50_us.100", halves[100]))
    return rows


def main() -> None:
    for found in run():
        against = f"  {found['ratio']} of {found['against']}" if found["against"] else ""
        print(f"{found['name']:<28}{found['value']:>10} {found['unit']:<3} spread {found['spread']:<6}{against}")


if __name__ == "__main__":
    main()
