"""What a request says is signed of it, and the bytes that are: RFC 9421, narrowed, for every kind of signer.

Decides that a request carries one signature in its one form, that it covers all that decides under a `Profile`, that it
is of this minute, and that a body is the one whose digest was signed. Does not decide whose key made it (each profile's
own module does), nor whether the request came before (`service.messages` keeps the nonces).

Narrower than RFC 9421, so that two readers cannot differ: one signature, written in the one form that RFC 8941 writes;
components without parameters; `alg` may only repeat the algorithm of the profile. Covered is all that decides:
`@method`, `@authority`, `@request-target`, `content-digest` if there is a body, and what else the profile names.

INVARIANTS: any bytes give a `Described` or `Malformed`; a signature lives for a minute at most; nothing here is proved
until a key has verified `Described.signed`.
SPEC: RFC 9421 §2, §2.5 and §3.2, RFC 9530 §2, RFC 8941 §4.1.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from citywatch.core.errors import Code, Malformed, Refused

LONGEST_MS: Final = 60_000
MAX_COMPONENTS: Final = 64

_OUR_OWN: Final = frozenset({"signature", "signature-input"})
_NEEDED: Final = frozenset({"created", "expires", "nonce", "tag"})
_LABEL = r"[a-z*][a-z0-9_.*-]{0,31}"
_NAME = r'"@?[a-z0-9!#$%&\'*+.^_`|~-]+"'
_VALUE = r'(?:"[\x20\x21\x23-\x5b\x5d-\x7e]*"|[0-9]{1,15})'
_INPUT = re.compile(rf"({_LABEL})=(\(({_NAME}(?: {_NAME})*)\)((?:;[a-z]+={_VALUE})+))")
_PARAMETER = re.compile(rf";([a-z]+)=({_VALUE})")
_SIGNATURE = re.compile(rf"({_LABEL})=:([A-Za-z0-9+/=]*):")
_DIGEST = re.compile(r"sha-(256|512)=:([A-Za-z0-9+/=]*):")
_NONCE = re.compile(r"[A-Za-z0-9+/=_-]{16,64}")


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """A request without its body, as it came. `target` is path and query, undecoded; header names are lower-case."""

    method: str
    target: bytes
    secure: bool
    headers: Sequence[tuple[bytes, bytes]]


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """How one kind of signer signs: their tag, the algorithm of their keys, what is covered always and if it is sent.

    `steers` begin the names of headers that steer what is done: then whoever relays a message may not set them.
    """

    tag: str
    algorithm: str
    always: tuple[str, ...]
    if_sent: frozenset[str]
    steers: tuple[str, ...]

    def must_be_covered(self, name: str) -> bool:
        """Whether a header, where it is sent, has to be signed."""
        return name in self.if_sent or name.startswith(self.steers)


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """A signature as its message describes it, unproved. `signed` are the bytes that it has to be over.

    `created` and `expires` are milliseconds; `key` is whose it says it is, `digest` what it says of the body.
    """

    signature: bytes
    signed: bytes
    created: int
    expires: int
    nonce: str
    key: str | None
    digest: str | None


class _Covered(msgspec.Struct, frozen=True):
    """What a `Signature-Input` says: the components, the parameters, and itself as it stands."""

    components: tuple[str, ...]
    parameters: Mapping[str, str | int]
    text: str


def read_signature(head: Head, profile: Profile) -> Described:
    """The signature of a request; `Malformed` unless

    1. it is one, in its one form · 2. it says of itself what the profile wants, and no other algorithm ·
    3. it covers all that decides.
    """
    covered, signature = _signature(head.headers)  # 1
    created, expires, nonce = _described(covered.parameters, profile)  # 2
    values = component_values(head, covered.components, profile)  # 3
    key = covered.parameters.get("keyid")
    if isinstance(key, int):
        raise Malformed("a message's `keyid` is no text")
    return Described(
        signature=signature,
        signed=signed_lines(values, covered.text),
        created=created,
        expires=expires,
        nonce=nonce,
        key=key,
        digest=values.get("content-digest"),
    )


def check_instant(described: Described, *, now: int, leeway: int) -> None:
    """It is good at this instant; `Refused` otherwise. Times are milliseconds."""
    if now >= described.expires + leeway:
        raise Refused(Code.CREDENTIAL_EXPIRED, "the message's signature has expired")
    if now < described.created - leeway:
        raise Refused(Code.CREDENTIAL_NOT_YET_VALID, "the message's signature is not valid yet")


def check_digest(digest: str | None, body: bytes) -> None:
    """The body is the one whose digest was signed, or there is neither; `Refused` otherwise."""
    if digest is None:
        if body:
            raise Refused(
                Code.CREDENTIAL_MALFORMED, "the message has a body and its signature covers no content-digest"
            )
        return
    found = _DIGEST.fullmatch(digest)
    if found is None:
        raise Refused(Code.CREDENTIAL_MALFORMED, "content-digest is not one sha-256 or sha-512")
    if not hmac.compare_digest(content_digest(body, found[1]), digest):
        raise Refused(Code.CREDENTIAL_UNTRUSTED, "the body is not the one that was signed")


def content_digest(body: bytes, bits: str = "256") -> str:
    """The value of `Content-Digest` for a body. SPEC: RFC 9530 §2."""
    raw = hashlib.sha256(body).digest() if bits == "256" else hashlib.sha512(body).digest()
    return f"sha-{bits}=:{b64encode(raw).decode()}:"


def signed_lines(values: Mapping[str, str], parameters: str) -> bytes:
    """The bytes that are signed: one line for each component, in their order. SPEC: RFC 9421 §2.5."""
    lines = [f'"{name}": {value}' for name, value in values.items()]
    return "\n".join([*lines, f'"@signature-params": {parameters}']).encode("ascii")


def component_values(head: Head, components: Sequence[str], profile: Profile) -> dict[str, str]:
    """The value of each component, in the order in which they are signed; `Malformed` if one that must be is not."""
    sent = (raw.decode("latin-1") for raw, _ in head.headers)
    missing = [name for name in (*profile.always, *filter(profile.must_be_covered, sent)) if name not in components]
    if missing:
        raise Malformed(f"a message's signature does not cover `{missing[0][:80]}`")
    return {name: _value(head, name) for name in components}


def _signature(headers: Sequence[tuple[bytes, bytes]]) -> tuple[_Covered, bytes]:
    described, made = (
        _INPUT.fullmatch(_only(headers, b"signature-input")),
        _SIGNATURE.fullmatch(_only(headers, b"signature")),
    )
    if described is None or made is None or described[1] != made[1]:
        raise Malformed("a message has one signature, described under its own label")
    try:
        raw = b64decode(made[2], validate=True)
    except (Base64Error, ValueError):
        raise Malformed("a message's signature is not base64") from None
    if b64encode(raw).decode() != made[2]:
        raise Malformed("a message's signature is not base64 in its one form")
    components = tuple(described[3][1:-1].split('" "'))
    if len(set(components)) != len(components) or len(components) > MAX_COMPONENTS:
        raise Malformed("a message's signature covers a component twice, or too many")
    return _Covered(components, _parameters(described[4]), described[2]), raw


def _parameters(text: str) -> dict[str, str | int]:
    pairs = [(found[1], found[2]) for found in _PARAMETER.finditer(text)]
    if len(dict(pairs)) != len(pairs):
        raise Malformed("a message's signature has a parameter twice")
    return {name: value[1:-1] if value.startswith('"') else int(value) for name, value in pairs}


def _described(given: Mapping[str, str | int], profile: Profile) -> tuple[int, int, str]:
    if not _NEEDED <= given.keys() <= _NEEDED | {"alg", "keyid"}:
        raise Malformed("a message's signature has `created`, `expires`, `nonce`, `tag`, and at most `alg` and `keyid`")
    created, expires, nonce = given["created"], given["expires"], given["nonce"]
    if not isinstance(created, int) or not isinstance(expires, int):
        raise Malformed("a message's signature has no times")
    if not 0 < expires - created <= LONGEST_MS // 1000:
        raise Malformed("a message's signature lives for a minute at most")
    if not isinstance(nonce, str) or _NONCE.fullmatch(nonce) is None:
        raise Malformed("a message's nonce has 16 to 64 characters of base64")
    if given["tag"] != profile.tag:
        raise Malformed(f"a message's signature is not tagged `{profile.tag}`")
    if given.get("alg", profile.algorithm) != profile.algorithm:
        raise Malformed("a message's signature names another algorithm than its key's")
    return created * 1000, expires * 1000, nonce


def _value(head: Head, name: str) -> str:
    """SPEC: RFC 9421 §2.1 and §2.2."""
    if name == "@method":
        return head.method
    if name == "@request-target":
        return _ascii(head.target)
    if name == "@authority":
        return _authority(_only(head.headers, b"host"), secure=head.secure)
    if name.startswith("@") or name in _OUR_OWN:
        raise Malformed(f"a message's signature covers `{name[:80]}`, which is not supported")
    found = [value.strip(b" \t") for field, value in head.headers if field == name.encode()]
    if not found:
        raise Malformed(f"a message's signature covers `{name[:80]}`, which was not sent")
    return _ascii(b", ".join(found))


def _authority(host: str, *, secure: bool) -> str:
    return host.lower().removesuffix(":443" if secure else ":80")


def _only(headers: Sequence[tuple[bytes, bytes]], name: bytes) -> str:
    found = [value for field, value in headers if field == name]
    if len(found) != 1:
        raise Malformed(f"a signed message has one `{name.decode()}` header")
    return _ascii(found[0].strip(b" \t"))


def _ascii(data: bytes) -> str:
    if not data.isascii() or b"\n" in data or b"\r" in data:
        raise Malformed("a signed part of a message is not ASCII in one line")
    return data.decode("ascii")
