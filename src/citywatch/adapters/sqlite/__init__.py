"""The embedded store: one SQLite file in WAL mode, shared by as many processes of one machine as like.

Decides nothing; `store.py` is the port, `ledger.py` the transaction, `disk.py` the syncs, `checkpoint.py` the tidying.
Why commits run on the event loop, with the figures: `docs/adr/0007-commit-on-the-loop.md`.
"""

from __future__ import annotations

from citywatch.adapters.sqlite.store import SqliteStore, open_store

__all__ = ["SqliteStore", "open_store"]
