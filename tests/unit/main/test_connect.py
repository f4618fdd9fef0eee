"""`citywatch connect` says at once, in one line, what is wrong with how it was called."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from citywatch.adapters.keys import KeyKind, SecretDirectory, create_key
from citywatch.core.identity.papers import format_introduction
from citywatch.main import cli
from tests.identity_city import BILLING, City


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    secrets = SecretDirectory(tmp_path / "billing")
    create_key(secrets, "key.pem", KeyKind.P256)
    secrets.create("introduction.json", format_introduction(City().issuer.introduction(BILLING)))
    return secrets.path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nobody"], "there is no `agents/nobody`"),
        (["other", "--key", "FOLDER"], "not of `other`"),
        (["billing", "--key", "FOLDER", "--listen", "0.0.0.0:0"], "not loopback"),
        (["billing", "--key", "FOLDER", "--listen", "8480"], "is not HOST:PORT"),
        (["billing", "--key", "FOLDER", "--listen", "localhost:99999"], "is not HOST:PORT"),
        (["billing", "--key", "FOLDER", "--gateway", "http://192.0.2.1"], "use https"),
        (["billing", "--key", "FOLDER", "--gateway", "http://gateway.example"], "use https"),
        (["billing", "--key", "FOLDER", "--gateway", "ftp://127.0.0.1"], "is not a gateway's URL"),
        (["billing", "--key", "FOLDER", "--gateway", "https://127.0.0.1/mcp/desk"], "is not a gateway's URL"),
        (["billing", "--key", "FOLDER", "--gateway", "https://user@127.0.0.1"], "is not a gateway's URL"),
        (["billing", "--key", "FOLDER", "--stdio", "../admin"], "is not a server"),
        (["billing", "--key", "FOLDER", "--gateway-user", "no-such-user"], "there is no user `no-such-user`"),
    ],
)
def test_a_wrong_call_is_told_at_once(folder: Path, arguments: list[str], words: str) -> None:
    said = CliRunner().invoke(cli, ["connect", *(str(folder) if one == "FOLDER" else one for one in arguments)])
    assert said.exit_code == 2
    assert words in said.output
    assert "Traceback" not in said.output


def test_a_key_that_others_can_read_is_refused(folder: Path) -> None:
    (folder / "key.pem").chmod(0o644)
    said = CliRunner().invoke(cli, ["connect", "billing", "--key", str(folder)])
    assert said.exit_code == 2
    assert "open to others" in said.output
