"""Core's log against its slow twin, `spec/verify_log.py`, which was written from the RFCs and shares no line of it."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from citywatch.core.errors import Malformed
from citywatch.core.events import Event
from citywatch.core.log.entry import encode_event
from citywatch.core.log.merkle import (
    Frontier,
    consistency_proof,
    fold,
    inclusion_proof,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)
from citywatch.core.signature import parse_ed25519_key, verify_ed25519
from spec import verify_log
from tests.log_world import EVENTS

WYCHEPROOF = Path(__file__).parents[2] / "spec/vectors/third_party/wycheproof/ed25519_test.json"
HASHES = [leaf_hash(b"%d" % i) for i in range(80)]
HASH = st.sampled_from([*HASHES[:3], bytes(32)])


def node(level: int, i: int) -> bytes:
    return verify_log.tree_hash(HASHES, i << level, i + 1 << level)


def refuses(verify: Any, *arguments: Any) -> bool:
    try:
        verify(*arguments)
    except (Malformed, verify_log.Wrong):
        return True
    return False


@pytest.mark.parametrize("size", range(80))
def test_roots_are_equal_at_every_size(size: int) -> None:
    frontier, _ = Frontier().extended(HASHES[:size])
    assert frontier.root() == verify_log.tree_hash(HASHES, 0, size)
    if size:
        assert fold(frontier.hashes) == frontier.root()


@pytest.mark.parametrize("size", range(1, 40))
def test_all_proofs_of_small_logs_convince_both(size: int) -> None:
    top = verify_log.tree_hash(HASHES, 0, size)
    for index in range(size):
        proof = inclusion_proof(index, size, node)
        verify_inclusion(HASHES[index], index, size, proof, top)
        verify_log.check_inclusion(index, size, HASHES[index], proof, top)
    for old in range(1, size + 1):
        growth, before = consistency_proof(old, size, node), verify_log.tree_hash(HASHES, 0, old)
        verify_consistency(old, size, growth, before, top)
        verify_log.check_growth(old, size, growth, before, top)


@settings(max_examples=400)
@given(st.data())
def test_broken_proofs_convince_neither_or_both(data: st.DataObject) -> None:
    """Sizes, indices, roots and hashes drawn so that they nearly fit: the two judges never differ."""
    size = data.draw(st.integers(0, 40))
    index, old = data.draw(st.integers(-1, size + 1)), data.draw(st.integers(-1, size + 1))
    real = [inclusion_proof(index, size, node)] if 0 <= index < size else []
    real += [consistency_proof(old, size, node)] if 0 < old <= size else []
    proof = list(data.draw(st.sampled_from([*real, []])))
    for _ in range(data.draw(st.integers(0, 2))):
        at = data.draw(st.integers(0, len(proof)))
        proof[at : at + data.draw(st.integers(0, 1))] = data.draw(st.lists(HASH, max_size=1))
    leaf = HASHES[index] if 0 <= index < 80 else HASHES[0]
    top, before = verify_log.tree_hash(HASHES, 0, size), verify_log.tree_hash(HASHES, 0, max(old, 0))
    assert refuses(verify_inclusion, leaf, index, size, proof, top) == refuses(
        verify_log.check_inclusion, index, size, leaf, proof, top
    )
    assert refuses(verify_consistency, old, size, proof, before, top) == refuses(
        verify_log.check_growth, old, size, proof, before, top
    )


@settings(max_examples=300)
@given(EVENTS)
def test_a_leaf_is_the_rfc_8785_form_of_the_event(event: Event) -> None:
    assert encode_event(event) == rfc8785.dumps(msgspec.to_builtins(event))


_SAFE = st.integers(-(2**53) + 1, 2**53 - 1)
_JSON = st.recursive(
    st.none() | st.booleans() | _SAFE | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
)


@settings(max_examples=400)
@given(_JSON)
def test_the_verifiers_own_rfc_8785_is_the_reference_implementations(value: Any) -> None:
    assert verify_log.canonical(value).encode() == rfc8785.dumps(value)


@pytest.mark.parametrize("group", json.loads(WYCHEPROOF.read_bytes())["testGroups"], ids=lambda group: "")
def test_the_verifiers_own_ed25519_passes_wycheproof(group: dict[str, Any]) -> None:
    key = bytes.fromhex(group["publicKey"]["pk"])
    for case in group["tests"]:
        arguments = key, bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"])
        assert refuses(verify_log.check_ed25519, *arguments) == (case["result"] != "valid"), case["comment"]


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=20), st.integers(0, 1023))
def test_both_ed25519_judges_agree(seed: bytes, message: bytes, bit: int) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    public, signature = private.public_key().public_bytes_raw(), bytearray(private.sign(message))
    verify_log.check_ed25519(public, message, bytes(signature))
    if bit < 512:
        signature[bit // 8] ^= 1 << bit % 8
    key = bytearray(public)
    if bit % 3 == 0:
        key[bit % 32] ^= 1 << bit % 8

    def core() -> None:
        verify_ed25519(parse_ed25519_key(bytes(key)), message, bytes(signature))

    assert refuses(core) == refuses(verify_log.check_ed25519, bytes(key), message, bytes(signature))


@pytest.mark.parametrize("y", [0, 1, 2, 3, verify_log.P - 1, verify_log.P, verify_log.P + 1, 2**255 - 1, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("sign", [0, 1])
def test_both_refuse_the_same_keys(y: int, sign: int) -> None:
    raw = (y | sign << 255).to_bytes(32, "little")

    def twin() -> None:
        if verify_log.encode_point(verify_log.multiply(8, verify_log.decode_point(raw))) == (1).to_bytes(32, "little"):
            raise verify_log.Wrong("small order")

    assert refuses(parse_ed25519_key, raw) == refuses(twin)
