"""What the sequence enters in the log: a decision, what became of a reply, what a server offers otherwise than before.

Decides nothing; turns what was decided into events of the closed vocabulary. INVARIANT: an entry fits an entry bundle
(64 KiB) whatever a caller sent: what can be long is cut here, and bodies stand in it as digests.
"""

from __future__ import annotations

from citywatch.core import events
from citywatch.core.call import Allow, Call, Decision, Deny, Release
from citywatch.core.delegation.chain import Chain
from citywatch.core.enforce.filling import note_of
from citywatch.core.enforce.hearing import hearing_of
from citywatch.core.enforce.needs import Known, effect_of
from citywatch.core.enforce.offers import Report
from citywatch.core.enforce.settle import Released, Withheld
from citywatch.core.enforce.veiling import Veiled
from citywatch.core.errors import Code
from citywatch.core.identity.credential import Credential
from citywatch.core.label import Label
from citywatch.core.log.entry import encode_event, payload_digest
from citywatch.core.plan.contract import Kind
from citywatch.core.wire.jsonrpc import Response
from citywatch.service.ports import NewEntry
from citywatch.service.rejections import MAX_DETAIL

HONEST_RUNTIME = "honest runtime"
"""The program around the model keeps the agent's tasks apart, and says truly for which of them it acts."""
MAX_SOURCES = 64
MAX_HANDLES = 32
MAX_REDACTED = 64
MAX_POLICIES = 64
"""How many matching policies an entry names."""
MAX_NAMES = 16
"""How many origins, and how many readers, of one label."""


def decided(
    call: Call,
    credential: Credential,
    known: Known,
    decision: Decision,
    redacted: tuple[str, ...] = (),
    *,
    salt: bytes,
    replica: str,
    now: int,
    observing: bool = False,
) -> bytes:
    """A call and its decision. `salt` is the payload's, `now` in milliseconds.

    `observing`: it went through whatever was decided, and the entry says `would_deny`, which no enforced one does.
    """
    reason = None if isinstance(decision, Allow) else decision.reason
    chain = known.chain if isinstance(known.chain, Chain) else None
    hearing = hearing_of(call, known.rules, known.hearer)
    event = events.Decided(
        at=now,
        replica=replica,
        call=call.id,
        direction=call.direction.value,
        agent=call.agent,
        key=credential.key,
        proved=credential.proved,
        server=call.server,
        method=call.method,
        name=call.name,
        revision=call.revision,
        effect=effect_of(known.rules, call).value,
        decision=(events.WOULD if observing else "")
        + ("allow" if reason is None else "deny" if isinstance(decision, Deny) else "ask"),
        code=None if reason is None else reason.code.value,
        policies=(decision.policies if isinstance(decision, Allow) else decision.reason.policies)[:MAX_POLICIES],
        sources=tuple(one[:MAX_DETAIL] for one in decision.sources[:MAX_SOURCES])
        if isinstance(decision, Allow)
        else (),
        detail="" if reason is None else reason.detail[:MAX_DETAIL],
        policy=known.rules.policies.digest,
        manifest=known.rules.manifest,
        pin=None if known.pin is None else known.pin.digest,
        body=payload_digest(salt, call.body),
        handles=tuple(note_of(one) for one in call.filled[:MAX_HANDLES]),
        assumes=_assumes(call, known),
        task=call.task,
        redacted=redacted[:MAX_REDACTED],
        via=() if chain is None else (chain.principal, *(agent for agent, _ in chain.hops)),
        grants=() if chain is None else chain.hashes,
        hears=() if hearing is None else hearing.told,
        asserted=() if call.asserted is None else (call.asserted.issuer, call.asserted.subject, *call.asserted.actors),
        carriers=known.spread.carriers,
        rooted="" if chain is None else chain.home,
    )
    return encode_event(event)


def _assumes(call: Call, known: Known) -> tuple[str, ...]:
    """What the decision rests on beside *havoc*, which holds whatever the model does."""
    plan = None if known.flow is None else known.flow.held.plan
    written = () if plan is None or plan.held.kind is not Kind.WRITTEN else (plan.held.kind.assumes,)
    names = (call.agent, *(() if known.hearer is None else (known.hearer.agent,)))
    apart = known.flow is not None and call.task is not None and any(known.rules.is_isolated(one) for one in names)
    return (*written, HONEST_RUNTIME) if apart else written


def let_down(call: Call, decision: Decision, *, replica: str, now: int) -> tuple[NewEntry, ...]:
    """The labels that were let down so that this call could pass, one entry for each: none is left out."""
    found = decision.releases if isinstance(decision, Allow) else ()
    return tuple(NewEntry(encode_event(_let_down(call, one, replica, now))) for one in found)


def _let_down(call: Call, one: Release, replica: str, now: int) -> events.LabelReleased:
    return events.LabelReleased(
        at=now,
        replica=replica,
        call=call.id,
        agent=call.agent,
        path=one.path[:MAX_DETAIL],
        role=one.role,
        how=one.how,
        source=one.source[:MAX_DETAIL],
        items=one.items,
        origins=origins_of(one.was),
        readers=readers_of(one.was),
        to_origins=origins_of(one.now),
        to_readers=readers_of(one.now),
        reason=one.reason,
    )


def origins_of(label: Label) -> tuple[str, ...]:
    """Who could have shaped it, as an entry says it: sorted, and past `MAX_NAMES` counted."""
    return ("anybody",) if label.origins is None else _named(label.origins)


def readers_of(label: Label) -> tuple[str, ...]:
    """Who may see it, as an entry says it."""
    return ("everybody",) if label.readers is None else _named(label.readers)


def _named(names: frozenset[str]) -> tuple[str, ...]:
    told = sorted(names)
    more = (f"and {len(told) - MAX_NAMES} more",) if len(told) > MAX_NAMES else ()
    return (*(one[:MAX_DETAIL] for one in told[:MAX_NAMES]), *more)


def settled(
    call: Call,
    response: Response,
    outcome: Released | Withheld,
    index: int,
    *,
    salt: bytes,
    replica: str,
    now: int,
    veiled: Veiled | None = None,
    said_by: str = "",
) -> bytes:
    """What became of message `index` of a call's reply; `veiled` says what of it the agent was given handles for.

    `said_by` is the gateway of another domain whose word for it was believed.
    """
    given = veiled if veiled is not None and isinstance(outcome, Released) else None
    event = events.Settled(
        at=now,
        replica=replica,
        call=call.id,
        message=index,
        outcome="withheld" if isinstance(outcome, Withheld) else "released",
        code=None if outcome.code is None else outcome.code.value,
        detail=outcome.detail,
        final=True,
        is_error=response.error is not None,
        size=len(response.body),
        body=payload_digest(salt, response.body),
        handles=0 if given is None else len(given.hidden),
        shelf="" if given is None or not given.hidden else given.shelf,
        redacted=outcome.redacted[:MAX_REDACTED] if isinstance(outcome, Released) else (),
        said_by=said_by,
    )
    return encode_event(event)


def failed(call: Call, code: Code, detail: str, index: int, *, replica: str, now: int) -> bytes:
    """A forwarded call got no (further) reply: its effect may have happened all the same."""
    event = events.Settled(
        at=now,
        replica=replica,
        call=call.id,
        message=index,
        outcome="failed",
        code=code.value,
        detail=detail[:MAX_DETAIL],
        final=True,
        is_error=True,
        size=0,
        body=None,
    )
    return encode_event(event)


def reported(server: str, report: Report, *, replica: str, now: int) -> tuple[NewEntry, ...]:
    """What a server offers otherwise than before, one entry for each change."""
    if not report.changes and not report.dropped:
        return ()
    found: list[events.Event] = [
        events.ToolChanged(
            at=now,
            replica=replica,
            server=server,
            kind=change.kind,
            name=change.name,
            approved=change.approved,
            offered=change.offered,
            difference=change.difference,
        )
        for change in report.changes
    ]
    if report.dropped:
        found.append(events.OffersDropped(at=now, replica=replica, server=server, count=report.dropped))
    return tuple(NewEntry(encode_event(event)) for event in found)
