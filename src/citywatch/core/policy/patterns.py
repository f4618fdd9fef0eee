"""Cedar's `like`: a text, `*` for any text.

Decides whether a text matches a pattern. INVARIANT: linear in the text for each piece of the pattern; no regular
expression, for the text is an agent's and four megabytes of `a` against `*a*a*a*b` would stop the gateway.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cedarpy import pst


def pieces(pattern: Sequence[pst.PatternElem]) -> list[str]:
    """The literal texts between the wildcards; n wildcards make n + 1 pieces, some of them empty."""
    found = [""]
    for element in pattern:
        if type(element) is pst.Wildcard:
            found.append("")
        else:
            found[-1] += element.value  # type: ignore[union-attr]
    return found


def matcher(pattern: Sequence[pst.PatternElem]) -> Callable[[str], bool]:
    """The test of a pattern. Each piece is taken at its first place, which is right because `*` takes anything."""
    parts = pieces(pattern)
    if len(parts) == 1:
        whole = parts[0]
        return lambda text: text == whole
    first, last = parts[0], parts[-1]
    middle = [part for part in parts[1:-1] if part]
    shortest = len(first) + len(last)

    def matches(text: str) -> bool:
        if len(text) < shortest or not text.startswith(first) or not text.endswith(last):
            return False
        position, end = len(first), len(text) - len(last)
        for part in middle:
            position = text.find(part, position, end)
            if position < 0:
                return False
            position += len(part)
        return True

    return matches
