"""The log becomes public: synced entries are integrated into tiles, the head is signed, witnessed, and put in place.

Decides when a head may be signed and published. Does not decide what an entry says, nor which calls wait for it.

One publication, in the order that makes a crash at any step harmless:
1. sync the store: only entries that a loss of power cannot undo are covered,
2. take up the edge where the last head left it (from the tiles on disk, after a restart),
3. integrate in slices, giving way in between, and write full tiles as they come; then the partial ones,
4. take the fence: a compare-and-set in the store from the last head signed to this one,
5. sign; 6. show it to the witnesses; 7. swap the checkpoint, last of all.

INVARIANT (6 of the house): no size ever has two roots. The fence moves only forward, only from the head that this one
grew from, is synced before anything is signed, and is passed on the way up after a crash between 4 and 7. A store that
holds fewer entries than were ever signed publishes nothing: the log must not go back. A witness's refusal stops
publication until an operator has looked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from citywatch.core.errors import CitywatchError, Code, Malformed, Refused, Unavailable
from citywatch.core.log.checkpoint import (
    Checkpoint,
    Kind,
    Note,
    NoteKey,
    SignedCheckpoint,
    format_checkpoint,
    format_note,
    log_signature,
    parse_key_name,
    verify_checkpoint,
)
from citywatch.core.log.merkle import consistency_proof
from citywatch.core.log.tiles import (
    ENTRIES,
    HEIGHT,
    WIDTH,
    Edge,
    Tile,
    edge_tiles,
    format_tile_path,
    grow,
    partial_tiles,
    read_edge,
)
from citywatch.core.signature import Ed25519Key, parse_spki
from citywatch.service.ports import Append, Appended, Key, LogFiles, Row, Signer, Store
from citywatch.service.proofs import Proofs, read_tiles
from citywatch.service.witnessing import Witnesses

FENCE: Key = ("log", "head")
SLICE = 512
"""Entries between two awaits: about a millisecond of hashing."""

_WRITE_EVERY = 64
"""Full tiles held in memory before they are written."""


class Fence(msgspec.Struct, frozen=True):
    """The last head that any process has signed, as the store remembers it."""

    size: int
    root: bytes


class Health(msgspec.Struct, frozen=True):
    """How the log stands: entries under the published head, and why there is no newer one, if there should be.

    `refused` needs an operator; `failed` is tried again. `silent` has a line for each witness that did not cosign.
    """

    size: int = 0
    cosigned: int = 0
    refused: str | None = None
    failed: str | None = None
    silent: tuple[str, ...] = ()


def log_note_key(origin: str, signer: Signer) -> NoteKey:
    """The key that this signer's heads verify under; the origin is its name."""
    key = parse_spki(signer.public)
    if not isinstance(key, Ed25519Key):
        raise Malformed("a log signs with Ed25519")
    return NoteKey(parse_key_name(origin), Kind.LOG, key)


class Publisher:
    """Publishes one log. `signer` refuses on its own account what contradicts what it signed before."""

    def __init__(self, *, store: Store, files: LogFiles, signer: Signer, origin: str, witnesses: Witnesses) -> None:
        self.key = log_note_key(origin, signer)
        self.health = Health()
        self.proofs = Proofs(store=store, files=files, key=self.key)
        self._store = store
        self._files = files
        self._signer = signer
        self._witnesses = witnesses
        self._one_at_a_time = asyncio.Lock()
        self._edge: Edge | None = None  # all entries below it are in tiles on disk
        self._published: bytes | None = None
        self._shown = False  # whether the witnesses have seen a head of ours since this process began

    async def resume(self) -> int:
        """Take up the log where the disk has it; return the size under its published head, 0 if there is none.

        Raises `Unavailable` if the store holds fewer entries than were signed, or the files do not fit the head.
        """
        async with self._one_at_a_time:
            edge = await self._resume()
            _, fence = await self._fence()
            _check_reach(self.health.size, fence, await self._store.sync())
            return edge.frontier.size

    async def publish(self) -> Health:
        """Bring the published head up to all that is synced. Raises `Unavailable` (try again) or `Refused` (look)."""
        async with self._one_at_a_time:
            if self.health.refused is not None:
                raise Refused(Code.CONFLICT, self.health.refused)
            try:
                await self._publish()
            except (
                Refused,
                Malformed,
            ) as error:  # malformed: the signer, or our own files, are not what they should be
                self.health = msgspec.structs.replace(self.health, refused=str(error))
                raise
            except Unavailable as error:
                self.health = msgspec.structs.replace(self.health, failed=str(error))
                raise
            return self.health

    async def run(self, every_s: float) -> None:
        """Publish again and again until cancelled; `health` says how it goes."""
        while True:
            with suppress(CitywatchError):
                await self.publish()
            await asyncio.sleep(every_s)

    async def _publish(self) -> None:
        size = await self._store.sync()  # 1
        edge = self._edge or await self._resume()  # 2
        row, fence = await self._fence()
        _check_reach(self.health.size, fence, size)
        if size == 0 or (self._shown and size == self.health.size):
            self.health = msgspec.structs.replace(self.health, failed=None)
            return
        edge = await self._integrate(edge, size, fence)  # 3
        if not await self._take_fence(row, fence, edge):  # 4
            self._edge = None  # another publisher was faster: begin from its head next time
            return
        self._edge = edge  # its tiles are on disk and its head is fenced: what fails from here on need not begin anew
        try:
            head = await self._sign(edge)  # 5
        except Refused:
            if await self._signed_size() == size:
                raise
            self._edge = None  # overtaken between fence and signature: the key rightly signs no smaller head any more
            return
        # 6
        done = await self._witnesses.cosign(head, lambda old: self._growth(old, size), self._signed_size)
        note = format_note(done.note)
        if not await self._files.swap_checkpoint(self._published, note):  # 7
            self._edge = None
            return
        before, self._published, self._shown = self.health.size, note, True
        self.health = Health(size=size, cosigned=len(done.cosignatures), silent=done.silent)
        await self._files.prune(_became_full(before, size))

    async def _resume(self) -> Edge:
        head = await self.proofs.head()
        edge = Edge()
        if head is not None:
            tiles = edge_tiles(head.checkpoint.size)
            stored = dict(zip(tiles, await read_tiles(self._files, tiles), strict=True))
            try:
                edge = read_edge(head.checkpoint.size, stored.__getitem__)
            except Malformed as error:
                raise Unavailable(Code.STORE_UNAVAILABLE, f"the log's tiles: {error}") from None
            if edge.frontier.root() != head.checkpoint.root:
                raise Unavailable(Code.STORE_UNAVAILABLE, "the log's tiles do not give the root that was signed")
        self._edge, self._published = edge, format_note(head.note) if head else None
        self.health = msgspec.structs.replace(self.health, size=edge.frontier.size)
        return edge

    async def _integrate(self, edge: Edge, size: int, fence: Fence | None) -> Edge:
        files: list[tuple[str, bytes]] = []
        if fence and fence.size == edge.frontier.size:
            _check_fence(edge, fence)
        while edge.frontier.size < size:
            start = edge.frontier.size
            stop = min(start + SLICE, size)
            if fence and start < fence.size < stop:
                stop = fence.size  # a head was signed here before a crash: this history must pass through it
            leaves = await self._store.entries(start, stop)
            if len(leaves) != stop - start:
                raise Unavailable(Code.STORE_UNAVAILABLE, "the store lacks entries that it has synced")
            edge, full = grow(edge, leaves)
            if fence and stop == fence.size:
                _check_fence(edge, fence)
            files += [(format_tile_path(tile), data) for tile, data in full]
            if len(files) >= _WRITE_EVERY:
                await self._files.write(files)
                files = []
            await asyncio.sleep(0)  # a catch-up of a million entries must not hold up the calls
        await self._files.write(files + [(format_tile_path(tile), data) for tile, data in partial_tiles(edge)])
        return edge

    async def _fence(self) -> tuple[Row | None, Fence | None]:
        row = (await self._store.load([FENCE], [])).rows.get(FENCE)
        try:
            return row, msgspec.json.decode(row.value, type=Fence) if row else None
        except msgspec.DecodeError:
            raise Unavailable(Code.STORE_UNAVAILABLE, "the store's memory of the last signed head is damaged") from None

    async def _take_fence(self, row: Row | None, fence: Fence | None, edge: Edge) -> bool:
        new = Fence(edge.frontier.size, edge.frontier.root())
        if new == fence:
            return True
        put = (FENCE, msgspec.json.encode(new))
        seen = row.version if row else 0
        # INVARIANT: synced before anything is signed, and only from the head that this one grew from.
        result = await self._store.append(Append(reads=((FENCE, seen),), puts=(put,), sync=True))
        return isinstance(result, Appended)

    async def _sign(self, edge: Edge) -> SignedCheckpoint:
        text = format_checkpoint(Checkpoint(self.key.name, edge.frontier.size, edge.frontier.root()))
        signature = await asyncio.to_thread(self._signer.sign, text.encode())  # it remembers on disk what it signed
        return verify_checkpoint(format_note(Note(text, (log_signature(self.key, signature),))), self.key)

    async def _growth(self, old: int, size: int) -> Sequence[bytes]:
        return await self.proofs.over_tiles(size, lambda node: consistency_proof(old, size, node))

    async def _signed_size(self) -> int:
        _, fence = await self._fence()
        return fence.size if fence else 0


def _check_reach(published: int, fence: Fence | None, size: int) -> None:
    """The log never goes back: what was signed is in the store, and the store remembers that it was signed."""
    signed = fence.size if fence else 0
    if signed < published:  # the fence is synced before a head is published: this store is an older one, put back
        raise Unavailable(
            Code.STORE_UNAVAILABLE,
            f"the published head has {published} entries, the store remembers {signed}: an old one",
        )
    if size < signed:
        raise Unavailable(Code.STORE_UNAVAILABLE, f"the store holds {size} entries, {signed} were signed")


def _check_fence(edge: Edge, fence: Fence) -> None:
    if edge.frontier.root() != fence.root:
        raise Refused(Code.CONFLICT, f"another head of {fence.size} entries was signed: this history is not that one")


def _became_full(before: int, size: int) -> list[str]:
    """The full tiles between two sizes: their partial ones are needed no more."""
    found = []
    for level in (ENTRIES, *range(8)):
        below = HEIGHT * max(level, 0)
        for index in range((before >> below) // WIDTH, (size >> below) // WIDTH):
            found.append(format_tile_path(Tile(level, index)))
    return found
