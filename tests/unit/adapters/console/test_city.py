"""A line of the City leads to where more of it stands, and nowhere if nobody is known."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from citywatch.core import events
from citywatch.core.approvals.people import Duty
from tests.unit.adapters.console.world import World
from tests.unit.service.test_decisions import VERDICTS, decided

BILLING = "spiffe://t.example/agent/billing"


async def test_each_line_leads_to_its_decision_or_its_agent_and_what_is_turned_away_counts_as_stopped(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    by = {"replica": "r", "by": "x", "reason": "y"}
    away = events.Rejected(
        at=3, replica="r", code="agent_quarantined", detail="", peer=BILLING, server="ledger", count=2
    )
    await world.enter(
        decided(1, "billing", "ledger", "pay", VERDICTS[0], 1),
        events.Quarantined(at=2, agent=BILLING, since=0, **by),
        away,
        msgspec.structs.replace(away, code="credential_missing", peer="127.0.0.1", count=3),
    )
    browser = await world.visit(Duty.OPERATOR)
    page = (await browser.get("/")).text
    lines = re.findall(r"<li><time.*?</li>", page, re.DOTALL)
    assert [re.findall(r'href="([^"]*)"', one) for one in lines] == [
        [],
        ["/agents/billing"],
        ["/agents/billing"],
        ["/decisions/0"],
    ]
    assert re.search(r">somebody → (<[^>]*>)*ledger", lines[0])
    assert "in quarantine" in lines[2]
    assert re.search(r'data-total="?stopped"?>\s*5\s*<', page)
