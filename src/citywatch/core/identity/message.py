"""Did the key in this WIT-SVID sign this very request, just now, for us? RFC 9421 in the profile of WIMSE, narrowed.

Decides that a request is the holder's of a key: its method, target, authority, body and the headers that steer it.
Does not decide whether it came before (`service.messages` keeps the nonces), nor whether the agent is registered.
It is what holds where TLS ends before us: at a proxy, a load balancer, another agent's relay.

Narrower than RFC 9421, so that two readers cannot differ: one signature, written in the one form that RFC 8941 writes;
components without parameters; the algorithm is that of the key in the token, and `alg` and `keyid` may only repeat it.
Covered is all that decides: `@method`, `@authority`, `@request-target`, `workload-identity-token`, `content-digest` if
there is a body, and, where they are sent, `authorization`, `last-event-id` and every `mcp-*`, `a2a-*`
and `citywatch-*` header.

INVARIANTS: any bytes give a `MessageProof` or `Refused`; it speaks of a body only by `check_body`; a proof lives for a
minute at most.
SPEC: RFC 9421 §2, §2.5 and §3.2, RFC 9530 §2, RFC 8941 §4.1, draft-ietf-wimse-http-signature §3.
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
from citywatch.core.identity.credential import Credential, Kind
from citywatch.core.identity.wit import BoundToken
from citywatch.core.signature import verify_p256

TOKEN_HEADER: Final = b"workload-identity-token"
TAG: Final = "wimse-workload-to-workload"
ALGORITHM: Final = "ecdsa-p256-sha256"
LONGEST_MS: Final = 60_000
MAX_COMPONENTS: Final = 64

ALWAYS: Final = ("@method", "@authority", "@request-target", TOKEN_HEADER.decode())
_IF_SENT: Final = frozenset({"authorization", "last-event-id", "content-digest"})
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


class Covered(msgspec.Struct, frozen=True):
    """What a `Signature-Input` says is signed: its label, the components, the parameters, and itself as it stands."""

    label: str
    components: tuple[str, ...]
    parameters: Mapping[str, str | int]
    text: str


class MessageProof(msgspec.Struct, frozen=True, kw_only=True):
    """Whose the head of a request is; `digest` is what it says of its body. Good once, until `expires` (ms)."""

    credential: Credential
    nonce: str
    expires: int
    digest: str | None


def shown_token(headers: Sequence[tuple[bytes, bytes]]) -> bytes | None:
    """The WIT-SVID that a request shows, unverified; None if it shows none, `Refused` if it shows two."""
    shown = [value for name, value in headers if name == TOKEN_HEADER]
    if len(shown) > 1:
        raise Refused(Code.CREDENTIAL_MALFORMED, "two Workload-Identity-Token headers")
    return shown[0].strip(b" \t") if shown else None


def verify_message(head: Head, token: BoundToken, *, now: int, leeway: int) -> MessageProof:
    """Return whose a request is, as far as its head says; raise `Refused` otherwise. Times are milliseconds.

    1. one signature, in its one form · 2. it says of itself what the profile wants, and no other algorithm or key ·
    3. it covers all that decides · 4. it is of this minute · 5. the key in the token made it.
    """
    try:
        covered, signature = _signature(head.headers)  # 1
        created, expires, nonce = _described(covered, token)  # 2
        values = component_values(head, covered.components)  # 3
        body_digest = values.get("content-digest")
    except Malformed as error:
        raise Refused(Code.CREDENTIAL_MALFORMED, str(error)) from None
    if now >= expires + leeway:  # 4
        raise Refused(Code.CREDENTIAL_EXPIRED, "the message's signature has expired")
    if now < created - leeway:
        raise Refused(Code.CREDENTIAL_NOT_YET_VALID, "the message's signature is not valid yet")
    try:
        verify_p256(token.key, signed_lines(values, covered.text), signature)  # 5
    except Malformed:
        raise Refused(Code.CREDENTIAL_UNTRUSTED, "the token's key did not sign this message") from None
    credential = Credential(
        agent=token.agent,
        key=token.vouched or token.thumbprint,
        proved=token.thumbprint if token.vouched else "",
        kind=Kind.WIT,
        not_before=token.not_before,
        not_after=token.not_after,
        digest=token.digest,
    )
    return MessageProof(credential=credential, nonce=nonce, expires=expires, digest=body_digest)


def check_body(proof: MessageProof, body: bytes) -> Credential:
    """Return the credential of a whole request: the body is the one whose digest was signed, or there is none."""
    if proof.digest is None:
        if body:
            raise Refused(
                Code.CREDENTIAL_MALFORMED, "the message has a body and its signature covers no content-digest"
            )
        return proof.credential
    found = _DIGEST.fullmatch(proof.digest)
    if found is None:
        raise Refused(Code.CREDENTIAL_MALFORMED, "content-digest is not one sha-256 or sha-512")
    if not hmac.compare_digest(content_digest(body, found[1]), proof.digest):
        raise Refused(Code.CREDENTIAL_UNTRUSTED, "the body is not the one that was signed")
    return proof.credential


def content_digest(body: bytes, bits: str = "256") -> str:
    """The value of `Content-Digest` for a body. SPEC: RFC 9530 §2."""
    raw = hashlib.sha256(body).digest() if bits == "256" else hashlib.sha512(body).digest()
    return f"sha-{bits}=:{b64encode(raw).decode()}:"


def signed_lines(values: Mapping[str, str], parameters: str) -> bytes:
    """The bytes that are signed: one line for each component, in their order. SPEC: RFC 9421 §2.5."""
    lines = [f'"{name}": {value}' for name, value in values.items()]
    return "\n".join([*lines, f'"@signature-params": {parameters}']).encode("ascii")


def _signature(headers: Sequence[tuple[bytes, bytes]]) -> tuple[Covered, bytes]:
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
    parameters = _parameters(described[4])
    return Covered(described[1], components, parameters, described[2]), raw


def _parameters(text: str) -> dict[str, str | int]:
    pairs = [(found[1], found[2]) for found in _PARAMETER.finditer(text)]
    if len(dict(pairs)) != len(pairs):
        raise Malformed("a message's signature has a parameter twice")
    return {name: value[1:-1] if value.startswith('"') else int(value) for name, value in pairs}


def _described(covered: Covered, token: BoundToken) -> tuple[int, int, str]:
    given = covered.parameters
    if not _NEEDED <= given.keys() <= _NEEDED | {"alg", "keyid"}:
        raise Malformed("a message's signature has `created`, `expires`, `nonce`, `tag`, and at most `alg` and `keyid`")
    created, expires, nonce = given["created"], given["expires"], given["nonce"]
    if not isinstance(created, int) or not isinstance(expires, int):
        raise Malformed("a message's signature has no times")
    if not 0 < expires - created <= LONGEST_MS // 1000:
        raise Malformed("a message's signature lives for a minute at most")
    if not isinstance(nonce, str) or _NONCE.fullmatch(nonce) is None:
        raise Malformed("a message's nonce has 16 to 64 characters of base64")
    if given["tag"] != TAG:
        raise Malformed(f"a message's signature is not tagged `{TAG}`")
    if given.get("alg", ALGORITHM) != ALGORITHM:
        raise Malformed("a message's signature names another algorithm than its key's")
    if given.get("keyid", token.thumbprint) != token.thumbprint:
        raise Malformed("a message's signature names another key than its token's")
    return created * 1000, expires * 1000, nonce


def must_be_covered(name: str) -> bool:
    """Whether a header, where it is sent, steers what is done: then whoever relays a message may not set it."""
    return name in _IF_SENT or name.startswith(("mcp-", "a2a-", "citywatch-"))


def component_values(head: Head, components: Sequence[str]) -> dict[str, str]:
    """The value of each component, in the order in which they are signed; `Malformed` if one that must be is not."""
    sent = (raw.decode("latin-1") for raw, _ in head.headers)
    missing = [name for name in (*ALWAYS, *filter(must_be_covered, sent)) if name not in components]
    if missing:
        raise Malformed(f"a message's signature does not cover `{missing[0][:80]}`")
    return {name: _value(head, name) for name in components}


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
