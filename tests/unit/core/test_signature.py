"""Which keys and signatures are refused that a library would take, one test per rule."""

import json
from base64 import urlsafe_b64encode
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from citywatch.core import signature as module
from citywatch.core.errors import Malformed
from citywatch.core.signature import (
    Ed25519Key,
    P256Key,
    format_jwk,
    parse_b64url,
    parse_ed25519_key,
    parse_jwk,
    parse_p256_key,
    parse_spki,
    thumbprint,
    verify_ed25519,
    verify_jws,
    verify_p256,
    verify_p256_der,
)

P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
ED_PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
EC_PRIVATE = ec.derive_private_key(0xC17A, ec.SECP256R1())
ED = parse_ed25519_key(ED_PRIVATE.public_key().public_bytes_raw())
EC = parse_p256_key(EC_PRIVATE.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))


def b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def es256(message: bytes) -> bytes:
    r, s = decode_dss_signature(EC_PRIVATE.sign(message, ec.ECDSA(SHA256())))
    return r.to_bytes(32) + s.to_bytes(32)


def add(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    """Affine addition on edwards25519, straight from RFC 8032 §5.1: slow and obvious."""
    (x1, y1), (x2, y2) = a, b
    d = -121665 * pow(121666, -1, P)
    k = d * x1 * x2 * y1 * y2
    return (x1 * y2 + x2 * y1) * pow(1 + k, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - k, -1, P) % P


def torsion() -> set[tuple[int, int]]:
    """All points whose order divides 8, found by multiplying points by L."""
    d = -121665 * pow(121666, -1, P)
    found: set[tuple[int, int]] = set()
    y = 2
    while len(found) < 8:
        y += 1
        square = (y * y - 1) * pow(d * y * y + 1, -1, P) % P
        root = pow(square, (P + 3) // 8, P)
        x = root if root * root % P == square else root * pow(2, (P - 1) // 4, P) % P
        if x * x % P != square:
            continue
        total, power, rest = (0, 1), (x, y), L
        while rest:
            total, power, rest = (add(total, power) if rest & 1 else total), add(power, power), rest >> 1
        while total not in found:
            found.add(total)
            total = add(total, total)
        found |= {add(a, b) for a in found for b in found}
    return found


def test_every_key_of_small_order_is_refused_in_every_encoding() -> None:
    points = torsion()
    assert len(points) == 8
    for _, y in points:
        for sign in (0, 1):
            for encoded in (y, y + P):
                if encoded < 2**255:
                    with pytest.raises(Malformed, match=r"small order|canonical"):
                        parse_ed25519_key((encoded | sign << 255).to_bytes(32, "little"))


def test_a_small_order_key_would_accept_one_signature_for_all_messages() -> None:
    """The attack that the rule above stops: with the key 1 (the identity), R = 1 and S = 0 sign everything."""
    identity = (1).to_bytes(32, "little")
    Ed25519PublicKey.from_public_bytes(identity).verify(identity + bytes(32), b"pay everything to mallory")


@pytest.mark.parametrize(
    "raw",
    [b"", bytes(31), bytes(33), (P + 3).to_bytes(32, "little"), b"\xff" * 32, (2).to_bytes(32, "little")],
    ids=["empty", "short", "long", "y is not reduced", "all ones", "off the curve"],
)
def test_an_ed25519_key_is_32_canonical_bytes_on_the_curve(raw: bytes) -> None:
    with pytest.raises(Malformed):
        parse_ed25519_key(raw)


def test_an_ed25519_signature_is_for_one_key_one_message_one_form() -> None:
    signature = ED_PRIVATE.sign(b"message")
    signed = verify_ed25519(ED, b"message", signature)
    assert (signed.message, signed.key) == (b"message", ED)
    s = int.from_bytes(signature[32:], "little")
    other = parse_ed25519_key(Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes_raw())
    for key, message, bad in [
        (ED, b"messagE", signature),
        (other, b"message", signature),
        (ED, b"message", signature[:32] + (s + L).to_bytes(32, "little")),
        (ED, b"message", signature + b"\0"),
        (ED, b"message", signature[:63]),
        (ED, b"message", b""),
        (ED, b"message", bytes(64)),
    ]:
        with pytest.raises(Malformed):
            verify_ed25519(key, message, bad)


def test_s_is_checked_here_and_not_only_in_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lenient:
        def verify(self, signature: bytes, message: bytes) -> None:
            """Takes everything."""

    key = Ed25519Key(ED.raw, Lenient())  # type: ignore[arg-type]
    assert verify_ed25519(key, b"", bytes(64))
    with pytest.raises(Malformed, match="canonical"):
        verify_ed25519(key, b"", bytes(32) + L.to_bytes(32, "little"))


def test_a_p256_key_is_an_uncompressed_point_on_the_curve() -> None:
    compressed = EC_PRIVATE.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    off = EC.point[:-1] + bytes([EC.point[-1] ^ 1])
    for point in (compressed, off, b"", b"\0", EC.point + b"\0", b"\x04" + bytes(64), b"\x06" + EC.point[1:]):
        with pytest.raises(Malformed):
            parse_p256_key(point)


def test_an_es256_signature_is_64_bytes_and_in_der_has_one_form() -> None:
    signature = es256(b"message")
    assert verify_p256(EC, b"message", signature).message == b"message"
    der = EC_PRIVATE.sign(b"message", ec.ECDSA(SHA256()))
    assert verify_p256_der(EC, b"message", der).key == EC
    padded = signature[:32] + b"\0" + signature[32:]  # the same r and s, in another form
    for raw in (padded, signature + b"\0", signature[1:], bytes(64), b"", der):
        with pytest.raises(Malformed):
            verify_p256(EC, b"message", raw)
    with pytest.raises(Malformed):
        verify_p256(EC, b"messagE", signature)
    with pytest.raises(Malformed):
        verify_p256_der(EC, b"messagE", der)
    long_form = b"\x30\x81" + der[1:]
    for bad in (long_form, der + b"\0", der[:-1], b"", signature, encode_dss_signature(0, 0)):
        with pytest.raises(Malformed):
            verify_p256_der(EC, b"message", bad)


def test_a_spki_is_read_for_two_key_types_in_one_form() -> None:
    for private, key in ((ED_PRIVATE, ED), (EC_PRIVATE, EC)):
        der = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert parse_spki(der) == key
        with pytest.raises(Malformed):
            parse_spki(der + b"\0")
    compressed = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200")
    compressed += EC_PRIVATE.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    others: list[Any] = [generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())]
    ders = [each.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for each in others]
    for der in (*ders, compressed, b"", b"\x30\x00", b"nonsense"):
        with pytest.raises(Malformed):
            parse_spki(der)
    small = bytes.fromhex("302a300506032b6570032100") + (1).to_bytes(32, "little")
    with pytest.raises(Malformed, match="small order"):
        parse_spki(small)


@pytest.mark.parametrize("key", [ED, EC], ids=["ed25519", "p256"])
def test_a_jwk_is_the_inverse_of_its_key(key: Ed25519Key | P256Key) -> None:
    assert parse_jwk(format_jwk(key), use="sig") == key


@pytest.mark.parametrize(
    "change",
    [
        {"kty": "OKP"},
        {"kty": None},
        {"crv": "P-384"},
        {"alg": "ES384"},
        {"alg": "none"},
        {"alg": None},
        {"alg": ["ES256"]},
        {"use": "enc"},
        {"use": None},
        {"use": "jwt-svid"},
        {"key_ops": ["sign"]},
        {"key_ops": []},
        {"key_ops": "verify"},
        {"key_ops": {"verify": 1}},
        {"key_ops": ["verify", "verify"]},
        {"key_ops": ["verify", "sign", "sign"]},
        {"key_ops": ["verify", 1]},
        {"d": "AA"},
        {"k": "AA"},
        {"x": b64(EC.point[1:33]) + "="},
        {"x": b64(b"\0" + EC.point[1:33])},
        {"x": b64(EC.point[2:33])},
        {"x": 7},
        {"x": b64(EC.point[1:33])[:-1] + "\n"},
        {"y": b64(EC.point[1:33])},
        {"y": None},
    ],
    ids=repr,
)
def test_a_jwk_that_is_not_a_public_key_for_this_use_is_refused(change: dict[str, object]) -> None:
    good = format_jwk(EC) | {"alg": "ES256", "use": "sig", "key_ops": ["verify"], "kid": "a"}
    assert parse_jwk(good, use="sig") == EC
    with pytest.raises(Malformed):
        parse_jwk(good | change, use="sig")


class Compared(str):
    """A text that counts how often it is compared."""

    __slots__ = ()
    times = 0

    def __eq__(self, other: object) -> bool:
        Compared.times += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_a_jwk_with_thousands_of_uses_is_not_read_use_by_use() -> None:
    """31 KB of them took 0.2 s, compared each with each, from anybody who asks for papers."""
    uses = ["verify", *(Compared(number) for number in range(5000))]
    with pytest.raises(Malformed):
        parse_jwk(format_jwk(EC) | {"key_ops": uses}, use="sig")
    assert Compared.times == 0
    all_known = ["sign", "verify", "encrypt", "decrypt", "wrapKey", "unwrapKey", "deriveKey", "deriveBits"]
    assert parse_jwk(format_jwk(EC) | {"key_ops": all_known}, use="sig") == EC


@pytest.mark.parametrize(
    "change", [{"alg": "ES256"}, {"crv": "X25519"}, {"kty": "EC"}, {"x": b64(bytes(32))}], ids=repr
)
def test_an_ed25519_jwk_names_its_kind(change: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        parse_jwk(format_jwk(ED) | change, use="sig")


def test_a_jwk_for_spiffe_names_its_own_use() -> None:
    jwk = format_jwk(EC) | {"use": "jwt-svid"}
    assert parse_jwk(jwk, use="jwt-svid") == EC
    with pytest.raises(Malformed):
        parse_jwk(jwk, use="x509-svid")


def test_the_thumbprint_of_rfc_8037_appendix_a3() -> None:
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    assert thumbprint(parse_jwk(jwk, use="sig")) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def jws(header: dict[str, object] | bytes, payload: bytes = b"{}", sign: Any = es256) -> str:
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    signing_input = f"{b64(head)}.{b64(payload)}"
    return f"{signing_input}.{b64(sign(signing_input.encode()))}"


def test_a_jws_gives_its_header_and_payload() -> None:
    token = verify_jws(jws({"alg": "ES256", "kid": "a"}, b"payload"), EC)
    assert (token.header, token.payload, token.key) == ({"alg": "ES256", "kid": "a"}, b"payload", EC)
    for alg in ("EdDSA", "Ed25519"):
        assert verify_jws(jws({"alg": alg}, sign=ED_PRIVATE.sign), ED).payload == b"{}"


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ({"alg": "none"}, EC),
        ({}, EC),
        ({"alg": "ES384"}, EC),
        ({"alg": "EdDSA"}, EC),
        ({"alg": "ES256"}, ED),
        ({"alg": "HS256"}, ED),
        ({"alg": "ES256", "crit": ["b64"], "b64": False}, EC),
        ({"alg": "ES256", "jwk": format_jwk(EC)}, EC),
        ({"alg": "ES256", "jku": "https://keys.example"}, EC),
        ({"alg": "ES256", "x5c": []}, EC),
        ({"alg": "ES256", "x5u": ""}, EC),
        (b'{"alg":"none","alg":"ES256"}', EC),
        (b'["ES256"]', EC),
        (b'"ES256"', EC),
        (b"\xff", EC),
        (b'{"alg":"ES256"', EC),
        (b"[" * 5000, EC),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_jws_is_read_under_the_key_that_we_chose(header: Any, key: Ed25519Key | P256Key) -> None:
    with pytest.raises(Malformed):
        verify_jws(jws(header, sign=ED_PRIVATE.sign if key is ED else es256), key)


def test_a_jws_has_one_text() -> None:
    token = jws({"alg": "ES256"}, b"abcd")
    head, payload, signature = token.split(".")
    for bad in (
        f"{head}.{payload}",
        f"{token}.",
        f".{payload}.{signature}",
        f"{head}.{payload}.",
        f"{head}.{payload}=.{signature}",
        f"{head}. {payload}.{signature}",
        f"{head}.{payload[:-1]}h.{signature}",
        f"{head}.{payload}.{signature}\n",
        f"{head}.{payload}é.{signature}",
        "",
        token + "A" * module.MAX_JWS_BYTES,
    ):
        with pytest.raises(Malformed):
            verify_jws(bad, EC)


def test_an_oversized_jws_is_refused_though_signed() -> None:
    with pytest.raises(Malformed, match="16 KiB"):
        verify_jws(jws({"alg": "ES256"}, bytes(module.MAX_JWS_BYTES)), EC)


@pytest.mark.parametrize("text", ["A", "AB", "AA==", "AA+A", "AA/A", "AA A", "éA", "AA\n", "A===", "====", "-"])
def test_base64url_has_one_form(text: str) -> None:
    with pytest.raises(Malformed):
        parse_b64url(text)
    assert parse_b64url("AA") == b"\0"
    assert parse_b64url("-_-_") == b"\xfb\xff\xbf"
