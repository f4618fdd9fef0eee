"""Whose end of a connection it is: a gateway's, or somebody's who took its port while it was down."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from citywatch.adapters.bridge.client import GatewayClient
from citywatch.adapters.bridge.owner import check_owner, find_owner, unnamed_user
from citywatch.core.errors import Refused, Unavailable
from tests.unit.adapters.bridge.gate import open_gate, plain, says

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's tables are Linux's")

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
LOOPBACK = ipaddress.ip_address("127.0.0.1")
OURS, THEIRS = (LOOPBACK, 0xC001), (LOOPBACK, 0x210C)
SQUATTER = """
import socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    connection, _ = listener.accept()
    print("heard", connection.recv(1), flush=True)
"""


def line(local: str, remote: str, uid: int, inode: int, state: str = "01") -> str:
    return f"   0: {local} {remote} {state} 00000000:00000000 00:00000000 00000000  {uid}  0 {inode} 1 0 20 4 30 10 -1"


def table(*lines: str) -> str:
    return "\n".join((HEAD, *lines)) + "\n"


def test_the_accepted_end_is_found_among_others() -> None:
    ours, theirs = "0100007F:C001", "0100007F:210C"
    listening = line(theirs, "00000000:0000", 0, 7, "0A")
    assert find_owner(table(listening, line(ours, theirs, 1, 8), line(theirs, ours, 1000, 9)), THEIRS, OURS) == [1000]
    other = line("0200007F:210C", ours, 5, 9)
    assert find_owner(table(other, line(theirs, "0100007F:C002", 6, 9)), THEIRS, OURS) == []
    inside = line("0000000000000000FFFF00000100007F:210C", "0000000000000000FFFF00000100007F:C001", 1001, 9)
    assert find_owner(table(inside), THEIRS, OURS) == [1001]


def test_what_nobody_has_accepted_is_not_roots() -> None:
    assert find_owner(table(line("0100007F:210C", "0100007F:C001", 0, 0)), THEIRS, OURS) == []


@contextmanager
def squatter(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """A server of another user on loopback: really another if we may, else we look from where we are another."""
    user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
    if user is None:
        monkeypatch.setattr("citywatch.adapters.bridge.client.os.geteuid", lambda: 54_321)
    command = ("/usr/bin/env", "python3" if user is not None else sys.executable, "-c", SQUATTER)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, user=user, cwd="/") as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline()), process
        finally:
            process.kill()


async def test_who_took_the_gateways_port_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with squatter(monkeypatch) as (port, process):
        client = GatewayClient(f"http://127.0.0.1:{port}", None, connect_s=10)
        with pytest.raises(Refused, match="is held by the user"):
            async with asyncio.timeout(60):
                await client.request(b"POST", b"/citywatch/renew", [], b"a proof")
        await client.close()
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == "heard b''\n"


async def test_whom_the_operator_names_or_believes_blindly_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with squatter(monkeypatch) as (port, process):
        uid = os.stat(f"/proc/{process.pid}").st_uid
        believing: tuple[dict[str, Any], ...] = ({"users": (uid,)}, {"unsafe_loopback": True})
        for settings in believing:
            client = GatewayClient(f"http://127.0.0.1:{port}", None, connect_s=10, **settings)
            asked = asyncio.ensure_future(client.request(b"POST", b"/", [], b"a proof"))
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline) == "heard b'P'\n"
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
            await client.close()


async def test_our_own_gateway_is_believed_over_both_kinds_of_addresses() -> None:
    async with open_gate(says(plain(b"{}"))) as gate:
        client = GatewayClient(gate.url, None, connect_s=10)
        assert (await client.request(b"GET", b"/", [], None)).status == 200
        await client.close()


async def test_a_connection_that_nobody_accepts_is_told_nothing() -> None:
    """The kernel counts it as root's until then; and who accepts it may be anybody."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = GatewayClient(f"http://127.0.0.1:{listener.getsockname()[1]}", None, connect_s=0.2)
        with pytest.raises(Unavailable, match="does not answer"):
            async with asyncio.timeout(60):
                await client.request(b"POST", b"/citywatch/renew", [], b"a proof")
        await client.close()
        listener.setblocking(False)
        with suppress(BlockingIOError, ConnectionResetError):  # it may be gone from the queue, and that is as good
            taken, _ = listener.accept()
            with taken:
                assert await asyncio.to_thread(taken.recv, 1) == b""


async def test_where_the_kernel_does_not_say_nobody_is_believed() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as ours,
        pytest.raises(Refused, match="--unsafe-loopback"),
    ):
        await check_owner(ours, {0, os.geteuid()}, lambda: iter(()))


@pytest.mark.parametrize(
    ("map_of_users", "whom"), [("0 1000 1\n", 65_534), ("         0          0 4294967295\n", None)]
)
def test_whom_a_namespace_does_not_name_is_told_from_its_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, map_of_users: str, whom: int | None
) -> None:
    for name, text in (("USERS", map_of_users), ("NOBODY", "65534\n")):
        (tmp_path / name).write_text(text)
        monkeypatch.setattr(f"citywatch.adapters.bridge.owner.{name}", str(tmp_path / name))
    assert unnamed_user() == whom


async def test_in_a_namespace_nobody_is_not_everybody_whom_it_does_not_have() -> None:
    """The attack: in a container, `owner: nobody`, and the port is held by any user from outside of its map."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as ours,
        listener.accept()[0],
    ):
        await check_owner(ours, {os.geteuid()})
        with pytest.raises(Refused, match="does not have"):
            await check_owner(ours, {os.geteuid()}, unnamed=os.geteuid)
