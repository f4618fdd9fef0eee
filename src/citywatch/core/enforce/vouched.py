"""What policies see of an agent: what the file says, and what its credential and its attestation say while they count.

Decides nothing of permission. INVARIANTS: a credential or an attestation that has ended, or has not begun, is as absent
as one that was never held, and so is the word of an attestor whom the file does not name any more under that key; a
claim that was not made is no attribute, so that a policy which needs it fails and denies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from citywatch.core.identity.registration import AgentRow
from citywatch.core.identity.vc import Claims
from citywatch.core.policy.facts import Entity
from citywatch.core.policy.values import CedarSet
from citywatch.core.policy.world import ATTESTED, CREDENTIAL


def vouched(entity: Entity, row: AgentRow | None, now: int, attestors: Mapping[str, str]) -> Entity:
    """The agent with the attributes `credential` and `attested`, each if it holds one that counts at `now`.

    `attestors` are the thumbs of the keys under which an attestor's word counts, by its name.
    """
    found: dict[str, Any] = {}
    claims = None if row is None else row.claims
    if claims is not None and claims.not_before <= now < claims.not_after:
        found[CREDENTIAL] = _claimed(claims)
    held = None if row is None else row.attestation
    if held is not None and held.holds(attestors, now):
        subjects = CedarSet(held.subjects)
        found[ATTESTED] = {"by": held.attestor, "kind": held.kind, "builder": held.builder, "subjects": subjects}
    return msgspec.structs.replace(entity, attributes={**entity.attributes, **found}) if found else entity


def _claimed(claims: Claims) -> dict[str, Any]:
    texts = ("issuer", "owner", "model", "configuration", "prompt")
    record: dict[str, Any] = {name: text for name in texts if (text := getattr(claims, name))}
    record["capabilities"] = CedarSet(claims.capabilities)
    return record
