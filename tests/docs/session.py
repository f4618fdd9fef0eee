"""Run the console blocks of a page as a reader would, one command after the other, and compare what they print.

A line of output in the page is matched as it stands; `…` matches anything in a line, and alone on a line any number of
lines. A command ends with exit code 0, or with the one that its comment says (`# exit code 1`). One that ends in `&`
stays in the background once the lines under it have been printed. The ports that the page names are replaced by free
ones, so that two tours can run at the same time.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import NamedTuple

from tests.ports import free_port

BLOCK = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PATIENCE_S = 120
_CONFIGURATION = "citywatch.yaml"


_CODE = re.compile(r"\s# .*\bexit code (\d+)")


class Step(NamedTuple):
    command: str
    output: list[str]
    code: int = 0


def steps(text: str) -> Iterator[Step]:
    """The commands of a page, each with the lines shown under it."""
    for block in BLOCK.findall(text):
        step: Step | None = None
        for line in block.splitlines():
            if line.startswith("$ "):
                if step is not None:
                    yield step
                code = _CODE.search(line)
                step = Step(re.sub(r"\s+# .*", "", line[2:]), [], int(code[1]) if code else 0)
            elif step is not None:
                step.output.append(line)
        if step is not None:
            yield step


def matches(shown: list[str], printed: list[str]) -> bool:
    """Whether what was printed is what the page shows."""
    lines = [r"(?:.*\n)*?" if line.strip() == "…" else re.escape(line).replace("…", ".*") + r"\n" for line in shown]
    return re.fullmatch("".join(lines), "".join(f"{line}\n" for line in printed)) is not None


class Session:
    """One reader's terminal. Ends every program it started when it is closed."""

    def __init__(self, folder: Path, ports: tuple[int, ...]) -> None:
        self.folder = folder
        self.ports = {str(port): str(free_port()) for port in ports}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.env = {"PATH": path, "HOME": str(folder), "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
        self.running: list[tuple[subprocess.Popen[str], threading.Thread]] = []

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *failure: object) -> None:
        for process, _ in reversed(self.running):
            process.terminate()
        for process, reader in self.running:
            process.wait(PATIENCE_S)
            reader.join(PATIENCE_S)
            assert process.stdout is not None
            process.stdout.close()

    def run(self, step: Step) -> None:
        """Run one command; fails if it prints something else than the page shows, or ends with another exit code."""
        command = self._here(step.command)
        shown = [self._here(line) for line in step.output]
        if command.startswith(". .venv/"):
            return  # the path already begins with it
        if command.startswith("kill %?"):  # the job that a shell would find by these words
            for process, _ in self.running:
                if command.removeprefix("kill %?") in str(process.args):
                    process.terminate()
                    process.wait(PATIENCE_S)
            return
        if command == "mkdir try && cd try":
            self.folder = self.folder / "try"
            self.folder.mkdir()
            return
        if command.endswith("&"):
            self._start(command.rstrip("& "), shown)
            return
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE_S,
        )
        printed = done.stdout.splitlines()
        assert not shown or matches(shown, printed), f"$ {command}\n{done.stdout}"
        assert done.returncode == step.code, f"$ {command}\n{done.stdout}exit code {done.returncode}"
        if command.startswith("citywatch init"):
            file = self.folder / _CONFIGURATION
            file.write_text(self._here(file.read_text(encoding="utf-8")), encoding="utf-8")

    def _here(self, text: str) -> str:
        return re.sub(r"\b\d{4}\b", lambda found: self.ports.get(found[0], found[0]), text)

    def _start(self, command: str, shown: list[str]) -> None:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            cwd=self.folder,
            env=self.env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
        lines: Queue[str | None] = Queue()

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                lines.put(line.rstrip("\n"))
            lines.put(None)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        self.running.append((process, reader))
        printed: list[str] = []
        while not (printed and matches(shown or ["…"], printed)):
            line = lines.get(timeout=PATIENCE_S)
            assert line is not None, f"$ {command}\n" + "\n".join(printed)
            printed.append(line)
