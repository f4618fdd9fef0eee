"""`citywatch tools` vouches only for servers that it could ask."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from citywatch.main import cli

SERVERS = """
trust_domain: t.example
servers:
  notes:
    command: ["{python}", "{program}"]
    unsafe_same_user: true
    env: {{PATH: "/usr/bin:/bin"}}
  away:
    url: http://127.0.0.1:{port}/mcp
"""
PROGRAM = Path(__file__).parents[2] / "e2e" / "gateway" / "rogue_server.py"


@pytest.mark.parametrize("verb", ["diff", "list"])
def test_a_server_that_could_not_be_asked_is_not_in_order(verb: str, tmp_path: Path, free_port: int) -> None:
    file = tmp_path / "citywatch.yaml"
    file.write_text(SERVERS.format(python=sys.executable, program=PROGRAM, port=free_port))
    runner, command = CliRunner(), ["-c", str(file), "tools"]
    runner.invoke(cli, [*command, "approve", "--yes"])
    good = runner.invoke(cli, [*command, verb, "notes"])
    assert good.exit_code == 0, good.output
    for arguments in ([verb], [verb, "away"]):
        done = runner.invoke(cli, [*command, *arguments])
        assert done.exit_code == 1
        assert "away: not surveyed" in done.output
        assert "everything that servers offer is approved" not in done.output


def test_who_names_one_server_asks_no_other_whoever_it_is(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        port = silent.getsockname()[1]
        file = tmp_path / "citywatch.yaml"
        peer = f"agents: {{asker: {{}}}}\npeers:\n  mute: {{url: 'http://127.0.0.1:{port}/a2a', callers: [asker]}}\n"
        file.write_text(SERVERS.format(python=sys.executable, program=PROGRAM, port=port) + peer)
        done = CliRunner().invoke(cli, ["-c", str(file), "tools", "approve", "notes", "--yes"])
        assert done.exit_code == 0, done.output
        with pytest.raises(BlockingIOError):
            silent.accept()
