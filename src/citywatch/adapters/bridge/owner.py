"""Who holds the other end of a connection inside this machine, as the kernel says.

Decides whether that is a user we would show papers to: without TLS nothing else tells a gateway from somebody who took
its port while it was down. INVARIANTS: the end that was *accepted* is asked, not the listener, which may be another one
by now, nor a connection that nobody has taken yet, which looks like root's; where the kernel does not say, the answer
is no, and in a namespace that has not all users, it does not say it of those that it shows as one.
SPEC: Linux, Documentation/networking/proc_net_tcp.rst, user_namespaces(7).
"""

from __future__ import annotations

import asyncio
import ipaddress
import pwd
import socket
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from citywatch.core.errors import Code, Refused

TABLES = ("/proc/self/net/tcp", "/proc/self/net/tcp6")
USERS, NOBODY = "/proc/self/uid_map", "/proc/sys/kernel/overflowuid"
ALL_USERS = ["0", "0", "4294967295"]
PAUSE_S = 0.005
FOR_A_GATEWAY = (
    "use https, or `--unsafe-loopback` to believe anybody",
    "if that is the gateway's, say `--gateway-user {}`; over https it proves itself",
)
Address = tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]


def read_tables() -> Iterator[str]:
    """The kernel's tables of TCP sockets, those that this machine has."""
    for name in TABLES:
        try:
            yield Path(name).read_text(encoding="ascii")
        except OSError:
            continue


def unnamed_user() -> int | None:
    """The number by which this process is shown all users that its namespace does not have; None where it has all."""
    try:
        if Path(USERS).read_text(encoding="ascii").split() == ALL_USERS:
            return None
        return int(Path(NOBODY).read_text(encoding="ascii"))
    except OSError:
        return None  # no Linux: then there are no tables either


async def check_owner(
    connection: socket.socket,
    users: Collection[int],
    read: Callable[[], Iterator[str]] = read_tables,
    unnamed: Callable[[], int | None] = unnamed_user,
    *,
    advice: tuple[str, str] = FOR_A_GATEWAY,
) -> None:
    """Return once the other end is seen to be of one of these users; `Refused` if it is another's.

    `advice` is for where the kernel does not say, and for whom to name (`{}`). Waits until somebody has
    accepted the connection; the caller bounds for how long.
    """
    ours, theirs = _address(connection.getsockname()), _address(connection.getpeername())
    while True:
        tables = list(read())
        if not tables:
            raise Refused(Code.CREDENTIAL_UNTRUSTED, f"this machine does not say whose port it is: {advice[0]}")
        found = [uid for table in tables for uid in find_owner(table, theirs, ours)]
        if found:
            break
        await asyncio.sleep(PAUSE_S)
    if unnamed() in found:
        detail = f"the port {theirs[1]} is held by a user whom this process' namespace does not have: {advice[0]}"
        raise Refused(Code.CREDENTIAL_UNTRUSTED, detail)
    for uid in found:
        if uid not in users:
            name = _name(uid)
            raise Refused(
                Code.CREDENTIAL_UNTRUSTED,
                f"the port {theirs[1]} is held by the user `{name}`: {advice[1].format(name)}",
            )


def find_owner(table: str, local: Address, remote: Address) -> list[int]:
    """The users of the accepted sockets between these two addresses."""
    found = []
    port = f":{local[1]:04X} "
    for line in table.splitlines()[1:]:
        if port not in line:  # there may be ten thousand
            continue
        fields = line.split()
        # No inode: nobody has accepted it, and its user reads as root.
        if len(fields) > 9 and fields[9] != "0" and (_parse(fields[1]), _parse(fields[2])) == (local, remote):
            found.append(int(fields[7]))
    return found


def _parse(text: str) -> Address:
    """`0100007F:1F90`: the address in words of the machine's own byte order, the port as a number."""
    raw, _, port = text.partition(":")
    words = [int(raw[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(raw), 8)]
    return _plain(ipaddress.ip_address(b"".join(words))), int(port, 16)


def _address(name: tuple[str, int]) -> Address:
    return _plain(ipaddress.ip_address(name[0].partition("%")[0])), name[1]


def _plain(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An IPv4 address as such: who listens on `::` sees it inside an IPv6 one."""
    mapped = getattr(address, "ipv4_mapped", None)
    return address if mapped is None else ipaddress.IPv4Address(int(mapped))


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
