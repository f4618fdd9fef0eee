"""What a ticket really is, sealed before it is answered and opened after: a call, a canary, or an exercise.

    opened by an approver   →  the entry holds `seal(ticket, kind, category, salt)`, for every ticket alike
    answered by all         →  the entry holds kind, category and salt; whoever has the log recomputes the seal

Decides whether what is said of a ticket afterwards is what was sealed before. Does not decide which ticket is a canary
(`service/vigilance` draws that).

INVARIANTS
1. A seal tells nothing of what it seals (the salt is 16 unguessable bytes), and fits nothing else.
2. Every ticket is sealed, so that having a seal is no sign of anything.
3. A canary is no ticket: `Canary` lies in rows that no decision reads and names no call, so that no answer to it can
   let anything through. That is no check that could be forgotten; there is nothing to execute.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

import msgspec

from citywatch.core.canonical import digest
from citywatch.core.errors import Malformed

SALT_BYTES: Final = 16
LEAST_RATE: Final = 0.02
MOST_RATE: Final = 0.05
Key = tuple[str, str]


class Kind(StrEnum):
    """What a ticket was. To an approver all of them look alike until they have answered."""

    CALL = "call"
    CANARY = "canary"
    """An attack that we made up: to be denied."""
    CLEAN = "clean"
    """An honest call that we made up, in an exercise: to be approved."""


class Canary(msgspec.Struct, frozen=True, kw_only=True):
    """What is shown as a ticket and is none. It has no `call` and no `likeness`: # INVARIANT: 3.

    `arguments` are what the page shows; `shown` are the values it gives as the reason to ask, each with its role.
    """

    id: str
    kind: Kind
    category: str
    agent: str
    server: str
    tool: str
    arguments: dict[str, Any]
    shown: tuple[tuple[str, str], ...]
    why: str
    asked: int
    expires: int
    nonce: str
    of: str = ""
    """For whom it was made; nobody else is shown it."""
    exercise: bool = False
    """It belongs to a burst that says of itself that it is one."""


def canary_key(name: str) -> Key:
    """Where a canary lies; no call's decision ever reads this kind of row."""
    return ("canary", name)


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


def checked_rate(rate: float) -> float:
    """The share of risky tickets that are canaries; `Malformed` if it is none: fewer teach nothing, more tire."""
    if not LEAST_RATE <= rate <= MOST_RATE:
        raise Malformed(f"canaries are {LEAST_RATE} to {MOST_RATE} of the risky tickets, not {rate}")
    return rate
