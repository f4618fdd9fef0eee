"""Whether a call that a person would be asked about is refused instead: for words like an injection in what was read.

    a value that stands in such words, or within one window of them → an act nobody spoke of, with nothing in it that
    anybody entitled supplied, in a context that holds such words

Decides on calls that `steering` has stopped already, and on nothing else. Knows places alone: what made a scan flag
them is `content`'s business, and that a scan was silent says nothing. Where a person spoke of the act, or supplied part
of it, a value that stands nowhere is not suspected for what else was read: measured on real transcripts, that refused
honest work too.

INVARIANTS: it is asked only where a person would be, so it can refuse and never permit; a principal's own words are
never suspected, nor is a value that a server vouches for besides.
"""

from __future__ import annotations

from collections.abc import Sequence

from citywatch.core.enforce.steering import Finding
from citywatch.core.flow.history import History


def suspected(stopped: Sequence[Finding], history: History, unasked_for: bool) -> Finding | None:
    """The first of these that is suspected, None if none is. `unasked_for` is `Steering.unasked_for`."""
    if not history.advised:
        return None
    for finding in stopped:
        sightings = () if finding.value is None else history.sightings(finding.value)
        # The `11` of a letter is also the id of a file: what has an honest source as well, a person can tell.
        if any(history.part(seen).trusted for seen in sightings):
            continue
        if any(history.flagged(seen) for seen in sightings):
            return finding
    return next(iter(stopped), None) if unasked_for and history.loud() else None
