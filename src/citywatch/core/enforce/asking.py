"""What a person is asked about: where each value of a call came from, and what a yes to it would be bound to.

Decides which facts of a call an answer rests on; the answer's form is `approvals.binding`'s. INVARIANTS
1. A value that stands in nothing that was received has the label of all that the agent has received.
2. The facts are of the call as it would be forwarded: handles filled in, arguments as they are written.
3. In whose name an agent acts is told by its chain or by whoever gave it its task, never by the agent.
4. A yes to a call that is another one by now is no yes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

import msgspec

from citywatch.core.approvals.binding import changed, ticket_digest
from citywatch.core.approvals.ticket import State
from citywatch.core.call import Bound, Call, Source
from citywatch.core.canonical import canonical, digest
from citywatch.core.delegation.chain import Chain
from citywatch.core.enforce.arguments import MAX_VALUES, all_values
from citywatch.core.enforce.context import Flow
from citywatch.core.enforce.needs import Known
from citywatch.core.enforce.rules import ApprovedTool, Rules
from citywatch.core.enforce.steering import Finding
from citywatch.core.errors import Code
from citywatch.core.flow.history import Sighting, Value
from citywatch.core.label import BOTTOM, Label, join_all
from citywatch.core.manifest import Role

MAX_SOURCES: Final = 64
"""Values of which a ticket keeps where each came from; of the others it says that they were not looked at."""
_NAMING: Final = frozenset((str(Role.DESTINATION), str(Role.OBJECT)))
_PRINCIPAL: Final = "principal:"


def sources(call: Call, flow: Flow, findings: Sequence[Finding]) -> tuple[Source, ...]:
    """Where each value came from: those that the gates traced first, then the words that are carried along."""
    traced = [_traced(one, call, flow) for one in findings[:MAX_SOURCES]]
    seen = {one.path for one in findings}
    rest = (pair for pair in itertools.islice(all_values(call), MAX_VALUES) if pair[0] not in seen)
    for path, value in itertools.islice(rest, max(0, MAX_SOURCES - len(traced))):
        traced.append(carried(path, value, call, flow))
    return tuple(traced)


def bound(
    call: Call, known: Known, flow: Flow, tool: ApprovedTool, told: Sequence[Source], policies: Sequence[str]
) -> Bound:
    """What a yes to this call would be bound to. # INVARIANT: 2."""
    values = dict(itertools.islice(all_values(call), MAX_VALUES))
    return Bound(
        agent=call.agent,
        server=call.server,
        tool=call.name or "",
        effect=tool.effect.value,
        pin=tool.digest,
        arguments=digest(canonical(dict(call.arguments))),
        names=tuple(
            (one.path, one.role, flow.readings.of(values[one.path]).normal)
            for one in told
            if one.role in _NAMING and one.path in values
        ),
        labels=tuple((one.path, one.label) for one in told),
        chain=known.chain.hashes if isinstance(known.chain, Chain) else (),
        policies=tuple(policies),
        code=Code.APPROVAL_REQUIRED.value,
        task=call.task or "",
    )


def bound_still(flow: Flow, binds: Bound, call: Call, rules: Rules) -> Flow:
    """What the agent received, without its ticket if the yes to that is bound to another call than this one by now.

    A no is bound to nothing: it covers every way of writing the same. # INVARIANT: 4.
    """
    ticket = flow.ticket
    if ticket is None or ticket.bound is None or ticket.state is not State.APPROVED:
        return flow
    intact = ticket_digest(ticket.bound, ticket.id, ticket.salt, ticket.expires) == ticket.digest
    same = intact and not is_another(ticket.bound, binds, call, rules)
    return flow if same else msgspec.structs.replace(flow, ticket=None)


def is_another(then: Bound, now: Bound, call: Call, rules: Rules) -> str:
    """Why a call is another one by now than was asked about; empty if it is not."""

    def may_steer(origin: str) -> bool:
        kind, _, name = origin.partition(":")
        if kind == "server":
            return True
        principal = rules.principals.get(name) if kind == "principal" else None
        return principal is not None and principal.steers(call.server, call.name or "")

    return changed(then, now, may_steer)


def authority_of(call: Call, known: Known, flow: Flow) -> tuple[str, ...]:
    """The principals in whose name the agent acts. # INVARIANT: 3."""
    if isinstance(known.chain, Chain):
        return (known.chain.principal.removeprefix(_PRINCIPAL),)
    items = flow.history.items
    whose = {one.source for one in flow.history.prompts if flow.counts(items[one.item])}
    if flow.context.principal:
        whose.add(f"{_PRINCIPAL}{flow.context.principal.removeprefix(_PRINCIPAL)}")
    return tuple(sorted(one.removeprefix(_PRINCIPAL) for one in whose))


def carried(path: str, value: Value, call: Call, flow: Flow, under: Label = BOTTOM) -> Source:
    """Where words came from that steer nothing; `under` is joined: what they are carried under."""
    return _source(path, "", "", "", value, call, flow, traced=False, under=under)


def _traced(finding: Finding, call: Call, flow: Flow) -> Source:
    return _source(
        finding.path, str(finding.role), finding.how or "", finding.where, finding.value, call, flow, traced=True
    )


def _source(
    path: str,
    role: str,
    how: str,
    where: str,
    value: Value | None,
    call: Call,
    flow: Flow,
    *,
    traced: bool,
    under: Label = BOTTOM,
) -> Source:
    history = flow.history
    seen = [] if value is None else history.sightings(flow.readings.of(value))
    filled = (one.label for one in call.filled)
    label = join_all(
        (flow.context.label, under, *filled, *(history.items[one.item].label for one in seen))
    )  # INVARIANT: 1.
    if not seen:
        return Source(path=path, role=role, how=how, where=where, label=label, traced=traced)
    first = _telling(seen, flow)
    item, part = history.items[first.item], history.part(first)
    return Source(
        path=path,
        role=role,
        how=how,
        where=where,
        label=label,
        item=item.source,
        at=item.at,
        call=item.call,
        part=part.path,
        start=first.start,
        end=first.end,
        traced=traced,
    )


def _telling(seen: Sequence[Sighting], flow: Flow) -> Sighting:
    """Of all places where a value stands, the one that a person is shown: the last that no server vouches for."""
    foreign = [one for one in seen if not flow.history.part(one).trusted and not flow.history.items[one.item].text]
    return (foreign or seen)[-1]
