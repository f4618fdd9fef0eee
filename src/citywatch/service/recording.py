"""What a decision changes, in one transaction: its entry, what it spends, what it opens, what it carries where.

Decides nothing; `enforcer` commits it. INVARIANTS
1. The entry commits against each row that the decision was read from, or not at all.
2. A refusal spends what the call would have spent, and changes nothing else but that a person may be asked, that
   whoever tried to carry a text on is known to have, and what 4 says.
3. Of a call that changes anything, or answers a server, the entry is synced.
4. A task of another domain is on file with the first decision under its chain, whatever was decided.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from citywatch.core.call import Call, Direction
from citywatch.core.content.model import Model
from citywatch.core.delegation.chain import Chain
from citywatch.core.enforce.held import TaskRow, task_key
from citywatch.core.enforce.needs import Known, Needs, OpenCall, is_synced, lost_key, open_key
from citywatch.service import entries, memories
from citywatch.service.asking import asking, using
from citywatch.service.contexts import flowing
from citywatch.service.judged import Judged
from citywatch.service.ports import Append, Loaded, NewEntry, Payload, Puts, Reads, Spend
from citywatch.service.trees import reaching


def recording(
    judged: Judged,
    need: Needs,
    loaded: Loaded,
    now: int,
    puts: Puts,
    opening: Reads,
    *,
    replica: str,
    model: Model | None,
    draw: Callable[[], bytes],
) -> Append:
    """The one transaction of a decision: its entry, what it was read from, what it spends, what it changes.

    `draw` gives 16 bytes of chance: the payload's salt, and what a ticket needs that is opened.
    """
    call, known, allowed = judged.call, judged.known, judged.allowed
    salt = draw()
    observing = allowed and known.rules.observe
    unheard = not allowed and call.direction is Direction.TO_AGENT
    entry = entries.decided(
        call,
        judged.credential,
        known,
        judged.found,
        judged.redacted,
        salt=salt,
        replica=replica,
        now=now,
        observing=observing,
    )
    if allowed:
        asked = using(need.flow, known.flow, judged.found, call, now, replica)
    else:
        asked = asking(call, need.flow, known.flow, judged.decision, known.rules, now, draw, replica)
    return Append(
        # What a server says and nobody hears costs it nothing, and would fill our disk: its digest has to do.
        entries=(
            NewEntry(entry, None if unheard else Payload(salt, call.body)),
            *entries.let_down(call, judged.found, replica=replica, now=now),
            *asked.entries,
        ),
        reads=(*known.reads, *opening) if allowed else known.reads,
        spends=tuple(Spend(b.key, b.window, b.limit, observing or not allowed) for b in need.budgets),
        puts=(
            *_guest(known, now),
            *_carrying(known),
            *_open(call, need, known, replica),
            *puts,
            *flowing(call, need.flow, known.flow, judged.found, loaded, now, model),
            *memories.of_call(call, need, known, now),
            *reaching(call, known, now),
            *asked.puts,
        )
        if allowed
        else (*_guest(known, now), *_carrying(known), *asked.puts),
        sync=allowed and is_synced(known.rules, call),
    )


def _guest(known: Known, now: int) -> Puts:
    """The row of a task that another domain's chain brought: from then on it can be stopped and ended like any."""
    chain = known.chain
    if not isinstance(chain, Chain) or not chain.home or known.task is not None:
        return ()
    person, first = chain.principal.partition(":")[2], chain.hops[0][0]
    row = TaskRow(agent=first, principal=person, started=now, home=chain.home)
    return ((task_key(chain.task), msgspec.json.encode(row)),)


def _carrying(known: Known) -> Puts:
    return tuple((key, msgspec.json.encode(row)) for key, row in known.spread.rows.items())


def _open(call: Call, need: Needs, known: Known, replica: str) -> Puts:
    """The row that marks a call as open (a notification has no outcome to wait for); an invitation is used up."""
    spent: Puts = () if need.invited is None else ((need.invited, None),)
    if need.likeness is not None and known.lost is not None:
        spent = (*spent, (lost_key(need.likeness), None))  # it was resolved, and its time is over
    if call.rpc_id is None:
        return spent
    row = OpenCall(
        call=call.id,
        replica=replica,
        agent=call.agent,
        server=call.server,
        method=call.method,
        likeness=need.likeness,
    )
    return ((open_key(call), msgspec.json.encode(row)), *spent)
