"""citywatch in front of the desk, driven as its operator would: by its own commands, in a folder of its own.

Decides nothing. INVARIANT: no secret passes through a command line or a file that this module writes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from examples.support_desk.agent import Http, Place
from examples.support_desk.services import ROOT, Desk, documents_command, token_variable
from examples.support_desk.station import CommandFailed, Show, Station, free_port

HERE = Path(__file__).resolve().parent
PORTS = {"crm": 9001, "ledger": 9002, "tickets": 9003}
AGENT = "support"


class Gateway(Station):
    """The desk's folder; `show` is told of each command."""

    def __init__(self, folder: Path, desk: Desk, show: Show) -> None:
        secrets = {token_variable(name): token for name, token in desk.tokens.items()}
        super().__init__(folder, free_port(), {**os.environ, **secrets}, show)
        folder.mkdir(parents=True)
        shutil.copytree(HERE / "policies", folder / "policies")
        (folder / "citywatch.yaml").write_text(filled((HERE / "citywatch.yaml").read_text(), desk, self.port))

    def places(self, token: str) -> Mapping[str, Place]:
        """The same servers as the agent reaches them now: by its own identity, with no server's token."""
        headers = {"Authorization": f"Bearer {token}"}
        return {
            name: Http(f"http://127.0.0.1:{self.port}/mcp/{name}", headers) for name in (*sorted(PORTS), "documents")
        }


def filled(text: str, desk: Desk, port: int) -> str:
    """The example's file with the ports and paths of this run; everything else stays as it is written."""
    changes = {f"http://127.0.0.1:{PORTS[name]}/mcp": url for name, url in desk.urls.items()}
    changes["http://127.0.0.1:8460"] = f"http://127.0.0.1:{port}"
    changes["[python, -m, examples.support_desk.servers.documents, --data, examples/support_desk]"] = _yaml_list(
        documents_command(desk.data)
    )
    changes["cwd: ../.."] = f"cwd: {_yaml_text(str(ROOT))}"
    for old, new in changes.items():
        if text.count(old) != 1:
            raise CommandFailed(f"citywatch.yaml should hold `{old}` once")
        text = text.replace(old, new)
    return text


def _yaml_list(words: list[str]) -> str:
    return f"[{', '.join(_yaml_text(word) for word in words)}]"


def _yaml_text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
