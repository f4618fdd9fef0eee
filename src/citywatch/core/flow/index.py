"""What a text holds whole, as sets to look values up in, so that the text itself need not be kept at hand.

Decides whether an argument's value stands whole in an item (`met`): one typed token in any notation, an instant whose
date and time both stand there, or a phrase at the borders of words. Does not decide whether that entitles to anything.

INVARIANTS: a value that is not met may still overlap with the text, so absence here is never a proof of cleanliness; a
text that was longer than what is read says so (`whole` is false).
"""

from __future__ import annotations

import msgspec

from citywatch.core.flow.dates import without_zone
from citywatch.core.flow.kinds import Kind, Token
from citywatch.core.flow.phrases import holds, words
from citywatch.core.flow.readings import Typed, Value, typed
from citywatch.core.flow.tokens import (
    MAX_CHARS,
    MAX_TOKENS,
    find_tokens,
    is_looser,
    is_vague,
    parted_tokens,
)

_NAME = Kind.NAME  # bound once: up to Python 3.11 each look-up runs code of the class
_LESS = "~"  # before what a fuller value of the text says too: the day of any year, the time of any zone


class Index(msgspec.Struct, frozen=True):
    """`tokens` are the values by kind, `words` the words between single spaces, `whole` that all of it was read."""

    tokens: frozenset[tuple[Kind, str]]
    words: str
    whole: bool


def index_text(text: str) -> Index:
    """Index one text. Bounded like `find_tokens`; what is past the bound is not in it."""
    found = find_tokens(text, names=False)
    held: set[tuple[Kind, str]] = set()
    for token in found:
        held.add((token.kind, token.value))
        if token.kind is Kind.DATE and not is_looser(token) and len(token.value) == 10:
            held.add((Kind.DATE, f"{_LESS}-{token.value[4:]}"))
        elif token.kind is Kind.TIME and (wall := without_zone(token.value)) != token.value:
            held.add((Kind.TIME, _LESS + wall))
    cut = len(text) > MAX_CHARS
    spaced = words(text[:MAX_CHARS])
    if cut:
        spaced = spaced[: spaced.rstrip(" ").rfind(" ") + 1]  # the last word may go on
    return Index(frozenset(held), spaced, not cut and len(found) < MAX_TOKENS)


def met(value: Value | Typed, index: Index) -> tuple[Token, ...]:
    """The readings of a value that stand whole in the indexed text; of an instant said in parts, all of its parts.

    INVARIANT: a kind counts only if *every* reading of it is met. Who said 1.5 did not say `1,500`, though one of its
    readings is 1.5: the tool may take the other.
    """
    read = typed(value)
    exact = read.exact
    if len(exact) == 1 and _is_met(exact[0], index, False):  # what follows would say the same
        return exact
    by_kind: dict[Kind, list[Token | None]] = {}
    for ways, vague in read.ways:
        hit = next((one for one in ways if _is_met(one, index, vague)), None)
        by_kind.setdefault(ways[0].kind, []).append(hit)
    found = tuple(hit for hits in by_kind.values() if None not in hits for hit in hits if hit)
    if found or not isinstance(read.value, str):
        return found
    ways_apart = parted_tokens(exact)
    zoned = any(part.kind is Kind.TIME and not is_vague(part) for parts in ways_apart for part in parts)
    for parts in ways_apart:
        if all(_is_met(part, index, part.kind is Kind.TIME and not zoned) for part in parts):
            return parts
    return ()


def _is_met(token: Token, index: Index, vague: bool) -> bool:
    if token.kind is _NAME:
        return holds(index.words, token.value)
    if (token.kind, token.value) in index.tokens:
        return True
    # INVARIANT: only a value that itself leaves something out is met by a text that says more. Otherwise two years
    # would meet on the day they share.
    return vague and (token.kind, _LESS + token.value) in index.tokens
