"""What belongs to the people who may steer an act: their addresses and accounts, and the things that they gave others.

Decides whether an address is one of theirs, and whether it is of somebody who has what they spoke of; that the act was
asked for is `steering`'s to see.

INVARIANTS
1. An address is a person's own only where their words count for this act.
2. To have what was spoken of is no reason to be chosen: it counts only where people left open to whom the act is done,
   and named nobody beside.
"""

from __future__ import annotations

from collections.abc import Mapping

from citywatch.core.enforce.context import party_forms
from citywatch.core.enforce.parties import Parties
from citywatch.core.flow.history import History, Sighting
from citywatch.core.flow.holders import given_to
from citywatch.core.flow.item import Part
from citywatch.core.flow.provenance import Provenance
from citywatch.core.flow.readings import Readings, Typed
from citywatch.core.manifest import Principal


class Belongings:
    """Those of the people who speak for one call, in one context."""

    def __init__(
        self, history: History, people: Provenance, principals: Mapping[str, Principal], readings: Readings
    ) -> None:
        self._history = history
        self._people = people
        self._principals = principals
        self._read = readings.of

    def own(self, value: Typed) -> bool:
        """Whether it is the own address of a person for whom the agent works here, and who may steer the act."""
        forms = set(party_forms("", value))
        sources = {prompt.source for prompt in self._people.prompts}  # INVARIANT: 1.
        return any(
            forms & set(party_forms("", own))
            for source in sources
            for own in self._principals[source.partition(":")[2]].own
        )

    def given(self, value: Typed, act: str, party: str | None, parties: Parties) -> tuple[Sighting, str] | None:
        """Where it is one of those to whom a person gave what they spoke of: "send the minutes to each person"."""
        found = given_to(self._history, self._people, value, act, self._is_own)
        # INVARIANT: 2.
        return found if found is not None and parties.left_open(party or "", value, found[1]) else None

    def _is_own(self, part: Part) -> bool:
        return self.own(self._read(part.whole))
