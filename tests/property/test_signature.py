"""Any bytes give a key, a signed value, or `Malformed`; a changed bit is never a signature."""

import contextlib
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from citywatch.core.errors import Malformed
from citywatch.core.signature import (
    parse_ed25519_key,
    parse_jwk,
    parse_p256_key,
    parse_spki,
    verify_ed25519,
    verify_jws,
    verify_p256_der,
)

PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEY = parse_ed25519_key(PRIVATE.public_key().public_bytes_raw())
P256 = parse_p256_key(
    ec.derive_private_key(0xC17A, ec.SECP256R1())
    .public_key()
    .public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
)
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3))


@given(st.binary(max_size=100))
def test_any_bytes_give_a_key_or_malformed(data: bytes) -> None:
    parsers: list[Callable[[bytes], object]] = [
        parse_ed25519_key,
        parse_p256_key,
        parse_spki,
        lambda raw: parse_p256_key(b"\x04" + raw[:64]),
        lambda raw: parse_spki(b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00" + raw[:32]),
    ]
    for parse in parsers:
        with contextlib.suppress(Malformed):
            parse(data)


@given(
    st.dictionaries(st.sampled_from(["kty", "crv", "alg", "use", "key_ops", "x", "y", "d"]), JSON | st.just("Ed25519"))
)
def test_any_object_gives_a_key_or_malformed(jwk: dict[str, object]) -> None:
    with contextlib.suppress(Malformed):
        parse_jwk(jwk, use="sig")


@given(st.text(), st.binary(max_size=80))
def test_any_token_or_signature_is_malformed(text: str, data: bytes) -> None:
    for attempt in (
        lambda: verify_jws(text, KEY),
        lambda: verify_jws(f"{text}.{text}.{text}", P256),
        lambda: verify_ed25519(KEY, data, data),
        lambda: verify_p256_der(P256, data, data),
    ):
        try:
            attempt()
        except Malformed:
            continue
        raise AssertionError("nobody signed this")


@given(st.binary(max_size=40), st.integers(0, 511))
def test_a_signature_with_a_flipped_bit_is_none(message: bytes, bit: int) -> None:
    signature = bytearray(PRIVATE.sign(message))
    assert verify_ed25519(KEY, message, bytes(signature)).message == message
    signature[bit // 8] ^= 1 << bit % 8
    try:
        verify_ed25519(KEY, message, bytes(signature))
    except Malformed:
        return
    raise AssertionError("a changed signature verified")
