"""The ticket once its votes have decided it: who decided it, in whose name, why, and for how long.

Decides nothing of whether they did (`quorum`). INVARIANTS: a yes is told of those alone whose votes made it, never of
one that stands no more; it holds for as long as the shortest of them says; in whose name is one that had to, if any.
"""

from __future__ import annotations

import msgspec

from citywatch.core.approvals.quorum import WHOLE, Tally, Verdict
from citywatch.core.approvals.statement import MAX_REASON
from citywatch.core.approvals.ticket import Done, Step, Ticket, stepped


def decided(ticket: Ticket, count: Tally, now: int) -> tuple[Ticket, int]:
    """The ticket after its votes came to this, and for how many milliseconds a yes holds for calls that are alike."""
    yes = count.verdict is Verdict.YES
    counted = [one for one in ticket.votes if one.yes is yes and (not yes or one.person in count.people)]
    counted = counted or list(ticket.votes)
    named = [one.principal for one in counted if one.principal]
    principal = next((one for one in named if ticket.of is not None and one in ticket.of), next(iter(named), ""))
    after = msgspec.structs.replace(
        stepped(ticket, Step.APPROVE if yes else Step.DENY, now),
        by=", ".join(one.person for one in counted),
        reason="; ".join(dict.fromkeys(one.reason for one in counted if one.reason))[:MAX_REASON],
        principal=principal,
        need=count.need // WHOLE,
        done=(*ticket.done, Done(now, "approved" if yes else "denied")),
    )
    return after, min((one.hold_ms for one in counted), default=0) if yes else 0
