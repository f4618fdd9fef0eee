"""A gateway whose papers another authority issues: followed through its rotations, and missed without harm for a while.

The other authority is a second city of ours behind our own Workload API, which is what a test can start anywhere. What
it speaks is what PyPI's `spiffe` reads from it in `tests/e2e/workload`; what a real SPIRE says is in `tests/vectors`.
"""

from __future__ import annotations

import signal
import socket
import ssl
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from citywatch.core.identity.certificate import parse_certificate
from tests import forked
from tests.e2e.gateway.city import City, look
from tests.e2e.gateway.desk import Desk, wait_for

STAND_IN = Path(__file__).with_name("stand_in.py")


class World:
    """`issuer` has the authority, and serves it at a socket; `home` is the gateway that takes its papers from there."""

    def __init__(self, root: Path, stack: ExitStack) -> None:
        self._stack = stack
        for name in ("issuer", "home", "tokens"):
            (root / name).mkdir(parents=True)
        self.tokens = root / "tokens"
        self.sockets = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="spire-")))
        self.socket = self.sockets / "api.sock"
        self.issuer = City(Desk(root / "issuer", stack))
        for name in ("gate", "clerk", "other"):
            self.issuer.desk.run("agent", "add", name)
            self.issuer.desk.run("agent", "certificate", name)
        self.home = City(Desk(root / "home", stack))
        file = root / "home" / "citywatch.yaml"
        text = file.read_text().replace("    svid_ttl: 10m\n", "")
        text += (
            f"authority:\n  spire:\n    socket: unix://{self.socket}\n    spiffe_id: spiffe://t.example/agent/gate\n"
        )
        file.write_text(text)
        self.serve()
        self.home.desk.start_upstream()
        self.home.desk.run("tools", "approve", "--yes")
        self.home.desk.up()

    def serve(self) -> None:
        config = str(self.issuer.desk.folder / "citywatch.yaml")
        log = self._stack.enter_context((self.sockets / "log").open("ab"))
        command = [sys.executable, str(STAND_IN), config, str(self.socket), str(self.tokens)]
        self.process = forked.start(command, cwd=self.sockets, stdout=log, stderr=log)
        self._stack.callback(self.process.wait, 30)
        self._stack.callback(self.process.kill)
        wait_for(lambda: self.socket.exists() and (self.tokens / "1.jwt").exists(), "the issuer")

    def away(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)
        self.socket.unlink()

    def shown(self) -> bytes:
        """The certificate that the gateway shows to a new connection."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with (
            socket.create_connection(("127.0.0.1", self.home.tls_port), timeout=30) as plain,
            context.wrap_socket(plain) as secure,
        ):
            der = secure.getpeercert(binary_form=True)
        assert der is not None
        return der

    def of(self, name: str) -> ssl.SSLContext:
        """A client with papers of the issuer; a SPIFFE client asks for an ID and no host."""
        papers = self.issuer.papers(name)
        context = ssl.create_default_context(cafile=str(papers / "bundle.pem"))
        context.check_hostname = False
        context.load_cert_chain(papers / "svid.pem", papers / "key.pem")
        return context

    async def asks(self, name: str) -> tuple[int, str]:
        async with httpx2.AsyncClient(verify=self.of(name), timeout=30) as http:
            return await look(http, self.home.url, {})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(tmp_path_factory.mktemp("spire"), stack)


async def test_papers_of_the_issuer_are_shown_and_believed(world: World) -> None:
    names = parse_certificate(world.shown()).extensions
    assert "spiffe://t.example/agent/gate" in str(names)
    assert await world.asks("clerk") == (200, "done")
    decided = [event for event in world.home.desk.events() if event["type"] == "decided"]
    assert decided[-1]["agent"] == decided[-1]["key"] == "spiffe://t.example/agent/clerk"
    assert len(decided[-1]["proved"]) == 43
    believed = [event for event in world.home.desk.events() if event["type"] == "bundle_believed"]
    assert {event["by"] for event in believed} == {f"unix://{world.socket}"}
    assert not list((world.home.desk.folder / ".citywatch" / "keys").glob("authority-*"))


async def test_a_token_of_the_issuer_is_good_for_this_gateway_alone(world: World) -> None:
    context = world.of("other")
    for number, told in ((0, (200, "done")), (1, (401, "credential_wrong_audience"))):
        token = (world.tokens / f"{number}.jwt").read_text()
        plain = ssl.create_default_context(cafile=str(world.issuer.papers("clerk") / "bundle.pem"))
        plain.check_hostname = False
        async with httpx2.AsyncClient(verify=plain, timeout=30) as http:
            assert await look(http, world.home.url, {"Authorization": f"Bearer {token}"}) == told
    async with httpx2.AsyncClient(verify=context, timeout=30) as http:
        token = (world.tokens / "0.jwt").read_text()
        told = await look(http, world.home.url, {"Authorization": f"Bearer {token}"})
    assert told == (401, "credential_malformed"), "papers of two agents in one request"


async def test_whom_the_file_does_not_name_stays_out(world: World) -> None:
    world.issuer.desk.run("agent", "add", "stranger")
    world.issuer.desk.run("agent", "certificate", "stranger")
    assert await world.asks("stranger") == (403, "agent_unknown")


@pytest.mark.parametrize(
    "command",
    [
        ("agent", "token", "clerk"),
        ("agent", "certificate", "clerk"),
        ("agent", "invite", "new"),
        ("agent", "add", "new"),
        ("agent", "measure", "clerk", "--", "true"),
        ("run", "clerk", "--", "true"),
        ("authority", "show"),
        ("authority", "rotate"),
        ("federation", "bundle"),
    ],
    ids=" ".join,
)
def test_what_would_issue_papers_says_who_does(world: World, command: tuple[str, ...]) -> None:
    done = world.home.desk.run(*command, check=False)
    assert done.returncode == 2
    assert "SPIRE's to give" in done.stderr
    assert str(world.socket) in done.stderr


async def test_an_agent_is_registered_and_revoked_here_and_issued_there(world: World) -> None:
    world.home.desk.run("agent", "revoke", "other", "--reason", "turned")
    assert (await world.asks("other"))[1] == "agent_revoked"
    done = world.home.desk.run("agent", "add", "other")
    assert "its own authority gives it keys" in done.stdout
    assert await world.asks("other") == (200, "done")


def test_nothing_is_renewed_and_no_bundle_is_published_here(world: World) -> None:
    base = f"http://127.0.0.1:{world.home.desk.port}"
    assert httpx2.get(f"{base}/.well-known/spiffe-bundle").status_code == 404
    for path in ("renew", "join"):
        assert httpx2.post(f"{base}/citywatch/{path}", content=b"{}").status_code == 404


async def test_rotations_of_the_issuer_are_followed_without_a_restart(world: World) -> None:
    before, old = world.shown(), world.of("clerk")
    for _ in range(3):
        world.issuer.desk.run("authority", "rotate", "--now")
    wait_for(lambda: world.shown() != before, "the new certificate")
    world.issuer.desk.run("agent", "certificate", "clerk")

    def is_followed() -> bool:
        return len(parse_events(world)) >= 3

    wait_for(is_followed, "the new bundle")
    assert await world.asks("clerk") == (200, "done")
    with pytest.raises((httpx2.TransportError, ssl.SSLError)):
        async with httpx2.AsyncClient(verify=old, timeout=30) as http:
            await look(http, world.home.url, {})


def parse_events(world: World) -> list[str]:
    return [event["bundle"] for event in world.home.desk.events() if event["type"] == "bundle_believed"]


async def test_while_the_issuer_is_away_what_is_live_goes_on(world: World) -> None:
    shown = world.shown()
    world.away()
    log = world.home.desk.folder / "up.log"
    wait_for(lambda: "no new papers come from SPIRE" in log.read_text(), "the operator's line")
    assert world.shown() == shown
    assert await world.asks("clerk") == (200, "done")
    world.serve()
    wait_for(lambda: world.shown() != shown, "papers of the issuer that came back")
    wait_for(lambda: "SPIRE is there again" in log.read_text(), "the operator's line")
    assert await world.asks("clerk") == (200, "done")


def test_without_an_issuer_the_gateway_does_not_come_up(world: World, tmp_path: Path) -> None:
    file = world.home.desk.folder / "citywatch.yaml"
    other = tmp_path / "citywatch.yaml"
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "p.cedar").write_text("permit(principal, action, resource);")
    text = file.read_text().replace("agent/gate", "agent/another").replace(str(world.home.tls_port), "0")
    other.write_text(text.replace(str(world.home.desk.port), "0"))
    command = [sys.executable, "-m", "citywatch", "up"]
    done = forked.run(command, cwd=tmp_path, timeout=120)
    assert done.returncode == 1
    assert "calls us `spiffe://t.example/agent/gate`" in done.stderr
