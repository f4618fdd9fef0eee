"""How far a chain reaches here whose root another trust domain signed.

Decides which roots of another domain are believed, by that domain's own keys alone, and within which ceiling. Does not
decide what keys those are: that is the domain's bundle, which its own source gave (`identity.bundle`). The steps that
are asked of any chain are `chain`'s, and a foreign one takes them all.

Where a root is not ours, it is of the domain of the agent that it was given to:
 a. the file has a frontier for that domain, and the domain's bundle, not too old, has the root's key for principals;
 b. the file lets that domain speak for this principal;
 c. the chain goes through agents of that domain and of ours alone;
 d. it ends soon enough: nobody there can tell us that something was taken back;
 e. what is left is the meet of its links and the ceiling.

INVARIANTS
1. A domain's key speaks for no chain that begins in another domain, ours among them.
2. Without a frontier in the file nothing that was rooted elsewhere counts.
3. The ceiling only takes away: what it is silent about (a tool, a skill) is not left.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from citywatch.core.delegation.caveats import Caveats
from citywatch.core.errors import Code, Refused
from citywatch.core.names import parse_agent_id


class Frontier(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says of chains that one other trust domain roots, and what its bundle says of its keys.

    `keys` are the thumbs of the keys that speak for its principals, empty where its bundle is not at hand. `principals`
    are those (`principal:<name>`) for whom it may speak here; `ceiling` meets each chain; `longest` is how much of its
    life a chain may have before it, in milliseconds. `agents` are the agents of that domain that the file names: the
    SPIFFE ID by which it is known here, by the one that its own authority gave it. `calls` may be made here for one
    task of theirs; after `max_age` milliseconds without a look, its bundle proves nothing.
    """

    principals: frozenset[str]
    ceiling: Caveats
    longest: int
    calls: int
    max_age: int
    agents: Mapping[str, str] = {}
    keys: Collection[str] = frozenset()


def check_frontier(
    frontier: Frontier | None, home: str, domain: str, principal: str, root: str, hops: Collection[str], left: int
) -> Frontier:
    """Steps a to d: return the frontier that a chain passes, rooted in `home` by the key `root` and shown in `domain`.

    `hops` are its agents, `left` is how long it holds yet, in milliseconds.
    """
    if frontier is None or home == domain or root not in frontier.keys:  # a
        raise Refused(Code.CHAIN_UNTRUSTED, "the chain does not start at a principal of this gateway")
    if principal not in frontier.principals:  # b
        raise Refused(Code.CHAIN_UNTRUSTED, f"`{home}` does not speak for that principal here")
    if any(domain_of(agent) not in (home, domain) for agent in hops):  # c
        raise Refused(Code.CHAIN_UNTRUSTED, f"the chain leaves `{home}` for a third trust domain")
    if left > frontier.longest:  # d
        raise Refused(Code.CHAIN_UNTRUSTED, f"a chain of `{home}` holds for at most {frontier.longest // 1000} s more")
    return frontier


def domain_of(agent: str) -> str:
    """The trust domain of an agent's SPIFFE ID."""
    return parse_agent_id(agent).domain
