"""Values that a principal's grant binds: the word of the person whose task it is, signed, for one argument of one tool.

    a verified chain → link 0, which the principal's side signed → the exact tool → a value or a choice for the argument

Decides which arguments of a call stand there as the first link wrote them, and so have a source; what nobody bound
passes or is asked about as without a chain (`steering`). Whether the chain holds, and leaves the act, was asked before.

INVARIANTS
1. Only the root is a person's word. A link that an agent added was written by whatever talked to that agent: it
   narrows, and entitles to nothing. Nor does a root that another domain signed: who wrote its values nobody here knows.
2. It counts for the task that the chain is for, and for nothing that its principal may not steer.
3. A value and a choice of values entitle, a range only narrows; what holds an argument holds all that is in it.
4. What people said before a plan was lifted entitles to nothing any more, and neither does a grant of such a task.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from citywatch.core.call import Call
from citywatch.core.enforce.needs import Known
from citywatch.core.enforce.planned import binds, paths_bound
from citywatch.core.enforce.steering import Finding
from citywatch.core.enforce.verify import Authority
from citywatch.core.limit import Equal, OneOf, keeps

GRANTED: Final = "granted"
"""How an argument passes that the root of the chain binds."""


class Rooted(msgspec.Struct, frozen=True, kw_only=True):
    """Which paths of a call the root of its chain binds, and whose word that is (an origin).

    `bound` is looked up only where something has no other source.
    """

    principal: str = ""
    bound: Callable[[], frozenset[str]] = frozenset

    def over(self, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
        """What nobody else supplied passes where the grant binds it; all else stays as it is."""
        if not self.principal or not [one for one in findings if one.how is None]:
            return findings
        bound, where = self.bound(), f"grant of {self.principal.partition(':')[2]}, link 0"
        return tuple(
            msgspec.structs.replace(one, how=GRANTED, where=where) if one.how is None and binds(bound, one) else one
            for one in findings
        )


UNROOTED: Final = Rooted()


def rooted(call: Call, authority: Authority, known: Known) -> Rooted:
    """What the root of the chain that a call is made under binds of it; `UNROOTED` where that is nothing."""
    delegated, flow, task = authority.delegated, known.flow, known.task
    if delegated is None or delegated.home or flow is None or task is None or call.task != delegated.task:
        return UNROOTED
    principal = known.rules.principals.get(delegated.principal.partition(":")[2])
    if principal is None or not principal.steers(call.server, call.name or ""):  # INVARIANT: 2
        return UNROOTED
    if task.started <= flow.held.since and call.task != flow.held.first:  # INVARIANT: 4
        return UNROOTED
    limits = delegated.chain.root.arguments.get(f"{call.server}/{call.name}", {})  # INVARIANT: 1
    given = call.arguments
    said = [
        name
        for name, limit in limits.items()
        if isinstance(limit, Equal | OneOf) and name in given and keeps(limit, given[name])  # INVARIANT: 3
    ]
    if not said:
        return UNROOTED
    return Rooted(principal=delegated.principal, bound=lambda: paths_bound(call, [(name,) for name in said]))
