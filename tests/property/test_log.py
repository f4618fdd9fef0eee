"""What holds of the log for every size and every entry: proofs, tiles, leaves, notes."""

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from citywatch.core.errors import Malformed
from citywatch.core.events import Event
from citywatch.core.log.checkpoint import (
    Checkpoint,
    Note,
    NoteSignature,
    format_checkpoint,
    format_note,
    parse_checkpoint,
    parse_note,
    parse_note_key,
    parse_signatures,
    verify_checkpoint,
)
from citywatch.core.log.entry import decode_event, encode_event
from citywatch.core.log.merkle import (
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)
from citywatch.core.log.tiles import (
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
from tests.log_world import EVENTS, LOG, WITNESS, signed

LEAVES = [b"%d" % i for i in range(1400)]
HASHES = [leaf_hash(leaf) for leaf in LEAVES]
SIZES = st.integers(1, 300) | st.sampled_from([255, 256, 257, 511, 512, 513, 768, 1023, 1024, 1025, 1399, 1400])


def root(size: int) -> bytes:
    return Frontier().extended(HASHES[:size])[0].root()


def files(size: int) -> dict[Tile, bytes]:
    edge, full = grow(Edge(), LEAVES[:size])
    return dict(full + partial_tiles(edge))


@given(SIZES, st.data())
def test_every_entry_has_a_proof_and_no_other_entry_passes_with_it(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    stored = files(size)
    proof = inclusion_proof(index, size, nodes(size, lambda tile: expanded(stored[tile])))
    verify_inclusion(HASHES[index], index, size, proof, root(size))
    for leaf, at, of, path, top in [
        (leaf_hash(b"other"), index, size, proof, root(size)),
        (HASHES[index], (index + 1) % size, size, proof, root(size)),
        (HASHES[index], index, size, [*proof, bytes(32)], root(size)),
        (HASHES[index], index, size, proof[:-1], root(size)),
        (HASHES[index], index, size, proof, bytes(32)),
    ]:
        if (leaf, at, path) == (HASHES[index], index, proof) and top == root(size):
            continue  # a log of one entry has an empty proof, and no other index
        with contextlib.suppress(Malformed):
            verify_inclusion(leaf, at, of, path, top)
            raise AssertionError("a proof of something else was accepted")


@given(SIZES, st.data())
def test_every_size_grew_from_every_smaller_one_and_from_no_other_history(size: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, size))
    stored = files(size)
    proof = consistency_proof(old, size, nodes(size, lambda tile: expanded(stored[tile])))
    verify_consistency(old, size, proof, root(old), root(size))
    changed = Frontier().extended([leaf_hash(b"rewritten"), *HASHES[1:old]])[0].root()
    for path, before, after in [
        (proof, changed, root(size)),
        (proof, root(old), changed),
        ([*proof, bytes(32)], root(old), root(size)),
        (proof[1:], root(old), root(size)),
    ]:
        if path == proof and before == root(old) and after == root(size):
            continue
        if path == proof == [] and before == after:
            continue
        with contextlib.suppress(Malformed):
            verify_consistency(old, size, path, before, after)
            raise AssertionError("a growth that never was, was accepted")


@given(SIZES, st.integers(0, 9999))
def test_a_flipped_bit_in_a_proof_is_caught(size: int, at: int) -> None:
    stored = files(size)
    node = nodes(size, lambda tile: expanded(stored[tile]))
    index = at % size
    proof = inclusion_proof(index, size, node)
    if proof:
        which, bit = at % len(proof), at % 256
        flipped = bytearray(proof[which])
        flipped[bit // 8] ^= 1 << bit % 8
        proof[which] = bytes(flipped)
        with contextlib.suppress(Malformed):
            verify_inclusion(HASHES[index], index, size, proof, root(size))
            raise AssertionError("a changed proof was accepted")


@given(st.lists(st.integers(0, 520), max_size=4))
def test_how_a_log_is_cut_into_slices_does_not_matter(cuts: list[int]) -> None:
    written: dict[Tile, bytes] = {}
    edge, at = Edge(), 0
    for cut in cuts:
        edge, full = grow(edge, LEAVES[at : at + cut])
        assert not written.keys() & {tile for tile, _ in full}, "a full tile is written once"
        written.update(full)
        at = min(at + cut, len(LEAVES))
    assert edge.frontier.root() == root(at)
    assert written | dict(partial_tiles(edge)) == files(at)
    assert sorted(files(at)) == sorted(tiles_upto(at))


@given(SIZES)
def test_the_edge_read_from_tiles_is_the_edge_that_grew(size: int) -> None:
    edge, _ = grow(Edge(), LEAVES[:size])
    assert read_edge(size, files(size).__getitem__) == edge
    assert edge.frontier.root() == root(size)


@given(SIZES, SIZES)
def test_partial_tiles_are_prefixes_of_what_comes_after(one: int, other: int) -> None:
    small, large = files(min(one, other)), files(max(one, other))
    for tile, data in small.items():
        later = next(each for each in large if (each.level, each.index) == (tile.level, tile.index))
        assert large[later].startswith(data)


@settings(max_examples=300)
@given(EVENTS)
def test_an_event_and_its_leaf_are_one(event: Event) -> None:
    assert decode_event(encode_event(event)) == event


@given(EVENTS, st.integers(0, 10**6))
def test_a_flipped_bit_in_a_leaf_is_another_leaf(event: Event, at: int) -> None:
    leaf = bytearray(encode_event(event))
    leaf[at % len(leaf)] ^= 1 << at % 8
    assert leaf_hash(bytes(leaf)) != leaf_hash(encode_event(event))
    with contextlib.suppress(Malformed):
        assert decode_event(bytes(leaf)) != event


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes_give_a_value_or_malformed(data: bytes) -> None:
    for parse in (
        decode_event,
        parse_note,
        decode_bundle,
        lambda raw: verify_checkpoint(raw, LOG, [WITNESS]),
        lambda raw: verify_checkpoint(raw + b"\n\n" + signed(1, bytes(32)), LOG, [WITNESS]),
    ):
        with contextlib.suppress(Malformed):
            parse(data)


@given(st.text(max_size=60))
def test_any_text_gives_a_value_or_malformed(text: str) -> None:
    for parse in (parse_note_key, parse_checkpoint, parse_tile_path, parse_signatures):
        with contextlib.suppress(Malformed):
            parse(text)


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="+"), min_size=1, max_size=8).filter(
    lambda name: not any(c.isspace() or ord(c) < 32 for c in name)
)
LINES = st.text(st.characters(codec="utf-8", min_codepoint=32), min_size=1, max_size=8)


@given(LINES, st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32), st.lists(LINES, max_size=2))
def test_a_checkpoint_and_its_text_are_one(origin: str, size: int, root: bytes, extensions: list[str]) -> None:
    head = Checkpoint(origin, size, root, tuple(extensions))
    assert parse_checkpoint(format_checkpoint(head)) == head


@given(
    st.lists(LINES, min_size=1).map(lambda lines: "".join(f"{line}\n" for line in lines)),
    st.lists(
        st.builds(NoteSignature, NAMES, st.binary(min_size=4, max_size=4), st.binary(min_size=1, max_size=80)),
        min_size=1,
        max_size=16,
    ),
)
def test_a_note_and_its_bytes_are_one(text: str, lines: list[NoteSignature]) -> None:
    note = Note(text, tuple(lines))
    assert parse_note(format_note(note)) == note
    assert format_note(parse_note(format_note(note))) == format_note(note)


@given(st.integers(0, 10**6))
def test_a_flipped_bit_in_a_signed_head_is_caught(at: int) -> None:
    data = bytearray(signed(7, bytes(range(32)), time=1_763_800_000))
    good = verify_checkpoint(bytes(data), LOG, [WITNESS])
    data[at % len(data)] ^= 1 << at // len(data) % 8
    with contextlib.suppress(Malformed):
        # A line whose name or id changed is a stranger's: it is ignored, and the witness is missing.
        assert len(verify_checkpoint(bytes(data), LOG, [WITNESS]).cosignatures) < len(good.cosignatures)


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_a_bundle_and_its_bytes_are_one(leaves: list[bytes]) -> None:
    assert decode_bundle(encode_bundle(leaves)) == leaves


@given(st.integers(-1, 63), st.integers(0, 2**60), st.integers(1, 256))
def test_a_tile_and_its_path_are_one(level: int, index: int, width: int) -> None:
    tile = Tile(level, index, width)
    assert parse_tile_path(format_tile_path(tile)) == tile
