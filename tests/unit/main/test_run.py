"""What a process that serves does with its memory once it is up."""

from __future__ import annotations

import gc

from citywatch.main.run import YOUNG, _leave_alone


class _Cycle:
    def __init__(self) -> None:
        self.itself = self


def test_what_is_here_at_the_start_is_left_alone_and_cycles_are_still_found() -> None:
    before = gc.get_threshold()
    try:
        _leave_alone()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold()[0] == YOUNG
        for _ in range(10):
            _Cycle()
        assert gc.collect() >= 10
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
