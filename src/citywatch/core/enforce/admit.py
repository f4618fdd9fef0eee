"""Whether a call goes through: the gates, in order. This is the place.

    an id of its own → handles that name something → an agent that may be spoken to → a message that it takes → a token
    that may be handed over → approval of the tool → what the chain leaves → an earlier, identical call of unknown
    outcome → what the plan refuses → policy → budget → what temporal rules say of what happened before → who would read
    it → who may steer the act, and whether it is a step of the plan

Decides on an `Authority` and a frozen `Known` alone; it never looks at what a server says of itself.

INVARIANTS
1. A forbid that matches denies; a policy that errors denies; what no permit allows is denied (`policy.decide`).
2. A tool or prompt is used only as approved: no pin, or a definition that changed since, denies.
3. An identical retry of a call whose outcome is unknown, or that happened a short while ago, is never forwarded by
   itself.
4. A budget with nothing left denies; the append takes the unit, so two calls cannot share one.
5. No request is let through under the id of one that is still open: nobody could tell whose an answer is.
6. A control argument that nobody entitled supplied is at best an Ask (`steering`); nobody is asked about a call that
   policy or budget would refuse anyway; a yes holds for that one call, once, until it expires, and a no for the same
   values however they are written (`approval`).
7. What the context may not show an audience goes there only as words that this audience may see anyway (`readers`), or,
   where the tool's manifest says so, in a call that a principal was shown who may see it all themselves.
8. What a scan said of a text only narrows: it turns an Ask into a Deny (`suspicion`), and takes a way to pass away
   (`steering`); its silence changes nothing.
9. A consequential call that is no step of the plan is at best an Ask (`planned`).
10. A call that a temporal rule forbids is refused, and one that it asks about is at best an Ask (`past`).
11. A call with a handle that names nothing for this agent is refused; one whose handles name something is judged by
    their values.
12. Each argument that passes was shaped only by who may steer the act, or has a release, which lasts for this call
   (`released`).
13. An act under a chain keeps every caveat of every link, and an agent that is bound to chains acts under one
   (`granted`).
14. An agent is handed a token only as one to whom nobody else has spoken, and who may take along all that it knows
   (`tokens`).
15. A message goes no further than its task's tree may grow, with a chain or without (`trees`).
16. Of a chain only its root entitles, as its principal's word for the values that it binds (`rooted`).
17. Nothing is said to a peer whose card is another than the one that a person approved, until that is looked at.
18. A yes lets through the call that it is bound to, and no other (`asking`, `approvals.binding`; a message: `spoken`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from citywatch.core.approvals.ticket import Shown
from citywatch.core.call import Allow, Ask, Call, Decision, Deny, Direction, Reason
from citywatch.core.enforce.approval import MAX_SHOWN, answerers, covers, exactly, let_through, refuses
from citywatch.core.enforce.asking import authority_of, bound, bound_still, sources
from citywatch.core.enforce.context import Flow
from citywatch.core.enforce.facts import facts_of
from citywatch.core.enforce.granted import granted
from citywatch.core.enforce.hearing import unheard
from citywatch.core.enforce.invitation import check_invited
from citywatch.core.enforce.needs import PINNED, TOOL_CALL, Known, Needs
from citywatch.core.enforce.past import Ruled, ruled
from citywatch.core.enforce.peers import is_message, may_wait, unspoken
from citywatch.core.enforce.planned import Planned, planned
from citywatch.core.enforce.readers import disclosed, owners
from citywatch.core.enforce.released import approved, disclosed_to, releases
from citywatch.core.enforce.rooted import rooted
from citywatch.core.enforce.rules import ApprovedTool
from citywatch.core.enforce.spoken import spoken
from citywatch.core.enforce.steering import Steering
from citywatch.core.enforce.suspicion import suspected
from citywatch.core.enforce.tokens import unfit
from citywatch.core.enforce.trees import too_far
from citywatch.core.enforce.typed import mistyped
from citywatch.core.enforce.verify import Authority
from citywatch.core.errors import Code, Refused
from citywatch.core.manifest import audience_of
from citywatch.core.policy.decide import decide

DISCLOSED = "disclosed by principal:"
MAX_TOLD = 8
"""How many arguments a question names; all of them are in the call that is shown."""
_TO_SERVER: Final = Direction.TO_SERVER  # bound once: up to Python 3.11 each look-up runs code of the class


class Secret(msgspec.Struct, frozen=True):
    """Why a call would reach who may not see it, which principals may see it all, and whom it reaches (None: all)."""

    why: str
    owners: tuple[str, ...]
    audience: frozenset[str] | None


def admit(call: Call, authority: Authority, known: Known, need: Needs, now: int) -> Decision:
    """Say whether this call may be forwarded, and why."""
    unclear = _taken(known) or _broken(known)
    stranger = _unsayable(call, authority, known) if is_message(call) else unfit(call, known)  # INVARIANT: 14.
    beyond = unclear or stranger or _approved(call, known) or granted(call, authority, known)  # INVARIANT: 13.
    refused = beyond or _uninvited(call, known, now) or _repeated(known, now)
    if refused is not None:
        return refused
    plan = planned(call, known, now)
    if isinstance(plan, Deny):
        return plan
    try:
        facts = facts_of(call, authority, known.rules, now, known.spread.count)
    except Refused as refusal:
        return Deny(Reason(refusal.code, detail=refusal.detail))
    decision = decide(known.rules.policies, facts)
    if type(decision) is not Allow:
        return decision
    past = ruled(need.event, known.rules, known.flow, known.past, call, now, known.spread.count)  # INVARIANT: 10.
    if isinstance(past, Deny):
        return _budget(known, need) or past
    secret = _budget(known, need) or _secret(call, known)
    if isinstance(secret, Deny):
        return secret
    return _steered(call, authority, known, need, plan, past, decision, now, secret)


def _unsayable(call: Call, authority: Authority, known: Known) -> Deny | None:
    """Refuse what must not be said to this peer, as it is said, or through so many agents."""
    rules = known.rules
    chained = 0 if authority.delegated is None else len(authority.delegated.hops)
    unsaid = unspoken(call, rules, known.agent, known.things, pushes=known.offers_pushes)
    refused = unsaid or _another(known) or mistyped(call, rules)
    return refused or unheard(call, rules, known.hearer) or too_far(call, rules, known.branches, chained)


def _another(known: Known) -> Deny | None:
    """# INVARIANT: 17."""
    if known.card is None or known.card.offered is None:
        return None
    return Deny(Reason(Code.CARD_CHANGED, detail="the card of this peer is not the one that was approved"))


def _taken(known: Known) -> Deny | None:
    return Deny(Reason(Code.ID_IN_USE)) if known.taken else None


def _broken(known: Known) -> Deny | None:
    """# INVARIANT: 11."""
    return None if known.broken is None else Deny(known.broken)


def _approved(call: Call, known: Known) -> Deny | None:
    if call.method not in PINNED or call.direction is not _TO_SERVER:
        return None
    pin = known.pin
    if pin is None:
        return Deny(Reason(Code.TOOL_NOT_APPROVED))
    if pin.offered is not None:
        return Deny(Reason(Code.TOOL_CHANGED))
    if call.method != TOOL_CALL:
        return None
    tool = known.rules.tools.get((call.server, call.name or ""))
    if tool is None or tool.digest != pin.digest:
        return Deny(Reason(Code.TOOL_NOT_APPROVED if tool is None else Code.TOOL_CHANGED))
    return None


def _uninvited(call: Call, known: Known, now: int) -> Deny | None:
    """What a server did not ask for is data that no policy sees: it goes nowhere."""
    if call.continuation is None:
        return None
    try:
        check_invited(call.continuation, known.invited, now)
    except Refused as refusal:
        return Deny(Reason(refusal.code, detail=refusal.detail))
    return None


def _repeated(known: Known, now: int) -> Ask | Deny | None:
    """# INVARIANT: 3. Shows the earlier call's id; only a person can know what became of it."""
    lost = known.lost
    if lost is None:
        return None
    if lost.unknown:
        return Ask(Reason(Code.OUTCOME_UNKNOWN, detail=f"the earlier call is `{lost.unknown[-1]}`"))
    # Whoever retries has not heard that it happened, and may not hear it the first time: so for a while, not once.
    if lost.happened is not None and now < lost.until:
        return Deny(Reason(Code.ALREADY_HAPPENED, detail=f"the earlier call is `{lost.happened}`"))
    return None


def _secret(call: Call, known: Known) -> Deny | Secret | None:
    """# INVARIANT: 7. Where the manifest says so, somebody who may see it themselves is asked."""
    refused = disclosed(call, known)
    tool = known.rules.tools.get((call.server, call.name or ""))
    if refused is None or tool is None or not tool.manifest.discloses or not _is_tool_call(call):
        return refused
    may = owners(call, known)
    return Secret(refused.reason.detail, may, audience_of(tool.manifest.audience)) if may else refused


def _is_tool_call(call: Call) -> bool:
    return call.method == TOOL_CALL and call.direction is _TO_SERVER


def _steered(
    call: Call,
    authority: Authority,
    known: Known,
    need: Needs,
    plan: Planned,
    past: Ruled,
    allowed: Allow,
    now: int,
    secret: Secret | None,
) -> Decision:
    """# INVARIANT: 6."""
    flow, tool = known.flow, known.rules.tools.get((call.server, call.name or ""))
    if flow is None or tool is None or not _is_tool_call(call):
        if past.why and flow is not None and may_wait(call, known.rules):
            return spoken(call, known, allowed, past.why, now)  # INVARIANT: 18.
        # A ticket is for a tool call or a message, and for somebody who could be asked
        return Deny(Reason(Code.RULE_MATCHED, detail=past.why)) if past.why else allowed
    steering = Steering(call, tool, known.rules, flow, None if need.flow is None else need.flow.traced)
    root = rooted(call, authority, known)  # INVARIANT: 16.
    findings = root.over(plan.over(steering.findings()))
    stopped = [one for one in findings if one.how is None]
    told = (*plan.told, *[one.told() for one in findings])
    if not stopped and not plan.why and not past.why and secret is None:  # INVARIANT: 9.
        return Allow(allowed.policies, told, releases(flow, steering.prompts, findings, root.principal))
    shown = tuple((str(one.role), one.value) for one in stopped)
    told_of = sources(call, flow, findings)
    binds = bound(call, known, flow, tool, told_of, allowed.policies)
    if secret is not None:
        binds = msgspec.structs.replace(binds, discloses=True)
    flow = bound_still(flow, binds, call, known.rules)  # INVARIANT: 18.
    answered = _answered(call, tool, flow, shown, bool(plan.why or past.why), now, secret)
    if isinstance(answered, Deny):
        return answered
    if answered is not None:
        who, said = answered
        let_down = releases(flow, steering.prompts, findings, root.principal)
        let_down += approved(flow, steering.prompts, findings, who, said)
        if secret is not None and flow.ticket is not None:
            let_down += disclosed_to(call, flow, secret.audience, who, said)
            told = (f"{DISCLOSED}{flow.ticket.principal}: {secret.why}", *told)
        return Allow(allowed.policies, (who, *told), let_down)
    # INVARIANT: 8. Only here, where a person would be asked.
    suspect = suspected(stopped, flow.history, steering.unasked_for(findings))
    if suspect is not None:
        return Deny(Reason(Code.SUSPECTED_INJECTION, allowed.policies, suspect.told()))
    kept = "" if secret is None else f"{secret.why}, who may not see all that was read"
    why = (*(one for one in (kept, plan.why, past.why) if one), *(one.told() for one in stopped[:MAX_TOLD]))
    own = authority_of(call, known, flow)
    of = answerers(call, tool.effect, shown, known.rules, flow.history, own)
    if secret is not None:
        of = secret.owners if of is None else tuple(one for one in of if one in secret.owners)
        if not of:  # who may see it may not steer the act
            return Deny(Reason(Code.NOT_A_READER, allowed.policies, secret.why))
    reason = Reason(Code.APPROVAL_REQUIRED, allowed.policies, "; ".join(why))
    exact = exactly(call, tool.manifest)
    return Ask(
        reason,
        of=of,
        exact=exact,
        shown=shown[:MAX_SHOWN],
        discloses=secret is not None,
        bound=binds,
        sources=told_of,
        authority=own,
    )


def _answered(
    call: Call,
    tool: ApprovedTool,
    flow: Flow,
    stopped: Sequence[Shown],
    off_plan: bool,
    now: int,
    secret: Secret | None,
) -> Deny | tuple[str, str] | None:
    """What a person said of this call, or of one like it (`approval`): a no, who said yes and why, or nothing yet.

    # INVARIANT: 7. A secret is let out by a yes to this very call, of one who may see it by now.
    """
    ticket, answer = flow.ticket, flow.answer
    if ticket is not None and now < ticket.expires:
        lets_out = secret is None or (ticket.discloses and ticket.principal in secret.owners)
        if ticket.state == "approved" and lets_out:
            return let_through(ticket.id, ticket.by), ticket.reason
        if ticket.state == "denied":
            return Deny(Reason(Code.APPROVAL_DENIED, detail=f"ticket {ticket.id}"))
    if answer is not None and refuses(answer, stopped, now):
        return Deny(Reason(Code.APPROVAL_DENIED, detail=f"ticket {answer.ticket}, for the same values"))
    if answer is not None and not off_plan and secret is None and covers(answer, call, tool.manifest, stopped, now):
        return f"{let_through(answer.ticket, answer.by)}, for the same values", answer.reason
    return None


def _budget(known: Known, need: Needs) -> Deny | None:
    for budget in need.budgets:
        if known.used.get(budget.key, 0) >= budget.limit:
            return Deny(Reason(Code.RATE_EXCEEDED if budget.rate else Code.BUDGET_SPENT))
    return None
