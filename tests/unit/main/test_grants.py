"""`citywatch task start --grant` and `citywatch grant`, over a real store and real keys."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from citywatch.core.delegation.chain import read_chain
from citywatch.core.delegation.grant import parse_link
from citywatch.main import cli

CONFIG = """\
trust_domain: city.example
listen: ["http://127.0.0.1:0"]
agents: {router: {}, billing: {delegated_only: true}}
servers:
  bank: {url: http://127.0.0.1:1/mcp, tools: {look: {effect: read}}}
principals:
  anna: {may: ["*"]}
"""
BILLING = "spiffe://city.example/agent/billing"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


@pytest.fixture
def thumb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A gateway with two agents, and the second one's thumbprint."""
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "all.cedar").write_text('@id("all") permit(principal, action, resource is Server);')
    (tmp_path / "citywatch.yaml").write_text(CONFIG)
    (tmp_path / "left.json").write_text('{"tools": ["bank/*"], "calls": 5}')
    monkeypatch.chdir(tmp_path)
    for name in ("router", "billing"):
        added = run("agent", "add", name)
        assert added.exit_code == 0, added.output
    found = re.search(r"\(key (\S+)\)", added.output)
    assert found is not None
    return found[1]


def start(*more: str) -> Result:
    return run("task", "start", "router", "--as", "anna", *more, "Pay the bill")


def hand_on(thumb: str, *more: str) -> Result:
    to = ("--to", BILLING, "--thumb", thumb, "--out", "b.json")
    return run("grant", "hand-on", "r.json", *to, "--folder", "agents/router", *more)


def test_a_task_is_rooted_handed_on_shown_and_taken_back(thumb: str) -> None:
    started = start("--grant", "r.json", "--caveats", "left.json", "--for", "1h", "--depth", "2")
    assert started.exit_code == 0, started.output
    task = started.output.split()[1]
    handed = hand_on(thumb, "--for", "10m", "--depth", "0")
    assert handed.exit_code == 0, handed.output
    texts = json.loads(Path("b.json").read_text())
    chain = read_chain(texts)
    assert (chain.task, chain.principal) == (task, "principal:anna")
    assert chain.hops[-1] == (BILLING, thumb)
    assert chain.caveats.tools == frozenset({"bank/*"})
    assert chain.caveats.audience == frozenset({"city.example"})
    assert (chain.caveats.calls, chain.caveats.depth) == (5, 0)
    shown = run("grant", "show", "b.json")
    assert shown.exit_code == 0, shown.output
    assert f"grant:{parse_link(texts[1]).hash}" in shown.output
    assert '"tools": ["bank/*"]' in shown.output
    withdrawn = run("grant", "withdraw", f"grant:{parse_link(texts[0]).hash}", "--reason", "paid twice")
    assert withdrawn.exit_code == 0, withdrawn.output
    assert "is void" in withdrawn.output


def test_what_claims_more_is_not_written(thumb: str) -> None:
    assert start("--grant", "r.json", "--caveats", "left.json", "--for", "1h", "--depth", "1").exit_code == 0
    Path("more.json").write_text('{"calls": 6}')
    for more, said in (
        (("--caveats", "more.json"), "`calls` is more than the chain leaves"),
        (("--for", "2h"), "`not_after` is more than the chain leaves"),
    ):
        refused = hand_on(thumb, *more)
        assert (refused.exit_code, said in refused.output) == (2, True), refused.output
        assert not Path("b.json").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "holds no caveats"),
        ('{"unless": 1}', "does not know: `unless`"),
        ('{"tools": "bank/*"}', "`tools` is no list"),
    ],
)
def test_bad_caveats_are_told(thumb: str, text: str, said: str) -> None:
    Path("left.json").write_text(text)
    refused = start("--grant", "r.json", "--caveats", "left.json")
    assert (refused.exit_code, said in refused.output) == (2, True), refused.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("task", "start", "router", "--as", "anna", "--caveats", "left.json", "x"), "with `--grant`"),
        (("task", "start", "router", "--as", "anna", "--grant", "r.json", "--for", "60d", "x"), "at most 30d"),
        (("grant", "show", "left.json"), "holds no chain"),
        (("grant", "withdraw", "everything", "--reason", "x"), "names no link and no chain"),
    ],
)
def test_a_slip_of_the_pen_is_told(thumb: str, arguments: tuple[str, ...], said: str) -> None:
    refused = run(*arguments)
    assert (refused.exit_code, said in refused.output) == (2, True), refused.output
