"""A signed compact token, taken apart strictly before anything in it is believed.

Decides the shape of a token: size, segments, exactly the header members that its kind has, and JSON objects in which no
member occurs twice. Does not decide which key ought to have signed it nor what its claims mean (`jwt`, `renewal`), and
checks no signature but by `core.signature`.

INVARIANTS: any bytes give a `Compact` or `Malformed`; a header with any member beyond those its kind has is refused, so
`crit`, `b64`, `jwk`, `jku` and `x5u` never steer anything; the type stands in the header, so that no token passes for
one of another kind; the algorithm is ES256 and never the token's choice.
SPEC: RFC 7515 §5.2, RFC 8725 (JWT best current practices), JWT-SVID §2 ("any header not described here must not be
included").
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NoReturn

import msgspec

from citywatch.core.errors import Malformed
from citywatch.core.signature import P256Key, parse_b64url, verify_jws

MAX_TOKEN_BYTES = 8192
ALGORITHM = "ES256"
SIGNATURE_BYTES = 64
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_LATEST = 2**40  # seconds, some 34,000 years: later than any date, and milliseconds of it stay below 2**53


class Compact(msgspec.Struct, frozen=True):
    """A token taken apart and not yet believed: nothing in it is true until `check_signature` has returned."""

    text: str
    header: Mapping[str, Any]
    claims: Mapping[str, Any]


def parse_compact(token: bytes, *, typ: str, members: frozenset[str]) -> Compact:
    """Take a compact token apart. `members` are the header's members beside `alg` and `typ`; all must be there.

    1. size, ASCII, three segments · 2. base64url in its one form · 3. JSON objects without double members · 4. the
    algorithm is ES256 · 5. exactly the members expected · 6. the type expected · 7. 64 bytes of signature, unchecked.
    """
    if len(token) > MAX_TOKEN_BYTES:  # 1
        raise Malformed(f"a token has at most {MAX_TOKEN_BYTES} bytes")
    if not token.isascii() or token.count(b".") != 2:
        raise Malformed("a token has three segments in ASCII")
    text = token.decode("ascii")
    header_bytes, claims_bytes, signature = map(parse_b64url, text.split("."))  # 2
    header, claims = parse_object(header_bytes), parse_object(claims_bytes)  # 3
    if header.get("alg") != ALGORITHM:  # 4
        raise Malformed(f"the token's algorithm is not {ALGORITHM}")
    if header.keys() != members | {"alg", "typ"}:  # 5
        raise Malformed("the token's header has not exactly the members that it must have")
    if header["typ"] != typ:  # 6
        raise Malformed("the token is of another type")
    if len(signature) != SIGNATURE_BYTES:  # 7
        raise Malformed(f"an {ALGORITHM} signature has {SIGNATURE_BYTES} bytes")
    return Compact(text, header, claims)


def check_signature(compact: Compact, key: P256Key) -> None:
    """Raise `Malformed` unless `key` signed the token: from here on its claims are the signer's words."""
    verify_jws(compact.text, key)


def parse_object(data: bytes) -> dict[str, Any]:
    """Read one JSON object; a member that occurs twice, NaN, and what is not UTF-8 are `Malformed`.

    Two parsers that pick another one of two members would each verify another token.
    """
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise Malformed("not a JSON object") from None
    if not isinstance(value, dict):
        raise Malformed("not a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Malformed("a JSON object has a member twice")
    return members


def _refuse_constant(_: str) -> NoReturn:
    raise Malformed("NaN and infinity are not JSON")


def text_claim(claims: Mapping[str, Any], name: str) -> str:
    """The claim as text of at most 2048 characters that UTF-8 can write; `Malformed` for everything else."""
    value = claims.get(name)
    if not isinstance(value, str) or len(value) > 2048 or not value.isprintable():
        raise Malformed(f"the claim `{name}` is missing or not a plain text")
    return value


def time_claim(claims: Mapping[str, Any], name: str) -> int:
    """The claim, whole seconds since the epoch, as milliseconds; `Malformed` for everything else."""
    value = claims.get(name)
    if type(value) is not int or not 0 <= value < _LATEST:  # `type`, because True is an int to isinstance
        raise Malformed(f"the claim `{name}` is missing or not whole seconds since the epoch")
    return value * 1000


def moment_claim(claims: Mapping[str, Any], name: str) -> int:
    """The claim, a moment of UTC to the second (RFC 3339), as milliseconds; `Malformed` for everything else."""
    text = text_claim(claims, name)
    try:
        if _MOMENT.fullmatch(text):
            return int(datetime.fromisoformat(text).timestamp()) * 1000
    except ValueError:
        pass
    raise Malformed(f"the claim `{name}` is not a moment such as 2026-01-31T12:00:00Z")


def format_moment(ms: int) -> str:
    """The inverse of `moment_claim`, to the second."""
    return f"{datetime.fromtimestamp(ms // 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
