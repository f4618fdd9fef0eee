"""A line of the City leads to where more of it stands, and nowhere if nobody is known."""

from __future__ import annotations

import re
from pathlib import Path

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
    away = {"at": 3, "replica": "r", "detail": "", "server": "ledger"}
    await world.enter(
        decided(1, "billing", "ledger", "pay", VERDICTS[0], 1),
        events.Quarantined(at=2, agent=BILLING, since=0, **by),
        events.Rejected(code="agent_quarantined", peer=BILLING, count=2, **away),
        events.Rejected(code="credential_missing", peer="127.0.0.1", count=3, **away),
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
    assert [re.sub(r"<[^>]*>|\s+", " ", one).split()[1:-2][:3] for one in lines][0] == ["somebody", "→", "ledger"]
    assert "in quarantine" in lines[2]
    assert re.search(r'data-total="?stopped"?>\s*5\s*<', page)
