"""What the log can show: its head, a proof for one entry, that it grew from an earlier head, and all of it.

Reads tiles and the store; decides nothing and changes nothing. What it hands out, it has checked: a proof that would
not convince a stranger is `Unavailable` here, so that a broken disk is found by us and not by them.
INVARIANTS: nothing is shown under another head than the one the log published; memory is bounded whatever the size.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar

from citywatch.core.errors import Code, Malformed, Unavailable
from citywatch.core.log.checkpoint import NoteKey, SignedCheckpoint, format_note, verify_checkpoint
from citywatch.core.log.export import export_entry, export_header, growth_bundle, proof_bundle
from citywatch.core.log.merkle import (
    HASH_BYTES,
    Node,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)
from citywatch.core.log.tiles import HEIGHT, WIDTH, Levels, Tile, cut_tile, expanded, format_tile_path, nodes
from citywatch.service.ports import LogFiles, Store

CACHED_TILES = 256
SLICE = 512
_BLANK: Levels = (bytes(WIDTH * HASH_BYTES),) * HEIGHT
_T = TypeVar("_T")


class Proofs:
    """Proofs over the published log of `key`. One object per process: it keeps the tiles that were read last."""

    def __init__(self, *, store: Store, files: LogFiles, key: NoteKey) -> None:
        self._store = store
        self._files = files
        self._key = key
        self._cache: OrderedDict[Tile, Levels] = OrderedDict()
        self._verified: tuple[bytes, SignedCheckpoint] | None = None

    async def head(self) -> SignedCheckpoint | None:
        """The published head, None if there is none yet."""
        (note,) = await self._files.read(["checkpoint"])
        if note is None:
            return None
        if self._verified and self._verified[0] == note:  # it changes about once a second, and is asked for more often
            return self._verified[1]
        try:
            head = verify_checkpoint(note, self._key)
        except Malformed as error:
            raise Unavailable(Code.STORE_UNAVAILABLE, f"the log's checkpoint is not ours: {error}") from None
        self._verified = note, head
        return head

    async def prove(self, index: int, *, with_payload: bool) -> bytes:
        """The proof bundle of one entry (`spec/log.md` §5). `Malformed` if the published log has no such entry."""
        head = await self._published()
        size, root = head.checkpoint.size, head.checkpoint.root
        if not 0 <= index < size:
            raise Malformed(f"entry {index} is not in the published log of {size}")
        hashes, (leaf,) = await asyncio.gather(
            self.over_tiles(size, lambda node: inclusion_proof(index, size, node)), self._entries(index, index + 1)
        )
        _sound(lambda: verify_inclusion(leaf_hash(leaf), index, size, hashes, root))
        return proof_bundle(leaf, index, size, hashes, format_note(head.note), await self._payload(index, with_payload))

    async def growth(self, old: SignedCheckpoint) -> bytes:
        """The bundle that shows that the log grew from the head `old`; `Malformed` if it is of nothing or ahead."""
        head = await self._published()
        before, now = old.checkpoint, head.checkpoint
        hashes = await self.over_tiles(now.size, lambda node: consistency_proof(before.size, now.size, node))
        _sound(lambda: verify_consistency(before.size, now.size, hashes, before.root, now.root))
        return growth_bundle(format_note(old.note), format_note(head.note), hashes)

    async def export(self, *, with_payloads: bool) -> AsyncIterator[bytes]:
        """The lines of an export of the published log (`spec/log.md` §4)."""
        head = await self._published()
        yield export_header(self._key.name, format_note(head.note))
        for start in range(0, head.checkpoint.size, SLICE):
            stop = min(start + SLICE, head.checkpoint.size)
            for index, leaf in enumerate(await self._entries(start, stop), start):
                yield export_entry(index, leaf, await self._payload(index, with_payloads))

    async def over_tiles(self, size: int, build: Callable[[Node], _T]) -> _T:
        """Run `build` on the tree of `size` entries as it lies in the tiles, reading no more of them than it needs."""
        wanted: dict[Tile, Levels] = {}

        def note(tile: Tile) -> Levels:
            wanted[tile] = _BLANK
            return _BLANK

        build(nodes(size, note))  # a rehearsal, to learn which tiles to ask the disk for, all at once
        missing = [tile for tile in wanted if tile not in self._cache]
        for tile, data in zip(missing, await read_tiles(self._files, missing), strict=True):
            self._cache[tile] = expanded(data)
        for tile in wanted:
            wanted[tile] = self._cache[tile]
            self._cache.move_to_end(tile)
        while len(self._cache) > CACHED_TILES:
            self._cache.popitem(last=False)
        try:
            return build(nodes(size, wanted.__getitem__))
        except Malformed as error:  # what was asked for was possible: it is the tiles that are not what they should be
            raise Unavailable(Code.STORE_UNAVAILABLE, f"the log's files: {error}") from None

    async def _published(self) -> SignedCheckpoint:
        head = await self.head()
        if head is None:
            raise Malformed("the log has no checkpoint yet: there is nothing to show")
        return head

    async def _entries(self, start: int, stop: int) -> Sequence[bytes]:
        leaves = await self._store.entries(start, stop)
        if len(leaves) != stop - start:
            raise Unavailable(Code.STORE_UNAVAILABLE, "the store lacks entries that a checkpoint covers")
        return leaves

    async def _payload(self, index: int, wanted: bool) -> tuple[bytes, bytes] | None:
        payload = await self._store.payload(index) if wanted else None
        return (payload.salt, payload.body) if payload else None


async def read_tiles(files: LogFiles, tiles: Sequence[Tile]) -> list[bytes]:
    """Read tiles; a partial one that was pruned is cut from the full one in its place."""
    found = await files.read([format_tile_path(tile) for tile in tiles])
    gone = [tile for tile, data in zip(tiles, found, strict=True) if data is None]
    full = await files.read([format_tile_path(Tile(tile.level, tile.index)) for tile in gone]) if gone else []
    instead = dict(zip(gone, full, strict=True))
    whole = []
    for tile, data in zip(tiles, found, strict=True):
        if data is None:
            data = instead[tile]
            if data is None:
                raise Unavailable(Code.STORE_UNAVAILABLE, f"the log lacks `{format_tile_path(tile)}`")
            try:
                data = cut_tile(tile, data)
            except Malformed as error:
                raise Unavailable(Code.STORE_UNAVAILABLE, f"`{format_tile_path(tile)}`: {error}") from None
        whole.append(data)
    return whole


def _sound(verify: Callable[[], None]) -> None:
    try:
        verify()
    except Malformed as error:
        raise Unavailable(Code.STORE_UNAVAILABLE, f"the log's files do not fit its checkpoint: {error}") from None
