"""Who acts: a verified credential and the rows about its holder become an `Authority`, or the call is refused.

Decides identity, never permission. The signature was checked when the credential was made (`identity.credential`); here
everything that can change from one request to the next is checked again, for each request.

INVARIANTS: an `Authority` exists only for a registered, unrevoked agent whose registered key this request proved, at a
time inside the credential's validity; a session serves only the agent that opened it; a chain that is shown holds in
every step, or the call is refused: none is passed over.
"""

from __future__ import annotations

import msgspec

from citywatch.core.call import Call, Reason
from citywatch.core.delegation.chain import Asking, Chain, Delegated, authorise
from citywatch.core.enforce.chains import called_abroad, trust_of
from citywatch.core.enforce.held import TaskRow
from citywatch.core.enforce.needs import Known, agent_name
from citywatch.core.enforce.rules import Rules
from citywatch.core.enforce.vouched import vouched
from citywatch.core.errors import Code, Refused
from citywatch.core.identity.attestation import is_attested
from citywatch.core.identity.credential import Credential, check_time
from citywatch.core.identity.registration import AgentRow
from citywatch.core.policy.facts import Entity


class Authority(msgspec.Struct, frozen=True, kw_only=True):
    """Who acts, proved, and by which chain if it shows one. Only `verify` makes one; `admit` takes nothing less."""

    agent: str
    name: str
    key: str
    entity: Entity
    delegated: Delegated | None = None


def verify(call: Call, credential: Credential, known: Known, now: int, *, standing: bool = False) -> Authority:
    """Return the authority behind a call, or raise `Refused` with the one reason that applies.

    `standing`: nobody asks now, and something comes for a call that was let through before; then all but the first
    holds, for the papers were good when it was asked, and what they say of the key and the agent is asked again.

    1. The credential is inside its validity at `now` (milliseconds).
    2. It names the agent the call is made for.
    3. The agent is registered, and not revoked, quarantined or stopped; neither is everything, or the call's task. If
       it acts only with an attestor's word, that word is held and counts.
    4. The key it proves is one the agent is registered with.
    5. The session, if the call names one, was opened by this agent at this server.
    6. The task, if the call names one, is not over and, without a chain, was given to this agent as it is registered.
       One that came from another domain is there for its chains alone, and begins with the first of them.
    7. The chain, if the call shows one, starts at the task's principal and ends at this agent and the key it proves.
    """
    if not standing:
        check_time(credential, now, known.rules.leeway_ms)  # 1
    if credential.agent != call.agent:  # 2
        raise Refused(Code.CREDENTIAL_BAD_NAME, "the credential names another agent")
    row = check_standing(credential.agent, credential.key, known.agent, credential.proved)  # 3, 4
    if known.rules.attested_by:
        check_attested(agent_name(call), row, known.rules, now)
    check_halts(known.task, everything=known.halted)
    if call.session is not None:  # 5
        session = known.session
        if (
            session is None
            or session.agent != call.agent
            or session.server != call.server
            or session.opened < row.added_at
        ):
            raise Refused(Code.SESSION_UNKNOWN)
    if call.task is not None:  # 6
        task, home = known.task, known.chain.home if isinstance(known.chain, Chain) else ""
        if isinstance(known.chain, Reason) and (task is None or task.home):  # nobody can tell whose task that would be
            raise Refused(known.chain.code, known.chain.detail)
        if (task is None and not home) or (task is not None and task.ended):
            raise Refused(Code.TASK_NOT_HELD)
        if task is not None and task.home != home:
            raise Refused(Code.TASK_NOT_HELD, "the task came from another trust domain than the chain")
        if task is not None and known.chain is None and (task.agent != call.agent or task.started < row.added_at):
            raise Refused(Code.TASK_NOT_HELD)
    delegated = _delegated(call, credential, known, now)  # 7
    name = agent_name(call)
    return Authority(
        agent=credential.agent,
        name=name,
        key=credential.key,
        entity=vouched(known.rules.agent(credential.agent, name), row, now, known.rules.attestors),
        delegated=delegated,
    )


def _delegated(call: Call, credential: Credential, known: Known, now: int) -> Delegated | None:
    chain = known.chain
    if isinstance(chain, Reason):
        raise Refused(chain.code, chain.detail)
    if chain is None:
        return None
    keys = known.rooting if now < known.rooting_until else frozenset[str]()
    trust = trust_of(chain, known.rules, known.task, known.hops, known.withdrawn, keys)
    called = called_abroad(known.rules, chain.home, credential.agent) if chain.home else ""
    asking = Asking(agent=credential.agent, key=credential.holder, task=call.task, called=called)
    return authorise(chain, asking, trust, now)


def check_attested(name: str, row: AgentRow, rules: Rules, now: int) -> None:
    """Raise `Refused(NOT_ATTESTED)` for an agent that needs an attestor's word, unless it is held and counts now."""
    needed = rules.attested_by.get(name)
    if needed is not None and not is_attested(row.attestation, needed, rules.attestors, now):
        raise Refused(Code.NOT_ATTESTED)


def check_halts(task: TaskRow | None, *, everything: bool) -> None:
    """Raise `Refused(HALTED)` for a call that a stop covers: everything's, or its task's; an agent's is on its row."""
    if everything:
        raise Refused(Code.HALTED, "the operator has stopped everything")
    if task is not None and task.halted:
        raise Refused(Code.HALTED, "the operator has stopped this task")


def check_standing(agent: str, key: str, row: AgentRow | None, proved: str = "") -> AgentRow:
    """Return the agent's row if it is registered, not revoked, and holds this key; raise `Refused` otherwise.

    `proved` is the key behind a name that another authority vouches for (`Credential.proved`).
    Asked of a call before it leaves, and again of its reply: much can happen while a server works.
    """
    if row is None or row.agent != agent:
        raise Refused(Code.AGENT_UNKNOWN)
    if (refusal := row.refusal) is not None:
        raise Refused(refusal)
    if key in row.void or proved in row.void:
        raise Refused(Code.KEY_REVOKED)
    if key not in row.keys:
        raise Refused(Code.KEY_NOT_REGISTERED)
    return row
