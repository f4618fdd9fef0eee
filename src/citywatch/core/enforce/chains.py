"""The chain that a call shows: what must be loaded to judge it, and what the rows say of it.

Decides which rows and budgets a chain draws on, and what of it is void here; the steps themselves are
`delegation.chain`'s, and `verify` takes them. INVARIANTS: every agent that a chain went through is asked for, not its
holder alone; each link with a budget is debited, so siblings share what their common link has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

import msgspec

from citywatch.core.call import Call, Direction, Reason
from citywatch.core.delegation.chain import Budget, Chain, Trust, Verified, read_chain
from citywatch.core.delegation.frontier import Frontier, domain_of
from citywatch.core.delegation.grant import parse_link
from citywatch.core.enforce.held import TaskRow
from citywatch.core.enforce.past import PLUMBING
from citywatch.core.enforce.rules import Rules
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.identity.registration import AgentRow, agent_key
from citywatch.core.names import parse_agent_id

Key = tuple[str, str]
WITHDRAWN: Final = "withdrawn"
BUNDLE: Final = "bundle"
EPOCH: Final = 0
"""What is remembered of a chain is true for good (steps 1 to 5); all that can change is a row, read for each call."""
NO_ACT: Final = PLUMBING | {"server/discover", "notifications/initialized", "transport/listen", "transport/end"}
"""What a client needs to find its tools, to begin and to end: nobody has to be granted that."""


def chain_of(
    call: Call, verified: Verified | None, roots: Collection[str], frontiers: Mapping[str, Frontier]
) -> Chain | Reason | None:
    """What a call's links are together; the reason why they are no chain; None if it shows none."""
    if not call.chain:
        return None
    try:
        chain = read_chain(call.chain) if verified is None else verified.read(call.chain, EPOCH, roots)
    except Refused as refusal:
        return Reason(refusal.code, detail=refusal.detail)
    if chain.root_thumb in roots or not frontiers:
        return chain
    home = domain_of(chain.hops[0][0])
    known = frontiers.get(home)
    return chain if known is None else msgspec.structs.replace(chain, home=home, guests=known.agents)


def are_links(texts: Iterable[str]) -> bool:
    """Whether each of these reads as a link of a chain, whoever signed it."""
    try:
        for text in texts:
            parse_link(text)
    except (Malformed, Refused):
        return False
    return True


def is_act(call: Call) -> bool:
    """Whether a call is something that an agent has to be granted."""
    return call.direction is Direction.TO_SERVER and call.method not in NO_ACT


def withdrawn_key(name: str) -> Key:
    """Where it is kept that a link (`grant:<hash>`), a chain (`chain:<id>`), or every chain of a principal
    (`principal:<name>`), of another domain (`domain:<name>`) or of one of its keys (`root:<thumb>`) was revoked; that
    it is there says so."""
    return (WITHDRAWN, name)


def chain_rows(chain: Chain) -> tuple[Key, ...]:
    """The rows that can void a chain: every agent's that it went through, every link's, its own, its domain's."""
    links = (withdrawn_key(f"grant:{one}") for one in chain.hashes)
    known = (_known_as(chain, agent) for agent, _ in chain.hops)
    agents = (agent_key(parse_agent_id(agent).name) for agent in known if agent is not None)
    own = (withdrawn_key(f"chain:{chain.chain_id}"), withdrawn_key(chain.principal))
    return (*dict.fromkeys(agents), *links, *own, *(withdrawn_key(name) for name in _abroad(chain)))


def _abroad(chain: Chain) -> tuple[str, ...]:
    """Under which names all chains of where this one comes from are revoked; none for ours."""
    return (f"domain:{chain.home}", f"root:{chain.root_thumb}") if chain.home else ()


def _known_as(chain: Chain, agent: str) -> str | None:
    """An agent of a chain as it is registered here; None for one that only its own domain knows."""
    return chain.guests.get(agent) if chain.home and domain_of(agent) == chain.home else agent


def budget_key(budget: Budget) -> str:
    """The counter of one link; an agent's own counters begin with its name and a newline, and names hold no colon."""
    return f"grant:{budget.grant}"


def void_names(chain: Chain, rows: Mapping[Key, Any], withdrawn: Collection[str]) -> set[str]:
    """What of a chain is void by now. `rows` holds the rows of its agents.

    An agent that is not registered, or not with this key, is as good as revoked. Of another domain's agent only its own
    authority knows the keys: a link to one names a key, and whoever shows the chain has to prove that one. And of a
    chain that its own domain rooted, only that domain answers for those of its agents whom nobody here knows.
    """
    void = set(withdrawn)
    if not void.isdisjoint(_abroad(chain)):
        void.add(f"chain:{chain.chain_id}")
    for agent, thumb in chain.hops:
        known = _known_as(chain, agent)
        if known is None:
            continue
        row: AgentRow | None = rows.get(agent_key(parse_agent_id(known).name))
        if row is None or row.agent != known or row.refusal:
            void.add(f"agent:{agent}")
        elif not row.holds(thumb):
            void.add(f"key:{thumb}")
    return void


def check_chain(chain: Chain, rows: Mapping[Key, Any]) -> None:
    """Refuse a chain of which something was taken back since its call was let through. `rows` are `chain_rows`.

    That its task is over takes back nothing that was done for it.
    """
    withdrawn = [key[1] for key in chain_rows(chain) if key[0] == WITHDRAWN and rows.get(key)]
    if not chain.names.isdisjoint(void_names(chain, rows, withdrawn)):
        raise Refused(Code.CHAIN_REVOKED)


def trust_of(
    chain: Chain,
    rules: Rules,
    task: TaskRow | None,
    hops: Mapping[Key, AgentRow | None],
    withdrawn: frozenset[str],
    keys: Collection[str],
) -> Trust:
    """What is known of a chain here: the gateway's key speaks for the principal who started the task, and nobody else.

    The first agent is the one whose task it is, registered as it was when the task began. Of a chain that another
    domain rooted, `keys` are those in its bundle, and the task is one that came from there.
    """
    if chain.home:
        return _trust_abroad(chain, rules, task, hops, withdrawn, keys)
    void, first = void_names(chain, hops, withdrawn), chain.hops[0][0]
    if task is None or task.ended or task.home or task.agent != first or task.started < _added(hops, first):
        void.add(f"task:{chain.task}")
    principal = "" if task is None else f"principal:{task.principal}"
    return Trust(domain=rules.domain, roots={principal: rules.roots}, revoked=void, epoch=EPOCH)


def _trust_abroad(
    chain: Chain,
    rules: Rules,
    task: TaskRow | None,
    hops: Mapping[Key, AgentRow | None],
    withdrawn: frozenset[str],
    keys: Collection[str],
) -> Trust:
    """No key of ours speaks for it. A task that is not on file yet came just now; one that is, is theirs or is not."""
    void = void_names(chain, hops, withdrawn)
    if task is not None and (task.ended or not is_guest(task, chain)):
        void.add(f"task:{chain.task}")
    frontier = msgspec.structs.replace(rules.frontiers[chain.home], keys=keys)
    return Trust(domain=rules.domain, roots={}, revoked=void, epoch=EPOCH, abroad={chain.home: frontier})


def is_guest(task: TaskRow, chain: Chain) -> bool:
    """Whether a task on file is the one that a chain of another domain is for: of the same domain, person and agent."""
    of = (task.home, f"principal:{task.principal}", task.agent)
    return of == (chain.home, chain.principal, chain.hops[0][0])


def guest_budget(home: str, task: str) -> str:
    """The counter of all calls that are made here for one task of another domain, under whichever of its chains."""
    return f"domain:{home}\n{task}"


def bundle_key(domain: str) -> Key:
    """Where the bundle of another trust domain is on file."""
    return (BUNDLE, domain)


def called_abroad(rules: Rules, home: str, agent: str) -> str:
    """What its own trust domain calls an agent that is known here as `agent`; empty if the file names none such."""
    known = rules.frontiers[home].agents if home in rules.frontiers else {}
    return next((theirs for theirs, ours in known.items() if ours == agent), "")


def _added(hops: Mapping[Key, AgentRow | None], agent: str) -> int:
    row = hops.get(agent_key(parse_agent_id(agent).name))
    return 0 if row is None else row.added_at
