"""The chain that a call shows: what must be loaded to judge it, and what the rows say of it.

Decides which rows and budgets a chain draws on, and what of it is void here; the steps themselves are
`delegation.chain`'s, and `verify` takes them. INVARIANTS: every agent that a chain went through is asked for, not its
holder alone; each link with a budget is debited, so siblings share what their common link has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from citywatch.core.call import Call, Direction, Reason
from citywatch.core.delegation.chain import Budget, Chain, Trust, Verified, read_chain
from citywatch.core.delegation.grant import parse_link
from citywatch.core.enforce.held import TaskRow
from citywatch.core.enforce.past import PLUMBING
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.identity.registration import AgentRow, agent_key
from citywatch.core.names import parse_agent_id

Key = tuple[str, str]
WITHDRAWN: Final = "withdrawn"
EPOCH: Final = 0
"""What is remembered of a chain is true for good (steps 1 to 5); all that can change is a row, read for each call."""
NO_ACT: Final = PLUMBING | {"server/discover", "notifications/initialized", "transport/listen", "transport/end"}
"""What a client needs to find its tools, to begin and to end: nobody has to be granted that."""


def chain_of(call: Call, verified: Verified | None, roots: Collection[str]) -> Chain | Reason | None:
    """What a call's links are together; the reason why they are no chain; None if it shows none."""
    if not call.chain:
        return None
    try:
        return read_chain(call.chain) if verified is None else verified.read(call.chain, EPOCH, roots)
    except Refused as refusal:
        return Reason(refusal.code, detail=refusal.detail)


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
    """Where it is kept that a link (`grant:<hash>`), a chain (`chain:<id>`) or every chain of a principal
    (`principal:<name>`) was revoked; that it is there says so."""
    return (WITHDRAWN, name)


def chain_rows(chain: Chain) -> tuple[Key, ...]:
    """The rows that can void a chain: every agent's that it went through, every link's, its own."""
    links = (withdrawn_key(f"grant:{one}") for one in chain.hashes)
    agents = (agent_key(parse_agent_id(agent).name) for agent, _ in chain.hops)
    return (*dict.fromkeys(agents), *links, withdrawn_key(f"chain:{chain.chain_id}"), withdrawn_key(chain.principal))


def budget_key(budget: Budget) -> str:
    """The counter of one link; an agent's own counters begin with its name and a newline, and names hold no colon."""
    return f"grant:{budget.grant}"


def void_names(chain: Chain, rows: Mapping[Key, Any], withdrawn: Collection[str]) -> set[str]:
    """What of a chain is void by now. `rows` holds the rows of its agents.

    An agent that is not registered, or not with this key, is as good as revoked. Of another domain's agent only its own
    authority knows the keys: a link to one names a key, and whoever shows the chain has to prove that one.
    """
    void = set(withdrawn)
    for agent, thumb in chain.hops:
        row: AgentRow | None = rows.get(agent_key(parse_agent_id(agent).name))
        if row is None or row.agent != agent or row.refusal:
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
    domain: str,
    roots: Collection[str],
    task: TaskRow | None,
    hops: Mapping[Key, AgentRow | None],
    withdrawn: frozenset[str],
) -> Trust:
    """What is known of a chain here: the gateway's key speaks for the principal who started the task, and nobody else.

    The first agent is the one whose task it is, registered as it was when the task began.
    """
    void, first = void_names(chain, hops, withdrawn), chain.hops[0][0]
    if task is None or task.ended or task.agent != first or task.started < _added(hops, first):
        void.add(f"task:{chain.task}")
    principal = "" if task is None else f"principal:{task.principal}"
    return Trust(domain=domain, roots={principal: roots}, revoked=void, epoch=EPOCH)


def _added(hops: Mapping[Key, AgentRow | None], agent: str) -> int:
    row = hops.get(agent_key(parse_agent_id(agent).name))
    return 0 if row is None else row.added_at
