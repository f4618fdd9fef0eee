"""One transaction for a batch of appends: each checked alone, all written together.

Decides whether an append is `Appended`, `Stale` or `Exhausted`; does not decide when to commit, whether to retry, or
what is durable. Knows no event loop.

INVARIANTS: an append that is not `Appended` writes nothing, and the others of its batch go on. Indexes have no gap and
no double, whoever else writes. A row or budget is judged as it stands inside the transaction: what is remembered counts
only while `PRAGMA data_version` says that no other connection has committed. All that is remembered belongs to one
snapshot, so a `load` from memory is consistent, if perhaps old.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence

import msgspec

from citywatch.service.ports import Append, Appended, Exhausted, Key, Loaded, Payload, Row, Stale

Result = Appended | Stale | Exhausted

REMEMBER_BYTES = 32 << 20
"""How much of rows and budgets is remembered; past it all is forgotten at once and read again when needed."""

TRUST_S = 0.05
"""A load may be this much older than another process's commit; an append never is."""

VERSIONS = 1 << 16
"""Versions taken at once: a counter written with every put would dirty one more page in every transaction."""

_ENTRY = "INSERT INTO entry VALUES (?, ?, 0, ?, ?)"
_PUT = (
    "INSERT INTO row VALUES (?, ?, ?, ?)"
    " ON CONFLICT (kind, id) DO UPDATE SET version = excluded.version, value = excluded.value"
)
_DELETE = "DELETE FROM row WHERE kind = ? AND id = ?"
_SPEND = (
    "INSERT INTO budget VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET window = excluded.window, used = excluded.used"
)
# Same lengths, so SQLite overwrites the record where it stands; a deletion could leave copies behind.
_ERASE = (
    "UPDATE entry SET erased = 1, salt = zeroblob(length(salt)), body = zeroblob(length(body))"
    " WHERE idx = ? AND erased = 0 AND salt IS NOT NULL"
)


class Job(msgspec.Struct, frozen=True):
    """An append, and the index whose payload goes in the same transaction."""

    append: Append
    erase: int | None = None


class Ledger:
    """What one connection knows of the database, and the only thing that writes to it through that connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._run = connection.execute
        self._version = self._versions_end = 0
        self._forget()
        # What the running transaction has yet to write; empty outside `commit`.
        self._entries: list[tuple[int, bytes, bytes | None, bytes | None]] = []
        self._puts: dict[Key, Row | None] = {}
        self._spent: dict[str, tuple[int, int]] = {}

    def commit(self, jobs: Sequence[Job]) -> list[Result]:
        """Commit `jobs` in order in one transaction; raise `sqlite3.Error` (or a defect) with nothing written."""
        if self._weight > REMEMBER_BYTES:
            self._forget()
        self._run("BEGIN IMMEDIATE")
        try:
            self._notice_others()
            results = [self._judge(job) for job in jobs]
            self._write()
            self._run("COMMIT")
        except BaseException:
            self._abandon()
            raise
        return results

    def load(self, keys: Sequence[Key], budgets: Sequence[tuple[str, int]]) -> Loaded:
        """A consistent snapshot, from memory where possible."""
        if time.monotonic() - self._seen_at < TRUST_S:
            rows, known = self._rows, self._budgets
            try:
                return Loaded(
                    {key: row for key in keys if (row := rows[key]) is not None},
                    {key: _used(known[key], window) for key, window in budgets},
                )
            except KeyError:
                pass  # not remembered: read it
        return self._load_again(keys, budgets)

    def version(self, key: Key) -> int:
        """The version of a row as it stands in the database now; 0 if there is none."""
        row = self._load_again((key,), ()).rows.get(key)
        return 0 if row is None else row.version

    def count(self) -> int:
        """How many entries are committed, by anyone."""
        (count,) = self._run("SELECT coalesce(max(idx) + 1, 0) FROM entry").fetchone()
        assert isinstance(count, int)
        return count

    def scan(self, kind: str) -> list[tuple[str, Row]]:
        found = self._run("SELECT id, version, value FROM row WHERE kind = ? ORDER BY id", (kind,))
        return [(id_, Row(version, value)) for id_, version, value in found]

    def last(self, kind: str, prefix: str, count: int) -> list[tuple[str, Row]]:
        # No id begins with more than its prefix does, and the greatest code point follows whatever may.
        found = self._run(
            "SELECT id, version, value FROM row WHERE kind = ? AND id >= ? AND id < ? ORDER BY id DESC LIMIT ?",
            (kind, prefix, prefix + "\U0010ffff", count),
        )
        return [(id_, Row(version, value)) for id_, version, value in found]

    def page(self, kind: str, after: str, count: int) -> list[tuple[str, Row]]:
        found = self._run(
            "SELECT id, version, value FROM row WHERE kind = ? AND id > ? ORDER BY id LIMIT ?", (kind, after, count)
        )
        return [(id_, Row(version, value)) for id_, version, value in found]

    def rows(self, kind: str) -> int:
        """How many rows of a kind there are."""
        (count,) = self._run("SELECT count(*) FROM row WHERE kind = ?", (kind,)).fetchone()
        assert isinstance(count, int)
        return count

    def entries(self, start: int, stop: int) -> list[bytes]:
        found = self._run("SELECT leaf FROM entry WHERE idx >= ? AND idx < ? ORDER BY idx", (start, stop))
        return [leaf for (leaf,) in found]

    def payload(self, index: int) -> Payload | None:
        found = self._run(
            "SELECT salt, body FROM entry WHERE idx = ? AND erased = 0 AND salt IS NOT NULL", (index,)
        ).fetchone()
        return None if found is None else Payload(*found)

    def _judge(self, job: Job) -> Result:
        append, rows = job.append, self._rows
        for key, seen in append.reads:
            row = rows[key] if key in rows else self._row(key)
            if (row.version if row is not None else 0) != seen:
                return Stale(key)
        if append.spends:
            spent: dict[str, tuple[int, int]] = {}
            for spend in append.spends:
                window, used = spent.get(spend.key) or self._budget(spend.key) or (spend.window, 0)
                if spend.window > window:
                    window, used = spend.window, 0
                if used >= spend.limit and not spend.force:
                    return Exhausted(spend.key)
                spent[spend.key] = (window, used + 1)
            self._budgets.update(spent)
            self._spent.update(spent)
        for key, value in append.puts:
            row = None if value is None else Row(self._fresh_version(), value)
            self._puts[key] = self._remember(key, row)
        first = self._next
        for entry in append.entries:
            payload = entry.payload
            salt, body = (None, None) if payload is None else (payload.salt, payload.body)
            self._entries.append((self._next, entry.leaf, salt, body))
            self._next += 1
        if job.erase is not None:
            self._write_entries()  # the payload may be of this very batch
            self._run(_ERASE, (job.erase,))
        return Appended(first)

    def _write(self) -> None:
        self._write_entries()
        if self._puts:
            many = self._connection.executemany
            put = [(*key, row.version, row.value) for key, row in self._puts.items() if row is not None]
            gone = [key for key, row in self._puts.items() if row is None]
            if put:
                many(_PUT, put)
            if gone:
                many(_DELETE, gone)
            self._puts = {}
        if self._spent:
            self._connection.executemany(_SPEND, [(key, *state) for key, state in self._spent.items()])
            self._spent = {}

    def _write_entries(self) -> None:
        if self._entries:
            self._connection.executemany(_ENTRY, self._entries)
            self._entries = []

    def _abandon(self) -> None:
        """Forget the batch, in memory and in SQLite."""
        self._entries, self._puts, self._spent = [], {}, {}
        self._version = self._versions_end = 0  # the block may be of the transaction that is undone
        self._forget()
        if self._connection.in_transaction:
            self._run("ROLLBACK")

    def _forget(self) -> None:
        self._rows: dict[Key, Row | None] = {}
        self._budgets: dict[str, tuple[int, int] | None] = {}
        self._weight = 0
        self._seen = -1  # data_version; SQLite's own start at 1
        self._seen_at = float("-inf")
        self._next = 0

    def _notice_others(self) -> None:
        """Inside a transaction: forget everything if another connection committed since we last looked."""
        (seen,) = self._run("PRAGMA data_version").fetchone()
        if seen != self._seen:
            self._forget()
            self._seen = seen
            self._next = self.count()
        self._seen_at = time.monotonic()

    def _fresh_version(self) -> int:
        """A version that no row has had or will have: from a block that this transaction or an earlier one took."""
        if self._version == self._versions_end:
            taken = "UPDATE counter SET value = value + ? WHERE name = 'version' RETURNING value"
            ((self._versions_end,),) = self._run(taken, (VERSIONS,)).fetchall()
            self._version = self._versions_end - VERSIONS
        self._version += 1
        return self._version

    def _row(self, key: Key) -> Row | None:
        try:
            return self._rows[key]
        except KeyError:
            found = self._run("SELECT version, value FROM row WHERE kind = ? AND id = ?", key).fetchone()
            return self._remember(key, None if found is None else Row(*found))

    def _remember(self, key: Key, row: Row | None) -> Row | None:
        self._weight += 300 + len(key[1]) + (0 if row is None else len(row.value))
        self._rows[key] = row
        return row

    def _budget(self, key: str) -> tuple[int, int] | None:
        try:
            return self._budgets[key]
        except KeyError:
            found = self._run("SELECT window, used FROM budget WHERE key = ?", (key,)).fetchone()
            self._weight += 300 + len(key)
            self._budgets[key] = found
            return found  # type: ignore[no-any-return]

    def _load_again(self, keys: Sequence[Key], budgets: Sequence[tuple[str, int]]) -> Loaded:
        if self._weight > REMEMBER_BYTES:
            self._forget()
        self._run("BEGIN")
        try:
            self._notice_others()
            rows = {key: row for key in keys if (row := self._row(key)) is not None}
            used = {key: _used(self._budget(key), window) for key, window in budgets}
            self._run("COMMIT")
        except BaseException:
            self._abandon()
            raise
        return Loaded(rows, used)


def _used(state: tuple[int, int] | None, window: int) -> int:
    """Units used in the present window; a window in the past is not a fresh one."""
    return 0 if state is None or window > state[0] else state[1]
