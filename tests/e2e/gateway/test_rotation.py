"""The authority's keys are exchanged under a running gateway, by the command line, and honest agents notice nothing."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from tests import forked
from tests.e2e.gateway.city import SHIFTED, City, look, open_city
from tests.e2e.gateway.desk import DEADLINE_S, Desk, wait_for
from tests.e2e.gateway.shifted import put
from tests.ports import free_port

HOURS_MS = 2 * 3_600_000


@pytest.fixture
def city(tmp_path: Path) -> Iterator[City]:
    (tmp_path / "city").mkdir()
    with open_city(tmp_path / "city") as city:
        yield city


def believed(city: City) -> int:
    """The authority's sequence, as the running gateway shows it: one more, for the key that speaks for principals."""
    with urllib.request.urlopen(f"http://127.0.0.1:{city.desk.port}/citywatch/bundle", timeout=30) as response:
        sequence: int = json.load(response)["spiffe_sequence"]
        return sequence - 1


def rotate(city: City, sequence: int, *options: str) -> str:
    """The next step; return what it said once the gateway has followed."""
    said = city.desk.run("authority", "rotate", *options).stdout
    wait_for(lambda: believed(city) == sequence, "the gateway to follow")
    return said


def changes(city: City) -> list[tuple[str, int]]:
    events = [event for event in city.desk.events() if event["type"] == "authority_changed"]
    assert all(event["by"].startswith("operator") for event in events)
    return [(event["change"], event["generation"]) for event in events]


@pytest.fixture
def bridge(city: City) -> Iterator[str]:
    """`connect` over https. The second generation was prepared, and it learns of that from the gateway alone."""
    rotate(city, 2)
    port = free_port()
    command = [sys.executable, "-m", "citywatch", "connect", "other", "--listen", f"127.0.0.1:{port}"]
    command += ["--gateway", f"https://127.0.0.1:{city.tls_port}"]
    with forked.start(command, cwd=city.desk.folder, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("ready")
            yield f"http://127.0.0.1:{port}/mcp/desk"
        finally:
            process.terminate()
            assert process.wait(DEADLINE_S) == 0


def opens(city: City, context: ssl.SSLContext) -> bool:
    """Whether the papers get as far as to be asked."""
    with (
        socket.create_connection(("127.0.0.1", city.tls_port), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        try:
            secure.sendall(b"GET /citywatch/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return bool(secure.recv(100))
        except ssl.SSLError:
            return False


async def works(url: str) -> None:
    async with Client(streamable_http_client(url), mode="auto") as agent:
        assert not (await agent.call_tool("look", {})).is_error


def later(city: City, tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of two hours from now."""
    put(tmp_path, HOURS_MS)
    command = [*SHIFTED, "-c", str(city.desk.folder / "citywatch.yaml"), *arguments]
    return forked.run(command, cwd=tmp_path, timeout=DEADLINE_S)


async def test_agents_work_on_across_a_rotation_and_old_end_with_it(city: City, bridge: str, tmp_path: Path) -> None:
    await works(bridge)
    too_early = city.desk.run("authority", "rotate", check=False)
    assert too_early.returncode == 1
    assert "generation 2 can be activated from" in too_early.stderr
    activated = later(city, tmp_path, "authority", "rotate")
    assert "generation 2 is activated" in activated.stdout, activated.stderr
    wait_for(lambda: believed(city) == 3, "the gateway to follow")
    # Papers of both generations are good, and the gateway's own are of the second: who has only the first one's bundle
    # could not check them. The agent fetches its certificate and the bundle in one.
    await works(bridge)
    city.desk.run("agent", "certificate", "clerk")
    new, old = city.of("clerk"), city.context(city.papers("brief") / "svid.pem", city.papers("brief") / "key.pem")
    assert await city.refusal(new) == (200, "done")
    assert await city.refusal(old) == (200, "done")
    kept = httpx2.Limits(
        keepalive_expiry=600
    )  # else the client drops its connection after 5 s, and what follows is a new one
    async with httpx2.AsyncClient(verify=old, timeout=30, limits=kept) as http:
        assert await look(http, city.url, {}) == (200, "done")
        assert "generation 1 is retired" in rotate(city, 4, "--now")
        assert await look(http, city.url, {}) == (401, "credential_untrusted")  # on the connection that it has
    assert not opens(city, old)  # what shows the bundle and what believes it change in one
    assert await city.refusal(new) == (200, "done")
    await works(bridge)  # whose token the first generation had signed
    assert changes(city) == [("founded", 1), ("prepared", 2), ("activated", 2), ("retired", 1)]
    keys = {file.name for file in (city.desk.folder / ".citywatch" / "keys").glob("authority-*")}
    assert keys == {"authority-2-certificates.pem", "authority-2-tokens.pem"}


def test_a_rotation_without_a_gateway_is_seen_step_by_step(new_desk: Desk) -> None:
    assert "generation 1 signs" in new_desk.run("authority", "show").stdout
    assert "prepares generation 2" in new_desk.run("authority", "show").stdout
    assert "generation 2 is prepared" in new_desk.run("authority", "rotate").stdout
    shown = new_desk.run("authority", "show").stdout
    assert "generation 2 is prepared" in shown
    assert "lets sign generation 2, from " in shown
    assert "generation 2 is activated" in new_desk.run("authority", "rotate", "--now").stdout
    shown = new_desk.run("authority", "show").stdout
    assert "generation 1 is believed" in shown
    assert "generation 2 signs" in shown
    assert "generation 1 is retired" in new_desk.run("authority", "rotate", "--now").stdout
    shown = new_desk.run("authority", "show").stdout
    assert "generation 1" not in shown
    assert "prepares generation 3" in shown


@pytest.mark.parametrize("steps", [1, 2])
def test_a_step_before_its_time_changes_nothing_and_says_when(new_desk: Desk, steps: int) -> None:
    for step in range(steps):
        new_desk.run("authority", "rotate", *["--now"][:step])
    before = len(new_desk.events())
    early = new_desk.run("authority", "rotate", check=False)
    assert early.returncode == 1
    assert re.search(r"generation \d can be \w+ from \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC on", early.stderr)
    assert len(new_desk.events()) == before


def test_a_generation_whose_keys_are_gone_is_never_let_sign(new_desk: Desk) -> None:
    """It would be believed, and could issue nothing: every renewal would fail from that moment on."""
    new_desk.run("authority", "rotate")
    (new_desk.folder / ".citywatch" / "keys" / "authority-2-tokens.pem").unlink()
    before = len(new_desk.events())
    refused = new_desk.run("authority", "rotate", "--now", check=False)
    assert refused.returncode == 1
    assert "authority-2-tokens.pem" in refused.stderr
    assert len(new_desk.events()) == before
    new_desk.run("agent", "add", "clerk")
    assert new_desk.run("agent", "token", "clerk").stdout


def test_an_agent_that_was_away_is_introduced_anew(new_desk: Desk) -> None:
    new_desk.run("agent", "add", "clerk")
    file = new_desk.folder / "agents" / "clerk" / "introduction.json"
    away = file.read_bytes()
    for _ in range(3):
        new_desk.run("authority", "rotate", "--now")
    assert file.read_bytes() == away
    new_desk.run("agent", "certificate", "clerk")
    assert json.loads(file.read_bytes())["bundle"]["spiffe_sequence"] == 5
