"""What judging a call costs in process: `verify` and `admit` over 100 and 1,000 policies.

Distinct arguments for each call; nothing is cached between decisions. Loading rows and appending the entry are not in
this row: `bench.gateway` measures the whole way. Run it: `python -m bench.gates`.
"""

from __future__ import annotations

import gc
import time
from typing import Any

from bench.decide import quantile, row
from bench.policies import DOMAIN, SERVERS, calls, generate
from citywatch.core.call import Allow, Call, Direction
from citywatch.core.enforce.admit import admit
from citywatch.core.enforce.needs import Known, Pin, needs
from citywatch.core.enforce.rules import ApprovedTool, Rules
from citywatch.core.enforce.verify import verify
from citywatch.core.flow.fields import Fields
from citywatch.core.identity.credential import Credential, Kind
from citywatch.core.identity.registration import AgentRow
from citywatch.core.manifest import SILENT
from citywatch.core.policy.facts import ACTION, SERVER
from citywatch.core.policy.values import Uid

SIZES = (100, 1000)
CALLS = 4_000
ROUNDS = 5
KEY = "A" * 43


Case = tuple[Call, Credential, Known, int]
"""A call, who makes it, what is known, and when (milliseconds)."""


def prepared(size: int) -> list[Case]:
    """Calls of the frozen generator with all that judging them depends on."""
    generated = generate(size)
    world = generated.world
    tools = {
        (server, name): ApprovedTool(
            digest="d",
            manifest=SILENT,
            fields=Fields({}),
            vouched=False,
            hides=False,
            options=frozenset(),
            effect=next(group for group in EFFECTS if Uid(ACTION, group) in action.line),  # type: ignore[arg-type]
            action=action,
            arguments=world.tools[server, name],
            mirrored=(),
        )
        for server, name in world.tools
        if (action := world.entities[Uid(ACTION, f"{server}/{name}")])
    }
    rules = Rules(
        domain=DOMAIN,
        servers={server: world.entities[Uid(SERVER, server)] for server in SERVERS},
        tools=tools,
        budgets={},
        policies=generated.policies,
        world=world,
        manifest="m",
        leeway_ms=0,
        principals={},
    )
    pin = Pin(digest="d", by="bench", at=0)
    found = []
    for number, drawn in enumerate(calls(generated, CALLS)):
        agent = str(drawn.agent.id)
        call = Call(
            id=f"{number:032x}",
            direction=Direction.TO_SERVER,
            agent=agent,
            server=drawn.server,
            method="tools/call",
            name=drawn.tool,
            arguments=drawn.arguments,
            body=b"",
            revision="2026-07-28",
            rpc_id=number,
        )
        credential = Credential(
            agent=agent, key=KEY, kind=Kind.JWT, not_before=0, not_after=drawn.now + 60_000, digest="x"
        )
        known = Known(
            rules=rules,
            agent=AgentRow(agent=agent, keys=(KEY,), added_at=0),
            session=None,
            pin=pin,
            lost=None,
            invited=None,
            taken=False,
            used={},
            reads=(),
        )
        found.append((call, credential, known, drawn.now))
    return found


EFFECTS = ("read", "write", "irreversible")


def timed(cases: list[Case]) -> list[float]:
    """Microseconds of `needs` + `verify` + `admit` for each call."""
    clock, taken = time.perf_counter_ns, []
    gc.collect()
    gc.disable()
    for call, credential, known, now in cases:
        before = clock()
        need = needs(call, known.rules, now)
        authority = verify(call, credential, known, now)
        admit(call, authority, known, need, now)
        taken.append((clock() - before) / 1000)
    gc.enable()
    return taken


def run() -> list[dict[str, Any]]:
    """The rows; the ratio of 1,000 policies is against 100 in the same run."""
    halves: dict[int, list[float]] = {}
    rows = []
    for size in SIZES:
        cases = prepared(size)
        timed(cases[:500])
        rounds = [timed(cases) for _ in range(ROUNDS)]
        halves[size] = [quantile(found, 0.5) for found in rounds]
        allowed = sum(
            isinstance(admit(call, verify(call, who, known, now), known, needs(call, known.rules, now), now), Allow)
            for call, who, known, now in cases
        )
        compiled = 100 * (1 - len(cases[0][2].rules.policies.fallen_back) / size)
        against = ("decide.p50_us.100", halves[100]) if size != 100 else ("", None)
        rows.append(row(f"decide.p50_us.{size}", halves[size], "us", CALLS, *against))
        rows.append(row(f"decide.p99_us.{size}", [quantile(found, 0.99) for found in rounds], "us", CALLS))
        rows.append(row(f"decide.compiled_pct.{size}", [compiled], "%", size))
        rows.append(row(f"decide.allowed_pct.{size}", [100 * allowed / CALLS], "%", CALLS))
    rows.append({**rows[2], "name": "decide.compiled_pct"})
    return rows


if __name__ == "__main__":
    for found in run():
        print(found)
