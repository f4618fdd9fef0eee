"""What reading a ticket takes: how long before a yes counts, in which order its parts stand, when a yes needs a reason.

Decides the least time and the least care that an approval takes; the service holds answers to it, whatever a page says.
A no is never held up: refusing is always safe, and never made tedious.

INVARIANTS
1. The least time grows with the words and with the values that there are to read, and never falls below `LEAST_MS`.
2. It stays below what somebody needs who reads all of it, so that who reads waits for nothing.
3. The order of the parts follows from the ticket's nonce and from who reads alone: it is the same wherever that person
   looks, and nobody who writes a ticket's words chooses it. What will happen always stands first.
4. A yes to a value that nobody entitled supplied has a reason of its own words.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final, TypeVar

LEAST_MS: Final = 2_000
MOST_MS: Final = 300_000
SKIMMED: Final = 450
"""Words a minute that somebody takes in at most who looks for something; 230 is plain reading."""
VALUE_MS: Final = 1_000
LEAST_REASON: Final = 8
"""Letters of a reason, spaces apart."""
Part = TypeVar("Part")


def dwell_ms(words: int, values: int) -> int:
    """How long after a ticket was opened an approval of it is accepted."""
    took = LEAST_MS + max(0, words) * 60_000 // SKIMMED + max(0, values) * VALUE_MS  # INVARIANT: 1
    return min(took, MOST_MS)


def accepted_from(opened: int, words: int, values: int) -> int:
    """The first instant at which an approval of a ticket counts that was opened then."""
    return opened + dwell_ms(words, values)


def count_words(text: str) -> int:
    """How many words there are to read; a long run without a space is as many words as it is long."""
    return sum(1 + len(one) // 12 for one in text.split())


def layout(parts: Sequence[Part], nonce: str, person: str) -> tuple[Part, ...]:
    """# INVARIANT: 3. The parts of a ticket in the order in which this person is shown them ("": whoever looks)."""

    def place(number: int) -> bytes:
        return hashlib.sha256(f"citywatch/layout/v2\n{nonce}\n{number}\n{person}".encode()).digest()

    return (*parts[:1], *(parts[number] for number in sorted(range(1, len(parts)), key=place)))


def lacks_reason(untrusted: int, reason: str) -> bool:
    """# INVARIANT: 4. Whether a yes needs another reason than this one."""
    letters = [one for one in reason.casefold() if one.isalnum()]
    return untrusted > 0 and (len(letters) < LEAST_REASON or len(set(letters)) < LEAST_REASON // 2)
