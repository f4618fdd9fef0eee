"""Where an operator lets something go: an address as it is, or a pattern of addresses.

    https://hooks.example/a        this address, letter by letter
    https://hooks.example/a/*      what stands below it
    https://*.hooks.example/*      the same at each host of that domain
    http://127.0.0.1:*/*           any port of this machine

Decides whether an address in a message is one of those. Who may send there, and whether a host that is named leads into
a private network, others decide. INVARIANTS: any text is a pattern or `Malformed`, and any address lies in one or does
not; a `*` stands for nothing but hosts of one named domain, a port, or the rest of a path; an address that two readers
could read differently (a `..`, also as `..;x`, a sign written as `%2f`, a name before an `@`) lies in no pattern.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

import msgspec

from citywatch.core.errors import Malformed

_HOST: Final = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*|\[[0-9a-f:.]+\]"
_PATH: Final = r"/[A-Za-z0-9._~!$&'()+,;=:@%/-]*"
_PATTERN: Final = re.compile(rf"(https?)://(\*\.)?({_HOST})(?::(\*|[0-9]{{1,5}}))?({_PATH})?(\*)?\Z")
_ADDRESS: Final = re.compile(rf"(https?)://({_HOST})(?::([0-9]{{1,5}}))?(?:({_PATH})(?:\?[!-~]*)?)?\Z")
_UNCLEAR: Final = re.compile(r"/[/;]|/\.{1,2}(?:[/;]|\Z)|%(?:2e|2f|5c|25|7f|[01])|%(?![0-9a-f]{2})", re.IGNORECASE)
_HERE: Final = "127.0.0.1"
PORTS: Final = {"https": 443, "http": 80}


class Destination(msgspec.Struct, frozen=True, kw_only=True):
    """One entry, read. `port` is None for any; `below`: whatever begins with `path`; `hosts`: all of the domain `host`.

    `exact` is the entry itself where it has no `*`, else empty.
    """

    exact: str
    scheme: str
    host: str
    hosts: bool
    port: int | None
    path: str
    below: bool

    @property
    def by_number(self) -> bool:
        """Whether the host is written as a number, and so leads nowhere else."""
        return number_of(self.host) is not None

    @property
    def public_only(self) -> bool:
        """Whether it must leave for a public address: a pattern names no machine, unless it has its number."""
        return not self.exact and not self.by_number


def parse_destination(text: str) -> Destination:
    """Read one entry. Raises `Malformed`."""
    if "*" not in text:
        return Destination(exact=text, scheme="", host="", hosts=False, port=None, path="", below=False)
    found = _PATTERN.match(text)
    if found is None:
        raise Malformed("a `*` stands first in a host (`*.example.com`), for a port, or at the end of a path")
    scheme, hosts, host, port, path, below = found.groups()
    if path is None:
        raise Malformed("a pattern says which paths: end it with `/*` for all of them")
    if hosts and (number_of(host) is not None or "." not in host):
        raise Malformed("a `*` stands for the hosts of a domain of at least two words")
    if _UNCLEAR.search(path):
        raise Malformed("the path of a pattern has no `..`, no empty step and no sign written as `%2f`")
    number = None if port == "*" else int(port) if port else PORTS[scheme]
    return Destination(exact="", scheme=scheme, host=host, hosts=bool(hosts), port=number, path=path, below=bool(below))


def destination_of(entries: Iterable[str], address: str) -> Destination | None:
    """The first of these entries that lets this address be gone to; None if none does."""
    for entry in entries:
        one = parse_destination(entry)
        if one.exact == address if one.exact else _within(one, address):
            return one
    return None


def number_of(host: str) -> str | None:
    """The address that a host is written as, None for a name; `localhost` is a way to write one."""
    if host == "localhost":
        return _HERE
    try:
        return str(ip_address(host.strip("[]")))
    except ValueError:
        return None


def numbered(address: str) -> str:
    """The same address, with this machine's number in the place of `localhost`: that name is looked up nowhere."""
    scheme, _, rest = address.partition("://")
    bare = rest.removeprefix("localhost")
    return f"{scheme}://{_HERE}{bare}" if bare != rest and bare[:1] in ("", ":", "/") else address


def _within(one: Destination, address: str) -> bool:
    found = _ADDRESS.match(address)
    if found is None:
        return False
    scheme, host, port, path = found.groups()
    path = path or "/"
    if _UNCLEAR.search(path):
        return False
    number = int(port) if port else PORTS[scheme]
    at = host.endswith(f".{one.host}") if one.hosts else host == one.host
    there = path.startswith(one.path) if one.below else path == one.path
    return at and there and scheme == one.scheme and one.port in (None, number) and 0 < number < 65_536
