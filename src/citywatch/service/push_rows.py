"""The rows that say who is pushed to about what, and when one of them is over.

Decides when a configuration was used for so long by nobody that it is over. INVARIANT: what is over is dropped in one
transaction with its place in the list, and only as it was read.
"""

from __future__ import annotations

from typing import Any

import msgspec

from citywatch.core.call import Call
from citywatch.core.enforce.peers import listed_prefix
from citywatch.core.identity.credential import Credential
from citywatch.core.wire.a2a_push import Target
from citywatch.service.ports import Append, Appended, Key, Puts, Store


class Pushing(msgspec.Struct, frozen=True, kw_only=True):
    """One configuration: for whom, about which task (None until the peer says), and what the peer has to show.

    `name` is the agent's id of it, `ours` the one that the peer has. `subscription` is the call whose replies the
    pushes are, without its message; `seen` are digests of the last ones, `count` how many there were. `used` is when
    one came last, or when it was made (ms; 0 in rows of an earlier version, which begin to age when they are seen).
    """

    server: str
    agent: str
    owner: str
    credential: Credential
    name: str
    ours: str
    url: str
    target: Target
    secret: str
    task: str | None
    context_task: str | None
    chain: tuple[str, ...]
    subscription: Call | None = None
    seen: tuple[str, ...] = ()
    count: int = 0
    used: int = 0


def removed(row: Pushing, key: Key) -> Puts:
    """What forgets a configuration."""
    return ((key, None), *(() if row.task is None else ((index_key(row), None),)))


def shown(row: Pushing) -> dict[str, Any]:
    """A configuration as its agent sees it again: its secrets went where they are for."""
    return {"taskId": row.task, "id": row.name, "url": row.url}


def over(used: int, now: int, memory: int) -> bool:
    """Whether a configuration that was used last then is over; one of an earlier version did not say."""
    return bool(used) and now - used > memory


async def drop_pushes(store: Store, now: int, memory: int) -> int:
    """Forget the configurations that are over, and let those that never said when they were used begin to age."""
    dropped = 0
    for row_id, stored in await store.scan("push"):
        key, row = ("push", row_id), parsed(stored.value)
        if over(row.used, now, memory):
            puts = removed(row, key)
        elif not row.used:
            puts = ((key, msgspec.json.encode(msgspec.structs.replace(row, used=now))),)
        else:
            continue
        done = await store.append(Append(reads=((key, stored.version),), puts=puts, sync=True))
        dropped += isinstance(done, Appended) and bool(row.used)
    return dropped


def index_key(row: Pushing) -> Key:
    return ("pushes", f"{listed_prefix(row.server, row.owner)}{row.task}\n{row.name}")


def parsed(value: bytes) -> Pushing:
    return msgspec.json.decode(value, type=Pushing)
