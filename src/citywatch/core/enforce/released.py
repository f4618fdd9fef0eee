"""What `steering` found, turned into releases: from which label to which, and on whose account.

Decides what label a value has left once a rule has let it pass; whether the rule applies was decided before. With
`clearing` the only place that lets a label down (see ADR 0017). A release made here lasts for the call it is made for.

INVARIANTS
1. A value's label is the context's, joined with that of everything it stands in: the model chose it under all of that.
2. What is left of it names who answers for the value: the people whose words count for this act, the server that
   vouches, the item that is only quoted; nobody, where the operator's own declaration does (known parties).
3. Nothing is let down without a rule of `flow.release`: a rule that has no name there refuses the call.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from citywatch.core.call import Call, Release
from citywatch.core.enforce.context import Flow
from citywatch.core.enforce.steering import Finding
from citywatch.core.flow.history import Prompt, Sighting, Value
from citywatch.core.flow.index import met
from citywatch.core.flow.readings import Typed
from citywatch.core.flow.release import Lowering, Way, lowering, release
from citywatch.core.label import Label, join_all

MAX_ITEMS: Final = 4
"""How many items a release names; the value stands in each of them."""
CLEAN: Final = "clean"
"""What needs no release: nothing that could have shaped it may not steer the act."""
_PEOPLES: Final = frozenset((Way.NAMED, Way.OWN, Way.ENDORSED, Way.SPOKEN, Way.ANCHORED, Way.PLANNED))
_RECORDS: Final = frozenset((Way.LINKED, Way.DERIVED))
_WAYS: Final[Mapping[str | None, Way]] = {str(way): way for way in Way}
_SAYING: Final = "saying"


def releases(
    flow: Flow, prompts: Sequence[Prompt], findings: Iterable[Finding], grantor: str = ""
) -> tuple[Release, ...]:
    """One for each argument that passed by a rule. Those that nothing entitles, and those that need none, have none.

    `prompts` are `Steering.prompts`: the people's words that count for this act. `grantor` is whose grant binds some.
    """
    scene = _Scene(flow, prompts, grantor)
    return tuple([scene.release(one) for one in findings if one.how is not None and one.how != CLEAN])


def approved(
    flow: Flow, prompts: Sequence[Prompt], findings: Iterable[Finding], who: str, reason: str
) -> tuple[Release, ...]:
    """What a person's answer lets down: each argument of this call that nothing entitled; `who` names both."""
    scene = _Scene(flow, prompts)
    return tuple(scene.approve(one, who, reason) for one in findings if one.how is None)


def disclosed_to(call: Call, flow: Flow, audience: frozenset[str] | None, who: str, reason: str) -> tuple[Release, ...]:
    """What one who may see it lets out in this call: all that it could carry, to those whom it reaches."""
    was = join_all((flow.context.label, flow.context.before, *(one.label for one in call.filled)))
    readers = None if audience is None or was.readers is None else was.readers | audience
    now = Label(was.origins, readers)
    return (release(was, now, Way.DISCLOSED, role="call", source=who, reason=reason or f"disclosed: {who}"),)


class _Scene:
    """One call against one context: who may speak here, and where its values stand."""

    def __init__(self, flow: Flow, prompts: Sequence[Prompt], grantor: str = "") -> None:
        self._history = flow.history
        self._read = flow.readings.of
        self._ambient = flow.context.label
        self._planner = () if flow.held.plan is None else (f"principal:{flow.held.plan.principal}",)
        self._prompts = prompts
        self._people = frozenset([prompt.source for prompt in prompts])
        self._grantor = (grantor,) if grantor else ()
        self._told = Label(self._people.union(self._planner, self._grantor), None)
        self._all = self._digests([prompt.item for prompt in prompts])
        self._labels: dict[tuple[int, ...], Label] = {}
        self._lowered: dict[Way, Lowering] = {}
        self._cleared = flow.context.cleared

    def release(self, found: Finding) -> Release:
        way = _WAYS.get(found.how) or Way(str(found.how))  # INVARIANT: 3.
        by_words = bool(self._prompts) and way in _PEOPLES
        where: Mapping[int, list[Sighting]] = {}
        if by_words and not self._cleared:
            # A context's label is above that of all its items, unless an operator let it down: no need to look for them
            lowered = self._lowered.get(way)
            if lowered is None:
                lowered = self._lowered[way] = self._lower(way, where)
        else:
            where = self._where(found.value)
            lowered = self._lower(way, where)
        items = self._told_by(found.value) if by_words else self._digests(where)
        return lowered.at(found.path, found.role._value_, found.where, items)

    def _lower(self, way: Way, where: Mapping[int, list[Sighting]]) -> Lowering:
        """From the label before to what is left of it."""
        was = self._label(where)
        return lowering(was, Label(self._answering(way, where), was.readers), way)

    def approve(self, found: Finding, who: str, reason: str) -> Release:
        where = self._where(found.value)
        was = self._label(where)
        return release(
            was,
            Label(frozenset(), was.readers),
            Way.APPROVED,
            path=found.path,
            role=found.role.value,
            source=who,
            items=self._digests(where),
            reason=reason or f"approved: {who}",
        )

    def _where(self, value: Value | None) -> dict[int, list[Sighting]]:
        """The items that hold a value, by number, each with the places where it stands."""
        found: dict[int, list[Sighting]] = {}
        for one in () if value is None else self._history.sightings(self._read(value)):
            found.setdefault(one.item, []).append(one)
        return found

    def _label(self, where: Iterable[int]) -> Label:
        """# INVARIANT: 1. A context that was cleared still holds its items: a value of theirs has their labels."""
        numbers = tuple(where)
        found = self._labels.get(numbers)
        if found is None:
            labels = (self._history.items[number].label for number in numbers)
            found = self._labels[numbers] = join_all((self._ambient, self._told, *labels))
        return found

    def _answering(self, way: Way, where: Mapping[int, Iterable[Sighting]]) -> frozenset[str] | None:
        """# INVARIANT: 2."""
        if way is Way.PLANNED:
            return frozenset(self._planner)
        if way is Way.GRANTED:
            return frozenset(self._grantor)
        if way in _PEOPLES:
            return self._people
        if way in (Way.QUOTED, Way.PASSED_ON):
            return join_all(self._history.items[number].label for number in where).origins
        if way not in _RECORDS and way is not Way.VOUCHED:
            return frozenset()
        vouching = (number for number, seen in where.items() if any(self._history.part(one).trusted for one in seen))
        origins = (origin for number in vouching for origin in self._history.items[number].label.origins or ())
        servers = frozenset(origin for origin in origins if origin.startswith("server:"))
        return servers | self._people if way in _RECORDS else servers

    def _told_by(self, value: Value | None) -> tuple[str, ...]:
        """The digests of the prompts that say the value; of all that count, if none says it as it stands."""
        if value is None or len(self._prompts) == 1:
            return self._all
        read = self._read(value)
        said = read.said(self._history.heard(tuple([prompt.item for prompt in self._prompts])))
        found: tuple[str, ...] | None = said.get(_SAYING)
        if found is None:
            found = said[_SAYING] = self._saying(read)
        return found

    def _saying(self, value: Typed) -> tuple[str, ...]:
        saying = [one for one in self._prompts if _says(one, value)]
        return self._digests([one.item for one in saying]) if saying else self._all

    def _digests(self, where: Iterable[int]) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for number in where:
            found[self._history.items[number].digest] = None
            if len(found) == MAX_ITEMS:
                break
        return tuple(found)


def _says(prompt: Prompt, value: Typed) -> bool:
    return bool(met(value, prompt.held)) or value.folded in prompt.text
