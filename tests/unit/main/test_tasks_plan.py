"""`citywatch task start` with a plan, as people have it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from citywatch.main import cli

NOTHING = "plan: nothing\nwithin: 1h\nsteps: []\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    assert run("init").exit_code == 0
    with Path("citywatch.yaml").open("a") as stream:
        stream.write('\nprincipals:\n  alice: {may: ["notes/*"]}\n')
    assert run("agent", "add", "assistant").exit_code == 0
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def start(plan: str | None) -> tuple[int, list[str]]:
    options = []
    if plan is not None:
        Path("plan.yaml").write_text(plan)
        options = ["--plan", "plan.yaml"]
    told = run("task", "start", "assistant", "--as", "alice", *options, "Write a note")
    return told.exit_code, [line.rpartition(" ")[0] for line in told.output.splitlines()]


@pytest.mark.usefixtures("folder")
def test_a_task_says_to_which_plan_the_agent_is_held() -> None:
    assert start(None) == (0, ["task"])
    assert start(NOTHING) == (0, ["task", "held to plan", "signed plan, assumes"])
    assert start(None) == (0, ["task", "held to plan", "signed plan, assumes"])


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "plan",
    ["plan: [", "plan: p", NOTHING.replace("[]", "[{step: a, tool: notes/rite_note, arguments: {}}]")],
    ids=["no YAML", "no plan", "no such tool"],
)
def test_a_plan_that_cannot_hold_starts_no_task(plan: str) -> None:
    assert start(plan)[0] != 0
    assert start(None) == (0, ["task"])


@pytest.mark.usefixtures("folder")
def test_a_plan_that_does_not_narrow_starts_no_task() -> None:
    start(NOTHING)
    assert start(NOTHING)[0] != 0
