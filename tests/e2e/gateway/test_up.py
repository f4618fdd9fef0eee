"""What `citywatch up` finds and says when it starts, and what changes under it while it runs."""

from __future__ import annotations

import asyncio
import signal
import socket
import sqlite3
import ssl
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from citywatch.adapters.keys import KeyKind, open_key
from citywatch.main.assembly import AUTHORITY_TTL_MS, City, open_city
from citywatch.main.place import read_place
from citywatch.service.authority import found_generation
from citywatch.service.rotation import activate_generation, prepare_generation, retire_generation
from tests.e2e.gateway.desk import Desk, wait_for
from tests.fault.test_killed_gateway import ask
from tests.ports import free_port


@pytest.fixture
def ready(new_desk: Desk) -> Desk:
    """Everything is set up; nothing runs but the server."""
    new_desk.start_upstream()
    new_desk.run("agent", "add", "clerk")
    new_desk.run("tools", "approve", "--yes")
    return new_desk


def edit(desk: Desk, old: str, new: str) -> None:
    file = desk.folder / "citywatch.yaml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))


def says(desk: Desk) -> list[str]:
    """Start it, stop it, and return the lines that it showed."""
    process = desk.up()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    return (desk.folder / "up.log").read_text().splitlines()


def of_type(desk: Desk, kind: str) -> list[dict[str, Any]]:
    return [event for event in desk.events() if event["type"] == kind]


def rows(desk: Desk, statement: str, *values: object) -> list[Any]:
    with closing(sqlite3.connect(desk.folder / ".citywatch" / "citywatch.db")) as database, database:
        return database.execute(statement, values).fetchall()


def looks(desk: Desk, token: str) -> str | None:
    """None if the call went through, else the code under which it was refused."""
    answer = ask(desk, token, "look", {})
    if answer is None:
        return "turned away"
    code: str | None = answer["result"].get("_meta", {}).get("citywatch/code") if "result" in answer else "error"
    return code


def test_what_is_unsafe_is_shown_and_entered_at_every_start(ready: Desk) -> None:
    assert not [line for line in says(ready) if line.startswith(("UNSAFE", "policy "))]
    assert of_type(ready, "started")[-1]["unsafe"] == []
    edit(ready, "servers:\n", "servers:\n  program:\n    command: [cat]\n    unsafe_same_user: true\n")
    for count in (2, 3):
        (ready.folder / "up.log").unlink()
        assert [line for line in says(ready) if line == "UNSAFE       servers.program.unsafe_same_user"]
        started = of_type(ready, "started")
        assert len(started) == count
        assert started[-1]["unsafe"] == ["servers.program.unsafe_same_user"]


def test_what_is_wrong_with_the_policies_is_shown(ready: Desk) -> None:
    (ready.folder / "policies" / "wrong.cedar").write_text('permit(principal in Role::"payeer", action, resource);')
    (wrong,) = [line for line in says(ready) if line.startswith("policy       ")]
    assert "wrong.cedar:1" in wrong
    assert 'did you mean `Role::"payer"`?' in wrong


def test_other_policies_are_an_entry_at_a_start_and_in_between(new_desk: Desk) -> None:
    server = new_desk.start_upstream()
    new_desk.run("agent", "add", "clerk")
    new_desk.run("tools", "approve", "--yes")
    says(new_desk)
    new_desk.up()
    assert len(of_type(new_desk, "policy_loaded")) == 1, "the same policies change nothing"
    policy = new_desk.folder / "policies" / "desk.cedar"
    policy.write_text(policy.read_text().replace("<= 100", "<= 1000"))
    server.kill()
    server.wait()
    (new_desk.folder / "description").write_text("Look anything up.")
    new_desk.start_upstream()
    new_desk.run("tools", "approve", "--yes")
    assert len(of_type(new_desk, "policy_loaded")) == 1, "nobody has read them yet"
    assert looks(new_desk, new_desk.token()) is None
    assert len(of_type(new_desk, "policy_loaded")) == 2, "with the tool that was approved, the policies are read again"
    policy.write_text(policy.read_text().replace("<= 1000", "<= 10"))
    new_desk.down()
    new_desk.up()
    loaded, started = of_type(new_desk, "policy_loaded"), of_type(new_desk, "started")[-1]
    assert len({event["policy"] for event in loaded}) == len(loaded) == 3
    assert loaded[-1]["policy"] == started["policy"]
    assert loaded[-1]["by"].startswith("operator")


def test_a_loss_of_power_is_shown_and_entered_before_anything_else(ready: Desk) -> None:
    process = ready.up()
    process.kill()
    process.wait()
    assert rows(ready, "UPDATE row SET value = ? WHERE kind = 'running' RETURNING id", b'"an earlier run"') == [("r1",)]
    before = len(ready.events())
    assert [line for line in says(ready) if line.startswith("power ")]
    assert ready.events()[before]["type"] == "gap"
    assert rows(ready, "SELECT id FROM row WHERE kind = 'running'") == []
    ready.run("agent", "revoke", "clerk", "--reason", "an entry after the stop")
    (ready.folder / "up.log").unlink()
    assert not [line for line in says(ready) if line.startswith("power ")]
    assert len(of_type(ready, "gap")) == 1


def test_a_flood_of_refused_requests_is_entered_in_few_entries_and_to_the_last(ready: Desk) -> None:
    ready.up()
    request = b"POST /mcp/desk HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
    with closing(socket.create_connection(("127.0.0.1", ready.port), timeout=30)) as connection:
        for _ in range(2000):
            connection.sendall(request)
            received = b""
            while b"\r\n\r\n{" not in received or not received.endswith(b"}"):
                received += connection.recv(65536)
            assert received.startswith(b"HTTP/1.1 401")
    wait_for(lambda: sum(event["count"] for event in of_type(ready, "rejected")) == 2000, "all of them to be entered")
    assert len(of_type(ready, "rejected")) < 2000


async def rotate(city: City) -> None:
    """Another process gives the authority new keys and believes the old ones no longer."""
    names = ("authority-2-certificates.pem", "authority-2-tokens.pem")
    certificates, tokens = (open_key(city.keys, name, KeyKind.P256) for name in names)
    domain, now = city.settings.trust_domain, city.clock.now_ms()
    second = found_generation(domain, 2, certificates, tokens, now=now, ttl=AUTHORITY_TTL_MS, chance=city.chance)
    where = (city.store, city.clock, city.replica.name)
    await prepare_generation(*where, second, domain, "operator")
    await activate_generation(*where, 2, domain, "operator")
    await retire_generation(*where, 1, domain, "operator")


def test_a_token_of_a_retired_authority_is_forgotten_by_a_gateway_that_knew_it(ready: Desk) -> None:
    ready.up()
    old = ready.token()
    assert looks(ready, old) is None

    async def other_process() -> None:
        async with open_city(read_place(ready.folder / "citywatch.yaml")) as city:
            await rotate(city)

    asyncio.run(other_process())
    wait_for(lambda: looks(ready, old) == "turned away", "the old papers to be forgotten")
    assert looks(ready, ready.token()) is None


def test_the_gateway_is_known_by_the_names_it_was_given(ready: Desk) -> None:
    port = free_port()
    edit(ready, '"]', f'", "https://127.0.0.1:{port}"]\nnames: [gateway.example, 192.0.2.7]')
    ready.run("agent", "certificate", "clerk")
    ready.up()
    trust = ssl.create_default_context(cafile=ready.folder / "agents" / "clerk" / "bundle.pem")
    for name in ("gateway.example", "192.0.2.7", "localhost", "127.0.0.1"):
        handshake(trust, port, name)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(trust, port, "elsewhere.example")


def handshake(trust: ssl.SSLContext, port: int, name: str) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as plain:
        trust.wrap_socket(plain, server_hostname=name).close()


def test_the_configuration_may_be_named_by_the_environment(
    ready: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ready.folder / "citywatch.yaml").rename(ready.folder / "elsewhere.yaml")
    assert ready.run("agent", "list", check=False).returncode == 2
    monkeypatch.setenv("CITYWATCH_CONFIG", str(tmp_path / "elsewhere.yaml"))
    assert "good standing" in ready.run("agent", "list").stdout
    ready.run("agent", "revoke", "clerk", "--reason", "it turned")
    listed = ready.run("agent", "list").stdout
    assert "revoked: it turned" in listed
    assert "good standing" not in listed
