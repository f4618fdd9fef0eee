"""How one upstream server is reached, and how much it may take: what the configuration file says, made into values.

Decides nothing. INVARIANT: no bound has a value that means "none"; every wait ends and every buffer is finite.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import msgspec

MEBIBYTE = 1 << 20


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long to wait, in seconds. Checked a few times a second, not to the millisecond.

    `connect`: for a connection or a free place. `first_byte`: from the request to the first byte of its answer. `idle`:
    between two pieces of an answer. `total`: for a whole answer that is no stream. `listen`: between two pieces of a
    stream on which a server speaks unasked, where silence is normal; after `probe` of it, TCP asks whether the machine
    is there.
    """

    connect: float = 5.0
    first_byte: float = 30.0
    idle: float = 300.0
    total: float = 300.0
    listen: float = 3600.0
    probe: int = 20


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """How much one server may take. `answer` bounds an answer or one event, in bytes; the counts are connections or
    processes, of one caller and of all; `kept` is how long an unused one stays, in seconds."""

    answer: int = 16 * MEBIBYTE
    head: int = 64 * 1024
    per_caller: int = 64
    in_all: int = 1024
    kept: float = 4.0


Owned = Callable[[socket.socket], Awaitable[None]]
"""Raises `Refused` unless the other end of a connection inside this machine is whose it has to be."""


class Shown(Protocol):
    """Whom a server has to be, by the certificate that it shows."""

    def authorities(self) -> Sequence[bytes]:
        """The certificates, in DER, that alone are trusted for it."""
        ...

    async def check(self, der: bytes) -> None:
        """Raise `Refused` unless what it shows is right; asked for each request."""
        ...


class HttpServer(msgspec.Struct, frozen=True, kw_only=True):
    """A server behind a URL. `ca` is a file of certificates that replaces the system's trust, for `https` only.

    `shown` says whom it has to be, where TLS alone does not say enough: then `ca` is of no use. `owned` asks whose end
    of a connection it is, where there is no TLS.
    `takes_tokens`: each message is shown an access token that we wrote for it, and no credential of ours. `kinds` are
    the kinds of events that are read of its streams; without any, nothing but the status is read of its answers.
    `opened` is called when a connection to it is there. `public_only`: its name must lead to a public address, for
    nobody named the machine.
    """

    name: str
    url: str
    ca: str | None = None
    takes_tokens: bool = False
    patience: Patience = Patience()
    bounds: Bounds = Bounds()
    kinds: frozenset[str] = frozenset(("message",))
    shown: Shown | None = None
    owned: Owned | None = None
    public_only: bool = False
    opened: Callable[[], None] | None = None


class StdioServer(msgspec.Struct, frozen=True, kw_only=True):
    """A server that is a program. It gets exactly `env`, nothing of ours; `cwd` must be absolute.

    `user` is the account it runs as, never ours; without it the program is refused unless `unsafe_same_user` is set.
    `private` are the paths that it must not be able to reach (our keys, state, sockets): checked before each start.
    """

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    user: str | None = None
    unsafe_same_user: bool = False
    private: tuple[str, ...] = ()
    patience: Patience = Patience()
    bounds: Bounds = Bounds(per_caller=8, in_all=64, kept=600.0)
    memory: int = 2048 * MEBIBYTE
    processes: int = 256
    files: int = 256
