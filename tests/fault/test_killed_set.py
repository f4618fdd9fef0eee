"""`citywatch tickets batch approve` killed before or after what it writes: all of the set is answered, or none."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.gateway.desk import DEADLINE_S
from tests.unit.main.test_tasks import here, run
from tests.unit.main.test_ticket_sets import WHY, office, passes

__all__ = ["here"]

CHILD = Path(__file__).with_name("doomed_command.py")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_set_is_answered_whole_or_not_at_all(here: Path, when: str) -> None:
    names, key, _ = office(here)
    run("tickets", "batch", "show", *names, "--by", "anna")
    approve = ("tickets", "batch", "approve", *names, *WHY, "--by", "anna", "--key", key)
    command = [sys.executable, str(CHILD), when, "1", *approve]
    done = subprocess.run(command, cwd=here, capture_output=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    states = [run("tickets", "history", name).output.rstrip().rpartition(" ")[2] for name in names]
    assert states == ["approved" if when == "after" else "pending"] * 3
    again = run(*approve)
    assert (again.exit_code == 0) is (when == "before"), again.output
    assert when == "before" or "is approved; none of the set is answered" in again.output
    assert passes() == [True, True, True]
    assert passes() == [False, False, False]
