"""A key that somebody lends a front end: their passkey signs that it asks in their name, for some hours.

    signed by the passkey: SHA-256 of "citywatch/lent-key/v1\\n" + RFC 8785 of the loan's members

For people who have no key in the file: a page of theirs draws a key that never leaves it, and signs its requests with
that (`request`). Decides the loan's bytes and its times; whose passkey signed it is the service's. INVARIANTS
1. A loan is good for one trust domain, one person and one key, begins now and ends within `LONGEST_MS`.
2. What is signed here is signed for nothing else, so that no front end gets an answer signed as a loan. A lent key
   asks; an answer takes the person's passkey again, each time.
"""

from __future__ import annotations

import hashlib
from base64 import b64decode
from binascii import Error as Base64Error
from typing import Any, Final

import msgspec

from citywatch.core.canonical import canonical
from citywatch.core.errors import Malformed
from citywatch.core.signature import Ed25519Key, parse_spki

PREFIX: Final = b"citywatch/lent-key/v1\n"
LONGEST_MS: Final = 10 * 3_600_000
"""As long as a session of the console at most."""
FRESH_MS: Final = 300_000
"""So long ago a person may have touched their authenticator."""
Key = tuple[str, str]


class Loan(msgspec.Struct, frozen=True, kw_only=True):
    """`key` (SubjectPublicKeyInfo in base64) asks for `person` in `domain` from `issued` until `expires` (ms)."""

    domain: str
    person: str
    key: str
    issued: int
    expires: int


class Lent(msgspec.Struct, frozen=True, kw_only=True):
    """A loan as a row: whose it is, by which passkey of theirs, the key, and until when it is good."""

    person: str
    passkey: str
    key: str
    until: int


def loan_challenge(loan: Loan) -> bytes:
    """What the passkey signs: 32 bytes that are bound to all that the loan says. # INVARIANT: 2."""
    members: dict[str, Any] = msgspec.to_builtins(loan)
    return hashlib.sha256(PREFIX + canonical(members)).digest()


def lent_key(loan: Loan, *, domain: str, now: int, leeway: int) -> Ed25519Key:
    """The key of a loan that is good from now on in this domain; `Malformed` for every other. # INVARIANT: 1."""
    if loan.domain != domain:
        raise Malformed(f"the key is lent for another trust domain than `{domain}`")
    if not now - FRESH_MS - leeway <= loan.issued <= now + leeway:
        raise Malformed("the loan was not signed just now: compare the clocks, and sign it anew")
    if not now < loan.expires <= loan.issued + LONGEST_MS:
        raise Malformed(f"a key is lent from now on, for {LONGEST_MS // 3_600_000} hours at most")
    try:
        key = parse_spki(b64decode(loan.key, validate=True))
    except (Base64Error, ValueError):
        raise Malformed("the lent key is not in base64") from None
    if not isinstance(key, Ed25519Key):
        raise Malformed("a lent key is an Ed25519 key")
    return key


def lent_row(name: str) -> Key:
    """Where a lent key lies, by its thumbprint."""
    return ("lent_key", name)
