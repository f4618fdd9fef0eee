"""`citywatch witness` beside a real gateway: its cosignature, its memory of yesterday, and its absence."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests import forked
from tests.e2e.gateway.desk import Desk, wait_for
from tests.fault.test_killed_gateway import ask
from tests.ports import free_port

VERIFIER = Path(__file__).parents[2] / "spec" / "verify_log.py"
UP = [sys.executable, "-m", "citywatch", "-c", "witnessed.yaml", "up"]


class Witness:
    """`citywatch witness` in a folder of its own, which can be stopped and started again on one port."""

    def __init__(self, folder: Path, log_key: str) -> None:
        self.folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        self.key = ""
        self._log_key = log_key
        self._process: forked.Process | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "citywatch", "witness", "--name", "north", "--log", self._log_key]
        command += ["--listen", self.address, "--state", "its-own"]
        self._process = forked.start(command, cwd=self.folder, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.key = self._process.stdout.readline().removeprefix("witness key: ").strip()
        assert self._process.stdout.readline() == f"ready on http://{self.address}\n"

    def stop(self) -> None:
        if self._process is not None:
            with self._process:
                self._process.terminate()
            self._process = None


class City:
    """A desk whose log is witnessed."""

    def __init__(self, desk: Desk, witness: Witness) -> None:
        self.desk = desk
        self.witness = witness
        self.token = desk.token()

    @property
    def state(self) -> Path:
        return self.desk.folder / ".citywatch"

    def up(self) -> None:
        self.desk.up(UP)

    def pay(self, amount: int) -> dict[str, Any]:
        answer = ask(self.desk, self.token, "pay", {"to": "ann", "amount": amount})
        assert answer is not None, "the gateway did not answer"
        return answer

    def works(self, amount: int) -> None:
        assert self.pay(amount)["result"]["content"][0]["text"] == "paid"

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.desk.run("-c", "witnessed.yaml", *arguments, check=check)

    def health(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.desk.port}/citywatch/health", timeout=30) as response:
            found: dict[str, Any] = json.load(response)
            return found

    def is_published(self) -> bool:
        return bool(self.health()["published"] == len(self.desk.events()))

    def stranger(self) -> subprocess.CompletedProcess[str]:
        """Somebody who has the two public keys and the verifier, and asks for the witness's word."""
        key = self.run("log", "key").stdout.strip()
        command = [sys.executable, "-I", str(VERIFIER), "export", str(self.state / "log")]
        command += ["--key", key, "--witness", self.witness.key]
        return subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def city(ready_desk: Desk, tmp_path: Path) -> Iterator[City]:
    with ExitStack() as stack:
        witness = Witness(tmp_path, ready_desk.run("log", "key").stdout.strip())
        witness.start()
        stack.callback(witness.stop)
        plain = (ready_desk.folder / "citywatch.yaml").read_text()
        named = f"witnesses:\n  - {{name: north, url: 'http://{witness.address}', key: '{witness.key}'}}\n"
        (ready_desk.folder / "witnessed.yaml").write_text(f"{plain}{named}witness_quorum: 1\n")
        (ready_desk.folder / "up.log").unlink(missing_ok=True)
        yield City(ready_desk, witness)


def restore(copy: Path, state: Path) -> None:
    shutil.rmtree(state)
    shutil.copytree(copy, state)


def refuses_to_start(city: City) -> str:
    done = city.run("up", check=False)
    assert done.returncode == 1, f"{done.stdout}{done.stderr}"
    assert "ready" not in done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_witness_cosigns_what_grows_and_refuses_yesterdays_disk(city: City, tmp_path: Path) -> None:
    city.up()
    city.works(1)
    wait_for(city.is_published, "the log to be published")
    assert "\n— north " in (city.state / "log" / "checkpoint").read_text()
    checked = city.stranger()
    assert checked.returncode == 0, checked.stdout
    assert "cosigned by `north`" in checked.stdout

    city.desk.down()
    yesterday = tmp_path / "yesterday"
    shutil.copytree(city.state, yesterday)

    city.up()  # the same disk goes on
    for amount in range(2, 6):
        city.works(amount)
    wait_for(city.is_published, "the log to be published")
    assert city.stranger().returncode == 0
    city.desk.down()

    restore(yesterday, city.state)
    said = refuses_to_start(city)
    assert said.startswith("citywatch: the log is not the one that was shown to others: ")
    assert "`north` refuses: it cosigned" in said
    assert "put the newest copy back" in said
    said = refuses_to_start(city)  # and no number of attempts wears it down
    assert "`north` refuses" in said
    assert city.desk.ledger() == [f"ann {amount}" for amount in range(1, 6)]


def test_a_witness_that_comes_back_closes_the_gateway_that_was_restored_meanwhile(city: City, tmp_path: Path) -> None:
    city.up()
    city.works(1)
    city.desk.down()
    yesterday = tmp_path / "yesterday"
    shutil.copytree(city.state, yesterday)
    city.up()
    city.works(2)
    city.works(3)
    city.desk.down()

    city.witness.stop()
    restore(yesterday, city.state)
    city.up()  # nothing on this disk can tell, and who could is away
    city.witness.start()

    def closed() -> bool:
        return "error" in city.pay(4)

    wait_for(closed, "the gateway to be told")
    paid = city.desk.ledger()
    error = city.pay(5)["error"]
    assert error["data"]["code"] == "store_unavailable"
    assert "`north` refuses" in error["message"]
    assert city.desk.ledger() == paid
    assert "refused" in city.health()["status"]
    city.desk.down()
    refuses_to_start(city)


def test_calls_go_on_without_the_witness_and_publishing_resumes_with_it(city: City) -> None:
    city.up()
    city.works(1)
    wait_for(city.is_published, "the log to be published")
    published = city.health()["published"]
    city.witness.stop()
    city.works(2)
    wait_for(lambda: city.health()["status"] != "ok", "the gateway to say that it cannot publish")
    assert city.health()["published"] == published
    assert "are not published yet" in city.run("log", "verify").stdout

    city.desk.down()
    city.up()
    city.works(3)
    assert "not published up to now: 0 of 1 cosignatures" in (city.desk.folder / "up.log").read_text()
    assert city.health()["published"] == published
    assert city.stranger().returncode == 0, "what was published before still stands"

    city.witness.start()
    wait_for(city.is_published, "the log to be published again")
    assert city.health()["status"] == "ok"
    assert city.stranger().returncode == 0


def test_silent_connections_do_not_keep_a_log_from_its_witness(city: City) -> None:
    host, port = city.witness.address.split(":")
    with ExitStack() as stack:
        for _ in range(80):
            stack.enter_context(socket.create_connection((host, int(port))))
        city.up()
        wait_for(city.is_published, "the log to be published")
        assert city.health()["status"] == "ok"
        assert "entries published, 1 cosignatures" in (city.desk.folder / "up.log").read_text()
