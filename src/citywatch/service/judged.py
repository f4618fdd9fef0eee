"""A call that was judged: what goes from the first half of the sequence to whoever forwards it, and to the second.

Decides nothing. INVARIANT: only `Enforcer.judge` and `recall` make one, so that whoever holds one may rely on it.
"""

from __future__ import annotations

import msgspec

from citywatch.core.call import Allow, Call, Decision
from citywatch.core.enforce.needs import Known
from citywatch.core.enforce.verify import Authority
from citywatch.core.identity.credential import Credential


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A call, its decision, and what it rested on; the decision's entry is committed.

    `found` is what the gates found; `decision` is another where `unsafe_observe` enforces nothing. `redacted`: what was
    taken out of a server's message before it was judged. `ticket`: the one that waits for a person's answer, if any.
    """

    call: Call
    credential: Credential
    decision: Decision
    found: Decision
    authority: Authority | None
    known: Known
    redacted: tuple[str, ...] = ()
    ticket: str = ""

    @property
    def allowed(self) -> bool:
        return type(self.decision) is Allow
