"""The messages of the SPIFFE Workload API, as Protocol Buffers write them.

Decides whether bytes are a request. Every message of this API is made of texts, bytes and messages inside messages, so
that all of it fits here and needs no generated code. INVARIANTS: any bytes give a request or `Malformed`; what is
written here is what Google's library reads.
SPEC: SPIFFE Workload API §5 and §6; Protocol Buffers, Encoding; google.protobuf.Struct.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from citywatch.core.errors import Malformed
from citywatch.service.outside import OwnPapers

MAX_REQUEST: Final = 65_536
MAX_REPLY: Final = 1 << 20
MAX_DEEP: Final = 32
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class TokenRequest(msgspec.Struct, frozen=True):
    """FetchJWTSVID: for whom the token is to be; `spiffe_id` is empty for whatever the caller is called."""

    audiences: tuple[str, ...]
    spiffe_id: str


class ValidateRequest(msgspec.Struct, frozen=True):
    """ValidateJWTSVID: a token, and the audience that it must be for."""

    audience: str
    token: str


def parse_empty(data: bytes) -> None:
    """Read a request that has no fields of its own; those of a later revision are passed over."""
    for _ in _fields(data):
        pass


def parse_token_request(data: bytes) -> TokenRequest:
    """Read a JWTSVIDRequest."""
    audiences, spiffe_id = [], ""
    for number, value in _fields(data):
        if number == 1:
            audiences.append(_text(value))
        elif number == 2:
            spiffe_id = _text(value)
    return TokenRequest(tuple(audiences), spiffe_id)


def parse_validate_request(data: bytes) -> ValidateRequest:
    """Read a ValidateJWTSVIDRequest."""
    found = {1: "", 2: ""}
    for number, value in _fields(data):
        if number in found:
            found[number] = _text(value)
    return ValidateRequest(found[1], found[2])


def parse_certificate_reply(data: bytes, wanted: str = "") -> OwnPapers:
    """Read an X509SVIDResponse for the SVID of the SPIFFE ID `wanted`, or else for its first one.

    SPEC: SPIFFE Workload API §5.3: the first is the default. A workload that several entries select has several.
    """
    first: OwnPapers | None = None
    for number, svid in _fields(data, MAX_REPLY):
        if number != 1:
            continue
        found = {1: b"", 2: b"", 3: b"", 4: b""}
        found |= {number: value for number, value in _fields(svid, MAX_REPLY) if number in found}
        papers = OwnPapers(_text(found[1]), _certificates(found[2]), found[3], _certificates(found[4]))
        if papers.spiffe_id == wanted:
            return papers
        first = first or papers
    if first is None:
        raise Malformed("the reply holds no certificate")
    return first


def parse_token_bundles(data: bytes) -> dict[str, bytes]:
    """Read a JWTBundlesResponse: JWKS by trust domain."""
    bundles: dict[str, bytes] = {}
    for number, pair in _fields(data, MAX_REPLY):
        if number == 1:
            found = {1: b"", 2: b""} | dict(_fields(pair, MAX_REPLY))
            bundles[_text(found[1])] = found[2]
    return bundles


def format_certificate_reply(
    spiffe_id: str, certificate: bytes, key: bytes, bundle: bytes, others: Mapping[str, bytes]
) -> bytes:
    """An X509SVIDResponse with one SVID: DER certificate, PKCS#8 key, DER authorities one after the other; and those of
    other trust domains."""
    svid = _field(1, spiffe_id.encode()) + _field(2, certificate) + _field(3, key) + _field(4, bundle)
    return _field(1, svid) + _map(3, others)


def format_certificate_bundles(bundles: Mapping[str, bytes]) -> bytes:
    """An X509BundlesResponse: DER authorities by trust domain."""
    return _map(2, bundles)


def format_token_reply(spiffe_id: str, token: str) -> bytes:
    """A JWTSVIDResponse with one SVID."""
    return _field(1, _field(1, spiffe_id.encode()) + _field(2, token.encode()))


def format_token_bundles(bundles: Mapping[str, bytes]) -> bytes:
    """A JWTBundlesResponse: JWKS by trust domain."""
    return _map(1, bundles)


def format_validate_reply(spiffe_id: str, claims: Mapping[str, Any]) -> bytes:
    """A ValidateJWTSVIDResponse."""
    return _field(1, spiffe_id.encode()) + _field(2, _struct(claims, 0))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content


def _map(number: int, values: Mapping[str, bytes]) -> bytes:
    pairs = ((name.encode(), value) for name, value in values.items())
    return b"".join(_field(number, _field(1, name) + _field(2, value)) for name, value in pairs)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _struct(members: Mapping[str, Any], depth: int) -> bytes:
    pairs = ((name.encode(), _value(one, depth)) for name, one in members.items())
    return b"".join(_field(1, _field(1, name) + _field(2, value)) for name, value in pairs)


def _value(value: Any, depth: int) -> bytes:
    """SPEC: google.protobuf.Value: a number is a double, whatever it was in JSON."""
    if depth > MAX_DEEP:
        raise Malformed("a claim is nested too deep")
    if value is None:
        return _varint(1 << 3 | _VARINT) + b"\x00"
    if isinstance(value, bool):
        return _varint(4 << 3 | _VARINT) + (b"\x01" if value else b"\x00")
    if isinstance(value, int | float):
        try:
            return _varint(2 << 3 | _FIXED64) + struct.pack("<d", float(value))
        except OverflowError:
            raise Malformed("a claim is a number that is too large") from None
    if isinstance(value, str):
        return _field(3, value.encode())
    if isinstance(value, Mapping):
        return _field(5, _struct(value, depth + 1))
    if isinstance(value, Sequence):
        return _field(6, b"".join(_field(1, _value(one, depth + 1)) for one in value))
    raise Malformed("a claim is no JSON")


def _certificates(data: bytes) -> tuple[bytes, ...]:
    """DER certificates that stand one after the other, each by its own length. SPEC: X.690 §8.1.3."""
    found, at = [], 0
    while at < len(data):
        if len(data) - at < 2 or data[at] != 0x30:
            raise Malformed("what should be certificates is none")
        size, head = data[at + 1], 2
        if size >= 0x80:
            octets = size & 0x7F
            if not 0 < octets <= 3 or len(data) - at < 2 + octets:
                raise Malformed("a certificate ends beyond the message")
            size, head = int.from_bytes(data[at + 2 : at + 2 + octets], "big"), 2 + octets
        end = at + head + size
        if end > len(data):
            raise Malformed("a certificate ends beyond the message")
        found.append(data[at:end])
        at = end
    return tuple(found)


def _fields(data: bytes, most: int = MAX_REQUEST) -> Iterator[tuple[int, bytes]]:
    """Each field that has bytes; one of another kind is none of these messages', whatever its number is."""
    if len(data) > most:
        raise Malformed(f"a message has at most {most} bytes")
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        number, kind = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise Malformed("a field has no number")
        if kind == _VARINT:
            _, at = _read_varint(data, at)
            continue
        if kind == _BYTES:
            size, at = _read_varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise Malformed("a field is of an unknown kind")
        if size > len(data) - at:
            raise Malformed("a field ends beyond the message")
        if kind == _BYTES:
            yield number, data[at : at + size]
        at += size


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise Malformed("a number ends beyond the message")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 1 << 64:
                break
            return value, at
    raise Malformed("a number is too long")


def _text(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("a field is not text in UTF-8") from None
