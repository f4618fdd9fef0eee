"""A directory of secrets: nobody but its owner reads it, and no file in it is ever half written.

Decides whether a directory and a file are private enough to hold a key; not what a key is.
INVARIANTS: the directory is ours and has mode 0700, a file is ours, regular, and has mode 0600 or 0400, checked on the
open descriptor and not on the name; nothing is reached through a link; a file appears whole, synced, and never over
another unless it is meant to replace it. A file that others could read is refused, not repaired: whoever could read it
may have, and only the operator knows.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from citywatch.core.errors import Code, Malformed, Unavailable
from citywatch.core.names import parse_segment

MAX_SECRET_BYTES = 65_536
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class SecretDirectory:
    """Files that only we may read. Raises `Malformed` for what is not private, `Unavailable` when the disk will not."""

    def __init__(self, path: Path) -> None:
        """Use `path`, and create it (not its parents) with mode 0700 if it is not there."""
        self.path = path
        with _disk(path):
            with suppress(FileExistsError):
                path.mkdir(mode=0o700)
            with self._opened():
                pass

    def read(self, name: str) -> bytes:
        """The whole file; `Malformed` if anybody else could have read or changed it."""
        with self._opened() as directory, _disk(self.path / name):
            return _contents(self._open(name, directory), self.path / name)

    def exists(self, name: str) -> bool:
        """Whether there is anything under that name."""
        with self._opened() as directory, _disk(self.path / name):
            try:
                os.stat(parse_segment(name), dir_fd=directory, follow_symlinks=False)
            except FileNotFoundError:
                return False
            return True

    def create(self, name: str, data: bytes) -> None:
        """Write a file that must not exist; whoever comes second gets `Malformed`, and never half a file."""
        with self._opened() as directory, _disk(self.path / name):
            draft = self._draft(data, directory)
            try:
                os.link(draft, parse_segment(name), src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
            except FileExistsError:
                raise Malformed(f"`{self.path / name}` exists already and is left as it is") from None
            finally:
                os.unlink(draft, dir_fd=directory)
            os.fsync(directory)

    def replace(self, name: str, data: bytes) -> None:
        """Write a file over what was there: after a crash there is the old one or the new one."""
        with self._opened() as directory, _disk(self.path / name):
            draft = self._draft(data, directory)
            os.rename(draft, parse_segment(name), src_dir_fd=directory, dst_dir_fd=directory)
            os.fsync(directory)

    def remove(self, name: str) -> None:
        """Take a file away; nothing happens if it is not there."""
        with self._opened() as directory, _disk(self.path / name):
            with suppress(FileNotFoundError):
                os.unlink(parse_segment(name), dir_fd=directory)
            os.fsync(directory)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """The directory itself, checked, so that no name outside it is ever followed."""
        if self.path.is_symlink():
            raise Malformed(f"`{self.path}` is a link: name the directory itself")
        with _disk(self.path):
            directory = os.open(self.path, _READ | os.O_DIRECTORY)
        try:
            found = os.fstat(directory)
            if found.st_uid != os.geteuid():
                raise Malformed(f"`{self.path}` belongs to another user: a directory of keys must be ours")
            if stat.S_IMODE(found.st_mode) & 0o077:
                raise Malformed(f"`{self.path}` is open to others: run `chmod 700` on it and replace the keys in it")
            yield directory
        finally:
            os.close(directory)

    def _open(self, name: str, directory: int) -> int:
        try:
            return os.open(parse_segment(name), _READ, dir_fd=directory)
        except OSError as error:
            if os.path.islink(self.path / name):
                raise Malformed(f"`{self.path / name}` is a link: a key is read from its own file") from None
            raise error

    def _draft(self, data: bytes, directory: int) -> str:
        name = f".{secrets.token_hex(8)}.draft"
        descriptor = os.open(name, _WRITE, 0o600, dir_fd=directory)
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(file.fileno(), 0o600)  # whatever the umask took away
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            os.unlink(name, dir_fd=directory)
            raise
        return name


def _contents(descriptor: int, path: Path) -> bytes:
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise Malformed(f"`{path}` is not a regular file")
        if found.st_uid != os.geteuid():
            raise Malformed(f"`{path}` belongs to another user: a key's file must be ours")
        if stat.S_IMODE(found.st_mode) & 0o177:
            raise Malformed(f"`{path}` is open to others: replace the key, then keep its file at mode 0600")
        if found.st_size > MAX_SECRET_BYTES:
            raise Malformed(f"`{path}` is too long for a key")
        return os.read(descriptor, MAX_SECRET_BYTES)
    finally:
        os.close(descriptor)


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = f"`{path}`: {(error.strerror or 'cannot be used').lower()}"
        raise Unavailable(Code.STORE_UNAVAILABLE, "a key's file cannot be used", operator=why) from None
