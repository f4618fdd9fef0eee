"""`citywatch task start --template`, as people have it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from citywatch.core.errors import Malformed
from citywatch.main import cli
from citywatch.main.plans import read_template, read_values

TEMPLATE = """
plan: note
within: 1h
parameters:
  text: {one_of: [hello, bye]}
steps: []
"""
USED = TEMPLATE.replace(
    "steps: []",
    "steps: [{step: write, tool: notes/write_note, arguments: {text: {equals: {parameter: text}}}}]",
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    assert run("init").exit_code == 0
    with Path("citywatch.yaml").open("a") as stream:
        stream.write('\nplan_templates: templates\nprincipals:\n  alice: {may: ["notes/*"]}\n')
    assert run("agent", "add", "assistant").exit_code == 0
    Path("templates").mkdir()
    Path("templates/note.yaml").write_text("plan: note\nwithin: 1h\nsteps: []\n")
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def start(*options: str) -> Result:
    return run("task", "start", "assistant", "--as", "alice", *options, "Write a note")


@pytest.mark.usefixtures("folder")
def test_a_template_holds_the_agent_and_says_who_vouches() -> None:
    done = start("--template", "note")
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1] == "template plan, assumes havoc"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--template", "no-such"), "there is no template `no-such`"),
        (("--template", "../citywatch"), "name for a template"),
        (("--template", "note", "--with", "text=hello"), "no such parameter"),
        (("--template", "note", "--with", "text"), "is no NAME=VALUE"),
        (("--with", "text=hello"), "name it with `--template`"),
        (("--template", "note", "--plan", "templates/note.yaml"), "a task has one plan"),
    ],
)
def test_what_cannot_be_filled_in_starts_no_task(options: tuple[str, ...], why: str) -> None:
    done = start(*options)
    assert done.exit_code != 0
    assert why in f"{done.output}{done.exception}"
    assert start().output.count("\n") == 1, "no plan holds"


def test_a_template_s_mistakes_name_it(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(TEMPLATE)
    with pytest.raises(Malformed, match=r"template `bad`: parameters\.text: no step uses it"):
        read_template(str(tmp_path), "bad")
    (tmp_path / "good.yaml").write_text(USED)
    assert read_template(str(tmp_path), "good").parameters.fields.keys() == {"text"}
    with pytest.raises(Malformed, match="no `plan_templates` folder"):
        read_template(None, "good")


def test_values_are_pairs_and_stand_once() -> None:
    assert read_values(["a=b=c", "d="]) == {"a": "b=c", "d": ""}
    for wrong in (["a"], ["=b"], ["a=1", "a=2"]):
        with pytest.raises(Malformed):
            read_values(wrong)
