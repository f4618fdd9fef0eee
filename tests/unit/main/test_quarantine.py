"""`citywatch quarantine`, over a real store."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.main.test_halts import place, run

__all__ = ["place"]


def test_an_agent_is_put_aside_and_lifted(tmp_path: Path) -> None:
    done = run("quarantine", "router", "--reason", "it lies")
    assert done.exit_code == 0, done.output
    assert "spiffe://city.example/agent/router is in quarantine; 0 rows were frozen" in done.output
    assert "from all that router did from entry 0 on" in done.output
    assert "agent_quarantined" in run("agent", "list").output
    assert "agent_quarantined" in run("agent", "token", "router").output
    lifted = run("quarantine", "router", "--lift", "--reason", "it was told to")
    assert "acts again" in lifted.output
    assert "good standing" in run("agent", "list").output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("router",), "Missing option '--reason'"),
        (("nobody", "--reason", "x"), "agent_unknown"),
        (("router", "--reason", " "), "a quarantine has a reason"),
        (("router", "--since", "-1", "--reason", "x"), "is not in the range"),
    ],
)
def test_what_is_not_meant_is_not_done(arguments: tuple[str, ...], said: str) -> None:
    done = run("quarantine", *arguments)
    assert done.exit_code in (1, 2)
    assert said in done.output
    assert "good standing" in run("agent", "list").output
