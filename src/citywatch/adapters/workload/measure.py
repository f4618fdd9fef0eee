"""What a program's files are now.

Decides whether files can be measured at all: those that the program's own account may change are not what makes it what
it is. INVARIANTS: every file is read whole, through one descriptor that was looked at; no file, and no folder above it,
can be changed or put elsewhere by the program's account; a folder is measured with all that is in it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.identity.workload import Measured

MAX_FILES: Final = 10_000
SEARCH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where a program without a slash is looked for, and what it gets as its PATH unless it is given another."""


def measure_program(
    command: Sequence[str], folder: str, variables: Sequence[str], also: Sequence[str], uid: int | None
) -> Measured:
    """Measure the program, each argument that names a file, and `also` (files, and folders whole).

    `uid` is the account that it will have; None before it has one. `Malformed` for what cannot be measured, `Refused`
    for what the account could change.
    """
    if not command:
        raise Malformed("there is no command to run")
    place = Path(folder)
    program = shutil.which(command[0], path=SEARCH) if os.sep not in command[0] else str(place / command[0])
    if program is None:
        raise Malformed(f"there is no program `{command[0]}` in {SEARCH}: write its whole path")
    named = [str(place / one) for one in command[1:] if one and (place / one).is_file()]
    files: dict[str, str] = {}
    for path in dict.fromkeys([program, *named, *(str(place / one) for one in also)]):
        for file in _files(Path(os.path.abspath(path))):
            _check_apart(file, uid)
            files[str(file)] = _digest(file)
            if len(files) > MAX_FILES:
                raise Malformed(f"more than {MAX_FILES} files to measure: name fewer")
    return Measured(
        command=(os.path.abspath(program), *command[1:]),
        folder=os.path.abspath(folder),
        variables=tuple(sorted(variables)),
        also=tuple(os.path.abspath(place / one) for one in also),
        files=files,
    )


def _files(path: Path) -> Iterator[Path]:
    """The file, each symbolic link on the way to it, or all that a folder holds."""
    if path.is_symlink():
        yield path
        yield from _files(Path(os.path.abspath(path.parent / os.readlink(path))))
    elif path.is_dir():
        for one in sorted(path.iterdir()):
            yield from _files(one)
    else:
        yield path


def _digest(path: Path) -> str:
    if path.is_symlink():
        return f"link:{os.readlink(path)}"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as failure:
        raise Refused(Code.WORKLOAD_CHANGED, f"`{path}` cannot be read: {failure.strerror}") from None
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Refused(Code.WORKLOAD_CHANGED, f"`{path}` is no regular file")
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_apart(path: Path, uid: int | None) -> None:
    """# INVARIANT: what the account may write attests nothing, and neither does what lies in a folder that it may."""
    for place in (path, *path.resolve().parents, *path.parents):
        try:
            status = os.lstat(place)
        except OSError as failure:
            raise Refused(Code.WORKLOAD_CHANGED, f"`{place}` cannot be read: {failure.strerror}") from None
        if stat.S_ISLNK(status.st_mode):
            continue  # its mode says nothing; the folder that it lies in does
        mode = status.st_mode
        shared = mode & (stat.S_IWGRP | stat.S_IWOTH)
        if stat.S_ISDIR(mode) and mode & stat.S_ISVTX and status.st_uid != uid:
            shared = 0  # sticky: what others own there stays where it is
        if status.st_uid == uid or shared:
            raise Refused(Code.WORKLOAD_CHANGED, f"`{place}` can be changed by others than its owner: close it first")
