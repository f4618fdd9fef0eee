"""The log as static files: hash tiles of height 8, entry bundles, and where each of them lies.

Decides which bytes stand in which file at a given size, and finds the hash of any complete subtree in them. Reads and
writes no file: a reader is passed in, and what has to be written is returned.

INVARIANTS: a full tile never changes; a tile of a tree holds only hashes of complete subtrees, so every size's partial
tiles are prefixes of the full ones; `Edge` at a size depends on nothing but the entries below it, whether it was grown
in one step or in many, or read back from tiles; any bytes give a value or `Malformed`.
SPEC: C2SP tlog-tiles.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256

import msgspec

from citywatch.core.errors import Malformed
from citywatch.core.log.entry import MAX_LEAF_BYTES
from citywatch.core.log.merkle import HASH_BYTES, Frontier, Node, leaf_hash

HEIGHT = 8
WIDTH = 1 << HEIGHT
ENTRIES = -1
"""The level of an entry bundle; hash tiles count from 0."""

_PATH = re.compile(r"tile/(entries|0|[1-9]|[1-5][0-9]|6[0-3])/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?\Z")


class Tile(msgspec.Struct, frozen=True, order=True):
    """One file: `width` hashes (or entries) from position `index * 256` on; levels count the tree's by eights."""

    level: int
    index: int
    width: int = WIDTH


Read = Callable[[Tile], bytes]
Levels = tuple[bytes, ...]
"""A tile with the hashes above it: `levels[h]` joins the nodes of height `h` over it, side by side."""


class Edge(msgspec.Struct, frozen=True):
    """The right edge of the log: its frontier, and what stands in the tiles that are not full yet.

    `partials[level]` joins the hashes in the partial tile of that level; `entries` are the leaves of the last bundle.
    """

    frontier: Frontier = Frontier()
    partials: tuple[bytes, ...] = ()
    entries: tuple[bytes, ...] = ()


def grow(edge: Edge, leaves: Sequence[bytes]) -> tuple[Edge, list[tuple[Tile, bytes]]]:
    """Append leaves (3 µs each); return the new edge and the tiles that became full."""
    if not leaves:
        return edge, []
    frontier, completed = edge.frontier.extended([leaf_hash(leaf) for leaf in leaves], HEIGHT)
    full, partials = [], list(edge.partials)
    entries = [*edge.entries, *leaves]
    first = edge.frontier.size // WIDTH
    while len(entries) >= WIDTH:
        full.append((Tile(ENTRIES, first), encode_bundle(entries[:WIDTH])))
        entries, first = entries[WIDTH:], first + 1
    for level, hashes in enumerate(completed):
        if level == len(partials):
            partials.append(b"")
        row = partials[level] + b"".join(hashes)
        index = (edge.frontier.size >> HEIGHT * level) // WIDTH
        while len(row) >= WIDTH * HASH_BYTES:
            full.append((Tile(level, index), row[: WIDTH * HASH_BYTES]))
            row, index = row[WIDTH * HASH_BYTES :], index + 1
        partials[level] = row
    return Edge(frontier, tuple(partials), tuple(entries)), full


def partial_tiles(edge: Edge) -> list[tuple[Tile, bytes]]:
    """The partial tiles and the partial bundle that a checkpoint at this edge's size needs."""
    size = edge.frontier.size
    found = []
    if edge.entries:
        found.append((Tile(ENTRIES, size // WIDTH, len(edge.entries)), encode_bundle(edge.entries)))
    for level, row in enumerate(edge.partials):
        if row:
            found.append((Tile(level, (size >> HEIGHT * level) // WIDTH, len(row) // HASH_BYTES), row))
    return found


def read_edge(size: int, read: Read) -> Edge:
    """Find the edge of a log of `size` in its tiles. Whoever calls compares its root with a signed one."""
    partials: list[bytes] = []
    frontier: list[bytes] = []
    level = 0
    while size >> HEIGHT * level:
        count = size >> HEIGHT * level
        row = _hashes(read, level, count // WIDTH, count % WIDTH) if count % WIDTH else b""
        partials.append(row)
        frontier[:0] = _complete(row)
        level += 1
    entries: list[bytes] = []
    if size % WIDTH:
        entries = decode_bundle(read(Tile(ENTRIES, size // WIDTH, size % WIDTH)))
        if b"".join(map(leaf_hash, entries)) != partials[0]:
            raise Malformed("the last entry bundle does not hash to its tile")
    return Edge(Frontier(size, tuple(frontier)), tuple(partials), tuple(entries))


def edge_tiles(size: int) -> list[Tile]:
    """The partial tiles and the partial bundle that `read_edge` reads."""
    found = [Tile(ENTRIES, size // WIDTH, size % WIDTH)] if size % WIDTH else []
    for level in range(8):
        count = size >> HEIGHT * level
        if count % WIDTH:
            found.append(Tile(level, count // WIDTH, count % WIDTH))
    return found


def cut_tile(tile: Tile, full: bytes) -> bytes:
    """The partial tile that the full one in its place begins with: a log may delete it once it has the full one."""
    if tile.level == ENTRIES:
        return encode_bundle(decode_bundle(full)[: tile.width])
    return full[: tile.width * HASH_BYTES]


def nodes(size: int, levels: Callable[[Tile], Levels]) -> Node:
    """A `merkle.Node` over the tiles of a log of `size`; `levels` gives a tile `expanded`, best from a cache."""

    def node(level: int, i: int) -> bytes:
        height = level % HEIGHT
        at = i << height
        row = at // WIDTH
        width = min(WIDTH, (size >> level - height) - row * WIDTH)
        start = (at % WIDTH >> height) * HASH_BYTES
        found = levels(Tile(level // HEIGHT, row, width))[height][start : start + HASH_BYTES]
        if len(found) != HASH_BYTES:
            raise Malformed("a tile is too short")
        return found

    return node


def expanded(tile: bytes) -> Levels:
    """All complete subtrees over a tile, by height (0.15 ms for a full one)."""
    row, levels, prefix = tile, [tile], sha256(b"\x01")
    for _ in range(HEIGHT - 1):
        above = []
        for i in range(0, len(row) - 63, 64):  # two hashes lie side by side: a node is the prefix and both of them
            node = prefix.copy()  # a fifth cheaper than to hash the prefix anew
            node.update(row[i : i + 64])
            above.append(node.digest())
        row = b"".join(above)
        levels.append(row)
    return tuple(levels)


def encode_bundle(leaves: Sequence[bytes]) -> bytes:
    """Entries as they lie in a bundle: each after its length in two bytes."""
    if any(len(leaf) > MAX_LEAF_BYTES for leaf in leaves):
        raise Malformed(f"a leaf takes more than {MAX_LEAF_BYTES} bytes")
    return b"".join([len(leaf).to_bytes(2) + leaf for leaf in leaves])


def decode_bundle(data: bytes) -> list[bytes]:
    """The inverse of `encode_bundle`."""
    leaves, at = [], 0
    while at < len(data):
        stop = at + 2 + int.from_bytes(data[at : at + 2])
        if stop > len(data):
            raise Malformed("an entry bundle ends within an entry")
        leaves.append(data[at + 2 : stop])
        at = stop
    return leaves


def tiles_upto(size: int) -> Iterator[Tile]:
    """Every tile and bundle that a log of `size` consists of."""
    for level in (ENTRIES, *range(64)):
        count = size >> HEIGHT * max(level, 0)
        if not count:
            return
        for index in range(count // WIDTH):
            yield Tile(level, index)
        if count % WIDTH:
            yield Tile(level, count // WIDTH, count % WIDTH)


def format_tile_path(tile: Tile) -> str:
    """Where a tile lies, below the log's prefix: `tile/0/x001/x234/067`, `tile/entries/000.p/17`."""
    digits = f"{tile.index:03d}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[i : i + 3] for i in range(0, len(digits), 3)]
    path = "/".join(["x" + group for group in groups[:-1]] + groups[-1:])
    level = "entries" if tile.level == ENTRIES else str(tile.level)
    return f"tile/{level}/{path}" + ("" if tile.width == WIDTH else f".p/{tile.width}")


def parse_tile_path(path: str) -> Tile:
    """Read a tile's path; the inverse of `format_tile_path`."""
    match = _PATH.match(path[:100])
    if not match:
        raise Malformed(f"`{path[:80]}` is not a tile's path")
    level, index, width = match.groups()
    tile = Tile(
        ENTRIES if level == "entries" else int(level),
        int(index.replace("x", "").replace("/", "")),
        int(width) if width else WIDTH,
    )
    # One file, one path: no needless leading groups, no partial tile that is full.
    if tile.width > WIDTH or format_tile_path(tile) != path:
        raise Malformed(f"`{path[:80]}` is not a tile's path")
    return tile


def _hashes(read: Read, level: int, index: int, width: int) -> bytes:
    row = read(Tile(level, index, width))
    if len(row) != width * HASH_BYTES:
        raise Malformed("a tile has another width than its size says")
    return row


def _complete(row: bytes) -> list[bytes]:
    """The largest complete subtrees that a partial tile's hashes make up, from left to right."""
    levels, count, found, at = expanded(row), len(row) // HASH_BYTES, [], 0
    for height in reversed(range(HEIGHT)):
        if count >> height & 1:
            start = (at >> height) * HASH_BYTES
            found.append(levels[height][start : start + HASH_BYTES])
            at += 1 << height
    return found
