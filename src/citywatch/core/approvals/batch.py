"""Several tickets answered by one yes: only what is alike in all but the resource, only a few, and signed as a set.

Decides whether a set of tickets may be answered at once, what is signed for it, and how long reading it takes. Each
ticket keeps its own digest and is used once by itself; a no to each of many is always possible.

INVARIANTS
1. One agent, one root, one act, one template, one effect, and at most `MAX_BATCH`: what differs is shown line by line.
2. Nothing risky is answered in a set (`Asked.risky`): among ten the one that differs is what people overlook.
3. The set's digest depends on which tickets it holds and on nothing else; each stands in it once.
4. Reading a set takes as long as reading each of its tickets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from citywatch.core.approvals.asked import Asked
from citywatch.core.approvals.reading import MOST_MS, dwell_ms
from citywatch.core.canonical import canonical, digest
from citywatch.core.errors import Malformed

MAX_BATCH: Final = 10
PREFIX: Final = b"citywatch/batch/v1\n"
_DIGEST: Final = 64


def check_batch(tickets: Sequence[Asked]) -> None:
    """`Malformed`, with what stands against it, unless one yes may answer all of these."""
    if not 2 <= len(tickets) <= MAX_BATCH or len({one.id for one in tickets}) < len(tickets):
        raise Malformed(f"a set holds 2 to {MAX_BATCH} tickets, each once")
    if any(one.risky for one in tickets):  # INVARIANT: 2
        raise Malformed("a set holds no call that cannot be taken back and that somebody else shaped: answer it alone")
    if len({_alike(one) for one in tickets}) > 1:  # INVARIANT: 1
        raise Malformed("a set holds calls of one agent for one root that differ in what they act on alone")


def batch_digest(digests: Iterable[str]) -> str:
    """# INVARIANT: 3. What is signed for a set: over the sorted digests of its tickets, 64 hex digits each."""
    found = list(digests)
    if len(set(found)) < len(found) or not found or any(len(one) != _DIGEST for one in found):
        raise Malformed("a set is signed over the digests of its tickets, each once")
    return digest(PREFIX + canonical(sorted(found)))


def batch_dwell_ms(tickets: Iterable[Asked]) -> int:
    """# INVARIANT: 4."""
    return min(sum(dwell_ms(one.words, one.values) for one in tickets), MOST_MS)


def _alike(asked: Asked) -> tuple[object, ...]:
    return (asked.agent, asked.root, asked.act, asked.template, asked.effect, asked.task, asked.impact)
