"""The forgeries of `make bench`, fewer of them: none is executed, each kind is tried, and honest answers go through."""

from __future__ import annotations

from pathlib import Path

from bench.tickets import KINDS, forgeries, waiting


async def test_no_forgery_is_executed_and_no_honest_answer_refused() -> None:
    executed, refused, honest = await forgeries(4 * len(KINDS), seed=7)
    assert executed == dict.fromkeys(KINDS, 0)
    assert (refused, honest) == (0, 4 * len(KINDS))


async def test_a_list_is_read_and_a_ticket_opened_where_many_wait(tmp_path: Path) -> None:
    told = await waiting(tmp_path, 1_000, 5)
    assert (len(told["taken"]), len(told["queued"])) == (5, 5)
