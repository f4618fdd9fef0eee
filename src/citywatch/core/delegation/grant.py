"""One link: who lets whom do what, for which task, until when, signed by whoever lets.

Decides what is a well-formed grant, and that its bytes were signed by the key it names. Whether a grant may stand where
it stands is `chain`'s, and nothing here signs: an agent signs `signing_input` with its own key (`attenuate` says what).

A link is text, `<grant>.<key>.<signature>`, each base64url without padding. The grant is canonical JSON of exactly the
members below; the key is its delegator's, 65 bytes (P-256, uncompressed) or 32 (Ed25519), so that the key alone says
the algorithm; the signature is r and s, or RFC 8032's, 64 bytes each.

    v delegator delegator_thumb delegate delegate_thumb chain_id depth parent task human_root not_after caveats

INVARIANTS
1. Any text gives a `Link` or `Malformed`; an unknown version, member, caveat, limit or notation is refused, and so is
   every second way to write the same grant.
2. `parse_grant(format_grant(grant)) == grant`.
3. A link's hash covers its grant, and nothing that somebody else could vary: a signature written anew is no new grant.

Evolution rule: a new member or caveat is a new version; a reader refuses what it does not know.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from typing import Any, Final, Literal

import msgspec
import orjson

from citywatch.core.canonical import canonical, digest
from citywatch.core.delegation.caveats import Caveats
from citywatch.core.delegation.wording import format_caveats, parse_caveats
from citywatch.core.errors import Malformed
from citywatch.core.names import parse_agent_id
from citywatch.core.signature import (
    Ed25519Key,
    Key,
    parse_b64url,
    parse_ed25519_key,
    parse_p256_key,
    thumbprint,
    verify_ed25519,
    verify_p256,
)

VERSION: Final = 1
DOMAIN: Final = b"citywatch/grant/v1\n"
"""What is signed and hashed begins so: the same keys sign tokens and handshakes."""
MAX_LINK: Final = 16_384
MAX_DEPTH: Final = 16
MAX_TIME: Final = 2**53
_CHAIN: Final = re.compile(r"[A-Za-z0-9_-]{16,64}\Z")
_TASK: Final = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_THUMB: Final = re.compile(r"[A-Za-z0-9_-]{43}\Z")
_HASH: Final = re.compile(r"[0-9a-f]{64}\Z")
_PRINCIPAL: Final = re.compile(r"principal:[!-~]{1,256}\Z")


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What one link says. `parent` is the hash of the link before it, None at the root.

    `delegator` and `delegate` are SPIFFE IDs of agents, at the root the delegator is the principal, `principal:<name>`,
    as `human_root` is throughout; the thumbs are RFC 7638 thumbprints of their keys. `caveats` holds `depth` and
    `not_after` as well, for they meet like the rest.
    """

    chain_id: str
    parent: str | None
    delegator: str
    delegator_thumb: str
    delegate: str
    delegate_thumb: str
    caveats: Caveats
    task: str
    human_root: str

    @property
    def depth(self) -> int:
        return self.caveats.depth or 0

    @property
    def not_after(self) -> int:
        return self.caveats.not_after or 0


class Link(msgspec.Struct, frozen=True):
    """A grant as it was sent. Nothing in it is true until `verify_link` has returned."""

    grant: Grant
    hash: str
    signed: bytes
    key: Key
    signature: bytes


class SignedGrant(msgspec.Struct, frozen=True):
    """A grant that the key of its `delegator_thumb` signed; only `verify_link` makes one."""

    grant: Grant
    hash: str


class _Text(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A grant's members by their types; what a type cannot say is checked one by one."""

    v: Literal[1]
    chain_id: str
    depth: int
    parent: str | int
    delegator: str
    delegator_thumb: str
    delegate: str
    delegate_thumb: str
    caveats: dict[str, Any]
    task: str
    not_after: int
    human_root: str


def parse_link(text: str) -> Link:
    """Take a link apart: size, three parts in their one form, a strict key, a strict grant."""
    if len(text) > MAX_LINK or not text.isascii():
        raise Malformed(f"a link of a chain has at most {MAX_LINK} characters, all of them ASCII")
    parts = text.split(".")
    if len(parts) != 3:
        raise Malformed("a link of a chain has three parts: the grant, the key and the signature")
    payload, key, signature = map(parse_b64url, parts)
    if len(signature) != 64:
        raise Malformed("the signature of a grant has 64 bytes")
    signed = DOMAIN + payload
    return Link(parse_grant(payload), digest(signed), signed, _key(key), signature)


def verify_link(link: Link) -> SignedGrant:
    """Return the grant as its delegator's own: its thumb is the key's, and the key signed these bytes."""
    if thumbprint(link.key) != link.grant.delegator_thumb:
        raise Malformed("a grant was not signed with its delegator's key")
    if isinstance(link.key, Ed25519Key):
        verify_ed25519(link.key, link.signed, link.signature)
    else:
        verify_p256(link.key, link.signed, link.signature)
    return SignedGrant(link.grant, link.hash)


def format_link(payload: bytes, key: Key, signature: bytes) -> str:
    """The text of a link; the inverse of `parse_link`."""
    public = key.raw if isinstance(key, Ed25519Key) else key.point
    return ".".join(urlsafe_b64encode(part).rstrip(b"=").decode() for part in (payload, public, signature))


def signing_input(payload: bytes) -> bytes:
    """The bytes that the delegator signs."""
    return DOMAIN + payload


def parse_grant(payload: bytes) -> Grant:
    """Read the canonical bytes of a grant."""
    try:
        value = orjson.loads(payload)
        text = msgspec.convert(value, _Text)
    except orjson.JSONDecodeError:
        raise Malformed("a grant is not JSON") from None
    except msgspec.ValidationError as error:
        raise Malformed(f"a grant has not the members of version {VERSION}: {_shown(str(error))}") from None
    if canonical(value) != payload:  # a member that stands twice, too: only one of them is in `value`
        raise Malformed("a grant is not in canonical form")
    root = text.parent == 0 and type(text.parent) is int
    if not root and not (type(text.parent) is str and _HASH.match(text.parent)):
        raise Malformed("a grant's `parent` is the hash of a grant, or 0")
    _matches(text.chain_id, _CHAIN, "chain_id")
    _matches(text.task, _TASK, "task")
    _matches(text.human_root, _PRINCIPAL, "human_root")
    _matches(text.delegator_thumb, _THUMB, "delegator_thumb")
    _matches(text.delegate_thumb, _THUMB, "delegate_thumb")
    if root:
        _matches(text.delegator, _PRINCIPAL, "delegator")
    else:
        parse_agent_id(text.delegator)
    parse_agent_id(text.delegate)
    return Grant(
        chain_id=text.chain_id,
        parent=None if root else str(text.parent),
        delegator=text.delegator,
        delegator_thumb=text.delegator_thumb,
        delegate=text.delegate,
        delegate_thumb=text.delegate_thumb,
        caveats=parse_caveats(
            text.caveats,
            not_after=_count(text.not_after, MAX_TIME, "not_after"),
            depth=_count(text.depth, MAX_DEPTH, "depth"),
        ),
        task=text.task,
        human_root=text.human_root,
    )


def format_grant(grant: Grant) -> bytes:
    """The inverse of `parse_grant`: the only bytes that stand for this grant."""
    return canonical(
        {
            "v": VERSION,
            "chain_id": grant.chain_id,
            "depth": grant.depth,
            "parent": grant.parent if grant.parent is not None else 0,
            "delegator": grant.delegator,
            "delegator_thumb": grant.delegator_thumb,
            "delegate": grant.delegate,
            "delegate_thumb": grant.delegate_thumb,
            "caveats": format_caveats(grant.caveats),
            "task": grant.task,
            "not_after": grant.not_after,
            "human_root": grant.human_root,
        }
    )


def _key(raw: bytes) -> Key:
    return parse_ed25519_key(raw) if len(raw) == 32 else parse_p256_key(raw)


def _matches(text: str, grammar: re.Pattern[str], member: str) -> None:
    if not grammar.match(text):
        raise Malformed(f"a grant's `{member}` is not one")


def _count(value: int, most: int, member: str) -> int:
    if not 0 <= value <= most:
        raise Malformed(f"a grant's `{member}` is between 0 and {most}")
    return value


def _shown(text: str) -> str:
    return text[:200] if text.isprintable() else "one of them cannot be shown"
