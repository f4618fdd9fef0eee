"""Which state folder of this machine has which account: one file for each, where all of them look.

Decides whether an account may be given out or used by this state folder. A row in a store only knows what that store
gave out; the account is the machine's. INVARIANTS: an account is one state folder's at a time, whoever asks at once; it
comes free only when that folder is gone and nothing runs under it; a registry that others could have written is none.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from citywatch.core.errors import Code, Malformed, Refused, Unavailable

REGISTRY: Final = Path("/var/lib/citywatch/accounts")
MAX_CLAIM: Final = 8192


class _Claim(msgspec.Struct, frozen=True):
    state: str
    mark: str


class Accounts:
    """The registry, as one state folder sees it. `mark` is drawn once for the folder, so that a copy of it elsewhere,
    or another one in its place, is another folder."""

    def __init__(self, state: Path, mark: str, registry: Path = REGISTRY) -> None:
        self._claim = _Claim(str(state.resolve()), mark)
        self._registry = registry

    def claim(self, uid: int, new: bool) -> bool:
        """Whether the account is ours from now on. A new one must also be nobody's that the machine knows of."""
        with self._locked():
            found = self._read(uid)
            if found == self._claim:
                return True
            if found is not None and _stands(found):
                return False
            if _runs(uid) or (new and _is_named(uid)):
                return False
            self._write(uid)
            return True

    def check(self, uid: int) -> None:
        """Refuse to run a program under an account that is another state folder's."""
        if not self.claim(uid, new=False):
            raise Refused(
                Code.CONFLICT,
                f"the account {uid} is another state folder's, or something runs under it: `citywatch agent measure` "
                "gives this agent another one",
            )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._registry.mkdir(mode=0o755, parents=True, exist_ok=True)
            _check_ours(self._registry)
            lock = os.open(self._registry / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as failure:
            why = f"`{self._registry}` cannot be used, where this machine's accounts are kept: {failure.strerror}"
            raise Unavailable(Code.STORE_UNAVAILABLE, "the machine's accounts cannot be read", operator=why) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)  # INVARIANT: two folders that ask at once are asked one after the other
            yield
        finally:
            os.close(lock)

    def _read(self, uid: int) -> _Claim | None:
        try:
            with (self._registry / str(uid)).open("rb") as file:
                return msgspec.json.decode(file.read(MAX_CLAIM), type=_Claim)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError:
            # Cut off by a loss of power, or not ours: nobody gets it until somebody has looked.
            where = self._registry / str(uid)
            raise Malformed(f"`{where}` cannot be read: remove it if nobody has that account") from None

    def _write(self, uid: int) -> None:
        place = self._registry / str(uid)
        fresh = place.with_name(f".{uid}.new")
        with open(os.open(fresh, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(msgspec.json.encode(self._claim))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(place)


def folder_mark(state: Path, draw: str) -> str:
    """What marks this state folder: what was drawn when it was first asked for."""
    place, fresh = state / "mark", state / f".mark.{draw}"
    try:
        if not place.exists():
            with open(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600), "w") as file:
                file.write(draw)
            with suppress(FileExistsError):  # another process was faster: its mark is the folder's
                os.link(fresh, place)
            fresh.unlink()
        return place.read_text(encoding="ascii")
    except OSError as failure:
        raise Unavailable(Code.STORE_UNAVAILABLE, f"`{place}`: {failure.strerror}") from None


def _stands(claim: _Claim) -> bool:
    """Whether the folder that claimed it is still there. One that cannot be looked at is taken to be."""
    try:
        return Path(claim.state, "mark").read_text(encoding="ascii") == claim.mark
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, UnicodeDecodeError):
        return True


def _runs(uid: int) -> bool:
    """Whether any process has this account."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if place.stat().st_uid == uid:
                return True
        except OSError:
            continue
    return False


def _is_named(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _check_ours(registry: Path) -> None:
    for place in (registry, registry.parent):
        status = place.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
            raise Malformed(f"`{place}` is not a folder of root's alone: nobody can say there whose an account is")
