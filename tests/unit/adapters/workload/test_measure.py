"""What a program's files are: all that were named, whole, and none that the program itself could change."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from citywatch.adapters.workload.measure import measure_program
from citywatch.core.errors import Malformed, Refused
from citywatch.core.identity.workload import Measured, measured_digest

OTHER = 61_999


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "agent.py").write_text("print(1)")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "helper.py").write_text("x = 1")
    for place in (tmp_path, tmp_path / "lib"):
        place.chmod(0o755)
    return tmp_path


def measured(folder: Path, *also: str, uid: int | None = None, command: tuple[str, ...] = ()) -> Measured:
    return measure_program(command or ("/bin/sh", "agent.py", "--fast"), str(folder), (), also, uid)


def test_program_script_and_named_files_are_measured_whole(folder: Path) -> None:
    files = measured(folder, "lib").files
    script = hashlib.sha256(b"print(1)").hexdigest()
    assert files[str(folder / "agent.py")] == script
    assert str(folder / "lib" / "helper.py") in files
    assert any(path.endswith("sh") for path in files)
    assert measured(folder, "lib").command == ("/bin/sh", "agent.py", "--fast")


@pytest.mark.parametrize(
    "change",
    [
        lambda at: (at / "agent.py").write_text("print(2)"),
        lambda at: (at / "lib" / "helper.py").write_text("x = 2"),
        lambda at: (at / "lib" / "json.py").write_text(""),
        lambda at: (at / "lib" / "helper.py").rename(at / "lib" / "other.py"),
        lambda at: ((at / "agent.py").rename(at / "real.py"), (at / "agent.py").symlink_to("real.py")),
    ],
)
def test_each_change_of_a_file_changes_the_digest(folder: Path, change: Callable[[Path], object]) -> None:
    before = measured_digest(measured(folder, "lib"))
    assert measured_digest(measured(folder, "lib")) == before
    change(folder)
    assert measured_digest(measured(folder, "lib")) != before


def test_a_link_is_measured_with_what_it_points_to(folder: Path) -> None:
    (folder / "link.py").symlink_to("agent.py")
    files = measured(folder, command=("/bin/sh", "link.py")).files
    assert files[str(folder / "link.py")] == "link:agent.py"
    assert str(folder / "agent.py") in files


@pytest.mark.parametrize("place", ["agent.py", "lib", "."])
def test_what_others_may_write_attests_nothing(folder: Path, place: str) -> None:
    (folder / place).chmod(0o777)
    with pytest.raises(Refused, match="can be changed by others"):
        measured(folder, "lib", uid=OTHER)


def test_what_the_program_itself_owns_attests_nothing(folder: Path) -> None:
    measured(folder, uid=OTHER)
    owner = OTHER if os.getuid() == 0 else os.getuid()
    os.chown(folder / "agent.py", owner, -1)
    with pytest.raises(Refused, match="can be changed by others"):
        measured(folder, uid=owner)


def test_what_cannot_be_measured_is_refused(folder: Path) -> None:
    with pytest.raises(Malformed, match="there is no command"):
        measure_program((), str(folder), (), (), None)
    with pytest.raises(Malformed, match="there is no program"):
        measured(folder, command=("no-such-program-anywhere",))
    with pytest.raises(Refused, match="cannot be read"):
        measured(folder, "missing")
    os.mkfifo(folder / "pipe")
    with pytest.raises(Refused, match="is no regular file"):
        measured(folder, "pipe")
