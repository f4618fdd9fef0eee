"""The Merkle tree: hashes, roots, proofs that an entry is in and that the log only grew.

Decides whether a proof is good. Stores nothing: whoever builds a proof passes in a function that finds the hash of a
complete subtree (`log.tiles` has one over tiles). Does not know what an entry says, nor who signed a root.

INVARIANTS: a leaf's hash and a node's can never be equal (prefixes 0x00 and 0x01); a proof is accepted only if every
hash in it was used and its length is the one possible for these sizes; a proof about nothing (an empty log, growth from
size 0) is refused; any input gives a value or `Malformed`.
SPEC: RFC 9162 §2.1 (the same tree as RFC 6962); subtrees: draft-ietf-plants-merkle-tree-certs §4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

import msgspec

from citywatch.core.errors import Malformed

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()

Node = Callable[[int, int], bytes]
"""`node(level, i)` is the hash of the complete subtree over the leaves `i * 2**level` up to `(i + 1) * 2**level`."""


def leaf_hash(leaf: bytes) -> bytes:
    """The hash of one entry's bytes as a leaf."""
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees, side by side."""
    return sha256(b"\x01" + left + right).digest()


class Frontier(msgspec.Struct, frozen=True):
    """All that a log needs to remember to grow: the complete subtrees along its right edge, the largest first."""

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def root(self) -> bytes:
        """The tree's root at this size."""
        return fold(self.hashes) if self.hashes else EMPTY_ROOT

    def extended(self, leaf_hashes: Iterable[bytes], every: int = 8) -> tuple[Frontier, list[list[bytes]]]:
        """Append leaves (2 µs each). Beside the new frontier: the nodes completed at levels 0, `every`, 2 * `every`…"""
        at_leaves: list[bytes] = []
        edge, size, done = list(self.hashes), self.size, [at_leaves]
        for each in leaf_hashes:
            at_leaves.append(each)
            node, rest, level = each, size, 0
            while rest & 1:
                node = sha256(b"\x01" + edge.pop() + node).digest()
                rest >>= 1
                level += 1
                if level % every == 0:
                    if level // every == len(done):
                        done.append([])
                    done[level // every].append(node)
            edge.append(node)
            size += 1
        return Frontier(size, tuple(edge)), done


def fold(hashes: Sequence[bytes]) -> bytes:
    """Join complete subtrees, the largest first, into the hash over all their leaves."""
    root = hashes[-1]
    for left in reversed(hashes[:-1]):
        root = node_hash(left, root)
    return root


def range_root(start: int, stop: int, node: Node) -> bytes:
    """The hash over the leaves `start <= i < stop`; `start` is aligned to what a subtree of that length needs."""
    hashes = []
    while start < stop:
        level = (stop - start).bit_length() - 1
        hashes.append(node(level, start >> level))
        start += 1 << level
    return fold(hashes)


def inclusion_proof(index: int, size: int, node: Node) -> list[bytes]:
    """The hashes that lead from leaf `index` to the root at `size`, sibling first. SPEC: RFC 9162 §2.1.3.1."""
    if not 0 <= index < size:
        raise Malformed(f"entry {index} is not in a log of {size}")
    start, stop, path = 0, size, []
    while stop - start > 1:
        middle = start + _split(stop - start)
        if index < middle:
            path.append(range_root(middle, stop, node))
            stop = middle
        else:
            path.append(range_root(start, middle, node))
            start = middle
    return path[::-1]


def consistency_proof(old: int, new: int, node: Node) -> list[bytes]:
    """The hashes that show that the log of `new` entries begins with that of `old`. SPEC: RFC 9162 §2.1.4.1."""
    if not 0 < old <= new:
        raise Malformed(f"no consistency proof leads from size {old} to size {new}")
    start, stop, path = 0, new, []
    while stop != old:
        middle = start + _split(stop - start)
        if old <= middle:
            path.append(range_root(middle, stop, node))
            stop = middle
        else:
            path.append(range_root(start, middle, node))
            start = middle
    if start:  # the verifier knows the old root, but not this last part of it
        path.append(range_root(start, stop, node))
    return path[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Raise `Malformed` unless the leaf with hash `leaf` is entry `index` under `root`. SPEC: RFC 9162 §2.1.3.2."""
    if not 0 <= index < size:
        raise Malformed(f"entry {index} is not in a log of {size}")
    _check_hashes((leaf, *proof))
    position, last, node = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise Malformed("an inclusion proof is too long")
        if position & 1 or position == last:
            node = node_hash(sibling, node)
            while not position & 1 and position:  # promoted: no sibling at these levels
                position >>= 1
                last >>= 1
        else:
            node = node_hash(node, sibling)
        position >>= 1
        last >>= 1
    if last != 0 or node != root:
        raise Malformed("an inclusion proof does not lead to the root")


def verify_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """Raise `Malformed` unless the log under `new_root` begins with the one under `old_root`.

    Growth from size 0 is refused: every log begins with the empty one, so such a proof shows nothing.
    """
    if not 0 < old <= new:
        raise Malformed(f"no consistency proof leads from size {old} to size {new}")
    verify_subtree_consistency(0, old, new, proof, old_root, new_root)


def verify_subtree_inclusion(
    leaf: bytes, index: int, start: int, stop: int, proof: Sequence[bytes], subtree_root: bytes
) -> None:
    """Raise `Malformed` unless the leaf is entry `index` of the log, under the root over `start <= i < stop`."""
    _check_subtree(start, stop)
    verify_inclusion(leaf, index - start, stop - start, proof, subtree_root)


def verify_subtree_consistency(
    start: int, stop: int, size: int, proof: Sequence[bytes], subtree_root: bytes, root: bytes
) -> None:
    """Raise `Malformed` unless the leaves `start <= i < stop` of the log under `root` have the root `subtree_root`.

    An empty subtree is part of every log and shows nothing of it. SPEC: RFC 9162 §2.1.4.2, generalised by the draft.
    """
    _check_subtree(start, stop)
    if stop > size:
        raise Malformed(f"a subtree up to {stop} is not in a log of {size}")
    _check_hashes(proof)
    if start == stop:
        if proof or subtree_root != EMPTY_ROOT:
            raise Malformed("an empty subtree has another root, and no proof")
        return
    # `first` and `last` are the subtree's outermost nodes, `end` the tree's last one, all at the same level.
    first, last, end = start, stop - 1, size - 1
    while first != last and (last & 1 or last == end):  # climb while the subtree's right edge is complete
        first, last, end = first >> 1, last >> 1, end >> 1
    hashes = list(proof) if first != last else [subtree_root, *proof]
    if not hashes:
        raise Malformed("a consistency proof is empty")
    part = whole = hashes[0]
    for sibling in hashes[1:]:
        if end == 0:
            raise Malformed("a consistency proof is too long")
        if last & 1 or last == end:
            if first < last:
                part = node_hash(sibling, part)
            whole = node_hash(sibling, whole)
            while not last & 1 and last:
                first, last, end = first >> 1, last >> 1, end >> 1
        else:
            whole = node_hash(whole, sibling)
        first, last, end = first >> 1, last >> 1, end >> 1
    if end != 0 or part != subtree_root or whole != root:
        raise Malformed("a consistency proof does not join the two roots")


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1


def _check_subtree(start: int, stop: int) -> None:
    # SPEC: draft-ietf-plants-merkle-tree-certs §4.1: start is a multiple of the length, rounded up to a power of two.
    if not 0 <= start <= stop or (stop > start and start % (1 << (stop - start - 1).bit_length())):
        raise Malformed(f"the leaves from {start} up to {stop} are not a subtree")


def _check_hashes(hashes: Iterable[bytes]) -> None:
    # 31 and 33 bytes hash as 32 and 32 would. Roots need no such check: they are compared with a hash of ours.
    if any(len(each) != HASH_BYTES for each in hashes):
        raise Malformed(f"a hash has {HASH_BYTES} bytes")
