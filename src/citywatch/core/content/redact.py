"""Take what was seen out of a text, and leave a word for what stood there.

Decides how a placeholder reads: `[redacted KIND NAME]`, always the same for the same detector, so that policies, tests
and people can rely on it, and with nothing in it of the value, its length included. Does not decide what is redacted:
the caller picks the signals. INVARIANTS: no character of a picked span is left; all others are; spans that overlap are
taken out as one, under the name of the one that begins first, or the longest of those.
"""

from __future__ import annotations

from collections.abc import Iterable

from citywatch.core.content.signals import Signal


def redact(text: str, spans: Iterable[Signal]) -> str:
    """The text without what these signals span."""
    parts: list[str] = []
    at = covered = 0
    for signal in sorted(spans, key=lambda one: (one.start, -one.end, one.kind, one.name)):
        if signal.start >= covered and signal.end > signal.start:
            parts += (text[at : signal.start], placeholder(signal))
        covered = at = max(covered, signal.end)
    return "".join((*parts, text[at:]))


def placeholder(signal: Signal) -> str:
    """What stands for a value that was taken out."""
    return f"[redacted {signal.kind} {signal.name}]"
