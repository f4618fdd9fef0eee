"""A signed message is taken once: its nonce is written down before anything that it asks for is judged.

Decides that a message did not come before, to this replica or another. Who signed it is `core.identity.message`'s.
INVARIANTS: of two messages with one nonce of one key, one is taken, whichever replicas they reach; a nonce is forgotten
only when its message has expired, and with it every message that would have expired by then (`floor`): a clock that
goes back makes no old message new; whoever is not in good standing leaves no row.

The row is not synced by itself. A call that changes something is, and with it all that was written before; a call that
only reads can be repeated within a minute of a loss of power.
"""

from __future__ import annotations

import msgspec

from citywatch.core.enforce.verify import check_standing
from citywatch.core.errors import Code, Refused, Unavailable
from citywatch.core.http_signature import Head
from citywatch.core.identity.credential import Credential
from citywatch.core.identity.message import MessageProof, check_body, verify_message
from citywatch.core.identity.registration import agent_key, parse_agent_row
from citywatch.core.identity.wit import BoundToken
from citywatch.core.names import parse_agent_id
from citywatch.service.ports import Append, Appended, Clock, Key, Loaded, Store

MAX_CONFLICTS = 3
BATCH = 256
FLOOR: Key = ("nonces", "floor")


def nonce_key(proof: MessageProof) -> Key:
    """Where it is kept that a message was taken: a thumbprint has one length, so no two pairs meet."""
    return ("nonce", f"{proof.credential.holder}\n{proof.nonce}")


class Messages:
    """The messages that were taken, in the store that all replicas share."""

    def __init__(self, store: Store, clock: Clock, leeway_ms: int) -> None:
        self._store = store
        self._clock = clock
        self._leeway = leeway_ms

    def verify(self, head: Head, token: BoundToken) -> MessageProof:
        """Whose a request is, as far as its head says."""
        return verify_message(head, token, now=self._clock.now_ms(), leeway=self._leeway)

    async def take(self, proof: MessageProof, body: bytes) -> Credential:
        """Return whose the whole request is, and never again for the same one; `Refused` otherwise."""
        credential = check_body(proof, body)
        key, holder = nonce_key(proof), agent_key(parse_agent_id(credential.agent).name)
        row = (await self._store.load((holder,), ())).rows.get(holder)
        found = None if row is None else parse_agent_row(row.value)
        check_standing(credential.agent, credential.key, found, credential.proved)
        if not await spend(self._store, key, proof.expires):
            raise Refused(Code.CREDENTIAL_EXPIRED, "the message was sent before")
        return credential


async def spend(store: Store, key: Key, expires: int) -> bool:
    """Write down that something was taken which is good once, until then (ms); False if it was before."""
    for _ in range(MAX_CONFLICTS):
        loaded = await store.load((key, FLOOR), ())
        if key in loaded.rows or expires <= _floor(loaded):
            return False
        reads = ((key, 0), (FLOOR, _version(loaded)))
        put = (key, msgspec.json.encode(expires))
        if isinstance(await store.append(Append(reads=reads, puts=(put,))), Appended):
            return True
    raise Unavailable(Code.CONFLICT, "that a message was taken could not be written down")


async def drop_nonces(store: Store, now: int, leeway_ms: int) -> int:
    """Forget the nonces of messages that have expired; return how many. The floor rises before they go."""
    over = [
        (("nonce", row_id), expires)
        for row_id, row in await store.scan("nonce")
        if (expires := msgspec.json.decode(row.value, type=int)) + leeway_ms <= now
    ]
    if not over:
        return 0
    loaded = await store.load((FLOOR,), ())
    floor = max(_floor(loaded), *(expires for _, expires in over))
    raised = Append(reads=((FLOOR, _version(loaded)),), puts=((FLOOR, msgspec.json.encode(floor)),))
    if not isinstance(await store.append(raised), Appended):
        return 0  # another replica is at it
    for start in range(0, len(over), BATCH):
        await store.append(Append(puts=tuple((key, None) for key, _ in over[start : start + BATCH])))
    return len(over)


def _floor(loaded: Loaded) -> int:
    row = loaded.rows.get(FLOOR)
    return 0 if row is None else msgspec.json.decode(row.value, type=int)


def _version(loaded: Loaded) -> int:
    row = loaded.rows.get(FLOOR)
    return 0 if row is None else row.version
