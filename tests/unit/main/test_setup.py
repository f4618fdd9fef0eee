"""`citywatch init` begins in an empty place, and harms nothing in one that is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from citywatch.main import cli


def files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_it_writes_an_example_into_a_folder_that_need_not_exist(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["init", str(tmp_path / "new")])
    assert done.exit_code == 0, done.output
    written = set(files(tmp_path / "new"))
    assert {"citywatch.yaml", "ask.py", "notes_server.py", "policies/tools.cedar"} <= written
    assert all(f"wrote {tmp_path / 'new' / name}" in done.output for name in written)


@pytest.mark.parametrize("name", ["citywatch.yaml", "policies/tools.cedar", "notes_server.py"])
def test_it_overwrites_nothing_and_then_writes_nothing(tmp_path: Path, name: str) -> None:
    mine = tmp_path / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    done = CliRunner().invoke(cli, ["init", str(tmp_path)])
    assert done.exit_code == 2
    assert f"`{mine}` exists; choose an empty folder" in done.output
    assert files(tmp_path) == {name: "mine"}
