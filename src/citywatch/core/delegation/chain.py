"""Links from a root to a holder become what the holder may do at most: the meet of them all, or a refusal.

Decides whether links make a chain, whether its root is a principal we know, and whether this request may use it. Does
not decide whether an act keeps what is left (`holds`), nor that the request proves a key: that is `identity`'s, and an
argument here. Nothing is believed for having been verified elsewhere.

For good, and so kept in `Verified` by digest:
 1. there are links, not too many, each readable, signed, and by the key that it names (`grant`);
 2. the first has no parent, its delegator is the principal of the whole chain, and it says for whom it is (`audience`);
 3. each other names the hash of the one before, and its delegator is that one's delegate, with the same key;
 4. chain, task and principal are the same throughout;
 5. depth falls with each link, and no caveat (expiry and budget among them) claims more than was left.
For each request anew:
 6. the request is for the chain's task;
 7. this trust domain is in the audience;
 8. nothing in it is revoked: no link, key, agent, task, nor the chain;
 9. no link has expired;
10. the root's key may speak for this principal: ours, or another domain's as far as its frontier goes (`frontier`);
11. the last delegate is the caller, and its key the one that this request proves;
12. of a root that is another domain's no more is left than its ceiling leaves.

INVARIANTS
1. What is left is the meet of all links: adding one never leaves more, whatever it says.
2. A link fits in one place only: under the link whose hash it signed.
3. Whoever holds a chain holds nothing without its key.
4. A budget is every ancestor's as well: siblings draw on one counter, that of the link they share.
5. What is remembered of a chain saves steps 1 to 5 for exactly these texts in this epoch, and no other step.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from citywatch.core.canonical import canonical, digest
from citywatch.core.delegation.caveats import ANYTHING, Caveats, excess, meet
from citywatch.core.delegation.frontier import Frontier, check_frontier, domain_of
from citywatch.core.delegation.grant import MAX_LINK, Grant, SignedGrant, parse_link, verify_link
from citywatch.core.errors import Code, Malformed, Refused

MAX_LINKS: Final = 8


class Budget(msgspec.Struct, frozen=True):
    """How many calls all holders beneath one link may make together; `grant` is its hash."""

    grant: str
    calls: int


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """Links that fit together (steps 1 to 5); who may use them, and when, is still to be asked.

    `hops` are the agents that it went through with their keys' thumbs, the holder last; `names` are all the names under
    which something of it could be revoked. `root` is what the first link says by itself: the principal's own word.
    `home` is the trust domain that rooted it, where that is not ours, and `guests` the agents of that domain that are
    known here: under which SPIFFE ID, by the one that the chain has.
    """

    chain_id: str
    task: str
    principal: str
    root_thumb: str
    hashes: tuple[str, ...]
    hops: tuple[tuple[str, str], ...]
    caveats: Caveats
    budgets: tuple[Budget, ...]
    names: frozenset[str]
    root: Caveats = ANYTHING
    home: str = ""
    guests: Mapping[str, str] = {}


class Delegated(msgspec.Struct, frozen=True, kw_only=True):
    """The authority that a chain gives its holder for one request: only `authorise` makes one.

    `head` is the hash of the last link, `hops` the agents from the first to the holder. `home` is the trust domain that
    rooted it, empty for ours.
    """

    chain_id: str
    head: str
    task: str
    principal: str
    hops: tuple[str, ...]
    caveats: Caveats
    budgets: tuple[Budget, ...]
    chain: Chain
    home: str = ""


class Asking(msgspec.Struct, frozen=True, kw_only=True):
    """Who makes the request: the agent, the thumb of the key that *this* request proves, and the task that it names.

    `called` is what its own trust domain calls an agent of another one; empty for ours.
    """

    agent: str
    key: str
    task: str | None
    called: str = ""


class Trust(msgspec.Struct, frozen=True, kw_only=True):
    """What is known here: this trust domain, the thumbs of keys that may speak for each principal, what is revoked.

    `epoch` is another one whenever what is known changes. `abroad` are the frontiers, by trust domain.
    """

    domain: str
    roots: Mapping[str, Collection[str]]
    revoked: Collection[str]
    epoch: int
    abroad: Mapping[str, Frontier] = {}


class Verified:
    """Chains that fitted together once, by the digest of their texts and the epoch. Bounded."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._chains: dict[tuple[str, int], Chain] = {}

    def read(self, texts: Sequence[str], epoch: int, roots: Collection[str]) -> Chain:
        """As `read_chain`. Only what begins with one of these keys is remembered: anybody can make other chains, and
        would fill the memory with them."""
        if not _is_bounded(texts):
            return read_chain(texts)
        key = (digest(canonical(list(texts))), epoch)  # over one text in which no two sequences are written alike
        chain = self._chains.get(key)
        if chain is None:
            chain = read_chain(texts)
            if chain.root_thumb in roots:
                if len(self._chains) >= self._most:
                    self._chains.pop(next(iter(self._chains)), None)
                self._chains[key] = chain
        return chain


def verify_chain(
    texts: Sequence[str], asking: Asking, trust: Trust, now: int, verified: Verified | None = None
) -> Delegated:
    """Return what the chain gives whoever asks, at `now` (milliseconds); raise `Refused` with what does not hold."""
    if verified is None:
        return authorise(read_chain(texts), asking, trust, now)
    roots = frozenset[str]().union(*trust.roots.values())
    return authorise(verified.read(texts, trust.epoch, roots), asking, trust, now)


def read_chain(texts: Sequence[str]) -> Chain:
    """Steps 1 to 5."""
    if not 0 < len(texts) <= MAX_LINKS:  # 1
        raise Refused(Code.CHAIN_MALFORMED, f"a chain has one to {MAX_LINKS} links")
    links: list[SignedGrant] = []
    left = ANYTHING
    for place, text in enumerate(texts):
        try:
            link = verify_link(parse_link(text))  # 1
        except Malformed as error:
            raise Refused(Code.CHAIN_MALFORMED, f"link {place}: {error}") from None
        wrong = _at_the_root(link.grant) if place == 0 else _beneath(links[-1], link.grant)  # 2, 3, 4
        both = meet(left, link.grant.caveats)
        claimed = wrong or _claims(link.grant.caveats, left, both)  # 5
        if claimed is not None:
            raise Refused(Code.CHAIN_BROKEN, f"link {place}: {claimed}")
        left = both
        links.append(link)
    return _chain(links, left)


def authorise(chain: Chain, asking: Asking, trust: Trust, now: int) -> Delegated:
    """Steps 6 to 12."""
    if asking.task != chain.task:  # 6
        raise Refused(Code.CHAIN_WRONG_TASK, "the chain is for another task than the call")
    if trust.domain not in (chain.caveats.audience or ()):  # 7
        raise Refused(Code.CHAIN_WRONG_AUDIENCE, f"the chain is not for the trust domain `{trust.domain}`")
    if trust.revoked and any(name in trust.revoked for name in chain.names):  # 8
        raise Refused(Code.CHAIN_REVOKED)
    if now >= (chain.caveats.not_after or 0):  # 9
        raise Refused(Code.CHAIN_EXPIRED)
    home, frontier = "", None
    if chain.root_thumb not in trust.roots.get(chain.principal, ()):  # 10
        home = domain_of(chain.hops[0][0])
        hops = [agent for agent, _ in chain.hops]
        left = (chain.caveats.not_after or 0) - now
        frontier = check_frontier(
            trust.abroad.get(home), home, trust.domain, chain.principal, chain.root_thumb, hops, left
        )
    holder = asking.called if home and domain_of(asking.agent) == home else asking.agent
    if (holder, asking.key) != chain.hops[-1]:  # 11
        raise Refused(Code.CHAIN_NOT_HELD, "the chain ends at another agent, or at another key of this one")
    return Delegated(
        chain_id=chain.chain_id,
        head=chain.hashes[-1],
        task=chain.task,
        principal=chain.principal,
        hops=tuple(agent for agent, _ in chain.hops),
        caveats=chain.caveats if frontier is None else meet(chain.caveats, frontier.ceiling),  # 12
        budgets=chain.budgets,
        chain=chain,
        home=home,
    )


def _at_the_root(grant: Grant) -> str | None:
    if grant.parent is not None:
        return "the first link has a parent"
    if grant.delegator != grant.human_root:
        return "the first link is not its principal's"
    return "the first link says not for which trust domain it is" if not grant.caveats.audience else None


def _beneath(before: SignedGrant, grant: Grant) -> str | None:
    above = before.grant
    if grant.parent != before.hash:
        return "it was not made under the link before it"
    if (grant.delegator, grant.delegator_thumb) != (above.delegate, above.delegate_thumb):
        return "its delegator is not the delegate of the link before it"
    if (grant.chain_id, grant.task, grant.human_root) != (above.chain_id, above.task, above.human_root):
        return "it is of another chain, task or principal"
    return None if grant.depth < above.depth else "its depth is not below that of the link before it"


def _claims(stated: Caveats, left: Caveats, both: Caveats) -> str | None:
    more = None if left is ANYTHING else excess(stated, both)
    return None if more is None else f"its caveat `{more}` claims more than its delegator had"


def _chain(links: Sequence[SignedGrant], left: Caveats) -> Chain:
    root = links[0].grant
    hops = tuple((link.grant.delegate, link.grant.delegate_thumb) for link in links)
    hashes = tuple(link.hash for link in links)
    return Chain(
        chain_id=root.chain_id,
        task=root.task,
        principal=root.human_root,
        root_thumb=root.delegator_thumb,
        hashes=hashes,
        hops=hops,
        caveats=left,
        root=root.caveats,
        budgets=tuple(
            Budget(link.hash, link.grant.caveats.calls) for link in links if link.grant.caveats.calls is not None
        ),
        names=frozenset(
            (
                f"chain:{root.chain_id}",
                f"task:{root.task}",
                root.human_root,
                f"key:{root.delegator_thumb}",
                *(f"grant:{one}" for one in hashes),
                *(f"agent:{agent}" for agent, _ in hops),
                *(f"key:{thumb}" for _, thumb in hops),
            )
        ),
    )


def _is_bounded(texts: Sequence[str]) -> bool:
    return 0 < len(texts) <= MAX_LINKS and all(len(text) <= MAX_LINK and text.isascii() for text in texts)
