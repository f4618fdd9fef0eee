"""A log with a publisher, in memory and a temporary directory: ports that behave, count their steps, and can be killed.

`Killed` is what a SIGKILL is to the process that gets it: no handler runs. After it, `World.after_crash()` gives what
another process would find.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from citywatch.adapters.files import LogDirectory
from citywatch.adapters.memory import MemoryStore
from citywatch.core.errors import Code, Refused, Unavailable
from citywatch.core.log.checkpoint import (
    Kind,
    NoteKey,
    SignedCheckpoint,
    cosignature,
    cosigned_message,
    format_signature,
    parse_checkpoint,
    verify_checkpoint,
)
from citywatch.core.log.entry import encode_event
from citywatch.core.log.witness import Declined, Head, Submission, judge_submission
from citywatch.service.ports import Append, Cosigned, NewEntry, Witness, WitnessedSize, WitnessRefused
from citywatch.service.publisher import Publisher
from citywatch.service.witnessing import Witnesses
from tests.log_world import LOG, LOG_PRIVATE, ORIGIN, event, note_key

_T = TypeVar("_T")


class Killed(BaseException):
    """The process is gone."""


class Steps:
    """Counts every touch of the world; at number `fatal` the process dies, before the touch or after it."""

    def __init__(self, fatal: int | None = None) -> None:
        self.fatal = fatal
        self.names: list[str] = []

    async def take(self, name: str, touch: Callable[[], Awaitable[_T]]) -> _T:
        self._die_at(name + ": before")
        result = await touch()
        self._die_at(name + ": after")
        return result

    def _die_at(self, name: str) -> None:
        self.names.append(name)
        if self.fatal is not None and len(self.names) > self.fatal:
            raise Killed(name)


class SteppedStore:
    def __init__(self, store: MemoryStore, steps: Steps) -> None:
        self._store, self._steps = store, steps
        self.largest_read = 0
        self.read = 0

    async def load(self, *args: Any) -> Any:
        return await self._store.load(*args)

    async def append(self, append: Append) -> Any:
        return await self._steps.take("fence", lambda: self._store.append(append))

    async def sync(self) -> int:
        return await self._steps.take("sync", self._store.sync)

    async def entries(self, start: int, stop: int) -> Sequence[bytes]:
        self.largest_read = max(self.largest_read, stop - start)
        self.read += stop - start
        return await self._store.entries(start, stop)

    async def scan(self, *args: Any) -> Any:
        raise NotImplementedError

    async def last(self, *args: Any) -> Any:
        raise NotImplementedError

    async def page(self, *args: Any) -> Any:
        raise NotImplementedError

    async def count(self, *args: Any) -> Any:
        raise NotImplementedError

    async def payload(self, index: int) -> Any:
        return await self._store.payload(index)

    async def erase(self, *args: Any) -> Any:
        raise NotImplementedError


class SteppedFiles(LogDirectory):
    def __init__(self, root: Path, steps: Steps) -> None:
        super().__init__(root)
        self._steps = steps

    async def write(self, files: Sequence[tuple[str, bytes]]) -> None:
        for i in range(0, len(files), 2):  # a kill in the middle leaves some of the files
            await self._steps.take("tiles", partial(LogDirectory.write, self, files[i : i + 2]))

    async def swap_checkpoint(self, expected: bytes | None, new: bytes) -> bool:
        return await self._steps.take("swap", lambda: LogDirectory.swap_checkpoint(self, expected, new))

    async def prune(self, paths: Sequence[str]) -> None:
        await self._steps.take("prune", lambda: LogDirectory.prune(self, paths))


class RecordingSigner:
    """Signs and remembers, across all restarts, each head that it ever signed: the judge of INVARIANT 6."""

    public = LOG_PRIVATE.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def __init__(self) -> None:
        self.heads: dict[int, bytes] = {}

    def sign(self, message: bytes) -> bytes:
        head = parse_checkpoint(message.decode())
        assert self.heads.setdefault(head.size, head.root) == head.root, f"two roots for size {head.size}"
        if head.size < max(self.heads):
            raise Refused(Code.CONFLICT, f"a head of {max(self.heads)} entries was signed: {head.size} is fewer")
        return LOG_PRIVATE.sign(message)


class HonestWitness:
    """Judges with the core and remembers; `away` makes it unreachable."""

    def __init__(self, number: int, steps: Steps | None = None) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(bytes([100 + number]) * 32)
        self.key: NoteKey = note_key(f"witness.example/{number}", Kind.WITNESS, self._private)
        self.steps = steps or Steps()
        self.head = Head()
        self.away = False
        self.asked = 0

    async def add_checkpoint(
        self, old: int, proof: Sequence[bytes], note: bytes
    ) -> Cosigned | WitnessedSize | WitnessRefused:
        return await self.steps.take("witness", lambda: self._add(old, proof, note))

    async def _add(self, old: int, proof: Sequence[bytes], note: bytes) -> Cosigned | WitnessedSize | WitnessRefused:
        await asyncio.sleep(0)
        self.asked += 1
        if self.away:
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, "away")
        result = judge_submission(Submission(old, tuple(proof), note), {ORIGIN: [LOG]}, self.head)
        if isinstance(result, Declined):
            return WitnessRefused(result.reason) if result.size is None else WitnessedSize(result.size)
        self.head = Head(result.checkpoint.size, result.checkpoint.root)
        signature = self._private.sign(cosigned_message(result.note.text, 1_763_800_000))
        return Cosigned(format_signature(cosignature(self.key, 1_763_800_000, signature)).encode())


class World:
    """One log's disk, key and witnesses, which outlive every process."""

    def __init__(self, root: Path, witnesses: int = 0, quorum: int = 0) -> None:
        root.mkdir(exist_ok=True)
        self.root = root
        self.store = MemoryStore()
        self.signer = RecordingSigner()
        self.witnesses = [HonestWitness(number) for number in range(witnesses)]
        self.quorum = quorum
        self.written = 0

    async def append(self, count: int, text: str = "", *, sync: bool = False) -> None:
        entries = []
        for _ in range(count):
            entries.append(NewEntry(encode_event(event(self.written)) if not text else text.encode()))
            self.written += 1
        await self.store.append(Append(entries=tuple(entries), sync=sync))

    def publisher(
        self, steps: Steps | None = None, asked: Sequence[tuple[NoteKey, Witness]] | None = None
    ) -> Publisher:
        """A process that begins now."""
        steps = steps or Steps()
        for witness in self.witnesses:
            witness.steps = steps
        return Publisher(
            store=SteppedStore(self.store, steps),
            files=SteppedFiles(self.root, steps),
            signer=self.signer,
            origin=ORIGIN,
            witnesses=Witnesses([(each.key, each) for each in self.witnesses] if asked is None else asked, self.quorum),
        )

    def checkpoint(self) -> SignedCheckpoint | None:
        try:
            data = (self.root / "checkpoint").read_bytes()
        except FileNotFoundError:
            return None
        return verify_checkpoint(data, LOG, [each.key for each in self.witnesses])


def refusing_signer(world: World, detail: str) -> None:
    """From now on the key's own guard refuses."""

    class Guard(RecordingSigner):
        def sign(self, message: bytes) -> bytes:
            raise Refused(Code.CONFLICT, detail)

    world.signer = Guard()
