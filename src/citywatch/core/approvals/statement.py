"""What an approver signs: one statement, in one form of bytes, that says all that their answer rests on.

    signed bytes = "citywatch/approval/v1\n" + RFC 8785 of the statement's members
    those of a set = "citywatch/approval-set/v1\n" + RFC 8785 of its members, which name each answer by the SHA-256 of
                   its own signed bytes
    a passkey's challenge = SHA-256(signed bytes)

Decides how a statement is written and whether a key signed it; whose key that is, and whether they may answer, is for
`people` and the service. INVARIANTS
1. A statement is good for one ticket of one trust domain, one digest, one shown document, one person, one answer and
   its terms: whoever changes any of them has other bytes.
2. Any bytes give a statement or `Malformed`; each statement has exactly one form.
3. What is signed here is signed for nothing else: no other bytes that citywatch signs begin so.
4. A set says yes or no to exactly the statements that it names, of one person and one decision: another set, a part of
   one, or one statement alone has other bytes.
SPEC: `docs/reference/approvals.md`; vectors in `spec/vectors/approvals.json`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from citywatch.core.canonical import canonical
from citywatch.core.errors import Malformed
from citywatch.core.signature import Ed25519Key, verify_ed25519

PREFIX: Final = b"citywatch/approval/v1\n"
SET_PREFIX: Final = b"citywatch/approval-set/v1\n"
MAX_BYTES: Final = 16 << 10
MAX_SET: Final = 10
"""How many answers one signature gives at most."""
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


class StatementSet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One person's one answer to several tickets: `answers` are the digests of their statements, sorted, each once."""

    domain: str
    approver: str
    decision: str
    answers: tuple[str, ...]

    def holds(self, statement: Statement) -> bool:
        """Whether this is one of the answers that were signed with it. # INVARIANT: 4."""
        said = (statement.domain, statement.approver, statement.decision)
        return said == (self.domain, self.approver, self.decision) and statement_digest(statement) in self.answers


Signable = Statement | StatementSet
Signed = TypeVar("Signed", bound=Signable)


def statement_digest(statement: Statement) -> str:
    """What names a statement in a set: the digest of its signed bytes, as hex."""
    return hashlib.sha256(statement_bytes(statement)).hexdigest()


def set_of(statements: Sequence[Statement]) -> StatementSet:
    """What is signed for these answers; `Malformed` unless they are a few different ones of one person and decision."""
    answers = sorted({statement_digest(one) for one in statements})
    if not 2 <= len(statements) <= MAX_SET or len({one.ticket for one in statements}) < len(statements):
        raise Malformed(f"a set answers 2 to {MAX_SET} tickets, each once")
    if len({(one.domain, one.approver, one.decision) for one in statements}) > 1:
        raise Malformed("a set is one person's, and all yes or all no")
    first = statements[0]
    return StatementSet(domain=first.domain, approver=first.approver, decision=first.decision, answers=tuple(answers))


def statement_bytes(statement: Signable) -> bytes:
    """The bytes that are signed. # INVARIANT: 3."""
    members: dict[str, Any] = msgspec.to_builtins(statement)
    return (PREFIX if isinstance(statement, Statement) else SET_PREFIX) + canonical(members)


def format_statement(statement: Signable) -> str:
    """The statement as it stands in the log and goes to whoever signs it: what follows the prefix."""
    return statement_bytes(statement).partition(b"\n")[2].decode()


def format_statements(statements: Iterable[Statement]) -> str:
    """The answers of a set as they go to whoever signs it: a list of them, in the order of their digests."""
    return f"[{','.join(format_statement(one) for one in sorted(statements, key=statement_digest))}]"


def parse_statements(text: str) -> tuple[Statement, ...]:
    """The inverse of `format_statements`, for the statements of a set; `Malformed` for any other text."""
    if len(text) > MAX_SET * MAX_BYTES:
        raise Malformed("the answers of a set have at most 16 KiB each")
    try:
        found = tuple(msgspec.json.decode(text.encode(), type=list[Statement]))
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        raise Malformed("the text is no list of statements") from None
    if format_statements(found) != text:  # INVARIANT: 2.
        raise Malformed("the statements of a set are not in their one form")
    return found


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


def challenge_of(statement: Signable) -> bytes:
    """What a passkey signs: 32 bytes that are bound to digest, approver, decision and all the rest."""
    return hashlib.sha256(statement_bytes(statement)).digest()


def verify_statement(statement: Signed, signature: bytes, key: Ed25519Key) -> Signed:
    """The statement, signed under this key; `Malformed` if it is not."""
    verify_ed25519(key, statement_bytes(statement), signature)
    return statement
