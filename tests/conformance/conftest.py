"""The official everything-server behind a gateway, reached by the conformance suite through `citywatch connect`."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from tests.e2e.gateway.desk import DEADLINE_S, Desk, answers, listens, wait_for
from tests.ports import free_port

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
NODE = ROOT / ".venv" / "node"
SUITE = NODE / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
REVISIONS = ("2025-11-25", "2026-07-28")

CONFIG = """
trust_domain: conformance.example
listen: ["http://127.0.0.1:{port}"]
agents:
  suite: {{roles: [tester]}}
servers:
  everything: {{url: "http://127.0.0.1:{upstream}/mcp"}}
"""
POLICY = """
@id("agents") permit(principal in Role::"tester", action, resource == Server::"everything");
@id("servers") permit(principal == Server::"everything", action, resource);
"""
DENIED = """
@id("no-images") forbid(principal, action == Action::"everything/test_image_content", resource);
"""


class Run(msgspec.Struct, frozen=True):
    """What the suite said: checks passed and failed for each scenario, and which scenarios do not count."""

    scenarios: dict[str, tuple[int, int]]
    unscored: frozenset[str]

    @property
    def passing(self) -> set[str]:
        return {name for name, (_, failed) in self.scenarios.items() if not failed and name not in self.unscored}


class Everything(Desk):
    """A desk whose server is the SDK's everything-server, and whose agent is the suite behind a bridge."""

    def __init__(self, folder: Path, stack: ExitStack, source: Path) -> None:
        super().__init__(folder, stack)
        (folder / "citywatch.yaml").write_text(CONFIG.format(port=self.port, upstream=self.upstream_port))
        (folder / "policies" / "desk.cedar").write_text(POLICY)
        self._spawn([sys.executable, "-m", "mcp_everything_server", "--port", str(self.upstream_port)], cwd=source)
        wait_for(lambda: listens(self.upstream_port), "the everything-server")
        self.run("agent", "add", "suite")
        self.run("tools", "approve", "--yes")
        self.bridge_port = free_port()

    def connect(self) -> None:
        self.up()
        gateway, bridge = f"http://127.0.0.1:{self.port}", f"127.0.0.1:{self.bridge_port}"
        self._spawn([sys.executable, "-m", "citywatch", "connect", "suite", "--gateway", gateway, "--listen", bridge])
        wait_for(lambda: answers(f"{gateway}/citywatch/health") and listens(self.bridge_port), "the bridge")

    def direct(self, revision: str) -> Run:
        return conformance(f"http://127.0.0.1:{self.upstream_port}/mcp", revision, self.folder)

    def through(self, revision: str) -> Run:
        return conformance(f"http://127.0.0.1:{self.bridge_port}/mcp/everything", revision, self.folder)


def conformance(url: str, revision: str, folder: Path) -> Run:
    """Run what a revision of the specification requires of a server against `url`."""
    command = [str(ROOT / ".venv" / "bin" / "node"), str(SUITE), "server", "--url", url, "--requirements", revision]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=10 * DEADLINE_S, check=False)
    scenarios = {
        found[1]: (int(found[2]), int(found[3]))
        for found in re.finditer(r"^[✓✗] ([a-z0-9-]+): (\d+) passed, (\d+) failed", done.stdout, re.MULTILINE)
    }
    assert scenarios, f"the suite ran nothing: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return Run(scenarios, frozenset(re.findall(r"^  [✓✗] ([a-z0-9-]+) \(", done.stdout, re.MULTILINE)))


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The everything-server's folder, from the source distribution of the SDK."""
    folder = tmp_path_factory.mktemp("sdk")
    fetch = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download", "--no-deps"]
    fetch += ["--no-binary", "mcp", "--require-hashes", "--dest", str(folder)]
    subprocess.run([*fetch, "-r", str(HERE / "everything.txt")], check=True, timeout=10 * DEADLINE_S)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    (server,) = folder.glob("mcp-*/examples/servers/everything-server")
    return server


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory, source: Path) -> Iterator[Everything]:
    with ExitStack() as stack:
        desk = Everything(tmp_path_factory.mktemp("everything"), stack, source)
        desk.connect()
        yield desk
