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

import itertools
from collections.abc import Iterable, Iterator
from typing import Final

from citywatch.core.call import Call, Release
from citywatch.core.enforce.context import Flow
from citywatch.core.enforce.rules import Rules
from citywatch.core.enforce.steering import Finding
from citywatch.core.flow.history import Prompt, Sighting, Value, folded
from citywatch.core.flow.index import met
from citywatch.core.flow.item import Item
from citywatch.core.flow.release import Way, release
from citywatch.core.label import Label, join_all

MAX_ITEMS: Final = 4
"""How many items a release names; the value stands in each of them."""
CLEAN: Final = "clean"
"""What needs no release: nothing that could have shaped it may not steer the act."""
_PEOPLES: Final = frozenset((Way.NAMED, Way.OWN, Way.ENDORSED, Way.SPOKEN, Way.ANCHORED, Way.PLANNED))
_RECORDS: Final = frozenset((Way.LINKED, Way.DERIVED))


def releases(call: Call, rules: Rules, flow: Flow, findings: Iterable[Finding]) -> tuple[Release, ...]:
    """One for each argument that passed by a rule. Those that nothing entitles, and those that need none, have none."""
    scene = _Scene(call, rules, flow)
    return tuple(scene.release(one) for one in findings if one.how is not None and one.how != CLEAN)


def approved(
    call: Call, rules: Rules, flow: Flow, findings: Iterable[Finding], who: str, reason: str
) -> tuple[Release, ...]:
    """What a person's answer lets down: each argument of this call that nothing entitled; `who` names both."""
    scene = _Scene(call, rules, flow)
    return tuple(
        release(
            was := scene.label(one.value),
            Label(frozenset(), was.readers),
            Way.APPROVED,
            path=one.path,
            role=one.role.value,
            source=who,
            items=scene.items(one.value),
            reason=reason or f"approved: {who}",
        )
        for one in findings
        if one.how is None
    )


class _Scene:
    """One call against one context: who may speak here, and where its values stand."""

    def __init__(self, call: Call, rules: Rules, flow: Flow) -> None:
        self._history = flow.history
        self._read = flow.readings.of
        self._ambient = flow.context.label
        self._planner = () if flow.held.plan is None else (f"principal:{flow.held.plan.principal}",)
        self._prompts = [
            prompt
            for prompt in flow.history.prompts
            if (principal := rules.principals.get(prompt.source.partition(":")[2])) is not None
            and principal.steers(call.server, call.name or "")
            and flow.held.counts(flow.history.items[prompt.item])
        ]
        self._people = frozenset(prompt.source for prompt in self._prompts)

    def label(self, value: Value | None) -> Label:
        """# INVARIANT: 1. A context that was cleared still holds its items: a value of theirs has their labels."""
        told = Label(self._people.union(self._planner), None)
        return join_all((self._ambient, told, *(item.label for item in self._holding(value))))

    def release(self, found: Finding) -> Release:
        way, was = Way(found.how or ""), self.label(found.value)
        return release(
            was,
            Label(self._answering(way, found.value), was.readers),
            way,
            path=found.path,
            role=found.role.value,
            source=found.where,
            items=self.items(found.value, spoken=way in _PEOPLES),
        )

    def _answering(self, way: Way, value: Value | None) -> frozenset[str] | None:
        """# INVARIANT: 2."""
        if way is Way.PLANNED:
            return frozenset(self._planner)
        if way in _PEOPLES:
            return self._people
        if way in (Way.QUOTED, Way.PASSED_ON):
            return join_all(item.label for item in self._holding(value)).origins
        servers = frozenset(self._vouching(value))
        return servers | self._people if way in _RECORDS else servers if way is Way.VOUCHED else frozenset()

    def items(self, value: Value | None, spoken: bool = False) -> tuple[str, ...]:
        """The digests of what holds the value; of what people said, if it is their words that count."""
        said = self._prompts if spoken else []
        saying = [one for one in said if _says(one, value)] or said
        holding = [self._history.items[one.item] for one in saying] or list(self._holding(value))
        return tuple(itertools.islice(dict.fromkeys(item.digest for item in holding), MAX_ITEMS))

    def _holding(self, value: Value | None) -> Iterator[Item]:
        yield from (self._history.items[number] for number in dict.fromkeys(one.item for one in self._seen(value)))

    def _seen(self, value: Value | None) -> list[Sighting]:
        return [] if value is None else self._history.sightings(self._read(value))

    def _vouching(self, value: Value | None) -> Iterator[str]:
        for one in self._seen(value):
            if self._history.part(one).trusted:
                item = self._history.items[one.item]
                yield from (origin for origin in item.label.origins or () if origin.startswith("server:"))


def _says(prompt: Prompt, value: Value | None) -> bool:
    return value is not None and (bool(met(value, prompt.held)) or folded(value) in prompt.text)
