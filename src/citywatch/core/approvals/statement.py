"""What an approver signs: one statement, in one form of bytes, that says all that their answer rests on.

    signed bytes = "citywatch/approval/v1\n" + RFC 8785 of the statement's members
    a passkey's challenge = SHA-256(signed bytes)

Decides how a statement is written and whether a key signed it; whose key that is, and whether they may answer, is for
`people` and the service. INVARIANTS
1. A statement is good for one ticket of one trust domain, one digest, one shown document, one person, one answer and
   its terms: whoever changes any of them has other bytes.
2. Any bytes give a statement or `Malformed`; each statement has exactly one form.
3. What is signed here is signed for nothing else: no other bytes that citywatch signs begin so.
SPEC: `docs/reference/approvals.md`; vectors in `spec/vectors/approvals.json`.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec

from citywatch.core.canonical import canonical
from citywatch.core.errors import Malformed
from citywatch.core.signature import Ed25519Key, verify_ed25519

PREFIX: Final = b"citywatch/approval/v1\n"
MAX_BYTES: Final = 16 << 10
MAX_REASON: Final = 1_000
APPROVE, DENY = "approve", "deny"


class Statement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An answer and its terms. `digest` is the ticket's, `document` the digest of what was shown (`showing`).

    `decision` is approve or deny, `principal` in whose name it is given (empty: their own), `hold_ms` for how long a
    yes is to hold for calls that differ in words alone. `acknowledged` are the reasons why the call could not be shown
    faithfully, which the approver names to say that they know. `expires` is the ticket's end, `nonce` its own. `place`
    is in whose place they answer who is away; it is left out where it is their own.
    """

    domain: str
    ticket: str
    digest: str
    document: str
    decision: str
    approver: str
    principal: str
    reason: str
    hold_ms: int
    acknowledged: tuple[str, ...]
    expires: int
    nonce: str
    place: str = ""

    def __post_init__(self) -> None:
        if self.decision not in (APPROVE, DENY):
            raise ValueError("a decision is `approve` or `deny`")
        if len(self.reason) > MAX_REASON:
            raise ValueError(f"a reason has at most {MAX_REASON} characters")

    @property
    def yes(self) -> bool:
        return self.decision == APPROVE


def statement_bytes(statement: Statement) -> bytes:
    """The bytes that are signed."""
    members: dict[str, Any] = msgspec.to_builtins(statement)
    return PREFIX + canonical(members)


def format_statement(statement: Statement) -> str:
    """The statement as it stands in the log and goes to whoever signs it: what follows the prefix."""
    return statement_bytes(statement)[len(PREFIX) :].decode()


def parse_statement(text: str) -> Statement:
    """The inverse of `format_statement`; `Malformed` for any other text, and for the same in another form."""
    if len(text) > MAX_BYTES:
        raise Malformed("a statement has at most 16 KiB")
    try:
        statement = msgspec.json.decode(text.encode(), type=Statement)
    except (msgspec.DecodeError, UnicodeEncodeError):
        raise Malformed("the text is no statement of an approval") from None
    if format_statement(statement) != text:  # INVARIANT: 2.
        raise Malformed("a statement is not in its one form")
    return statement


def challenge_of(statement: Statement) -> bytes:
    """What a passkey signs: 32 bytes that are bound to digest, approver, decision and all the rest."""
    return hashlib.sha256(statement_bytes(statement)).digest()


def verify_statement(statement: Statement, signature: bytes, key: Ed25519Key) -> Statement:
    """The statement, signed under this key; `Malformed` if it is not."""
    verify_ed25519(key, statement_bytes(statement), signature)
    return statement
