"""Where things are: the settings, and the folder with keys, store and log that they name.

Decides nothing. INVARIANT: the state folder is private to the user who runs citywatch; a looser one is refused, for
whoever can read it can read the keys, and whoever can write it can write the log.
"""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import msgspec

from citywatch.config import Settings, parse_settings
from citywatch.core.errors import Code, Malformed, Unavailable


class Place(msgspec.Struct, frozen=True):
    """The settings of one configuration file, and what follows from them on disk."""

    file: Path
    settings: Settings

    @property
    def state(self) -> Path:
        return Path(self.settings.state)

    @property
    def keys(self) -> Path:
        return self.state / "keys"

    @property
    def database(self) -> Path:
        return self.state / "citywatch.db"

    @property
    def tiles(self) -> Path:
        return self.state / "log"

    @property
    def replicas(self) -> Path:
        return self.state / "replicas"


def read_place(file: Path) -> Place:
    """Read the configuration; raises `Malformed` (every mistake at once) or names the file that is missing."""
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise Malformed(f"there is no `{file}`; `citywatch init` writes one to start from") from None
    except (OSError, UnicodeDecodeError) as failure:
        raise Malformed(f"`{file}` cannot be read: {failure}") from None
    return Place(file, parse_settings(text, str(file.resolve().parent)))


def open_state(place: Place) -> None:
    """Create the state folder, or refuse one that others may read or write."""
    state = place.state
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        for part in (place.keys, place.tiles, place.replicas):
            part.mkdir(mode=0o700, exist_ok=True)
        mode = stat.S_IMODE(state.stat().st_mode)
    except OSError as failure:
        raise Unavailable(Code.STORE_UNAVAILABLE, f"`{failure.filename}`: {failure.strerror}") from None
    if mode & 0o077:
        raise Malformed(f"the state folder `{state}` is open to other users (mode {mode:o}): run `chmod 700 {state}`")


class Replica:
    """This process's name among those that share a state folder: a lock file that dies with the process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._locked: int | None = None
        self.name = self._take()

    def is_dead(self, name: str) -> bool:
        """Whether no living process holds that name; our own, just taken, was a dead one's if it is in the log."""
        if name == self.name:
            return True
        descriptor = self._lock(name)
        if descriptor is None:
            return False
        os.close(descriptor)
        return True

    def _take(self) -> str:
        for number in range(1, 1000):
            name = f"r{number}"
            self._locked = self._lock(name)
            if self._locked is not None:
                return name
        raise Unavailable(Code.OVERLOADED, "no name for another replica")

    def _lock(self, name: str) -> int | None:
        descriptor = os.open(self._folder / f"{name}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor
