"""What policies see of an agent: what the file says, and what its credential says for as long as that is good.

Decides nothing. INVARIANT: a credential that has ended, or has not begun, is as absent as one that was never held; a
claim that was not made is no attribute, so that a policy which needs it fails and denies.
"""

from __future__ import annotations

from typing import Any

import msgspec

from citywatch.core.identity.registration import AgentRow
from citywatch.core.policy.facts import Entity
from citywatch.core.policy.values import CedarSet
from citywatch.core.policy.world import CREDENTIAL


def vouched(entity: Entity, row: AgentRow | None, now: int) -> Entity:
    """The agent with its credential as the attribute `credential`, if it holds one that is good at `now`."""
    claims = None if row is None else row.claims
    if claims is None or not claims.not_before <= now < claims.not_after:
        return entity
    texts = ("issuer", "owner", "model", "configuration", "prompt")
    record: dict[str, Any] = {name: text for name in texts if (text := getattr(claims, name))}
    record["capabilities"] = CedarSet(claims.capabilities)
    return msgspec.structs.replace(entity, attributes={**entity.attributes, CREDENTIAL: record})
