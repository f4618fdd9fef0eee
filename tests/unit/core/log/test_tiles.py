"""Which bytes stand in which file, and what a reader of them refuses."""

import pytest

from citywatch.core.errors import Malformed
from citywatch.core.log.merkle import EMPTY_ROOT, leaf_hash, node_hash
from citywatch.core.log.tiles import (
    ENTRIES,
    Edge,
    Tile,
    decode_bundle,
    encode_bundle,
    expanded,
    format_tile_path,
    grow,
    nodes,
    parse_tile_path,
    partial_tiles,
    read_edge,
    tiles_upto,
)

LEAVES = [b"%d" % i for i in range(70_000)]


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(0, 1234067), "tile/0/x001/x234/067"),
        (Tile(63, 999), "tile/63/999"),
        (Tile(1, 1000, 17), "tile/1/x001/000.p/17"),
        (Tile(ENTRIES, 5, 255), "tile/entries/005.p/255"),
    ],
)
def test_paths_are_those_of_the_specification(tile: Tile, path: str) -> None:
    assert format_tile_path(tile) == path
    assert parse_tile_path(path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile/0/0",
        "tile/64/000",
        "tile/00/000",
        "tile/-1/000",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/0/x001",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/300",
        "tile/0/000.p/01",
        "tile/0/000\n",
        "tile/0/٠٠٠",
        "/tile/0/000",
        "tile/0/../../checkpoint",
        "tile/0/" + "x001/" * 2000 + "001",
    ],
    ids=lambda path: path[:40],
)
def test_a_path_that_is_none(path: str) -> None:
    with pytest.raises(Malformed):
        parse_tile_path(path)


def test_a_log_of_70000_is_made_of_the_tiles_that_the_specification_counts() -> None:
    edge, full = grow(Edge(), LEAVES)
    partial = partial_tiles(edge)
    assert sum(tile.level == 0 for tile, _ in full) == sum(tile.level == ENTRIES for tile, _ in full) == 273
    assert sum(tile.level == 1 for tile, _ in full) == 1
    assert {(tile.level, tile.width) for tile, _ in partial} == {(ENTRIES, 112), (0, 112), (1, 17), (2, 1)}
    assert sorted(tile for tile, _ in full + partial) == sorted(tiles_upto(70_000))
    by_tile = dict(full + partial)
    assert by_tile[Tile(0, 273, 112)][:32] == leaf_hash(LEAVES[273 * 256])
    assert decode_bundle(by_tile[Tile(ENTRIES, 0)]) == LEAVES[:256]
    first = expanded(by_tile[Tile(0, 0)])[7]
    assert by_tile[Tile(1, 0)][:32] == node_hash(first[:32], first[32:])


def test_a_log_of_256_has_a_full_tile_and_one_hash_above_it() -> None:
    edge, full = grow(Edge(), LEAVES[:256])
    assert [tile for tile, _ in full] == [Tile(ENTRIES, 0), Tile(0, 0)]
    assert partial_tiles(edge) == [(Tile(1, 0, 1), edge.frontier.root())]


def test_an_empty_log_has_no_tile() -> None:
    assert (list(tiles_upto(0)), partial_tiles(Edge()), grow(Edge(), [])) == ([], [], (Edge(), []))
    assert Edge().frontier.root() == EMPTY_ROOT


def test_a_bundle_that_is_cut_or_too_long_for_its_length() -> None:
    whole = encode_bundle([b"", b"abc", b"x" * 65_535])
    assert whole[:7] == b"\0\0\0\3abc"
    assert decode_bundle(whole) == [b"", b"abc", b"x" * 65_535]
    for cut in (1, 3, 5, len(whole) - 1):
        with pytest.raises(Malformed):
            decode_bundle(whole[:cut])
    with pytest.raises(Malformed):
        encode_bundle([b"x" * 65_536])


def test_an_edge_is_not_read_from_tiles_of_another_width_or_entries_of_another_log() -> None:
    edge, full = grow(Edge(), LEAVES[:300])
    files = dict(full + partial_tiles(edge))
    assert read_edge(300, files.__getitem__) == edge
    for tile, broken in (
        (Tile(0, 1, 44), files[Tile(0, 1, 44)][:-32]),
        (Tile(0, 1, 44), files[Tile(0, 1, 44)] + bytes(32)),
        (Tile(ENTRIES, 1, 44), encode_bundle(LEAVES[256:299])),
        (Tile(ENTRIES, 1, 44), encode_bundle([*LEAVES[256:299], b"other"])),
        (Tile(ENTRIES, 1, 44), b"\xff"),
    ):
        with pytest.raises(Malformed):
            read_edge(300, (files | {tile: broken}).__getitem__)
    edge, full = grow(Edge(), LEAVES[:768])
    files = dict(full + partial_tiles(edge))
    with pytest.raises(Malformed):
        read_edge(768, (files | {Tile(1, 0, 3): files[Tile(1, 0, 3)] + bytes(32)}).__getitem__)


def test_a_node_outside_a_tile_is_malformed() -> None:
    node = nodes(300, lambda tile: expanded(b"\0" * 32 * tile.width if tile.index == 0 else b""))
    assert len(node(3, 0)) == 32
    with pytest.raises(Malformed):
        node(0, 299)
