"""Whether a call goes through: the gates, in order. This is the place.

    an id of its own → approval of the tool → an earlier, identical call of unknown outcome → policy → budget

Decides on an `Authority` and a frozen `Known` alone; it never looks at what a server says of itself.

INVARIANTS
1. A forbid that matches denies; a policy that errors denies; what no permit allows is denied (`policy.decide`).
2. A tool or prompt is used only as approved: no pin, or a definition that changed since, denies.
3. An identical retry of a call whose outcome is unknown, or that happened a short while ago, is never forwarded by
   itself.
4. A budget with nothing left denies; the append takes the unit, so two calls cannot share one.
5. No request is let through under the id of one that is still open: nobody could tell whose an answer is.
"""

from __future__ import annotations

from citywatch.core.call import Allow, Ask, Call, Decision, Deny, Direction, Reason
from citywatch.core.enforce.facts import facts_of
from citywatch.core.enforce.invitation import check_invited
from citywatch.core.enforce.needs import PINNED, TOOL_CALL, Known, Needs
from citywatch.core.enforce.verify import Authority
from citywatch.core.errors import Code, Refused
from citywatch.core.policy.decide import decide


def admit(call: Call, authority: Authority, known: Known, need: Needs, now: int) -> Decision:
    """Say whether this call may be forwarded, and why."""
    refused = _taken(known) or _approved(call, known) or _uninvited(call, known, now) or _repeated(known, now)
    if refused is not None:
        return refused
    try:
        facts = facts_of(call, authority, known.rules, now)
    except Refused as refusal:
        return Deny(Reason(refusal.code, detail=refusal.detail))
    decision = decide(known.rules.policies, facts)
    if type(decision) is not Allow:
        return decision
    return _budget(known, need) or decision


def _taken(known: Known) -> Deny | None:
    return Deny(Reason(Code.ID_IN_USE)) if known.taken else None


def _approved(call: Call, known: Known) -> Deny | None:
    if call.method not in PINNED or call.direction is not Direction.TO_SERVER:
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


def _budget(known: Known, need: Needs) -> Deny | None:
    for budget in need.budgets:
        if known.used.get(budget.key, 0) >= budget.limit:
            return Deny(Reason(Code.RATE_EXCEEDED if budget.rate else Code.BUDGET_SPENT))
    return None
