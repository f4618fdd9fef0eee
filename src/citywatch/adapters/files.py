"""The log's directory: tiles and the checkpoint, where a stranger or a web server can read them.

Decides nothing; `service.publisher` says what is written and when. `LogDirectory` is `service.ports.LogFiles`.
INVARIANTS: a file that can be read is whole (written beside its place, synced, renamed); when `write` returns, the
files and every directory entry that leads to them are on the disk; the checkpoint changes only from the bytes that the
caller has seen, across all processes; no path leaves the directory, for only the paths of C2SP tlog-tiles are taken.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from citywatch.core.errors import Code, Unavailable
from citywatch.core.log.tiles import parse_tile_path

CHECKPOINT = "checkpoint"
_FEW, _AT_ONCE = 8, 8


class LogDirectory:
    """`service.ports.LogFiles` in a directory of the file system. Disk work runs in a thread."""

    def __init__(self, root: Path) -> None:
        """Use `root`, which must exist."""
        self._root = root

    async def read(self, paths: Sequence[str]) -> list[bytes | None]:
        """The files, None for each that is not there; `checkpoint` or a tile's path."""
        return await asyncio.to_thread(self._read, [self._place(path) for path in paths])

    async def write(self, files: Sequence[tuple[str, bytes]]) -> None:
        """Write tiles and wait for the disk."""
        placed = [(self._root / _tile(path), data) for path, data in files]
        await asyncio.to_thread(self._write, placed)

    async def swap_checkpoint(self, expected: bytes | None, new: bytes) -> bool:
        """Replace the checkpoint if it still is `expected`; the one that can be read is always whole."""
        return await asyncio.to_thread(self._swap, expected, new)

    async def prune(self, paths: Sequence[str]) -> None:
        """Delete the partial tiles that these full ones have made needless."""
        await asyncio.to_thread(self._prune, [self._root / f"{_tile(path)}.p" for path in paths])

    def _place(self, path: str) -> Path:
        return self._root / (path if path == CHECKPOINT else _tile(path))

    def _read(self, places: Sequence[Path]) -> list[bytes | None]:
        found: list[bytes | None] = []
        with _disk("the log's files"):
            for place in places:
                try:
                    found.append(place.read_bytes())
                except FileNotFoundError:
                    found.append(None)
        return found

    def _write(self, files: Sequence[tuple[Path, bytes]]) -> None:
        with _disk("the log's files"):
            touched: set[Path] = set()
            for place, _ in files:
                touched |= {place.parent, *self._make_way(place.parent)}
            _replace(files)
            for directory in touched:
                _sync(directory)

    def _make_way(self, directory: Path) -> set[Path]:
        """Create a directory and the parents it lacks; return those whose entries changed."""
        lacking = []
        while not directory.is_dir():
            lacking.append(directory)
            directory = directory.parent
        for each in reversed(lacking):
            each.mkdir(exist_ok=True)
        return {each.parent for each in lacking}

    def _swap(self, expected: bytes | None, new: bytes) -> bool:
        place = self._root / CHECKPOINT
        with _disk("the log's checkpoint"), self._alone():
            found = place.read_bytes() if place.exists() else None
            if found != expected:
                return False
            _replace([(place, new)])
            _sync(self._root)
            return True

    def _prune(self, folders: Sequence[Path]) -> None:
        for folder in folders:
            with suppress(OSError):  # clutter, not harm; the next one who is asked may have more luck
                shutil.rmtree(folder)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time; the kernel gives the lock back when a process dies."""
        descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _tile(path: str) -> str:
    parse_tile_path(path)
    return path


def _replace(files: Sequence[tuple[Path, bytes]]) -> None:
    """Write files beside their places, sync them all, then give them their names."""
    # Two processes may write the same tile: each has drafts of its own, and what they write is equal.
    mark = f"{os.getpid()}.{threading.get_ident()}.draft"
    drafts = [place.with_name(f".{place.name}.{mark}") for place, _ in files]
    try:
        for draft, (_, data) in zip(drafts, files, strict=True):
            draft.write_bytes(data)
        if len(drafts) < _FEW:
            for draft in drafts:
                _sync(draft)
        else:  # a disk that is asked for many at once writes them in half the time
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(_sync, drafts))
        for draft, (place, _) in zip(drafts, files, strict=True):
            os.replace(draft, place)
    except OSError:
        for draft in drafts:
            with suppress(OSError):
                draft.unlink()
        raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _disk(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(Code.STORE_UNAVAILABLE, f"{what}: {(error.strerror or 'cannot be used').lower()}") from None
