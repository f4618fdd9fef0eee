"""What `forked.py` starts is to a test what a fresh process is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import forked

LOOKS = """
import json, os, signal, sys, threading
said = {"argv": sys.argv, "name": __name__, "cwd": os.getcwd(), "path": sys.path[0], "in": sys.stdin.read()}
said |= {"open": sorted(os.listdir("/proc/self/fd")), "threads": threading.active_count(), "set": os.environ.get("SET")}
said |= {"interrupted": signal.getsignal(signal.SIGINT) is signal.default_int_handler}
print(json.dumps(said), flush=True)
exec(sys.argv[1])
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    (tmp_path / "program.py").write_text(LOOKS)
    return tmp_path / "program.py"


@pytest.mark.parametrize(
    ("ends", "code", "error"),
    [
        ("", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit('no')", 1, "no\n"),
        ("raise KeyError(1)", 1, "KeyError: 1\n"),
        ("os._exit(4)", 4, ""),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, ""),
        ("import atexit; atexit.register(print, 'bye', file=sys.stderr)", 0, "bye\n"),
    ],
)
def test_a_program_is_a_process_of_its_own_and_ends_as_one(program: Path, ends: str, code: int, error: str) -> None:
    (program.parent / "there").mkdir()
    there = (program.parent / "there").resolve()
    command = [sys.executable, str(program), ends]
    done = forked.run(command, cwd=there, stdin="words", env={**os.environ, "SET": "so"}, timeout=60)
    assert (done.returncode, done.stderr[-len(error) :] if error else done.stderr) == (code, error)
    fresh = subprocess.run(command, cwd=there, input="words", env={**os.environ, "SET": "so"}, text=True, stdout=-1)
    assert json.loads(done.stdout) == json.loads(fresh.stdout)
    assert fresh.returncode == code


def test_a_module_is_started_as_one(tmp_path: Path) -> None:
    (tmp_path / "here.py").write_text("import sys; print(__name__, sys.argv[1:])")
    assert forked.run([sys.executable, "-m", "here", "a"], cwd=tmp_path, timeout=60).stdout == "__main__ ['a']\n"


def test_one_that_runs_is_asked_after_stopped_and_waited_for(program: Path) -> None:
    command = [sys.executable, str(program), "signal.pause()"]
    with forked.start(command, cwd=program.parent, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["name"] == "__main__"
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0)
        process.terminate()
    assert process.poll() == process.returncode == -signal.SIGTERM
    process.kill()


def test_what_is_no_program_of_this_python_is_refused(tmp_path: Path) -> None:
    for command in (["/bin/true", ""], [sys.executable, "-c", "pass"], [sys.executable, "-I", "x.py"]):
        with pytest.raises(AssertionError):
            forked.start(command, cwd=tmp_path)
