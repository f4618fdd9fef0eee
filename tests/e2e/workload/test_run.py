"""`citywatch run`, with PyPI's `spiffe` as the program: its own account, its own socket, papers while it is itself."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from citywatch.adapters.keys import SecretDirectory, load_key
from tests import forked

ROOT = os.geteuid() == 0
AGENT = Path(__file__).with_name("agent.py")
CONFIG = """
trust_domain: acme.example
listen: ["http://127.0.0.1:8460"]
servers: {desk: {url: "http://127.0.0.1:9/mcp"}}
agents: {billing: {svid_ttl: 1m, token_ttl: 1m}}
"""


def python() -> tuple[str, ...]:
    """An interpreter that another account can start: ours may lie in a folder that is closed to it."""
    if not ROOT or _passable(Path(sys.executable)):
        return (sys.executable,)
    return ("/usr/bin/python3", "-S")


def _passable(path: Path) -> bool:
    return all(place.stat().st_mode & 0o001 for place in (path.resolve(), *path.resolve().parents, *path.parents))


def _needed(name: str) -> Iterator[Distribution]:
    """A distribution and all that it requires."""
    pending, met = [name], set[str]()
    while pending:
        one = pending.pop()
        if one.lower() in met:
            continue
        met.add(one.lower())
        with suppress(PackageNotFoundError):  # for another system
            found = distribution(one)
            yield found
            wanted = (line for line in found.requires or () if "extra ==" not in line)
            pending += [hit[0] for line in wanted if (hit := re.match(r"[\w.-]+", line))]


@pytest.fixture(scope="session")
def packages() -> Iterator[Path]:
    """Where any account can read the client: ours may lie in a folder that is closed to others."""
    found = find_spec("spiffe")
    assert found is not None
    assert found.origin is not None
    place = Path(found.origin).parents[1]
    if not ROOT or _passable(place):
        yield place
        return
    folder = Path(tempfile.mkdtemp(prefix="client-"))
    folder.chmod(0o755)
    for one in _needed("spiffe"):
        for file in one.files or ():
            if file.suffix != ".pyc" and ".." not in file.parts:
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(place / file, folder / file)
    yield folder
    shutil.rmtree(folder)


class Home:
    """A folder with a configuration, the agent billing, and its measured program."""

    def __init__(self, folder: Path, packages: Path, domain: str = "acme.example") -> None:
        self.folder = folder
        self.packages = packages
        self.script = folder / "agent.py"
        shutil.copy(AGENT, self.script)
        self.script.chmod(0o644)
        (folder / "citywatch.yaml").write_text(CONFIG.replace("acme.example", domain))
        (folder / "policies").mkdir()
        (folder / "policies" / "p.cedar").write_text("permit(principal, action, resource);")
        self.cli("agent", "add", "billing")
        self.running: list[subprocess.Popen[str]] = []

    @property
    def environment(self) -> dict[str, str]:
        paths = [os.environ.get("PYTHONPATH"), str(self.packages)]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}

    def command(self, *words: str) -> list[str]:
        return [*python(), "agent.py", *words]

    def cli(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "citywatch", *words]
        done = forked.run(command, cwd=self.folder, env=self.environment, timeout=90)
        if check:
            done.check_returncode()
        return done

    def measure(self, *words: str) -> None:
        self.cli("agent", "measure", "billing", "--pass", "PYTHONPATH", "--", *self.command(*words))

    def start(self, *words: str) -> subprocess.Popen[str]:
        same = [] if ROOT else ["--unsafe-same-user"]
        process = subprocess.Popen(
            [sys.executable, "-m", "citywatch", "run", *same, "billing", "--", *self.command(*words)],
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.running.append(process)
        return process

    def run(self, *words: str) -> tuple[int, list[dict[str, Any]], str]:
        out, error = self.start(*words).communicate(timeout=90)
        return self.running[-1].returncode, [json.loads(line) for line in out.splitlines()], error

    def close(self) -> None:
        for process in self.running:
            if process.poll() is None:
                process.terminate()
                process.wait(30)
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()


def line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    found: dict[str, Any] = json.loads(process.stdout.readline())
    return found


def until(process: subprocess.Popen[str], name: str) -> dict[str, Any]:
    while name not in (found := line(process)):
        assert not {"no_token", "no_certificate", "ended"} & set(found), found
    return found


def tell(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdin is not None
    process.stdin.write(word + "\n")
    process.stdin.flush()


@pytest.fixture
def home(packages: Path) -> Iterator[Home]:
    """Not below pytest's own folder, which is closed to other accounts."""
    folder = Path(tempfile.mkdtemp(prefix="home-"))
    folder.chmod(0o755)
    made = Home(folder, packages)
    yield made
    made.close()
    shutil.rmtree(folder)


def test_a_measured_program_gets_all_that_the_client_asks(home: Home) -> None:
    home.measure("everything")
    code, (told, two, other), error = home.run("everything")
    agent = "spiffe://acme.example/agent/billing"
    assert code == 0, error
    assert told["svid"] == told["token"] == told["checked"] == agent
    assert told["key"] is True
    assert (told["authorities"], told["signers"]) == ([1], 1)
    assert "INVALID_ARGUMENT" in two["two"]
    assert "credential_wrong_audience" in other["other"]
    assert {"PATH", "PYTHONPATH", "SPIFFE_ENDPOINT_SOCKET"} <= set(told["environment"])
    assert not {"HOME", "USER", "CITYWATCH_CONFIG"} & set(told["environment"])
    if ROOT:
        assert told["uid"] >= 61_184
        assert told["groups"] == []


def test_the_exit_code_is_the_program_s(home: Home) -> None:
    home.measure("exit", "7")
    assert home.run("exit", "7")[0] == 7


@pytest.mark.parametrize("what", ["script", "arguments"])
def test_a_program_that_changed_is_not_started(home: Home, what: str) -> None:
    home.measure("everything")
    words = ["everything"]
    if what == "script":
        home.script.write_text(home.script.read_text() + "# one more line\n")
    else:
        words = ["bare"]
    code, told, error = home.run(*words)
    assert (code, told) == (1, [])
    assert "workload_changed" in error


def test_a_script_that_changes_under_the_running_program_ends_it(home: Home) -> None:
    home.measure("stream")
    process = home.start("stream")
    until(process, "serial")
    home.script.write_text(home.script.read_text() + "# one more line\n")
    assert "PERMISSION_DENIED" in until(process, "ended")["ended"]
    assert "workload_changed" in process.communicate(timeout=30)[1]
    assert process.returncode == 1


def test_without_the_header_nothing_is_answered(home: Home) -> None:
    home.measure("bare")
    code, told, error = home.run("bare")
    assert code == 0, error
    assert len(told) == 16
    assert {one["status"] for one in told[:-1]} == {"INVALID_ARGUMENT"}


def test_a_process_that_is_not_the_program_s_is_not_answered(home: Home) -> None:
    home.measure("stream")
    process = home.start("stream")
    path = until(process, "socket")["socket"].removeprefix("unix://")
    until(process, "serial")
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert (os.stat(path).st_uid >= 61_184) is ROOT
    with socket.socket(socket.AF_UNIX) as ours:  # root, or our own account without being below the program
        ours.settimeout(30)
        ours.connect(path)
        with suppress(ConnectionResetError):
            assert ours.recv(100) == b""
    if ROOT:
        behind = Path(path).parent / "behind"
        assert behind.stat().st_mode & 0o777 == 0o700
        assert behind.stat().st_uid == 0
    process.terminate()
    error = process.communicate(timeout=30)[1]
    assert ("asked for this program's papers" if ROOT else "is not of this program") in error
    assert not Path(path).exists(), "the socket is gone with the run"


def test_a_socket_that_is_gone_takes_no_papers_away_and_comes_back(home: Home) -> None:
    home.measure("stream")
    process = home.start("stream")
    path = Path(until(process, "socket")["socket"].removeprefix("unix://"))
    first = until(process, "serial")
    away = path.parent.with_name(f"{path.parent.name}.away")
    path.parent.rename(away)
    tell(process, "anew")
    assert "does not exist" in until(process, "no_anew")["no_anew"]
    tell(process, "certificate")
    assert until(process, "again")["again"] == first["serial"], "who was in stays in"
    away.rename(path.parent)
    tell(process, "anew")
    assert until(process, "anew")["anew"].endswith("/agent/billing")

    path.unlink()
    for _ in range(200):
        if path.exists():
            break
        time.sleep(0.05)
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert (os.stat(path).st_uid >= 61_184) is ROOT
    tell(process, "anew")
    assert until(process, "anew")["anew"].endswith("/agent/billing")
    tell(process, "token")
    assert until(process, "token")["token"].endswith("/agent/billing")
    process.terminate()
    error = process.communicate(timeout=30)[1]
    assert "was taken away" in error
    assert "is there again" in error


def test_a_rotation_of_the_authority_is_seen_on_the_streams(home: Home) -> None:
    home.measure("stream")
    process = home.start("stream")
    first = until(process, "serial")
    assert first["authorities"] == [1]
    home.cli("authority", "rotate")
    second = until(process, "serial")
    assert (second["serial"], second["authorities"]) == (first["serial"], [2])
    home.cli("authority", "rotate", "--now")
    third = until(process, "serial")
    assert third["serial"] != first["serial"]
    tell(process, "token")
    assert until(process, "token")["token"].endswith("/agent/billing")


def test_while_the_authority_is_down_what_was_issued_goes_on_and_nothing_new_is(home: Home) -> None:
    home.measure("stream")
    process = home.start("stream")
    first = until(process, "serial")
    keys = home.folder / ".citywatch" / "keys"
    for file in keys.glob("authority-*"):
        file.rename(file.with_suffix(".away"))
    tell(process, "certificate")
    assert until(process, "again")["again"] == first["serial"]
    tell(process, "token")
    assert "UNAVAILABLE" in until(process, "no_token")["no_token"]
    for file in keys.glob("authority-*"):
        file.rename(file.with_suffix(".pem"))
    tell(process, "token")
    assert until(process, "token")["token"].endswith("/agent/billing")


def test_a_revocation_ends_its_streams_and_the_program(home: Home) -> None:
    home.measure("stream")
    process = home.start("stream")
    until(process, "serial")
    home.cli("agent", "revoke", "billing", "--reason", "stolen")
    assert "PERMISSION_DENIED" in until(process, "ended")["ended"]
    assert process.wait(30) == 1
    assert "agent_revoked" in home.run("stream")[2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_run(home: Home, number: signal.Signals) -> None:
    marker = f"marker-{os.getpid()}-{number}"
    home.measure("away", marker)
    process = home.start("away", marker)
    lines = [line(process), line(process)]
    assert {name for told in lines for name in told} >= {"waiting", "escaped"}
    assert len(marked(marker)) >= 3
    process.send_signal(number)
    process.wait(30)
    for _ in range(200):
        if not marked(marker):
            break
        time.sleep(0.05)
    if not ROOT:
        return  # nothing but a process namespace holds what has left its group, and only root can make one
    assert not marked(marker)


def marked(marker: str) -> list[str]:
    """Processes that have the marker on their command line."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if marker.encode() in (place / "cmdline").read_bytes():
                found.append(place.name)
        except OSError:
            continue
    return found


def test_an_agent_that_needs_a_builder_s_word_runs_only_what_was_attested(home: Home) -> None:
    keys = home.folder / "builder"
    keys.mkdir(mode=0o700)
    (keys / "ci.pem").write_bytes(
        Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    (keys / "ci.pem").chmod(0o600)
    public = base64.b64encode(load_key(SecretDirectory(keys), "ci.pem", None).public).decode()
    file = home.folder / "citywatch.yaml"
    file.write_text(
        CONFIG.replace("{svid_ttl", "{attested_by: ci, svid_ttl") + f"attestors: {{ci: {{key: {public}}}}}\n"
    )
    lines = ("--pass", "PYTHONPATH", "--", *home.command("stream"))
    refused = home.cli("agent", "measure", "billing", *lines, check=False)
    assert (refused.returncode, "not_attested" in refused.stderr) == (1, True)

    made = home.cli("agent", "attest", "billing", "--key", str(keys / "ci.pem"), "--builder", "ci/7", *lines).stdout
    envelope = home.folder / "billing.json"
    envelope.write_text(made)
    assert "attests 1 programs" in home.cli("agent", "attest", "billing", "--envelope", "billing.json").stdout
    home.measure("stream")
    process = home.start("stream")
    until(process, "serial")
    tell(process, "token")
    assert until(process, "token")["token"].endswith("/agent/billing")

    home.cli("agent", "attest", "billing", "--withdraw")
    assert "PERMISSION_DENIED" in until(process, "ended")["ended"]
    assert process.wait(30) == 1
    code, _, error = home.run("stream")
    assert (code, "not_attested" in error) == (1, True)

    payload = json.loads(made)
    payload["payload"] = payload["payload"][:-8] + "AAAAAAA="
    envelope.write_text(json.dumps(payload))
    forged = home.cli("agent", "attest", "billing", "--envelope", "billing.json", check=False)
    assert (forged.returncode, "did not sign" in forged.stderr or "one form" in forged.stderr) == (2, True)
    for bad in (("--key", str(keys / "ci.pem")), (), ("--withdraw", "--envelope", "billing.json")):
        assert home.cli("agent", "attest", "billing", *bad, check=False).returncode == 2
    unknown = home.cli("agent", "attest", "billing", "--envelope", "billing.json", "--by", "cd", check=False)
    assert "no attestor `cd`" in unknown.stderr


@pytest.fixture
def second(packages: Path) -> Iterator[Home]:
    """Another city on the same machine."""
    folder = Path(tempfile.mkdtemp(prefix="second-"))
    folder.chmod(0o755)
    made = Home(folder, packages, "partner.example")
    yield made
    made.close()
    shutil.rmtree(folder)


def account(home: Home) -> str:
    words = ("agent", "measure", "billing", "--pass", "PYTHONPATH", "--", *home.command("stream"))
    return home.cli(*words).stdout.partition("account ")[2].split()[0]


def test_two_state_folders_never_give_two_agents_one_account(home: Home, second: Home) -> None:
    """The attack: whoever is an agent of one city would read the key in the memory of the other's."""
    if not ROOT:
        return
    ours, theirs = account(home), account(second)
    assert ours != theirs
    assert (account(home), account(second)) == (ours, theirs)
    first = home.start("stream")
    until(first, "serial")
    shutil.rmtree(second.folder / ".citywatch")  # a copy of our state, set up beside it
    shutil.copytree(home.folder / ".citywatch", second.folder / ".citywatch")
    (second.folder / "citywatch.yaml").write_text(CONFIG)
    code, told, error = second.run("stream")
    assert (code, told) == (1, [])
    assert f"the account {ours} is another state folder's" in error
    tell(first, "token")
    assert until(first, "token")["token"].endswith("/agent/billing")
    assert account(second) != ours


def test_bundles_of_other_trust_domains_are_served_and_followed(home: Home, second: Home) -> None:
    def publish() -> None:
        (home.folder / "new.json").write_text(second.cli("federation", "bundle").stdout)
        (home.folder / "new.json").replace(home.folder / "partner.json")

    publish()
    file = home.folder / "citywatch.yaml"
    file.write_text(CONFIG + "federation: {partner.example: {bundle: partner.json, refresh: 1s}}\n")
    home.measure("everything")
    code, (told, *_), error = home.run("everything")
    assert code == 0, error
    assert (told["authorities"], told["signers"]) == ([1, 1], 2)

    home.measure("stream")
    process = home.start("stream")
    first = until(process, "serial")
    assert first["authorities"] == [1, 1]
    second.cli("authority", "rotate")
    publish()
    later = until(process, "serial")
    assert (later["serial"], sorted(later["authorities"])) == (first["serial"], [1, 2])


def test_without_root_it_says_that_it_cannot(home: Home) -> None:
    if not ROOT:
        refused = home.cli("run", "billing", "--", "true", check=False)
    else:
        refused = home.cli("run", "--unsafe-same-user", "billing", "--", "true", check=False)
    assert refused.returncode == 2
    assert ("only root can give" if not ROOT else "would run the program as root") in refused.stderr
