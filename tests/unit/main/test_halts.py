"""`citywatch stop` and what takes back one thing, over a real store."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from citywatch.main import cli
from tests.unit.main.test_grants import CONFIG


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "all.cedar").write_text('@id("all") permit(principal, action, resource is Server);')
    (tmp_path / "citywatch.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    assert run("agent", "add", "router").exit_code == 0


def test_a_stop_is_shown_until_it_is_resumed() -> None:
    assert run("stop").output == "nothing is stopped\n"
    done = run("stop", "router", "--reason", "fire")
    assert done.output == "stopped: spiffe://city.example/agent/router\n"
    assert run("stop", "--all", "--reason", "fire").output == "stopped: all\n"
    assert run("stop").output == "stopped all\nstopped spiffe://city.example/agent/router\n"
    assert "halted" in run("agent", "list").output
    assert "halted" in run("agent", "token", "router").output
    assert run("stop", "--all", "--resume", "--reason", "out").output == "goes on: all\n"
    assert run("stop", "router", "--resume", "--reason", "out").output.startswith("goes on: spiffe://")
    assert run("stop").output == "nothing is stopped\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("router",), "say why"),
        (("--all",), "say why"),
        (("router", "--all", "--reason", "x"), "not both"),
        (("--resume",), "say what is meant"),
        (("nobody", "--reason", "x"), "no agent and no task `nobody` is known"),
    ],
)
def test_what_is_not_meant_is_not_done(arguments: tuple[str, ...], said: str) -> None:
    done = run("stop", *arguments)
    assert done.exit_code == 2
    assert said in done.output
    assert run("stop").output == "nothing is stopped\n"


def test_one_key_is_revoked_by_its_thumbprint() -> None:
    key = run("agent", "list").output.split("key ")[1].split()[0]
    done = run("agent", "revoke", "router", "--key", key, "--reason", "lost")
    assert done.exit_code == 0
    assert "which has 0 left" in done.output
    refused = run("agent", "revoke", "router", "--key", "x", "--reason", "lost")
    assert refused.exit_code == 1
    assert "key_not_registered" in refused.output


def test_an_approval_that_there_is_not_cannot_be_taken_back() -> None:
    done = run("tools", "withdraw", "bank", "look", "--reason", "x")
    assert done.exit_code == 2
    assert "no tool `look` of `bank` is approved" in done.output
