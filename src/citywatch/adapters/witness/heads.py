"""What a witness remembers: of each log, the head it cosigned last. One small SQLite file.

Decides nothing; the judgement is `core.log.witness`. INVARIANTS: the head is judged and replaced in one transaction
that excludes every other process; what was replaced is on the disk before the caller learns of it; a head never gets
smaller, whatever the caller says.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from citywatch.core.errors import Code, Unavailable
from citywatch.core.log.witness import Declined, Head

_T = TypeVar("_T")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS head (
    origin TEXT PRIMARY KEY, size INTEGER NOT NULL CHECK (size >= 0), root BLOB NOT NULL CHECK (length(root) = 32)
) STRICT
"""
# The clause refuses to go back even if the judgement were wrong: a size only grows, a root of one size stays.
_PUT = """
INSERT INTO head (origin, size, root) VALUES (?, ?, ?)
ON CONFLICT (origin) DO UPDATE SET size = excluded.size, root = excluded.root
WHERE excluded.size > head.size OR (excluded.size = head.size AND excluded.root = head.root)
"""
WAIT_S = 5.0


class WitnessHeads:
    """The heads in one file, for any number of processes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, origin: str) -> Head:
        """The head cosigned last, or that of a log never seen."""
        with self._opened() as connection:
            return _get(connection, origin)

    def replace(self, origin: str, judge: Callable[[Head], tuple[Head, _T] | Declined]) -> _T | Declined:
        """Judge against the head last cosigned and remember the new one, in one transaction.

        `judge` may be called while every other process waits; it returns the new head and what to hand back.
        """
        with self._opened() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                verdict = judge(_get(connection, origin))
                if isinstance(verdict, Declined):
                    return verdict
                head, result = verdict
                if connection.execute(_PUT, (origin, head.size, head.root)).rowcount != 1:
                    raise AssertionError("a witness was about to go back")
                connection.execute("COMMIT")
                return result
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """A connection for one transaction: a witness is asked about once a second, and never from one thread alone."""
        try:
            with closing(sqlite3.connect(self._path, timeout=WAIT_S, isolation_level=None)) as connection:
                connection.execute("PRAGMA synchronous = FULL")
                yield connection
        except sqlite3.Error as error:
            raise Unavailable(Code.STORE_UNAVAILABLE, f"the witness's memory: {error}".lower()) from None


def open_heads(path: Path) -> WitnessHeads:
    """Open the file, and create it (not its folder) with mode 0600 if it is not there."""
    try:
        path.touch(mode=0o600, exist_ok=True)
    except OSError as error:
        raise Unavailable(Code.STORE_UNAVAILABLE, f"`{path}`: {(error.strerror or '').lower()}") from None
    heads = WitnessHeads(path)
    with heads._opened() as connection:
        connection.execute(_SCHEMA)
    return heads


def _get(connection: sqlite3.Connection, origin: str) -> Head:
    row = connection.execute("SELECT size, root FROM head WHERE origin = ?", (origin,)).fetchone()
    return Head(row[0], row[1]) if row else Head()
