"""One decision of the log, taken up again and explained: what `citywatch why` and the console both tell.

Decides nothing: the verdict is that of the gates. INVARIANT: what is no longer there makes a decision unverifiable, and
never one that was judged again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from citywatch.core.call import Call
from citywatch.core.enforce.explain import Explanation, explain
from citywatch.core.enforce.facts import facts_of
from citywatch.core.enforce.remedies import Remedy, Trial
from citywatch.core.enforce.rules import Rules
from citywatch.core.errors import ADVICE, Code, Refused
from citywatch.core.events import Decided
from citywatch.core.policy.why import explain as explain_policies
from citywatch.service.hindsight import agrees, then
from citywatch.service.ports import Store
from citywatch.service.recorded import Then

Rebuild = Callable[[Decided, bytes], Call]

SHORT: Final = 12
"""So much of a call's id names it, here and as a ticket."""
POLICY_CODES: Final = (Code.NO_PERMIT, Code.FORBIDDEN, Code.POLICY_ERROR)
VERDICTS: Final = {"allow": "let through", "ask": "a person must be asked", "deny": "refused"}


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """All that is told of one decision. `again` is same, differs, unknown or unverifiable; `notes` say why."""

    index: int
    decided: Decided
    again: str
    notes: tuple[str, ...]
    explanation: Explanation | None = None
    remedies: tuple[Remedy, ...] = ()
    policies: tuple[str, ...] = ()


async def tell(store: Store, rules: Rules, index: int, decided: Decided, rebuild: Rebuild) -> Told:
    """Judge a decision again as of then, and say what it rested on."""
    payload = await store.payload(index)
    if payload is None:
        note = "what was asked was erased, or never kept: only what the entry says is left"
        return Told(index=index, decided=decided, again="unverifiable", notes=(note,))
    past = await then(store, rules, index, decided, rebuild(decided, payload.body))
    at = (past.call, past.authority, past.known, past.need, decided.at)
    explained = explain(*at)
    same = agrees(decided, explained.decision)
    return Told(
        index=index,
        decided=decided,
        again="same" if same else "unknown" if past.missing else "differs",
        notes=past.missing,
        explanation=explained,
        remedies=() if decided.verdict == "allow" else tuple(Trial(*at).remedies()),
        policies=_policies(past, decided),
    )


def _policies(past: Then, decided: Decided) -> tuple[str, ...]:
    """What the policies said, where they were what stopped it."""
    if decided.code not in POLICY_CODES:
        return ()
    try:
        facts = facts_of(past.call, past.authority, past.known.rules, decided.at, past.known.spread.count)
    except Refused as refusal:
        return (f"refused before any policy was asked: {refusal.code.value}: {refusal.detail}",)
    return explain_policies(past.known.rules.policies, facts)


OPERATOR: Final = {
    Code.NO_PERMIT.value: "a policy that permits it: the permits that came closest are above (`citywatch policy test`)",
    Code.FORBIDDEN.value: "nothing but another policy: a forbid that matches always denies",
    Code.TOOL_NOT_APPROVED.value: "`citywatch tools approve`, if the definition is what you want agents to use",
    Code.TOOL_CHANGED.value: "`citywatch tools diff` shows what changed; `citywatch tools approve` accepts it",
    Code.BUDGET_SPENT.value: "a larger budget for this tool in the configuration",
    Code.HOPS_EXCEEDED.value: "fewer agents in the row, a new task, or a higher `max_hops` under `limits`",
    Code.RATE_EXCEEDED.value: "time, or a larger budget for this tool in the configuration",
    Code.OUTCOME_UNKNOWN.value: "`citywatch calls lost`, then `citywatch calls resolve` once you know what happened",
    Code.ALREADY_HAPPENED.value: "nothing for 24 hours: an identical call did happen",
    Code.NOT_A_READER.value: "an agent that has not read this, or a tool for those who may see it",
    Code.APPROVAL_REQUIRED.value: "a person's yes to exactly this call: `citywatch tickets list`",
    Code.SUSPECTED_INJECTION.value: "a principal who names the value in a prompt: their own words are never suspected",
    Code.OUT_OF_PLAN.value: "another plan of the person whose task it is, once this one is over",
}


def advice_of(code: str | None) -> str:
    """What an operator can do about a refusal, where no remedy was found."""
    known = ADVICE[Code(code)] if code in set(Code) else "nothing that this version knows of"
    return OPERATOR.get(code or "") or known


def remedy_of(one: Remedy, decided: Decided, shown: Callable[[object], str]) -> str:
    """A remedy as a sentence. `shown` writes what an agent, a server or a stranger chose so that it is seen as that."""
    values = " and ".join(shown(value) for value in one.values)
    agent, subject = decided.agent.rpartition("/")[2], shown(one.subject)
    return {
        "named": f"{subject} names {values} in a task's prompt: `citywatch task start {agent} --as {subject} ...`",
        "approved": f"a yes to this very call: `citywatch tickets show {decided.call[:SHORT]}` says who may give it",
        "known": f"{values} among the known parties `{subject}`: listed in a reply whose manifest feeds that set",
        "vouched": f"declare {subject} `trusted`, if only the server itself can write there",
        "entitled": f"add `{values}` to `principals.{subject}.may`, if their words may steer it",
        "unplanned": f"a plan of {subject}'s that has this as a step, or none: the plan alone stops it",
        "audience": f"declare the audience of {subject} as {values}, if nobody else sees what is sent there",
    }[one.kind]
