"""An agent on another machine joins by an invitation: the command line, a gateway, the official client behind it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests import forked
from tests.e2e.gateway.city import City, look, open_city
from tests.e2e.gateway.desk import Desk, wait_for


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[City]:
    with open_city(tmp_path_factory.mktemp("join")) as city:
        yield city


class Elsewhere:
    """A folder on another machine: what the operator carried there, and nothing of the gateway's."""

    def __init__(self, city: City, folder: Path, name: str, *ttl: str) -> None:
        self.city, self.folder, self.name = city, folder, name
        folder.mkdir()
        done = city.desk.run("agent", "invite", name, *ttl)
        self.invitation = done.stdout.strip()
        self.told = done.stderr
        (folder / "token").write_text(done.stdout)
        introduction = city.desk.folder / f"{name}.introduction.json"
        (folder / "introduction.json").write_bytes(introduction.read_bytes())

    def join(self, *more: str, stdin: str = "", gateway: str = "") -> subprocess.CompletedProcess[str]:
        words = ["join", gateway or f"https://localhost:{self.city.tls_port}", "--introduction", "introduction.json"]
        words += more or ("--join-token-file", "token")
        command = [sys.executable, "-m", "citywatch", *words]
        return forked.run(command, cwd=self.folder, stdin=stdin, timeout=120)


def rejected(city: City) -> list[dict[str, Any]]:
    return [event for event in city.desk.events() if event["type"] == "rejected"]


async def test_an_invited_agent_joins_once_and_calls(city: City, tmp_path: Path) -> None:
    there = Elsewhere(city, tmp_path / "there", "clerk2")
    assert there.invitation.startswith("cwjoin_")
    assert there.invitation not in there.told
    done = there.join()
    assert done.returncode == 0, done.stderr
    papers = there.folder / "agents" / "clerk2"
    assert papers.stat().st_mode & 0o777 == 0o700
    assert {one.name for one in papers.iterdir()} >= {"key.pem", "svid.pem", "bundle.pem", "introduction.json"}
    async with httpx2.AsyncClient(verify=city.context(papers / "svid.pem", papers / "key.pem"), timeout=30) as http:
        assert await look(http, city.url, {}) == (200, "done")
    before = len(rejected(city))
    again = there.join("--join-token-file", "token", "--out", "other")
    assert again.returncode == 1
    assert "credential_expired" in again.stderr
    wait_for(lambda: len(rejected(city)) > before, "the entry")
    assert "was used before" in rejected(city)[before]["detail"]
    everything = b"".join(
        file.read_bytes() for file in city.desk.folder.rglob("*") if file.is_file() and "introduction" not in file.name
    )
    assert there.invitation.encode() not in everything
    done = city.desk.run("agent", "list")
    assert "clerk2" in done.stdout


async def test_connect_renews_by_the_key_alone(city: City, tmp_path: Path) -> None:
    """The invitation is spent, and the folder is what `agent add` would have written."""
    there = Elsewhere(city, tmp_path / "there", "clerk3")
    done = there.join("--join-token-file", "-", stdin=there.invitation + "\n")
    assert done.returncode == 0, done.stderr
    (there.folder / "token").unlink()
    with ExitStack() as stack:
        log = stack.enter_context((there.folder / "connect.log").open("wb"))
        process = forked.start(
            [
                sys.executable,
                "-m",
                "citywatch",
                "connect",
                "clerk3",
                "--listen",
                "127.0.0.1:0",
                "--gateway",
                f"https://localhost:{city.tls_port}",
            ],
            cwd=there.folder,
            stdout=log,
            stderr=log,
        )
        stack.callback(process.wait, 30)
        stack.callback(process.terminate)
        wait_for(lambda: b"ready: " in (there.folder / "connect.log").read_bytes(), "the bridge")
        url = (there.folder / "connect.log").read_text().split("ready: ")[1].split()[0].replace("SERVER", "desk")
        async with httpx2.AsyncClient(timeout=30) as http:
            assert await look(http, url, {}) == (200, "done")


def test_of_two_machines_with_one_invitation_one_joins(city: City, tmp_path: Path) -> None:
    there = Elsewhere(city, tmp_path / "there", "clerk4")
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda n: there.join("--join-token-file", "token", "--out", f"o{n}"), range(2)))
    assert sorted(one.returncode for one in done) == [0, 1]


def test_another_gateway_is_not_shown_the_invitation(city: City, tmp_path: Path) -> None:
    """A man in the middle with papers of his own; and plain http, to whoever is there."""
    there = Elsewhere(city, tmp_path / "there", "clerk5")
    (tmp_path / "other").mkdir()
    with ExitStack() as stack:
        other = City(Desk(tmp_path / "other", stack))
        other.desk.run("agent", "add", "x")
        other.desk.up()
        done = there.join(gateway=f"https://localhost:{other.tls_port}")
        assert done.returncode == 1, done.stdout
        assert not [
            one
            for one in other.desk.events()
            if one["type"] == "rejected" and one["code"] != "" and "invitation" in one["detail"]
        ]
        done = there.join(gateway=f"http://127.0.0.1:{city.desk.port}")
        assert (done.returncode, "use https" in done.stderr) == (2, True)
    assert there.join().returncode == 0, "and it is still good"


def test_what_is_no_invitation_is_said_here(city: City, tmp_path: Path) -> None:
    there = Elsewhere(city, tmp_path / "there", "clerk6")
    (there.folder / "token").write_text("cwjoin_short")
    done = there.join()
    assert (done.returncode, "not an invitation" in done.stderr) == (2, True)
    done = there.join("--join-token-file", "missing")
    assert done.returncode == 2
    (there.folder / "token").write_text("cwjoin_" + "A" * 43)
    done = there.join()
    assert (done.returncode, "credential_untrusted" in done.stderr) == (1, True)
    assert "cwjoin_" not in done.stderr


def test_an_operator_takes_invitations_back(city: City, tmp_path: Path) -> None:
    there = Elsewhere(city, tmp_path / "there", "clerk7", "--ttl", "5m")
    assert "took back 1" in city.desk.run("agent", "invite", "clerk7", "--withdraw").stdout
    assert there.join().returncode == 1
    taken = city.desk.run("agent", "invite", "clerk", check=False)
    assert (taken.returncode, "conflict" in taken.stderr) == (1, True)
    long = city.desk.run("agent", "invite", "clerk8", "--ttl", "31d", check=False)
    assert long.returncode == 2
    assert os.path.exists(there.folder / "token")
