"""The tree's hashes, written out by hand, and what a proof must not be."""

import hashlib

import pytest

from citywatch.core.errors import Malformed
from citywatch.core.log.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    range_root,
    verify_consistency,
    verify_inclusion,
    verify_subtree_consistency,
)

LEAVES = [leaf_hash(bytes([i])) for i in range(9)]


def node(level: int, i: int) -> bytes:
    return LEAVES[i] if level == 0 else node_hash(node(level - 1, 2 * i), node(level - 1, 2 * i + 1))


def test_hashes_are_those_of_rfc_9162() -> None:
    assert EMPTY_ROOT == Frontier().root() == hashlib.sha256(b"").digest()
    assert leaf_hash(b"x") == hashlib.sha256(b"\x00x").digest()
    assert node_hash(b"a" * 32, b"b" * 32) == hashlib.sha256(b"\x01" + b"a" * 32 + b"b" * 32).digest()


def test_a_tree_of_seven_is_what_rfc_9162_draws() -> None:
    d = LEAVES
    left = node_hash(node_hash(d[0], d[1]), node_hash(d[2], d[3]))
    right = node_hash(node_hash(d[4], d[5]), d[6])
    assert Frontier().extended(d[:7])[0].root() == node_hash(left, right) == range_root(0, 7, node)
    # RFC 9162 §2.1.5 names these proofs.
    assert inclusion_proof(0, 7, node) == [d[1], node_hash(d[2], d[3]), right]
    assert inclusion_proof(3, 7, node) == [d[2], node_hash(d[0], d[1]), right]
    assert inclusion_proof(6, 7, node) == [node_hash(d[4], d[5]), left]
    assert consistency_proof(3, 7, node) == [d[2], d[3], node_hash(d[0], d[1]), right]
    assert consistency_proof(4, 7, node) == [right]
    assert consistency_proof(6, 7, node) == [node_hash(d[4], d[5]), d[6], left]
    assert consistency_proof(7, 7, node) == []


def test_extending_names_the_nodes_that_were_completed() -> None:
    grown, done = Frontier().extended(LEAVES, every=2)
    assert done == [LEAVES, [node(2, 0), node(2, 1)]]
    assert grown == Frontier(9, (node(3, 0), LEAVES[8]))


@pytest.mark.parametrize(("index", "size"), [(0, 0), (-1, 3), (3, 3), (4, 3)])
def test_no_proof_is_built_or_taken_for_what_is_not_there(index: int, size: int) -> None:
    with pytest.raises(Malformed):
        inclusion_proof(index, size, node)
    with pytest.raises(Malformed):
        verify_inclusion(LEAVES[0], index, size, [], LEAVES[0])


@pytest.mark.parametrize(("old", "new"), [(0, 0), (0, 5), (-1, 5), (6, 5)])
def test_growth_from_nothing_or_backwards_shows_nothing(old: int, new: int) -> None:
    with pytest.raises(Malformed):
        consistency_proof(old, new, node)
    with pytest.raises(Malformed):
        verify_consistency(old, new, [], EMPTY_ROOT, EMPTY_ROOT)


@pytest.mark.parametrize(("start", "stop"), [(-2, -2), (-1, 0), (6, 6), (2, 1), (1, 3), (3, 5)])
def test_what_is_no_subtree_of_the_log_is_part_of_none(start: int, stop: int) -> None:
    """Not even where it would be empty, and so true of every log."""
    with pytest.raises(Malformed):
        verify_subtree_consistency(start, stop, 5, [], EMPTY_ROOT, range_root(0, 5, node))


def test_hashes_of_another_length_cannot_be_shifted_into_each_other() -> None:
    """31 and 33 bytes join to the same 64 as 32 and 32: a leaf nobody logged would verify."""
    root = node_hash(LEAVES[0], LEAVES[1])
    both = LEAVES[0] + LEAVES[1]
    verify_inclusion(LEAVES[0], 0, 2, [LEAVES[1]], root)
    with pytest.raises(Malformed):
        verify_inclusion(both[:31], 0, 2, [both[31:]], root)
    with pytest.raises(Malformed):
        verify_consistency(1, 2, [both[31:]], both[:31], root)
