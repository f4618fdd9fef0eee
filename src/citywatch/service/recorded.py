"""What an entry of the log says, in the terms of the gates: the decision, who asked, the ticket it rests on, the reply.

Decides nothing. INVARIANT: a code of a later version reads as a refusal, never as a yes.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from typing import Final

import msgspec

from citywatch.core import events
from citywatch.core.call import Allow, Ask, Call, Decision, Deny, Reason
from citywatch.core.delegation.caveats import meet
from citywatch.core.delegation.chain import Asking, Chain, Delegated, Trust, authorise
from citywatch.core.enforce.abroad import UNTOLD, Told
from citywatch.core.enforce.held import Holding
from citywatch.core.enforce.needs import Key, Known, Needs, Pin
from citywatch.core.enforce.peers import is_message, owner_of, thing_rows
from citywatch.core.enforce.rules import Rules
from citywatch.core.enforce.verify import Authority
from citywatch.core.enforce.vouched import vouched
from citywatch.core.errors import Code, Malformed
from citywatch.core.identity.attestation import Attestation, verify_attestation
from citywatch.core.identity.credential import Credential, Kind
from citywatch.core.identity.envelope import read_envelope
from citywatch.core.identity.registration import AgentRow
from citywatch.core.identity.vc import Claims, parse_multikey, verify_agent_credential
from citywatch.core.names import parse_agent_id
from citywatch.core.signature import parse_spki
from citywatch.core.wire import enveloped
from citywatch.core.wire.jsonrpc import FROM_SERVER, Response, parse_message

CODES: Final[Mapping[str, Code]] = {one.value: one for one in Code}


class Then(msgspec.Struct, frozen=True, kw_only=True):
    """What a decision of the log rested on, as it was before it. `missing`: what of it is not to be had."""

    call: Call
    authority: Authority
    known: Known
    need: Needs
    missing: tuple[str, ...] = ()


def verdict(decision: Decision) -> str:
    """As entries write it."""
    return "allow" if isinstance(decision, Allow) else "ask" if isinstance(decision, Ask) else "deny"


def recorded(one: events.Decided) -> Decision:
    """The decision that was enforced."""
    if one.forwarded:
        return Allow(one.policies or ("recorded",), one.sources)
    code = CODES.get(one.code or "", Code.FORBIDDEN)
    reason = Reason(code, one.policies, one.detail)
    return Ask(reason) if one.decision == "ask" else Deny(reason)


def ticket_of(one: events.Decided) -> str | None:
    """The ticket that an entry rests on, if it does."""
    first = one.sources[0] if one.sources else one.detail
    words = first.replace(",", " ").split(" ")
    return words[1] if words[0] == "ticket" and len(words) > 1 else None


def authority_of(one: events.Decided, rules: Rules, chain: Chain | Reason | None = None) -> Authority:
    """Who acted: whoever has an entry of their own had papers that held, and so did the chain that was shown."""
    name = one.agent.rpartition("/")[2]
    held = Authority(agent=one.agent, name=name, key=one.key, entity=rules.agent(one.agent, name))
    if not isinstance(chain, Chain):
        return held
    return msgspec.structs.replace(held, delegated=_delegated(one, rules, chain))


def _delegated(one: events.Decided, rules: Rules, chain: Chain) -> Delegated:
    """What a chain gave then: its root was believed and its holder had proved its key, or the entry would say so."""
    domain = min(chain.caveats.audience or (rules.domain,))  # it was ours then, whatever it is called now
    trust = Trust(domain=domain, roots={chain.principal: (chain.root_thumb,)}, revoked=(), epoch=0)
    asking = Asking(agent=one.agent, key=one.proved or one.key, task=one.task)
    if not one.rooted:
        return authorise(chain, asking, trust, one.at)
    asking = msgspec.structs.replace(asking, agent=chain.hops[-1][0])  # as its own domain calls it
    given, frontier = authorise(chain, asking, trust, one.at), rules.frontiers.get(one.rooted)
    left = given.caveats if frontier is None else meet(given.caveats, frontier.ceiling)
    return msgspec.structs.replace(given, caveats=left, home=one.rooted)


def standing_of(one: events.Decided, rules: Rules, chain: Chain | Reason | None, row: AgentRow | None) -> Authority:
    """The same, with what was vouched for of whoever acted."""
    held = authority_of(one, rules, chain)
    return msgspec.structs.replace(held, entity=vouched(held.entity, row, one.at, rules.attestors))


def pin_of(one: events.Decided) -> Pin | None:
    """The approval of its tool."""
    return None if one.pin is None else Pin(digest=one.pin, by="", at=0)


def holders_of(one: events.Decided | events.PlanWritten) -> tuple[tuple[str, str], ...]:
    """The agents of an entry, each with a key that it held: who acted, and the agent of ours that was spoken to."""
    told = [context.split("\n") for context in one.hears] if isinstance(one, events.Decided) else []
    return ((one.agent, one.key), *((pair[0], pair[1]) for pair in told if len(pair) == 2))


def known_then(one: events.Decided, call: Call, known: Known) -> Known:
    """What was known, as far as only the entry itself can tell."""
    things = things_of(one, call, known.agent)
    return msgspec.structs.replace(
        known, pin=pin_of(one), lost=None, invited=None, taken=False, broken=None, things=things
    )


SOMEBODY: Final = "somebody"
"""Whose what an agent may not go on with is, where an entry does not say."""


def things_of(one: events.Decided, call: Call, agent: AgentRow | None) -> Mapping[Key, str | None]:
    """Whose the tasks and conversations were that a message goes on with: its sender's, or the entry says otherwise."""
    if agent is None or one.code == Code.PEER_TASK_UNKNOWN:
        return dict.fromkeys(thing_rows(call), SOMEBODY)
    return {key: owner_of(agent) for key in thing_rows(call)}


def digest_of(holding: Holding) -> str | None:
    """The plan that an agent is held to, as an entry names it."""
    return None if holding.plan is None else holding.plan.held.digest


def papers_of(one: events.Decided | events.PlanWritten) -> Credential:
    """Papers that hold at that instant and no other, for whoever had some."""
    return Credential(
        agent=one.agent,
        key=one.key,
        proved=one.proved if isinstance(one, events.Decided) else "",
        kind=Kind.X509,
        not_before=one.at - 1,
        not_after=one.at + 1,
        digest="",
    )


def response_of(body: bytes) -> Response | None:
    """The reply that a payload is; None if it cannot be read."""
    try:
        message = parse_message(body, FROM_SERVER)
    except Malformed:
        return None
    return message if isinstance(message, Response) else None


def claims_of(event: events.AgentVouched) -> Claims | None:
    """What the credential of an entry says, verified as when it was entered; None if it was withdrawn."""
    if not event.document:
        return None
    agent, key = parse_agent_id(event.agent), parse_multikey(event.key)
    return verify_agent_credential(event.document.encode("utf-8"), agent, event.issuer, key)


def attestation_of(event: events.AgentAttested) -> Attestation | None:
    """What the envelope of an entry says, verified as when it was entered; None if it was withdrawn."""
    if not event.envelope:
        return None
    agent, key = parse_agent_id(event.agent), parse_spki(b64decode(event.key))
    return verify_attestation(event.envelope.encode("utf-8"), agent, event.attestor, key)


def told_then(event: events.Settled, call: Call, response: Response) -> Told | None:
    """What was believed of a reply, by its entry and its payload; what cannot be read any more counts as anybody's."""
    if not event.said_by or response.result is None:
        return None
    try:
        _, token = enveloped.parted(response.result, spoken=is_message(call))
        one = read_envelope((token or "").encode("utf-8"), reply=True)
    except Malformed:
        return UNTOLD
    return Told(event.said_by, one.sender, one.label)
