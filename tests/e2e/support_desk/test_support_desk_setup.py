"""The example's configuration and policies say what its servers and its books say."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from citywatch.config import parse_settings
from examples.support_desk import gateway, services, world
from examples.support_desk.servers import crm, documents, ledger, tickets
from examples.support_desk.station import CommandFailed

HERE = Path(gateway.__file__).parent


def test_every_tool_is_declared_and_every_declared_tool_is_there(tmp_path: Path) -> None:
    settings = parse_settings((HERE / "citywatch.yaml").read_text(), str(HERE))
    built = {"crm": crm, "documents": documents, "ledger": ledger, "tickets": tickets}
    offered = {name: {t.name for t in asyncio.run(m.build(tmp_path).list_tools())} for name, m in built.items()}
    assert {name: set(server.tools) for name, server in settings.servers.items()} == offered
    assert set(settings.agents) == {gateway.AGENT}


def test_the_payees_of_the_policy_are_the_payees_of_the_ledger(tmp_path: Path) -> None:
    drawn = world.build(tmp_path, world.default_attack())
    named = re.findall(r'"(DE\d{20})"', (HERE / "policies" / "refunds.cedar").read_text())
    assert sorted(named) == sorted(customer.account for customer in drawn.customers)
    assert drawn.attack is not None
    assert drawn.attack.account not in named


def test_every_refund_that_may_be_owed_is_within_the_limit_of_the_policy(tmp_path: Path) -> None:
    drawn = world.build(tmp_path, world.default_attack())
    assert all(0 < price <= 5000 for price in drawn.prices)


def test_the_filled_file_differs_in_ports_and_paths_only(open_desk: services.Desk, tmp_path: Path) -> None:
    made = gateway.Gateway(tmp_path / "gateway", open_desk, lambda words, output: None)
    filled = (tmp_path / "gateway" / "citywatch.yaml").read_text()
    before, after = (parse_settings(text, "/x") for text in ((HERE / "citywatch.yaml").read_text(), filled))
    assert before.agents == after.agents
    assert before.trust_domain == after.trust_domain
    assert {n: s.tools for n, s in before.servers.items()} == {n: s.tools for n, s in after.servers.items()}
    assert [listen.port for listen in after.listen] == [made.port]
    assert not any(token in filled for token in open_desk.tokens.values())


def test_a_changed_example_file_is_not_filled_in_silence(open_desk: services.Desk) -> None:
    with pytest.raises(CommandFailed, match="9002"):
        gateway.filled("servers: {}".replace("{}", "{crm: {url: 'http://127.0.0.1:9001/mcp'}}"), open_desk, 1)
