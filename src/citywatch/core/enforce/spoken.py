"""A message to another agent about which a person is asked: what a yes to it is bound to, and whom a no stops.

What asks is a temporal rule (`past`): a message has no argument that steers, so nothing else of it is for a person.

Decides which facts of a message an answer rests on; that the ask comes after all that refuses is `admit`'s. INVARIANTS
1. A yes covers the message as it was written, its ids among it, and as what it was sent: skill, type with its schema,
   the peer's card, chain, task, policies, and nobody who could have shaped it since.
2. A no covers the same words to the same peer, whatever the message calls itself, until the ticket expires.
3. A yes to one message is never one to another, however long its approver wanted it to hold.
4. The act by which people are chosen has no name that the agent could choose: the skill, where the peer declares some.
5. What has no bytes that could be hashed is not asked about: it is refused.
"""

from __future__ import annotations

import itertools
from typing import Final

from citywatch.core.approvals.people import MESSAGE
from citywatch.core.approvals.ticket import State
from citywatch.core.call import Allow, Ask, Bound, Call, Decision, Deny, Effect, Reason, Source
from citywatch.core.canonical import canonical, digest
from citywatch.core.delegation.chain import Chain
from citywatch.core.enforce.approval import answer_key, let_through, refuses
from citywatch.core.enforce.arguments import all_values, words_of
from citywatch.core.enforce.asking import MAX_SOURCES, authority_of, bound_still, carried
from citywatch.core.enforce.context import Flow
from citywatch.core.enforce.needs import Known
from citywatch.core.enforce.rules import Rules
from citywatch.core.enforce.said import said_in
from citywatch.core.errors import Code, Malformed
from citywatch.core.label import join
from citywatch.core.manifest import Role

SCHEMA: Final = "schema"
_OBJECT: Final = Role.OBJECT


def spoken(call: Call, known: Known, allowed: Allow, why: str, now: int) -> Decision:
    """What becomes of a message that only a person lets through: their answer, or that they are asked."""
    flow, rules = known.flow, known.rules
    assert flow is not None
    told = _sources(call, flow)
    try:
        binds = _bound(call, known, flow, told, allowed)
    except Malformed as failure:  # INVARIANT: 5.
        return Deny(Reason(Code.RULE_MATCHED, allowed.policies, f"{why}; and nobody can be asked about it: {failure}"))
    flow = bound_still(flow, binds, call, rules)  # INVARIANT: 1.
    ticket = flow.ticket
    if ticket is not None and now < ticket.expires:
        if ticket.state is State.APPROVED:
            return Allow(allowed.policies, (let_through(ticket.id, ticket.by),))
        if ticket.state is State.DENIED:
            return Deny(Reason(Code.APPROVAL_DENIED, detail=f"ticket {ticket.id}"))
    if flow.answer is not None and refuses(flow.answer, (), now):  # INVARIANT: 2, 3: of answers that last, only a no.
        return Deny(Reason(Code.APPROVAL_DENIED, detail=f"ticket {flow.answer.ticket}, for the same words"))
    return Ask(
        Reason(Code.APPROVAL_REQUIRED, allowed.policies, why),
        bound=binds,
        sources=told,
        authority=authority_of(call, known, flow),
    )


def act_of(call: Call, rules: Rules) -> str:
    """# INVARIANT: 4."""
    peer = rules.peers.get(call.server)
    return (call.name or MESSAGE) if peer is not None and peer.skills else MESSAGE


def shape_of(server: str, kind: str, rules: Rules) -> str:
    """The digest of the schema that a message of this type is held to; empty for free text."""
    schema = rules.messages.get(server, {}).get(kind) if kind else None
    return "" if schema is None else schema.digest


def _sources(call: Call, flow: Flow) -> tuple[Source, ...]:
    """Each value under the label that the whole message travels with: a hijacked sender chooses every word."""
    label = said_in(call, flow)
    label = label if call.brought is None else join(label, call.brought)
    values = itertools.islice(all_values(call), MAX_SOURCES)
    return tuple(carried(path, value, call, flow, label) for path, value in values)


def _bound(call: Call, known: Known, flow: Flow, told: tuple[Source, ...], allowed: Allow) -> Bound:
    """# INVARIANT: 1."""
    return Bound(
        agent=call.agent,
        server=call.server,
        tool=act_of(call, known.rules),
        effect=Effect.IRREVERSIBLE.value,
        pin="" if known.card is None else known.card.digest,
        arguments=digest(canonical(dict(call.arguments))),
        names=(
            ("skill", "", call.name or ""),
            ("type", "", call.type),
            (SCHEMA, "", shape_of(call.server, call.type, known.rules)),
            ("words", _OBJECT.value, answer_key(call, words_of(call), flow.readings.of)[1]),
        ),
        labels=tuple((one.path, one.label) for one in told),
        chain=known.chain.hashes if isinstance(known.chain, Chain) else (),
        policies=allowed.policies,
        code=Code.APPROVAL_REQUIRED.value,
        task=call.task or "",
    )
