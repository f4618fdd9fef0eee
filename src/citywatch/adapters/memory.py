"""Every port in a dict: the world of the simulation and of unit tests, which behaves and never waits.

Decides nothing. INVARIANTS: `MemoryStore` passes the same contract suite as `sqlite`; each call gives way to other
tasks once before it acts, so that races are real; the same seed and the same calls give the same world.

What a crash leaves is a store of its own: `after_crash()` has all that was committed, `after_power_loss()` only what
was synced.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from citywatch.core.errors import Unavailable
from citywatch.core.identity.access import AccessToken
from citywatch.service.ports import (
    Append,
    Appended,
    Exhausted,
    Key,
    Loaded,
    NewEntry,
    Payload,
    Row,
    Stale,
)


class _State:
    """All that a disk would hold, and what one transaction does to it."""

    def __init__(self) -> None:
        self.leaves: list[bytes] = []
        self.payloads: dict[int, Payload] = {}
        self.rows: dict[Key, Row] = {}
        self.budgets: dict[str, tuple[int, int]] = {}
        self.version = 0

    def copy(self) -> _State:
        twin = _State()
        twin.leaves, twin.payloads = self.leaves[:], dict(self.payloads)
        twin.rows, twin.budgets, twin.version = dict(self.rows), dict(self.budgets), self.version
        return twin

    def apply(self, append: Append, erase: int | None = None) -> Appended | Stale | Exhausted:
        for key, seen in append.reads:
            row = self.rows.get(key)
            if (row.version if row else 0) != seen:
                return Stale(key)
        spent: dict[str, tuple[int, int]] = {}
        for spend in append.spends:
            window, used = (self.budgets | spent).get(spend.key, (spend.window, 0))
            if spend.window > window:
                window, used = spend.window, 0
            if used >= spend.limit and not spend.force:
                return Exhausted(spend.key)
            spent[spend.key] = (window, used + 1)
        self.budgets.update(spent)
        for key, value in append.puts:
            self.rows.pop(key, None)
            if value is not None:
                self.version += 1
                self.rows[key] = Row(self.version, value)
        first = len(self.leaves)
        for entry in append.entries:
            if entry.payload is not None:
                self.payloads[len(self.leaves)] = entry.payload
            self.leaves.append(entry.leaf)
        if erase is not None:
            self.payloads.pop(erase, None)
        return Appended(first)


class MemoryStore:
    """`service.ports.Store`. Set `broken` to an `Unavailable` and every call raises it until it is None again."""

    def __init__(self) -> None:
        self.broken: Unavailable | None = None
        self.syncs = 0
        self._now = _State()
        self._synced = _State()
        self._unsynced: list[tuple[Append, int | None]] = []

    def after_crash(self) -> MemoryStore:
        """What another process finds after this one was killed."""
        return _revive(self._now)

    def after_power_loss(self) -> MemoryStore:
        """What the machine finds after it lost its power: only what was synced."""
        return _revive(self._synced)

    async def load(self, keys: Sequence[Key], budgets: Sequence[tuple[str, int]]) -> Loaded:
        await self._give_way()
        rows = self._now.rows
        return Loaded(
            {key: rows[key] for key in keys if key in rows},
            {key: self._used(key, window) for key, window in budgets},
        )

    async def version(self, key: Key) -> int:
        """`service.ports.Bus`."""
        await self._give_way()
        row = self._now.rows.get(key)
        return 0 if row is None else row.version

    async def append(self, append: Append) -> Appended | Stale | Exhausted:
        await self._give_way()
        return self._transact(append)

    async def scan(self, kind: str) -> Sequence[tuple[str, Row]]:
        await self._give_way()
        return sorted(((id_, row) for (of, id_), row in self._now.rows.items() if of == kind), key=lambda pair: pair[0])

    async def last(self, kind: str, prefix: str, count: int) -> Sequence[tuple[str, Row]]:
        found = [pair for pair in await self.scan(kind) if pair[0].startswith(prefix)]
        return found[::-1][:count]

    async def page(self, kind: str, after: str, count: int) -> Sequence[tuple[str, Row]]:
        return [pair for pair in await self.scan(kind) if pair[0] > after][:count]

    async def count(self, kind: str) -> int:
        return len(await self.scan(kind))

    async def sync(self) -> int:
        await self._give_way()
        self._sync()
        return len(self._now.leaves)

    async def entries(self, start: int, stop: int) -> Sequence[bytes]:
        await self._give_way()
        return self._now.leaves[start:stop]

    async def payload(self, index: int) -> Payload | None:
        await self._give_way()
        return self._now.payloads.get(index)

    async def erase(self, index: int, entry: NewEntry) -> Appended:
        await self._give_way()
        result = self._transact(Append(entries=(entry,), sync=True), index)
        assert isinstance(result, Appended)
        return result

    async def close(self) -> None:
        self._sync()

    def _transact(self, append: Append, erase: int | None = None) -> Appended | Stale | Exhausted:
        result = self._now.apply(append, erase)
        if isinstance(result, Appended):
            self._unsynced.append((append, erase))
            if append.sync:
                self._sync()
        return result

    def _sync(self) -> None:
        self.syncs += 1
        for append, erase in self._unsynced:
            self._synced.apply(append, erase)
        self._unsynced = []

    def _used(self, key: str, window: int) -> int:
        stored, used = self._now.budgets.get(key, (window, 0))
        return 0 if window > stored else used

    async def _give_way(self) -> None:
        await asyncio.sleep(0)
        if self.broken is not None:
            raise self.broken


def _revive(state: _State) -> MemoryStore:
    store = MemoryStore()
    store._now, store._synced = state.copy(), state.copy()
    return store


class MemoryClock:
    """`service.ports.Clock`, moved by hand: forward, or back to see that nothing is refilled."""

    def __init__(self, now_ms: int = 1_800_000_000_000) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        return self._now_ms

    def advance(self, ms: int) -> None:
        self._now_ms += ms


class SeededChance:
    """`service.ports.Chance` that a test can repeat. Never for a real gateway: who knows the seed knows every salt."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311

    def call_id(self) -> str:
        return self._random.randbytes(16).hex()

    def salt(self) -> bytes:
        return self._random.randbytes(16)


class MemorySigner:
    """`service.ports.Signer` with an Ed25519 key made of a seed."""

    def __init__(self, seed: int) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(random.Random(seed).randbytes(32))  # noqa: S311

    @property
    def public(self) -> bytes:
        return self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


class MemoryAnswer:
    """`service.ports.Answer` from a list; with `dies` it raises that after the last message, like a broken stream."""

    def __init__(
        self,
        messages: Sequence[tuple[bytes, str | None]],
        *,
        media: str = "json",
        status: int = 200,
        session: str | None = None,
        retry_ms: int | None = None,
        dies: Unavailable | None = None,
    ) -> None:
        self.status = status
        self.media = media
        self.session = session
        self.body = messages[0][0] if media == "json" and messages else None
        self.retry_ms = retry_ms
        self.closed = False
        self._messages = messages
        self._dies = dies

    async def messages(self) -> AsyncIterator[tuple[bytes, str | None]]:
        for message in self._messages:
            await asyncio.sleep(0)
            yield message
        if self._dies is not None:
            raise self._dies

    async def close(self) -> None:
        self.closed = True


class MemoryUpstream:
    """`service.ports.Upstream` that answers with `answer(body)` and keeps what it was sent, and with which tokens."""

    def __init__(self, answer: Callable[[bytes], MemoryAnswer]) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.tokens: list[AccessToken | None] = []
        self.ended: list[tuple[str, str]] = []
        self.dismissed: list[str] = []
        self.closed = False
        self._answer = answer

    async def send(
        self,
        caller: str,
        body: bytes,
        headers: Mapping[str, str],
        session: str | None,
        *,
        repeatable: bool,
        token: AccessToken | None = None,
    ) -> MemoryAnswer:
        await asyncio.sleep(0)
        self.sent.append((caller, body))
        self.tokens.append(token)
        return self._answer(body)

    async def listen(
        self, caller: str, headers: Mapping[str, str], session: str | None, *, token: AccessToken | None = None
    ) -> MemoryAnswer:
        await asyncio.sleep(0)
        self.tokens.append(token)
        return self._answer(b"")

    async def end(
        self, caller: str, headers: Mapping[str, str], session: str, *, token: AccessToken | None = None
    ) -> int:
        await asyncio.sleep(0)
        self.ended.append((caller, session))
        self.tokens.append(token)
        return 200

    def callers(self) -> Sequence[str]:
        return tuple(dict.fromkeys(caller for caller, _ in self.sent if caller not in self.dismissed))

    async def dismiss(self, caller: str) -> None:
        self.dismissed.append(caller)

    async def close(self) -> None:
        self.closed = True
