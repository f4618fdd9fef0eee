"""`citywatch manifest suggest`: from a file, from what is approved, from the server itself; never from half a list."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from citywatch.main import cli

PROGRAM = Path(__file__).parents[2] / "e2e" / "gateway" / "rogue_server.py"
PAY = {"name": "pay", "inputSchema": {"type": "object", "properties": {"to": {"type": "string"}}}}
FILE = """
trust_domain: t.example
servers:
  notes:
    command: ["{python}", "{program}"]
    unsafe_same_user: true
    env: {{PATH: "/usr/bin:/bin"}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "citywatch.yaml").write_text(FILE.format(python=sys.executable, program=PROGRAM))
    return tmp_path


def suggest(folder: Path, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["-c", str(folder / "citywatch.yaml"), "manifest", "suggest", *arguments])
    return done.exit_code, done.output


@pytest.mark.parametrize("form", [[PAY], {"tools": [PAY]}, {"jsonrpc": "2.0", "id": 1, "result": {"tools": [PAY]}}])
def test_a_file_in_each_of_its_forms(folder: Path, form: object) -> None:
    (folder / "list.json").write_text(json.dumps(form))
    code, said = suggest(folder, "bank", "--from", str(folder / "list.json"))
    assert code == 0
    tools = yaml.safe_load(said)["servers"]["bank"]["tools"]
    assert tools["pay"]["parameters"] == {"to": {"role": "destination"}}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("{}", "is no list of tools"),
        ('[{"title": "x"}]', "is no list of tools"),
        ('[{"name": "x"}, 7]', "is no list of tools"),
        ("[]", "there is nothing to draft from"),
    ],
)
def test_half_a_list_is_no_list(folder: Path, content: str, words: str) -> None:
    (folder / "list.json").write_text(content)
    code, said = suggest(folder, "bank", "--from", str(folder / "list.json"))
    assert code != 0
    assert words in said


def test_what_is_approved_is_used_and_otherwise_the_server_is_asked(folder: Path) -> None:
    code, asked = suggest(folder, "notes")
    assert code == 0
    assert "Nobody has approved these definitions" in asked
    assert asked.count("effect: irreversible") >= 1
    CliRunner().invoke(cli, ["-c", str(folder / "citywatch.yaml"), "tools", "approve", "--yes"])
    code, approved = suggest(folder, "notes")
    assert code == 0
    assert "Nobody has approved" not in approved
    assert "Nobody has approved" in suggest(folder, "notes", "--offered")[1]
    code, said = suggest(folder, "other")
    assert code == 2
    assert "`other` is not a configured server: notes" in said
