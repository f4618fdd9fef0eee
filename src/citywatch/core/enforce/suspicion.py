"""Whether a value that nobody entitled supplied was put there by words like an injection: then nobody is asked.

Decides on values that `steering` has stopped already, and on nothing else. Knows places alone: what made a scan flag
them is `content`'s business, and that a scan was silent says nothing. A value that stands nowhere is not suspected for
what else was read: measured on real transcripts, that refused honest work too.

INVARIANTS: it is asked only where a person would be, so it can refuse and never permit; a principal's own words are
never suspected, nor is a value that a server vouches for besides.
"""

from __future__ import annotations

from collections.abc import Iterable

from citywatch.core.content.signals import Kind
from citywatch.core.enforce.steering import Finding
from citywatch.core.flow.history import History, Sighting


def suspected(stopped: Iterable[Finding], history: History) -> Finding | None:
    """The first of these whose value stands in, or within one window of, what was flagged in a third party's text."""
    if history.advised:
        for finding in stopped:
            sightings = () if finding.value is None else history.sightings(finding.value)
            # The `11` of a letter is also the id of a file: what has an honest source as well, a person can tell.
            if any(history.part(seen).trusted for seen in sightings):
                continue
            if any(_flagged(history, seen) for seen in sightings):
                return finding
    return None


def _flagged(history: History, seen: Sighting) -> bool:
    found = history.items[seen.item].advice
    return any(one.kind == Kind.INJECTION and one.meets(seen.part, seen.start, seen.end) for one in found)
