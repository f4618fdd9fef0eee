"""Two state folders of one machine: neither is given an account that the other has."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from citywatch.adapters.workload.accounts import Accounts, folder_mark
from citywatch.core.errors import CitywatchError, Code, Malformed, Refused
from citywatch.service.workload import ACCOUNTS

FIRST = ACCOUNTS[0]
Folder = Callable[[str], Accounts]


def state(root: Path, name: str) -> Path:
    folder = root / name
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    return tmp_path / "machine" / "accounts"


@pytest.fixture
def folder(tmp_path: Path, registry: Path) -> Folder:
    def made(name: str) -> Accounts:
        place = state(tmp_path, name)
        return Accounts(place, folder_mark(place, os.urandom(8).hex()), registry)

    return made


def test_an_account_is_one_folder_s(folder: Folder) -> None:
    one, two = folder("one"), folder("two")
    assert one.claim(FIRST, new=True)
    assert one.claim(FIRST, new=True), "and stays it"
    assert not two.claim(FIRST, new=True)
    assert not two.claim(FIRST, new=False)
    one.check(FIRST)
    with pytest.raises(Refused) as caught:
        two.check(FIRST)
    assert (caught.value.code, "agent measure" in caught.value.detail) == (Code.CONFLICT, True)
    assert two.claim(FIRST + 1, new=True)


def test_of_many_that_ask_at_once_one_gets_it(folder: Folder) -> None:
    folders = [folder(f"s{number}") for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        got = list(pool.map(lambda one: one.claim(FIRST, new=True), folders))
    assert sum(got) == 1


def test_of_many_processes_that_ask_at_once_one_gets_it(tmp_path: Path, registry: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from citywatch.adapters.workload.accounts import Accounts, folder_mark\n"
        "place = Path(sys.argv[1]); sys.stdin.read()\n"
        "accounts = Accounts(place, folder_mark(place, 'x' + place.name), Path(sys.argv[2]))\n"
        "print(accounts.claim(int(sys.argv[3]), True))\n"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(state(tmp_path, f"p{number}")), str(registry), str(FIRST)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    told = [process.communicate("")[0].strip() for process in running]
    assert sorted(told) == ["False", "False", "False", "True"]


def test_a_copy_of_a_folder_is_another_folder(tmp_path: Path, registry: Path, folder: Folder) -> None:
    """A backup put back beside the original would run its agents under the original's accounts."""
    one = folder("one")
    assert one.claim(FIRST, new=True)
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    copy = Accounts(tmp_path / "copy", folder_mark(tmp_path / "copy", "y"), registry)
    assert not copy.claim(FIRST, new=False)


def test_what_a_folder_had_is_free_when_it_is_gone_and_nothing_runs_under_it(
    tmp_path: Path, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = folder("one"), folder("two")
    assert one.claim(FIRST, new=True)
    shutil.rmtree(tmp_path / "one")
    monkeypatch.setattr("citywatch.adapters.workload.accounts._runs", lambda uid: uid == FIRST)
    assert not two.claim(FIRST, new=True)
    monkeypatch.undo()
    assert two.claim(FIRST, new=True)


def test_another_folder_in_its_place_is_not_it(tmp_path: Path, folder: Folder) -> None:
    assert folder("one").claim(FIRST, new=True)
    shutil.rmtree(tmp_path / "one")
    again = folder("one")
    assert again.claim(FIRST, new=True), "the one that had it is gone"


def test_an_account_that_the_machine_knows_or_that_runs_something_is_nobody_s(folder: Folder) -> None:
    assert not folder("one").claim(os.getuid(), new=False)  # we run
    assert not folder("one").claim(0, new=True)


def test_a_registry_that_others_could_have_written_is_none(registry: Path, folder: Folder) -> None:
    registry.mkdir(parents=True)
    for loose in (registry, registry.parent):
        loose.chmod(0o777)
        with pytest.raises(Malformed, match="alone"):
            folder("one").claim(FIRST, new=True)
        loose.chmod(0o755)
    (registry / str(FIRST)).write_bytes(b"half of someth")
    with pytest.raises(Malformed, match="cannot be read"):
        folder("one").claim(FIRST, new=True)


def test_a_registry_that_is_a_link_or_cannot_be_made_gives_nothing(tmp_path: Path, folder: Folder) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "machine").mkdir()
    (tmp_path / "machine" / "accounts").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CitywatchError):
        folder("one").claim(FIRST, new=True)
    (tmp_path / "machine" / "accounts").unlink()
    (tmp_path / "machine" / "accounts").write_text("a file")
    with pytest.raises(CitywatchError):
        folder("one").claim(FIRST, new=True)


def test_a_mark_is_drawn_once(tmp_path: Path) -> None:
    assert folder_mark(tmp_path, "a") == "a"
    assert folder_mark(tmp_path, "b") == "a"
    assert [one.name for one in tmp_path.iterdir()] == ["mark"]
