"""What `unsafe_observe` lets through that the gates refused: an installation that tries its policies on real work.

Decides which refusals are only written down. INVARIANTS
1. Without the switch nothing is ever let through here.
2. Only what policies, budgets, readers, plans and sources of values decide is observed, by a list of codes: a code that
   is not in it, and any that comes later, is enforced. So are always: who acts (`verify`), what is no proper message,
   which definitions are approved (a call of another has no schema to be judged by, and a poisoned description is not
   undone by a line in a log), and that a call of unknown outcome is not repeated by itself.
3. Nobody is asked: a would-be Ask makes no ticket, for its answer would change nothing.
"""

from __future__ import annotations

from typing import Final

from citywatch.core.call import Allow, Decision
from citywatch.core.errors import Code

OBSERVED: Final = frozenset(
    (
        Code.NO_PERMIT,
        Code.FORBIDDEN,
        Code.POLICY_ERROR,
        Code.ARGUMENT_UNSUPPORTED,
        Code.BUDGET_SPENT,
        Code.RATE_EXCEEDED,
        Code.NOT_A_READER,
        Code.OUT_OF_PLAN,
        Code.RULE_MATCHED,
        Code.APPROVAL_REQUIRED,
        Code.APPROVAL_DENIED,
        Code.SUSPECTED_INJECTION,
    )
)
LET_THROUGH: Final = Allow(("unsafe_observe",))
"""No policy permitted it, and its entry says what would have been decided."""


def observed(decision: Decision, observe: bool) -> Decision:
    """What becomes of a verified caller's call: the gates' own decision, unless only an observer asked."""
    if not observe or isinstance(decision, Allow):
        return decision
    return LET_THROUGH if decision.reason.code in OBSERVED else decision
