"""The few things the service needs of the world. Each port has one contract suite in `tests/contract`.

Decides nothing. INVARIANT: nothing here names a database, a socket or a file.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

import msgspec

from citywatch.core.approvals.notice import Notice
from citywatch.core.flow.question import Question
from citywatch.core.identity.access import AccessToken

Key = tuple[str, str]
"""A row's kind and id: `("agent", "billing")`, `("pin", "crm\\ntool\\nget")`, `("session", "...")`."""
Puts = tuple[tuple[Key, bytes | None], ...]
"""Keys with their new values; None deletes."""
Reads = tuple[tuple[Key, int], ...]
"""Keys with the versions that were seen; 0: no such row."""


class Row(msgspec.Struct, frozen=True):
    """A row as stored: JSON bytes of one frozen struct, and the version that changes with every write."""

    version: int
    value: bytes


class Payload(msgspec.Struct, frozen=True):
    """Bytes kept beside an entry until they are erased: `log.entry.payload_digest(salt, body)` stands in the entry."""

    salt: bytes
    body: bytes


class NewEntry(msgspec.Struct, frozen=True):
    """One leaf to append: the canonical bytes of an event, and the payload it hashes, if it has one."""

    leaf: bytes
    payload: Payload | None = None


class Spend(msgspec.Struct, frozen=True):
    """Take one from a budget in the same transaction. `window` numbers the period (`now // window_ms`, 0 for life).

    A window lower than the stored one counts against the stored one: a clock that goes back refills nothing. With
    `force` the unit is taken even if none is left (a refusal spends, so that asking again is no second chance).
    """

    key: str
    window: int
    limit: int
    force: bool = False


class Append(msgspec.Struct, frozen=True, kw_only=True):
    """All or nothing: the entries, provided each row read is unchanged and each budget has a unit left.

    With `sync` the commit has reached the disk before the call returns; without it, it survives a crash of the process.
    """

    entries: tuple[NewEntry, ...] = ()
    reads: Reads = ()
    spends: tuple[Spend, ...] = ()
    puts: Puts = ()
    sync: bool = False


class Appended(msgspec.Struct, frozen=True):
    """Committed; `first` is the log index of the first entry."""

    first: int


class Stale(msgspec.Struct, frozen=True):
    """A row read had changed: nothing was written. Load again and decide again."""

    key: Key


class Exhausted(msgspec.Struct, frozen=True):
    """A budget had no unit left: nothing was written."""

    key: str


class Loaded(msgspec.Struct, frozen=True):
    """Rows by key (absent keys are missing) and the units used of each budget in its present window."""

    rows: Mapping[Key, Row]
    used: Mapping[str, int]


class Store(Protocol):
    """Rows under keys, and the log's entries, in one transactional place. Raises `Unavailable` when it cannot."""

    async def load(self, keys: Sequence[Key], budgets: Sequence[tuple[str, int]]) -> Loaded:
        """A consistent snapshot of the rows asked for. `budgets` pairs a budget's key with its window."""
        ...

    async def append(self, append: Append) -> Appended | Stale | Exhausted:
        """Write all of it or nothing. If the caller is cancelled, it was written by then, or it never will be."""
        ...

    async def scan(self, kind: str) -> Sequence[tuple[str, Row]]:
        """All rows of a kind, by id."""
        ...

    async def last(self, kind: str, prefix: str, count: int) -> Sequence[tuple[str, Row]]:
        """Of the rows of a kind whose ids begin so, the last `count`, the last one first."""
        ...

    async def page(self, kind: str, after: str, count: int) -> Sequence[tuple[str, Row]]:
        """Of the rows of a kind, the first `count` whose ids come after that one, by id."""
        ...

    async def count(self, kind: str) -> int:
        """How many rows of a kind there are."""
        ...

    async def sync(self) -> int:
        """Everything committed so far has reached the disk; return how many entries that is."""
        ...

    async def entries(self, start: int, stop: int) -> Sequence[bytes]:
        """The leaves `start <= index < stop`, fewer if the log ends before."""
        ...

    async def payload(self, index: int) -> Payload | None:
        """The payload of an entry, None if it has none or it was erased."""
        ...

    async def erase(self, index: int, entry: NewEntry) -> Appended:
        """Destroy the payload and salt of `index` and append the entry that says so, in one transaction."""
        ...


class Bus(Protocol):
    """How a process hears quickly what others committed. A hint: what an append checks is the guarantee."""

    async def version(self, key: Key) -> int:
        """The version of a row as anybody has committed it by now, 0 if there is none; what is loaded afterwards is at
        least as new. Raises `Unavailable` when it cannot be known."""
        ...


class Signer(Protocol):
    """Holds one private key and never shows it."""

    @property
    def public(self) -> bytes:
        """SubjectPublicKeyInfo, DER."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Ed25519: 64 bytes. P-256: ECDSA with SHA-256, in DER."""
        ...


class LogFiles(Protocol):
    """The log's directory as C2SP tlog-tiles draws it: tiles by their paths, and one checkpoint.

    Raises `Unavailable` when the disk will not. A file that can be read is whole.
    """

    async def read(self, paths: Sequence[str]) -> list[bytes | None]:
        """The files, None for each that is not there."""
        ...

    async def write(self, files: Sequence[tuple[str, bytes]]) -> None:
        """Write tiles; when this returns they have reached the disk, and so have their names."""
        ...

    async def swap_checkpoint(self, expected: bytes | None, new: bytes) -> bool:
        """Put `new` in the place of the checkpoint `expected` (None: there is none), or change nothing and say so."""
        ...

    async def prune(self, paths: Sequence[str]) -> None:
        """Delete the partial tiles of these full ones. May do nothing: they are clutter, not harm."""
        ...


class Cosigned(msgspec.Struct, frozen=True):
    """A witness answered with signature lines; they are not verified yet."""

    lines: bytes


class WitnessedSize(msgspec.Struct, frozen=True):
    """A witness last cosigned this log at `size`, which is not the size that the proof began from, or another root."""

    size: int


class WitnessRefused(msgspec.Struct, frozen=True):
    """A witness will not cosign, and asking again will not help."""

    reason: str


class Witness(Protocol):
    """Somebody else's memory of the log. Raises `Unavailable` when it does not answer."""

    async def add_checkpoint(
        self, old: int, proof: Sequence[bytes], note: bytes
    ) -> Cosigned | WitnessedSize | WitnessRefused:
        """Ask for a cosignature over a signed note, with a proof that the log grew from the size `old`."""
        ...


class Answer(Protocol):
    """What an upstream gave back for one forwarded message.

    `media` is `json`, `sse` or `none` (accepted or refused, no body; `status` says which). Iterating yields JSON-RPC
    messages as raw bytes with the SSE event id beside each; for `json` exactly one, which `body` also holds whole. An
    event with an id and no data (it primes resumption) yields `b""`. `retry_ms` is the stream's latest reconnection
    time. Raises `Unavailable` when the upstream dies mid-stream. Always close an answer that was not read to its end.
    """

    status: int
    media: str
    session: str | None
    body: bytes | None
    retry_ms: int | None

    def messages(self) -> AsyncIterator[tuple[bytes, str | None]]: ...

    async def close(self) -> None: ...


class Reader(Protocol):
    """A model without tools, which reads one text and answers one question about it. Nobody believes it: whatever it
    says is checked (`flow.question`)."""

    async def answer(self, question: Question, text: str) -> str:
        """What it says, in its own words. Raises `Unavailable` when it does not answer."""
        ...


class Upstream(Protocol):
    """One configured server. No connection, process or session of it ever serves two callers.

    `caller` names an agent as it was registered: who is given its name later is another caller. `headers` are MCP's own
    (`mcp-*`, `last-event-id`) and trace context, lower-case;
    any other name is a defect of the caller's and raises `ValueError`: credentials come from the adapter's own source,
    or are a `token` that we wrote for this message. A server that takes tokens is sent nothing without one, and no
    other is ever shown one.
    `session` is the id that an earlier answer of *this* upstream gave this caller. Raises `Unavailable` when the server
    does not answer, `Refused(SESSION_LOST)` when it no longer knows the session.
    """

    async def send(
        self,
        caller: str,
        body: bytes,
        headers: Mapping[str, str],
        session: str | None,
        *,
        repeatable: bool,
        token: AccessToken | None = None,
    ) -> Answer:
        """Forward one JSON-RPC message. Only with `repeatable` may it reach the server twice (a dead connection)."""
        ...

    async def listen(
        self, caller: str, headers: Mapping[str, str], session: str | None, *, token: AccessToken | None = None
    ) -> Answer:
        """Open the stream on which the server speaks unasked (HTTP GET)."""
        ...

    async def end(
        self, caller: str, headers: Mapping[str, str], session: str, *, token: AccessToken | None = None
    ) -> int:
        """End a session (HTTP DELETE); return the status the server gave, or would give."""
        ...

    def callers(self) -> Sequence[str]:
        """For whom programs run here."""
        ...

    async def dismiss(self, caller: str) -> None:
        """End every program of this caller; its calls in flight fail with `Unavailable`."""
        ...

    async def close(self) -> None:
        """Close every connection and kill every process; calls in flight fail with `Unavailable`."""
        ...


class Recipient(Protocol):
    """Where one agent takes what is pushed to it: addresses that the operator's file lets it name, and no others."""

    async def push(self, url: str, body: bytes, authorization: str, token: str, *, public: bool) -> None:
        """Send one message, with what the agent wants to be shown (empty: nothing); with `public`, only if the address
        leads out of our own network. Raises `Unavailable` unless it was taken."""
        ...

    async def close(self) -> None: ...


class Notifier(Protocol):
    """One way to say outside that something waits for a person."""

    async def send(self, notice: Notice) -> None:
        """Send it once. Raises `Unavailable` unless the other side took it."""
        ...


class Clock(Protocol):
    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        ...


class Chance(Protocol):
    """The only source of randomness: unguessable ids and salts."""

    def call_id(self) -> str: ...

    def salt(self) -> bytes:
        """16 bytes."""
        ...
