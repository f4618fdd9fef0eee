"""What would let a call pass, each tried against the same gates: a person's words, a known party, a declaration, a yes.

Decides nothing and changes nothing: it asks `admit` again with one thing changed in the snapshot, and tells the change
only if the answer is `Allow`. For the operator alone: told to the agent, each of these would be a hint to an attacker.

INVARIANTS
1. What is told was tried: a call under that one change is let through by the gates that stopped it.
2. A change is one that a person can make; none of them lets an agent make it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from citywatch.core.approvals.ticket import State, Ticket
from citywatch.core.call import Allow, Call
from citywatch.core.enforce.admit import admit
from citywatch.core.enforce.context import Flow, party_forms
from citywatch.core.enforce.explain import audience_names, findings_of
from citywatch.core.enforce.held import FREE
from citywatch.core.enforce.needs import Known, Needs
from citywatch.core.enforce.planned import planned
from citywatch.core.enforce.readers import owners
from citywatch.core.enforce.rules import ApprovedTool, Rules
from citywatch.core.enforce.steering import Finding
from citywatch.core.enforce.verify import Authority
from citywatch.core.flow.history import History
from citywatch.core.flow.item import Item, read_prompt
from citywatch.core.manifest import Principal

MAX_SHOWN: Final = 120
_NUMBERED: Final = re.compile(r"\[[0-9]+\]")
_WORDS: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+")


class Remedy(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a person can do. `kind` is named, approved, known, vouched, entitled, unplanned or audience.

    `subject` is whom or what it concerns: a principal, a set of known parties, a field, a tool; `values` are the values
    that it is about, as text.
    """

    kind: str
    subject: str
    values: tuple[str, ...] = ()


class Trial:
    """One call that was not let through, and the snapshot that it was judged on."""

    def __init__(self, call: Call, authority: Authority, known: Known, need: Needs, now: int) -> None:
        self._call, self._authority, self._known, self._need, self._now = call, authority, known, need, now
        found = findings_of(call, authority, known, planned(call, known, now))
        self._stopped = [one for one in found if one.how is None and one.value is not None]

    def remedies(self) -> Iterator[Remedy]:
        """The changes under which the call would be let through, the least far-reaching first."""
        flow, tool = self._known.flow, self._known.rules.tools.get((self._call.server, self._call.name or ""))
        if flow is None or tool is None or self._passes():
            return
        yield from self._named(flow)
        if self._passes(flow=msgspec.structs.replace(flow, ticket=_approved(self._call, self._known, self._now))):
            yield Remedy(kind="approved", subject=self._call.id, values=self._values())
        yield from self._known_parties(flow, tool)
        yield from self._vouched(flow)
        yield from self._entitled()
        if flow.held.plan is not None and self._passes(flow=msgspec.structs.replace(flow, held=FREE, progress=None)):
            yield Remedy(kind="unplanned", subject=flow.held.plan.principal)
        yield from self._audience(flow, tool)

    def _passes(self, flow: Flow | None = None, rules: Rules | None = None) -> bool:
        """# INVARIANT: 1."""
        known = self._known if flow is None else msgspec.structs.replace(self._known, flow=flow)
        known = known if rules is None else msgspec.structs.replace(known, rules=rules)
        return isinstance(admit(self._call, self._authority, known, self._need, self._now), Allow)

    def _values(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(str(one.value)[:MAX_SHOWN] for one in self._stopped))

    def _named(self, flow: Flow) -> Iterator[Remedy]:
        """A principal says what is to be done, and to what: each value that nobody entitled supplied, in one prompt."""
        words = " ".join((*_WORDS.findall(self._call.name or ""), *_phrases(self._stopped)))
        for name in sorted(self._known.rules.principals):
            prompt = read_prompt(words, "", name, self._now)
            if self._passes(flow=msgspec.structs.replace(flow, history=_with(flow.history, prompt))):
                yield Remedy(kind="named", subject=name, values=self._values())

    def _known_parties(self, flow: Flow, tool: ApprovedTool) -> Iterator[Remedy]:
        parties: dict[str, list[str]] = {}
        forms: set[str] = set()
        for one in self._stopped:
            declared = _declared(tool, one.path)
            if declared is not None and one.value is not None:
                parties.setdefault(declared, []).append(str(one.value)[:MAX_SHOWN])
                forms.update(party_forms(declared, one.value))
        if forms and self._passes(flow=msgspec.structs.replace(flow, parties=flow.parties | forms)):
            for party, values in parties.items():
                yield Remedy(kind="known", subject=party, values=tuple(values))

    def _vouched(self, flow: Flow) -> Iterator[Remedy]:
        """The fields of replies in which these values stand are the servers' own: the operator can say so."""
        fields = {
            (flow.history.items[seen.item].source, _NUMBERED.sub("[*]", flow.history.part(seen).path))
            for one in self._stopped
            if one.value is not None
            for seen in flow.history.sightings(one.value)
            if not flow.history.part(seen).trusted
        }
        if fields and self._passes(flow=msgspec.structs.replace(flow, history=_vouching(flow.history, fields))):
            yield Remedy(kind="vouched", subject=", ".join(f"{path} of {source}" for source, path in sorted(fields)))

    def _entitled(self) -> Iterator[Remedy]:
        """Who said something, but may not steer this act."""
        flow, rules = self._known.flow, self._known.rules
        spoken = set() if flow is None else {one.source.partition(":")[2] for one in flow.history.prompts}
        act = f"{self._call.server}/{self._call.name}"
        for name in sorted(spoken & set(rules.principals)):
            before = rules.principals[name]
            after: Mapping[str, Principal] = {
                **rules.principals,
                name: msgspec.structs.replace(before, may=(*before.may, act)),
            }
            if self._passes(rules=msgspec.structs.replace(rules, principals=after)):
                yield Remedy(kind="entitled", subject=name, values=(act,))

    def _audience(self, flow: Flow, tool: ApprovedTool) -> Iterator[Remedy]:
        readers = flow.context.label.readers
        if not readers:
            return
        narrower = msgspec.structs.replace(
            tool, manifest=msgspec.structs.replace(tool.manifest, audience=tuple(sorted(readers)))
        )
        tools = {**self._known.rules.tools, (self._call.server, self._call.name or ""): narrower}
        if audience_names(self._call, self._known) != narrower.manifest.audience and self._passes(
            rules=msgspec.structs.replace(self._known.rules, tools=tools)
        ):
            yield Remedy(
                kind="audience", subject=f"{self._call.server}/{self._call.name}", values=narrower.manifest.audience
            )


def _phrases(stopped: list[Finding]) -> Iterator[str]:
    """Each value behind the name of its argument, so that a short number is the name of something."""
    for one in stopped:
        noun = one.path.partition("[")[0].partition(".")[0].partition("_")[0]
        yield f"{noun} {one.value} ;"


def _approved(call: Call, known: Known, now: int) -> Ticket:
    return Ticket(
        discloses=True,
        principal=next(iter(owners(call, known)), ""),
        id="",
        agent=call.agent,
        server=call.server,
        tool=call.name or "",
        state=State.APPROVED,
        asked=now,
        expires=now + 1,
        why="",
        call=call.id,
    )


def _declared(tool: ApprovedTool, path: str) -> str | None:
    parameters = tool.manifest.parameters
    found = parameters.get(_NUMBERED.sub("[]", path)) or parameters.get(path.partition("[")[0].partition(".")[0])
    return None if found is None else found.party


def _with(history: History, *more: Item) -> History:
    grown = History()
    for item in (*history.items, *more):
        grown.add(item)
    return grown


def _vouching(history: History, fields: set[tuple[str, str]]) -> History:
    """The same items, as they would have been read had these fields been declared the server's own."""
    after = History()
    for item in history.items:
        parts = tuple(
            msgspec.structs.replace(part, trusted=True)
            if (item.source, _NUMBERED.sub("[*]", part.path)) in fields
            else part
            for part in item.parts
        )
        after.add(msgspec.structs.replace(item, parts=parts))
    return after
