"""Push notifications: a peer pushes to us, and what it pushes is a reply that the agent is sent at its own address.

    is the configuration ours, and the peer the one we gave it to? → is it about that task, and new? → settle it like
    a message of a stream → send what is left where the file lets it go

Decides nothing about permission: the gates decided on the configuration, and on the subscription that it is.
INVARIANTS
1. A peer is told our address and a credential made for this one configuration; of both only digests are kept here.
2. What is pushed is taken once, about one task of one agent; anything else changes nothing.
3. Nothing is sent to an agent that was not settled and committed, nor after its agent, key or chain was revoked.
4. It goes where the file lets the agent's pushes go as it is now, and by a pattern only to public addresses.
5. A configuration is seen, listed and removed by whom it is for; once it is removed, nothing comes by it.
6. One by which nothing came for as long as the file says is over: nothing comes by it, and its row goes.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from citywatch.core.call import Call, Direction
from citywatch.core.enforce.peers import listed_prefix, owner_of, thing_key
from citywatch.core.enforce.settle import Released
from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from citywatch.core.wire import a2a, a2a_push
from citywatch.core.wire.a2a_push import Target
from citywatch.core.wire.destination import destination_of
from citywatch.core.wire.jsonrpc import Limits, Request, Response, format_message, parse_json
from citywatch.service.enforcer import Enforcer
from citywatch.service.judged import Judged
from citywatch.service.outward import Outward
from citywatch.service.ports import Append, Appended, Exhausted, Key, Puts, Recipient, Spend
from citywatch.service.push_rows import Pushing, index_key, over, parsed, removed, shown
from citywatch.service.replies import Replies
from citywatch.service.unhindered import unhindered

PATH: Final = "/a2a-push/"
MAX_CONFIGS: Final = 16
"""For one task of one agent."""
MAX_SEEN: Final = 128
PER_MINUTE: Final = 120
MAX_CONFLICTS: Final = 3
_MINUTE_MS: Final = 60_000


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration that was just made: its row, and what the peer is told in the place of the agent's."""

    key: Key
    config: Mapping[str, Any]


class Pushes:
    """The configurations of all agents, and what comes by them."""

    def __init__(
        self,
        enforcer: Enforcer,
        outward: Outward,
        replies: Replies,
        recipients: Mapping[str, Recipient],
        limits: Limits,
    ) -> None:
        """`recipients` are where each agent takes its pushes, by the agent's name."""
        self._enforcer = enforcer
        self._outward = outward
        self._replies = replies
        self._recipients = recipients
        self._limits = limits

    # -- what an agent asks ------------------------------------------------------------------------------------------

    async def open(self, judged: Judged, target: Target | None) -> Opened | None:
        """Make the configuration that a judged call asks for; None if it asks for none."""
        config, call, agent = a2a_push.asked(judged.call), judged.call, judged.known.agent
        if config is None or agent is None:
            return None
        token, secret, ours = (self._drawn() for _ in range(3))
        task = next((name for kind, name in call.things if kind == "task"), None)
        row = Pushing(
            server=call.server,
            agent=call.agent,
            owner=owner_of(agent),
            credential=judged.credential,
            name=config.get("id") or ours,
            ours=ours,
            url=config["url"],
            target=target or Target(),
            secret=_digest(secret),
            task=task,
            context_task=call.task,
            chain=call.chain,
            used=self._enforcer.clock.now_ms(),
        )
        key = ("push", _digest(token))
        puts: Puts = ((key, msgspec.json.encode(row)), *(() if task is None else self._indexed(row, key)))
        await self._bounded(row)
        if not isinstance(await self._enforcer.store.append(Append(puts=puts, sync=True)), Appended):
            raise Unavailable(Code.CONFLICT)
        base = judged.known.rules.peers[call.server].push.rstrip("/")
        told = {
            "id": ours,
            "url": f"{base}{PATH}{token}",
            # Peers show one or the other.
            "token": secret,
            "authentication": {"scheme": "Bearer", "credentials": secret},
        }
        return Opened(key=key, config=told)

    async def opened(self, opened: Opened, response: Response) -> None:
        """The peer has answered the call that asked for pushes: bind them to its task, or forget them."""
        row, version = await self._load(opened.key)
        if row is None:
            return
        named = [name for kind, name in a2a.given(response) if kind == "task"]
        if response.error is not None or (row.task is None and not named):
            await self._forget(row, opened.key)
        elif row.subscription is None:
            await self._bind(row, opened.key, version, row.task or named[0])

    async def drop(self, opened: Opened) -> None:
        """The call that asked for pushes came to nothing."""
        row, _ = await self._load(opened.key)
        if row is not None:
            await self._forget(row, opened.key)

    async def create(self, judged: Judged, headers: Mapping[str, str], opened: Opened, body: bytes) -> Response:
        """Have the peer push to us; the agent is told its own configuration."""
        call = judged.call
        sent = a2a_push.readdressed(body, opened.config)
        row, version = await self._load(opened.key)
        if row is None or row.task is None:
            raise Unavailable(Code.CONFLICT)
        kept = False
        try:
            await self._bind(row, opened.key, version, row.task)
            answer = await self._outward.send(judged, sent, headers, repeatable=False)
            try:
                if answer.media != "json" or answer.body is None:
                    raise Malformed("the peer gives no configuration")
                response = self._replies.read(call, answer.body)
            finally:
                await answer.close()
            kept = response.error is None
        finally:
            if not kept:
                await unhindered(self._forget(row, opened.key))
        return _own(call, shown(row)) if kept else response

    async def answer(self, judged: Judged, headers: Mapping[str, str]) -> Response:
        """Show, list or remove the agent's own configurations of a task."""
        call, agent = judged.call, judged.known.agent
        if agent is None:
            raise Refused(Code.AGENT_UNKNOWN)
        params = call.arguments
        found = await self._listed(call.server, owner_of(agent), params["taskId"])
        if call.method == a2a_push.LIST:
            if params.get("pageToken"):
                raise Refused(Code.MALFORMED, "there is one page of configurations, and no token to another")
            return _own(call, {"configs": [shown(row) for _, row in found], "nextPageToken": ""})
        one = next(((key, row) for key, row in found if row.name == params["id"]), None)
        if call.method == a2a_push.GET:
            if one is None:
                raise Refused(Code.PEER_TASK_UNKNOWN, "there is no such configuration")
            return _own(call, shown(one[1]))
        if one is not None:
            await self._forget(one[1], one[0])  # INVARIANT: 5. Before the peer is asked to stop.
            await self._withdraw(judged, headers, one[1])
        return _own(call, {})

    async def _withdraw(self, judged: Judged, headers: Mapping[str, str], row: Pushing) -> None:
        """Tell the peer to stop; whether it does makes no difference to the agent any more."""
        assert judged.call.rpc_id is not None
        params = {"taskId": row.task, "id": row.ours}
        body = format_message(Request(judged.call.rpc_id, a2a_push.DELETE, params))
        try:
            answer = await self._outward.send(judged, body, headers, repeatable=True)
        except (Unavailable, Refused):
            return
        await answer.close()

    # -- what a peer pushes ------------------------------------------------------------------------------------------

    async def known(self, address: str, shown: Sequence[str]) -> Key:
        """The configuration that a peer knows the address and the secret of. Raises `Refused` for any other."""
        key = ("push", _digest(address))
        row, _ = await self._load(key)
        expected = "" if row is None else row.secret
        matches = [hmac.compare_digest(_digest(one), expected) for one in shown]
        if row is None or not any(matches) or self._over(row):  # INVARIANT: 6.
            raise Refused(Code.PUSH_UNKNOWN)
        return key

    async def receive(self, key: Key, raw: bytes) -> None:
        """Take one push and send it on. Raises `Malformed`, `Refused` or `Unavailable`; then it was not taken."""
        value, _ = parse_json(raw, self._limits)
        row, _ = await self._load(key)
        response, task = a2a_push.pushed(value, () if row is None else self._enforcer.rules.links(row.server))
        digest = hashlib.sha256(response.body).hexdigest()[:32]
        # What was claimed is settled and told, whether or not the peer waits for it.
        await unhindered(self._taken(key, await self._claim(key, task, digest), response, digest))

    async def _taken(self, key: Key, row: Pushing, response: Response, digest: str) -> None:
        if row.subscription is None:
            raise Refused(Code.PUSH_UNKNOWN)
        try:
            judged = await self._enforcer.recall(row.subscription, row.credential, standing=True)
        except Refused:
            await self._forget(row, key)  # INVARIANT: 3.
            raise
        settled = await self._replies.heard(judged, response, row.count - 1)
        if not isinstance(settled, Released):
            return
        try:
            await self._tell(judged, row, settled.body)
        except Refused:
            await self._forget(row, key)
            raise
        except Unavailable:
            await self._give_back(key, digest)
            raise

    async def _tell(self, judged: Judged, row: Pushing, body: bytes) -> None:
        """# INVARIANT: 4."""
        name = row.agent.rpartition("/")[2]
        recipient, peer = self._recipients.get(name), judged.known.rules.peers.get(row.server)
        place = None if peer is None else destination_of(peer.pushes.get(name, ()), row.url)
        if recipient is None or place is None:
            raise Refused(Code.PUSH_UNKNOWN)
        pushed, target = msgspec.json.encode(msgspec.json.decode(body)["result"]), row.target
        await recipient.push(row.url, pushed, target.authorization, target.token, public=place.public_only)

    async def _claim(self, key: Key, task: str, digest: str) -> Pushing:
        """Write down that this push came, before anything is done with it. # INVARIANT: 2."""
        for _ in range(MAX_CONFLICTS):
            row, version = await self._load(key)
            if row is None or row.task not in (None, task) or digest in row.seen:
                raise Refused(Code.PUSH_UNKNOWN)
            if row.subscription is None:
                await self._bind(row, key, version, task)
                continue
            taken = msgspec.structs.replace(row, seen=(*row.seen, digest)[-MAX_SEEN:], count=row.count + 1)
            now = self._enforcer.clock.now_ms()
            taken, window = msgspec.structs.replace(taken, used=now), now // _MINUTE_MS
            done = await self._enforcer.store.append(
                Append(
                    reads=((key, version),),
                    spends=(Spend(f"push\n{key[1]}", window, PER_MINUTE),),
                    puts=((key, msgspec.json.encode(taken)),),
                )
            )
            if isinstance(done, Exhausted):
                raise Unavailable(Code.OVERLOADED, "too many pushes in a minute")
            if isinstance(done, Appended):
                return taken
        raise Unavailable(Code.CONFLICT)

    async def _give_back(self, key: Key, digest: str) -> None:
        """Its agent did not take it: the peer may push it again."""
        for _ in range(MAX_CONFLICTS):
            row, version = await self._load(key)
            if row is None:
                return
            left = msgspec.structs.replace(row, seen=tuple(one for one in row.seen if one != digest))
            put = (key, msgspec.json.encode(left))
            if isinstance(await self._enforcer.store.append(Append(reads=((key, version),), puts=(put,))), Appended):
                return

    # -- rows --------------------------------------------------------------------------------------------------------

    async def _bind(self, row: Pushing, key: Key, version: int, task: str) -> None:
        """Say which task the pushes are about, as a subscription to it that the gates let through.

        # INVARIANT: 2. A task that was given to somebody else is not theirs to hear of.
        """
        thing = thing_key(row.server, "task", task)
        owner = (await self._enforcer.store.load((thing,), ())).rows.get(thing)
        if owner is not None and msgspec.json.decode(owner.value, type=str) != row.owner:
            raise Refused(Code.PUSH_UNKNOWN)
        if owner is None:
            put = (thing, msgspec.json.encode(row.owner))
            if not isinstance(await self._enforcer.store.append(Append(reads=((thing, 0),), puts=(put,))), Appended):
                raise Unavailable(Code.CONFLICT)
        judged = await self._enforcer.judge(self._subscription(row, task), row.credential)
        if not judged.allowed:
            await self._forget(row, key)
            raise Refused(Code.NO_PERMIT, "pushes are a subscription, and none to this task is let through")
        kept = msgspec.structs.replace(judged.call, body=b"", arguments={})
        bound = msgspec.structs.replace(row, task=task, subscription=kept)
        puts: Puts = ((key, msgspec.json.encode(bound)), *self._indexed(bound, key))
        if not isinstance(await self._enforcer.store.append(Append(reads=((key, version),), puts=puts)), Appended):
            raise Unavailable(Code.CONFLICT)

    def _subscription(self, row: Pushing, task: str) -> Call:
        """What a configuration is: listening to a task, without a connection."""
        own = {a2a.TASK: row.context_task, a2a.CHAIN: list(row.chain)}
        metadata = {key: value for key, value in own.items() if value}
        request = Request(0, "SubscribeToTask", {"id": task, **({"metadata": metadata} if metadata else {})})
        reading = a2a.read_request(request)
        return Call(
            id=self._enforcer.chance.call_id(),
            direction=Direction.TO_SERVER,
            agent=row.agent,
            server=row.server,
            method=reading.row.method,
            name=reading.name,
            arguments=reading.arguments,
            body=format_message(request),
            revision=a2a.REVISION,
            task=reading.task,
            chain=reading.chain,
            things=reading.things,
        )

    async def _bounded(self, row: Pushing) -> None:
        found = () if row.task is None else await self._listed(row.server, row.owner, row.task)
        if len(found) >= MAX_CONFIGS:
            raise Refused(Code.OVERLOADED, f"there are {MAX_CONFIGS} configurations for this task already")
        for key, one in found:
            if one.name == row.name:  # SPEC: A2A 1.0 §3.1.7: the same id again takes the place of the one before.
                await self._forget(one, key)

    async def _listed(self, server: str, owner: str, task: str) -> list[tuple[Key, Pushing]]:
        rows = await self._enforcer.store.last("pushes", f"{listed_prefix(server, owner)}{task}\n", MAX_CONFIGS)
        keys = [("push", row.value.decode()) for _, row in rows]
        loaded = await self._enforcer.store.load(keys, ())
        found = [(key, parsed(loaded.rows[key].value)) for key in reversed(keys) if key in loaded.rows]
        return [(key, row) for key, row in found if not self._over(row)]

    def _over(self, row: Pushing) -> bool:
        return over(row.used, self._enforcer.clock.now_ms(), self._enforcer.rules.push_memory_ms)

    def _indexed(self, row: Pushing, key: Key) -> Puts:
        return ((index_key(row), key[1].encode()),)

    async def _forget(self, row: Pushing, key: Key) -> None:
        await self._enforcer.store.append(Append(puts=removed(row, key), sync=True))

    async def _load(self, key: Key) -> tuple[Pushing | None, int]:
        row = (await self._enforcer.store.load((key,), ())).rows.get(key)
        return (None, 0) if row is None else (parsed(row.value), row.version)

    def _drawn(self) -> str:
        return (self._enforcer.chance.salt() + self._enforcer.chance.salt()).hex()


def _own(call: Call, result: dict[str, Any]) -> Response:
    answer = Response(call.rpc_id, result)
    return Response(call.rpc_id, result, None, format_message(answer))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
