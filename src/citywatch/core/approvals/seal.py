"""What a ticket really is, sealed before it is answered and opened after: a call, a canary, or an exercise.

    opened by an approver   →  the entry holds `seal(ticket, kind, category, salt)`, for every ticket alike
    answered by all         →  the entry holds kind, category and salt; whoever has the log recomputes the seal

Decides whether what is said of a ticket afterwards is what was sealed before. Does not decide which ticket is a canary
(`service/vigilance` draws that).

INVARIANTS
1. A seal tells nothing of what it seals (the salt is 16 unguessable bytes), and fits nothing else.
2. Every ticket is sealed, so that having a seal is no sign of anything.
3. A canary is no ticket: it lies in rows that no decision reads, and an answer to it writes no row that one reads. That
   is no check that could be forgotten: there is nothing that could let a call through.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from citywatch.core.approvals.ticket import Ticket
from citywatch.core.canonical import digest
from citywatch.core.errors import Malformed

SALT_BYTES: Final = 16
LEAST_RATE, MOST_RATE = 2, 5
"""Of 100 risky tickets: fewer teach nothing, more tire."""
Key = tuple[str, str]


class Kind(StrEnum):
    """What a ticket was. To an approver all of them look alike until they have answered."""

    CALL = "call"
    CANARY = "canary"
    """An attack that we made up: to be denied."""
    CLEAN = "clean"
    """An honest call that we made up, in an exercise: to be approved."""


class Canary(msgspec.Struct, frozen=True, kw_only=True):
    """What is shown to one person as a ticket and is none: a past one, of which it is known what it was, asked again.

    `ticket` is what they see, with an id, a call, a nonce and a time of its own; `of` is for whom it was made. `since`
    is when the past one was asked, `call` which call that was, `past` its id. `drill`: it is one of an exercise.
    It lies where no decision looks (`canary_key`): # INVARIANT: 3.
    """

    kind: Kind
    of: str
    ticket: Ticket
    since: int
    call: str = ""
    past: str = ""
    drill: bool = False

    @property
    def source(self) -> Ticket:
        """The ticket as what is shown of it is found: by the call that it was made from, and when that was."""
        return msgspec.structs.replace(self.ticket, asked=self.since, call=self.call or self.ticket.call)


class Over(msgspec.Struct, frozen=True, kw_only=True):
    """A canary that was answered, kept for the one who did so: what it was, and what they said when."""

    canary: Canary
    yes: bool
    at: int

    @property
    def right(self) -> bool:
        return self.yes is (self.canary.kind is Kind.CLEAN)


def canary_key(name: str) -> Key:
    """Where a canary lies; no call's decision ever reads this kind of row."""
    return ("canary", name)


def over_key(name: str) -> Key:
    """Where a canary lies that was answered."""
    return ("canary_over", name)


def seal(ticket: str, kind: Kind, category: str, salt: bytes) -> str:
    """# INVARIANT: 1. What stands in the log before anybody answers."""
    if len(salt) != SALT_BYTES:
        raise Malformed(f"a seal has {SALT_BYTES} bytes of salt")
    return digest(f"citywatch/seal/v1\n{salt.hex()}\n{ticket}\n{kind.value}\n{category}".encode())


def is_what_was_sealed(sealed: str, ticket: str, kind: str, category: str, salt: str) -> bool:
    """Whether this is what the seal was put on."""
    try:
        return seal(ticket, Kind(kind), category, bytes.fromhex(salt)) == sealed
    except (ValueError, Malformed):
        return False
