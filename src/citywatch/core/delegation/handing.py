"""What the next link says: a root for a principal's task, or a grant under a chain that somebody holds.

Decides what may be written, before anybody signs it: no more than is left, and under the last link there is. Signs
nothing, and needs no gateway: an agent hands on what it holds while it is offline. What is refused here the gateway
refuses as well (`chain`), so nothing rests on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from citywatch.core.delegation.caveats import ANYTHING, Caveats, excess, meet
from citywatch.core.delegation.chain import MAX_LINKS
from citywatch.core.delegation.grant import Grant, format_grant, parse_link
from citywatch.core.errors import Malformed


class Holder(msgspec.Struct, frozen=True):
    """To whom a link is given: an agent's SPIFFE ID and the thumbprint of its key."""

    agent: str
    thumb: str


def root_grant(chain_id: str, task: str, principal: str, thumb: str, to: Holder, caveats: Caveats) -> bytes:
    """The first link of a chain, for the principal `principal:<name>` whose signer has this thumb.

    `caveats` must say `audience`, `not_after` and `depth`.
    """
    if not caveats.audience or caveats.not_after is None or caveats.depth is None:
        raise Malformed("the first link of a chain says for whom it is, until when, and how often it may be handed on")
    return format_grant(
        Grant(
            chain_id=chain_id,
            parent=None,
            delegator=principal,
            delegator_thumb=thumb,
            delegate=to.agent,
            delegate_thumb=to.thumb,
            caveats=caveats,
            task=task,
            human_root=principal,
        )
    )


def next_grant(texts: Sequence[str], to: Holder, caveats: Caveats) -> bytes:
    """The link that hands a chain on, for its holder to sign; `Malformed` if it would claim more than is left.

    What `caveats` does not say stays as it was; without `not_after` it ends with the chain, without `depth` it goes one
    hop less far.
    """
    if not 0 < len(texts) < MAX_LINKS:
        raise Malformed(f"a chain that is handed on has one to {MAX_LINKS - 1} links")
    links = [parse_link(text) for text in texts]
    left = ANYTHING
    for link in links:
        left = meet(left, link.grant.caveats)
    last = links[-1].grant
    if last.depth == 0:
        raise Malformed("the chain may not be handed on: its depth is 0")
    stated = msgspec.structs.replace(
        caveats,
        not_after=last.not_after if caveats.not_after is None else caveats.not_after,
        depth=last.depth - 1 if caveats.depth is None else min(caveats.depth, last.depth - 1),
    )
    more = excess(stated, meet(left, stated))
    if more is not None:
        raise Malformed(f"`{more}` is more than the chain leaves")
    return format_grant(
        Grant(
            chain_id=last.chain_id,
            parent=links[-1].hash,
            delegator=last.delegate,
            delegator_thumb=last.delegate_thumb,
            delegate=to.agent,
            delegate_thumb=to.thumb,
            caveats=stated,
            task=last.task,
            human_root=last.human_root,
        )
    )
