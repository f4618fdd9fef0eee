"""The LogFiles port. What the publisher relies on: whole files, a checkpoint that is only ever swapped, a safe path."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from citywatch.adapters.files import LogDirectory
from citywatch.core.errors import Malformed, Unavailable

TILE, DEEP, PARTIAL = "tile/0/000", "tile/0/x001/x234/067", "tile/entries/001.p/17"


@pytest.fixture
def log(tmp_path: Path) -> LogDirectory:
    return LogDirectory(tmp_path)


async def test_what_was_written_is_read_and_what_was_not_is_none(log: LogDirectory) -> None:
    assert await log.read(["checkpoint", TILE]) == [None, None]
    await log.write([(TILE, b"one"), (DEEP, b"two"), (PARTIAL, b"")])
    assert await log.read([DEEP, TILE, PARTIAL, "tile/1/000"]) == [b"two", b"one", b"", None]
    await log.write([(TILE, b"again")])
    await log.write([])
    assert await log.read([TILE]) == [b"again"]


async def test_the_checkpoint_is_swapped_only_from_what_was_seen(log: LogDirectory) -> None:
    assert not await log.swap_checkpoint(b"old", b"new")
    assert await log.swap_checkpoint(None, b"one")
    assert not await log.swap_checkpoint(None, b"two")
    assert await log.swap_checkpoint(b"one", b"two")
    assert not await log.swap_checkpoint(b"one", b"three")
    assert await log.read(["checkpoint"]) == [b"two"]


async def test_one_of_many_who_saw_the_same_checkpoint_wins(log: LogDirectory, tmp_path: Path) -> None:
    others = [LogDirectory(tmp_path) for _ in range(8)]
    winner: bytes | None = None
    for turn in range(20):
        swaps = [each.swap_checkpoint(winner, b"%d %d" % (turn, i)) for i, each in enumerate([log, *others])]
        won = await asyncio.gather(*swaps)
        assert sum(won) == 1
        (found,) = await log.read(["checkpoint"])
        winner = b"%d %d" % (turn, won.index(True))
        assert found == winner


RACE = """
import asyncio, sys
from pathlib import Path
from citywatch.adapters.files import LogDirectory

async def main() -> None:
    log, won = LogDirectory(Path(sys.argv[1])), 0
    while won < 200:
        (seen,) = await log.read(["checkpoint"])
        won += await log.swap_checkpoint(seen, b"%d" % (int(seen or b"0") + 1))

asyncio.run(main())
"""


def test_two_processes_that_count_in_the_checkpoint_lose_no_count(tmp_path: Path) -> None:
    children = [subprocess.Popen([sys.executable, "-c", RACE, str(tmp_path)]) for _ in range(2)]
    assert [child.wait(120) for child in children] == [0, 0]
    assert (tmp_path / "checkpoint").read_bytes() == b"400"


async def test_partial_tiles_go_when_their_full_one_is_there(log: LogDirectory, tmp_path: Path) -> None:
    await log.write([(f"tile/0/000.p/{width}", b"x") for width in (1, 17, 255)])
    await log.write([(TILE, b"full"), ("tile/0/001.p/3", b"next")])
    await log.prune([TILE, "tile/1/000"])
    assert await log.read([TILE, "tile/0/000.p/17", "tile/0/001.p/3"]) == [b"full", None, b"next"]


@pytest.mark.parametrize("path", ["", "../x", "tile/0/../../x", "/etc/passwd", "checkpoint", "tile/0/000\0", "tile"])
async def test_no_path_leaves_the_log(log: LogDirectory, path: str) -> None:
    with pytest.raises(Malformed):
        await log.write([(path, b"x")])
    with pytest.raises(Malformed):
        await log.prune([path])
    if path != "checkpoint":
        with pytest.raises(Malformed):
            await log.read([path])


async def test_a_file_is_synced_before_it_has_its_name_and_its_directory_after(
    log: LogDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        steps.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        fsync(descriptor)

    def renamed(source: Path, target: Path) -> None:
        assert ("sync", Path(source).name) in steps, "synced under its draft's name"
        steps.append(("name", Path(target).name))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    await log.write([(DEEP, b"x"), *((f"tile/1/{i:03}", b"y") for i in range(20))])
    after = {name for step, name in steps[steps.index(("name", "019")) :] if step == "sync"}
    assert after == {"x234", "x001", "0", "1", "tile", tmp_path.name}
    steps.clear()
    await log.swap_checkpoint(None, b"head")
    assert steps[-2:] == [("name", "checkpoint"), ("sync", tmp_path.name)]


async def test_a_disk_that_will_not_is_unavailable_and_leaves_the_old_file_whole(
    log: LogDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.write([(TILE, b"old")])
    await log.swap_checkpoint(None, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        many = [(TILE, b"new"), *((f"tile/1/{i:03}", b"y") for i in range(20))]
        for attempt in (log.write(many), log.write([(DEEP, b"new")]), log.swap_checkpoint(b"old", b"new")):
            with pytest.raises(Unavailable, match="no space left on device"):
                await attempt
    assert await log.read([TILE, "checkpoint", DEEP]) == [b"old", b"old", None]
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".draft")]
    await log.write([(TILE, b"new"), (DEEP, b"new")])
    assert await log.read([TILE, DEEP]) == [b"new", b"new"]


async def test_a_directory_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    log = LogDirectory(tmp_path / "absent")
    with pytest.raises(Unavailable):
        await log.swap_checkpoint(None, b"x")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable):
        await LogDirectory(tmp_path / "file").write([(TILE, b"x")])
