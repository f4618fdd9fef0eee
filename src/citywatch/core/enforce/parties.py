"""Whether a known party may be whom an act is done to, although nobody named them.

Decides who counts as known for this act by now, and whether people left it to the agent which of them it is. That
somebody asked for the act at all is `steering`'s to see.

INVARIANTS
1. A party that an agent's write may have brought counts only in a task that began after it was learnt, and only for an
   act that all may steer whose words were in that write.
2. To be known is no reason to be chosen: a known party counts only where people, asking for the act, called nobody by
   name, or spoke of several, or of one by what such are called ("the channel with the most members"), or said a name
   that a record of the party has, or left it to a text what is done.
3. Whoever was named beside them excludes them: an account beside an account, a member beside another of one list.
4. What a stranger wrote makes nobody the one who was meant: a record counts where a server vouches for the party.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from citywatch.core.call import Call
from citywatch.core.enforce.context import Flow, party_forms
from citywatch.core.flow.history import Sighting
from citywatch.core.flow.mentions import find_phrase, find_said
from citywatch.core.flow.provenance import Provenance
from citywatch.core.flow.readings import Typed
from citywatch.core.flow.tokens import Kind, find_tokens

MAX_LISTED: Final = 512
"""Values of one reply that are compared with one of them."""
NAMES: Final = frozenset((Kind.EMAIL, Kind.URL, Kind.HOST, Kind.IBAN, Kind.PHONE, Kind.ID, Kind.PATH))
"""Kinds of value that are somebody's, or something's, name."""


class Said(msgspec.Struct, frozen=True):
    """What people said of a set's members where they asked for the act: whether they left open who, names, the words
    in which they said who, and the typed values in these."""

    open: bool
    names: tuple[str, ...]
    text: str
    tokens: frozenset[tuple[Kind, str]]


class Parties:
    """The known parties of one call. `nouns` has what people call a member of each set.

    `people` is what those said who may steer the act; `steers` says whether a source may.
    """

    def __init__(
        self,
        call: Call,
        nouns: Mapping[str, tuple[str, ...]],
        flow: Flow,
        people: Provenance,
        steers: Callable[[str], bool],
    ) -> None:
        self._act = call.name or ""
        self._nouns = nouns
        self._flow = flow
        self._people = people
        self._steers = steers
        self._found: dict[str, Said] = {}
        self._listed: dict[tuple[int, str, str], set[str]] = {}

    def meant(self, party: str | None, value: Typed) -> bool:
        """Whether this is a member of the set, and may be the one that people meant."""
        if party is None or not self._is_known(party_forms(party, value)):
            return False
        if self._people.hand_over():
            return True
        said = self._said(party)
        meant = said.open or self._is_called(value, said)
        return meant and not self._another(value, said, party)

    def left_open(self, party: str, value: Typed, aside: str) -> bool:
        """Whether people left open to whom the act is done, and named nobody whom this stands beside.

        `aside`: what they called the thing that it is about.
        """
        open_ = self._people.leave_open(self._act, self._nouns.get(party, ()), aside)
        return open_ and not self._another(value, self._said(party), party)

    def named_instead(self, party: str, value: Typed) -> bool:
        """Whether people, where they asked for the act, wrote an address or account of this kind, and not this one."""
        return self._instead(value, self._said(party))

    @staticmethod
    def _instead(value: Typed, said: Said) -> bool:
        own = {token.value for token in value.exact}
        kinds = {token.kind for token in value.exact} & NAMES
        return any(kind in kinds and one not in own for kind, one in said.tokens)

    def _said(self, party: str) -> Said:
        """Looked for once, however many values the call has: a prompt may be long."""
        if party not in self._found:
            nouns = self._nouns.get(party, ())
            asking = self._people.asking(self._act, nouns)
            self._found[party] = Said(
                open=self._people.leave_open(self._act, nouns),
                names=tuple(self._people.names_said(self._act)),
                text="\n".join(asking),
                tokens=frozenset((token.kind, token.value) for one in asking for token in find_tokens(one)),
            )
        return self._found[party]

    def _is_known(self, forms: tuple[str, ...]) -> bool:
        if any(one in self._flow.parties for one in forms):
            return True
        learnt = self._flow.learnt
        met = [learnt[one] for one in forms if one in learnt] if learnt else []
        if not met:
            return False
        # INVARIANT: 1. To have somebody added and then to pay them is one task's doing; in a later one, a person has
        # spoken since. Who may not steer this act has added nobody for it.
        history = self._flow.history
        told = [history.items[prompt.item] for prompt in history.prompts if self._steers(prompt.source)]
        began = max((item.at for item in told if self._flow.counts(item)), default=0)
        return any(one.at < began and all(self._steers(by) for by in one.by) for one in met)

    def _is_called(self, value: Typed, said: Said) -> bool:
        """Whether a record that a server vouches for has a name which people said: `Spotify` of "Spotify Premium".

        # INVARIANT: 4.
        """
        history = self._flow.history
        for seen in history.sightings(value):
            part = history.part(seen)
            if part.trusted and part.record >= 0 and said.names:
                others = [one.whole for one in history.around(seen.item, part)]
                if any(find_said(name, other) >= 0 for name in said.names for other in others):
                    return True
        return False

    def _another(self, value: Typed, said: Said, party: str) -> bool:
        """# INVARIANT: 3. Whether people said who it is, where they asked for the act, and it is not this one."""
        if not said.text:
            return False
        if self._instead(value, said):
            return True
        return any(
            self._named_beside(seen, said, party) - {value.folded} for seen in self._flow.history.sightings(value)
        )

    def _named_beside(self, seen: Sighting, said: Said, party: str) -> set[str]:
        """What stands in one list with this and was said, itself among it."""
        history = self._flow.history
        name, record = history.part(seen).name, history.part(seen).record
        key = (seen.item, name or str(record), party)
        if key not in self._listed:
            near = history.items[seen.item].parts[:MAX_LISTED]
            listed = {one.whole for one in near if one.name == name and (name or one.record == record)}
            self._listed[key] = {one for one in listed if find_phrase(one, said.text) >= 0}
        return self._listed[key]
