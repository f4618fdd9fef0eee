"""The mesh's configuration says what its agents and servers say, and the demo names what is missing."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from citywatch.config import parse_settings
from citywatch.core.policy.cedar import Source, parse_policies
from citywatch.main import cli
from citywatch.main import demo as command
from examples.mesh import mesh
from examples.mesh.cast import CAST
from examples.mesh.serving import BUILD

HERE = Path(mesh.__file__).parent


def test_every_tool_agent_and_pair_is_declared_and_every_declared_one_is_there(tmp_path: Path) -> None:
    settings = parse_settings((HERE / "citywatch.yaml").read_text(), str(HERE))
    offered = {name: {t.name for t in asyncio.run(build(tmp_path).list_tools())} for name, build in BUILD.items()}
    assert {name: set(server.tools) for name, server in settings.servers.items()} == offered
    assert set(settings.agents) == set(settings.peers) == set(CAST) == set(mesh.PEERS)
    known = {(name, peer) for name, part in CAST.items() for peer in part.peers}
    declared = {(caller, name) for name, peer in settings.peers.items() for caller in peer.declared.callers}
    assert known <= declared, "who knows a colleague may speak to them"
    assert all(one.delegated_only for one in settings.agents.values())
    assert parse_policies([Source("mesh.cedar", (HERE / "policies" / "mesh.cedar").read_text())])


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    runner = CliRunner()
    listed = runner.invoke(cli, ["demo"])
    assert listed.exit_code == 0
    assert all(name in listed.output for name in ("inter_agent_injection", "identity_spoofing"))
    unknown = runner.invoke(cli, ["demo", "nothing"])
    assert (unknown.exit_code, "there is no scenario `nothing`" in unknown.output) == (2, True)
    (tmp_path / "full").write_text("")
    full = runner.invoke(cli, ["demo", "identity_spoofing", "--keep", str(tmp_path)])
    assert (full.exit_code, "is not empty" in full.output) == (2, True)
    monkeypatch.setattr(command, "NEEDS", ("anyio", "no_such_module"))
    lacking = runner.invoke(cli, ["demo"])
    assert (lacking.exit_code, "the demo needs no_such_module: pip install" in lacking.output) == (2, True)
    monkeypatch.setattr(command, "CHECKOUT", tmp_path)
    monkeypatch.setattr(command, "PACKED", tmp_path)
    assert "the examples are not here" in runner.invoke(cli, ["demo"]).output
