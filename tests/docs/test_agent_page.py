"""The programs of the page on writing an agent, run as they are written, against a gateway."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from tests.e2e.gateway.desk import DEADLINE_S, Desk, listens, wait_for
from tests.ports import free_port

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "write-an-agent.md"
ADDRESS = "http://127.0.0.1:8480/"


def programs() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def run(program: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert done.returncode == 0, program + done.stderr
    return done.stdout


def test_each_program_does_what_the_page_says(tmp_path: Path) -> None:
    first, sync, waiting, chained, speaking, executing = programs()
    with ExitStack() as stack:
        desk = Desk(tmp_path, stack)
        file = desk.folder / "citywatch.yaml"
        told = file.read_text().replace("clerk:", "router:").replace("t.example", "acme.example")
        file.write_text(told + '\nprincipals:\n  alice: {may: ["desk/*"]}\n')
        desk.start_upstream()
        desk.run("agent", "add", "router")
        desk.run("tools", "approve", "--yes")
        desk.up()
        port = free_port()
        command = [sys.executable, "-m", "citywatch", "connect", "router", "--gateway", f"http://127.0.0.1:{desk.port}"]
        bridge = subprocess.Popen([*command, "--listen", f"127.0.0.1:{port}"], cwd=tmp_path, env=dict(os.environ))
        stack.callback(bridge.wait, DEADLINE_S)
        stack.callback(bridge.terminate)
        wait_for(lambda: listens(port), "the bridge")

        def here(program: str) -> str:
            assert ADDRESS in program
            return program.replace(ADDRESS, f"http://127.0.0.1:{port}/")

        said = run(here(first), tmp_path)
        assert said.splitlines()[0] == "looked at prices"
        assert said.splitlines()[1].startswith("no_permit ")
        assert "pay {" in run(here(sync), tmp_path)
        assert "patience_s=600" in waiting
        assert "nobody answered yet: " in run(here(waiting).replace("600", "0"), tmp_path)
        desk.run("task", "start", "router", "--as", "alice", "--grant", "router.json", "Look around")
        run(here(chained), tmp_path)
        run(speaking, tmp_path)  # they define a function each; what those do is tests/e2e/gateway/test_sdk_peers.py's
        calling = "\nimport asyncio, types\nprint(asyncio.run(execute(types.SimpleNamespace(metadata={}))))"
        assert run(here(executing) + calling, tmp_path) == "for : looked at prices\n"
        assert "spiffe://acme.example/agent/billing" in desk.run("grant", "show", "billing.json").stdout
