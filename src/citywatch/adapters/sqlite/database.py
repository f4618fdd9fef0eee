"""Where the file is, who may read it, which schema it has, and what its errors mean to a caller.

Does not decide what is written. INVARIANTS: the database, its write-ahead log and its index are readable by their
owner alone, in a directory that nobody else can write; a schema newer than ours is refused, never guessed at; every
connection is opened here, so none of them checkpoints by itself (`checkpoint.py` says why).

Nothing else in this process may open the database file: closing any descriptor of it would drop SQLite's POSIX locks
(https://www.sqlite.org/howtocorrupt.html §2.2). The `-wal` file carries no locks and may be opened.
"""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

from citywatch.core.errors import Code, Unavailable

APPLICATION = 0x63775731  # "cwW1", so that `file` and we can tell our databases from others
SCHEMA = 1
OPEN_PATIENCE_S = 2.0

# Leaf and payload share a row: one insert instead of two is a third of an append's cost. An erasure overwrites salt and
# body in place (same record size), so no copy is left in a page that SQLite rebuilt. Rows carry versions of one counter
# that never goes back, so a row deleted and made again never looks unchanged.
_TABLES = """
CREATE TABLE entry (
    idx INTEGER PRIMARY KEY, leaf BLOB NOT NULL, erased INTEGER NOT NULL, salt BLOB, body BLOB) STRICT;
CREATE TABLE row (
    kind TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (kind, id)) STRICT, WITHOUT ROWID;
CREATE TABLE budget (key TEXT PRIMARY KEY, window INTEGER NOT NULL, used INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO counter VALUES ('version', 0), ('checkpoint', 0);
"""

_PRIMARY = 0xFF  # the low byte of an extended result code is its family


def connect(path: Path, *, timeout_s: float) -> sqlite3.Connection:
    """One connection with our settings. It may be used from any one thread at a time."""
    connection = sqlite3.connect(
        path, timeout=timeout_s, isolation_level=None, check_same_thread=False, cached_statements=128
    )
    try:
        for pragma in (
            "synchronous=NORMAL",  # survives a crash of the process; `disk.py` adds what survives a loss of power
            "wal_autocheckpoint=0",
            "secure_delete=ON",
            "trusted_schema=OFF",
            "temp_store=MEMORY",
            "cache_size=-4096",
        ):
            connection.execute(f"PRAGMA {pragma}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def wal_of(database: Path) -> Path:
    """The write-ahead log beside a database."""
    return database.with_name(database.name + "-wal")


def open_database(path: Path) -> sqlite3.Connection:
    """Open or create the database at `path`; raise `Unavailable` with a line the operator can act on."""
    try:
        _claim_place(path)
        connection = connect(path, timeout_s=OPEN_PATIENCE_S)
    except OSError as error:
        raise Unavailable(Code.STORE_UNAVAILABLE, f"cannot open `{path}`: {(error.strerror or '').lower()}") from error
    except sqlite3.Error as error:
        raise unavailable(error, f"`{path}`") from error
    try:
        _settle_schema(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise unavailable(error, f"`{path}`") from error
    except Unavailable:
        connection.close()
        raise
    connection.execute("PRAGMA busy_timeout=0")  # from here on the event loop waits, not SQLite
    return connection


def _claim_place(path: Path) -> None:
    directory = path.parent
    if not directory.exists():
        directory.mkdir(mode=0o700)
        _sync_directory(directory.parent)
    if directory.stat().st_mode & 0o022:
        raise Unavailable(
            Code.STORE_UNAVAILABLE, f"others can write the directory `{directory}`: run chmod 700 on it first"
        )
    # SQLite gives the -wal and -shm files the mode of the database, whatever the umask.
    if not path.exists():
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)


def _settle_schema(connection: sqlite3.Connection, path: Path) -> None:
    _is_new(connection, path)  # before the first write: a file that is not ours is left as it was
    _enter_wal_mode(connection)
    connection.execute("BEGIN IMMEDIATE")
    if _is_new(connection, path):
        for statement in _TABLES.split(";")[:-1]:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id={APPLICATION}")
        connection.execute(f"PRAGMA user_version={SCHEMA}")
    connection.execute("COMMIT")
    # SQLite syncs the directory only with the first header of a new -wal; we may be asked for durability before that.
    _sync_directory(path.parent)


_held: dict[int, tuple[tuple[int, int], int]] = {}


def hold_file(path: Path) -> int:
    """A descriptor of the database file, to sync it. It stays open until nothing in this process uses that file."""
    status = path.stat()
    file = (status.st_dev, status.st_ino)
    for fd, (held, users) in _held.items():
        if held == file:  # closing a second one would drop the locks of whoever has the first
            _held[fd] = (file, users + 1)
            return fd
    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    _held[fd] = (file, 1)
    return fd


def release_file(fd: int) -> None:
    """Give back what `hold_file` gave, after the connection is closed."""
    file, users = _held.pop(fd)
    if users > 1:
        _held[fd] = (file, users - 1)
    else:
        os.close(fd)


def _is_new(connection: sqlite3.Connection, path: Path) -> bool:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if (application, schema, tables) == (0, 0, 0):
        return True
    if application != APPLICATION:
        raise Unavailable(Code.STORE_UNAVAILABLE, f"`{path}` is a database of another program")
    if schema != SCHEMA:
        raise Unavailable(
            Code.STORE_UNAVAILABLE, f"`{path}` has schema {schema} and this citywatch knows {SCHEMA}: upgrade citywatch"
        )
    return False


def _enter_wal_mode(connection: sqlite3.Connection) -> None:
    deadline = time.monotonic() + OPEN_PATIENCE_S
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        except sqlite3.OperationalError as error:
            # Two processes that create one database at once: this pragma does not wait by itself.
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            if mode != "wal":
                raise Unavailable(Code.STORE_UNAVAILABLE, f"this file system cannot hold a write-ahead log ({mode})")
            return


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def is_busy(error: sqlite3.Error) -> bool:
    """Another connection holds the lock; waiting may help."""
    code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY
    return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_failed_sync(error: sqlite3.Error) -> bool:
    """The kernel may have dropped what it could not write: nothing on this disk can be called durable any more."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code in (sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC)


def is_the_worlds(error: sqlite3.Error) -> bool:
    """The disk, a lock or the file is at fault, not what we asked SQLite to do."""
    return getattr(error, "sqlite_errorcode", 0) & _PRIMARY in _MEANING


def unavailable(error: sqlite3.Error, what: str = "the log's database") -> Unavailable:
    """Say in one line what the operator has to look at. Callers see this too, so no path unless `what` has one."""
    code = getattr(error, "sqlite_errorcode", 0)
    name = getattr(error, "sqlite_errorname", "no error code")
    meaning = _MEANING.get(code & _PRIMARY, "failed")
    return Unavailable(Code.STORE_UNAVAILABLE, f"{what} {meaning} ({name})")


_MEANING = {
    sqlite3.SQLITE_BUSY: "is held by another process",
    sqlite3.SQLITE_LOCKED: "is held by another process",
    sqlite3.SQLITE_FULL: "has no space left on its disk",
    sqlite3.SQLITE_READONLY: "is read-only",
    sqlite3.SQLITE_PERM: "may not be opened by this user",
    sqlite3.SQLITE_AUTH: "may not be opened by this user",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_CORRUPT: "is damaged",
    sqlite3.SQLITE_NOTADB: "is not a database",
    sqlite3.SQLITE_IOERR: "could not be read or written",
    sqlite3.SQLITE_PROTOCOL: "is held by another process",
    sqlite3.SQLITE_NOLFS: "has grown past what its disk allows",
    sqlite3.SQLITE_NOMEM: "ran out of memory",
}
