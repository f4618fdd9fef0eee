"""What tasks a peer has for an agent: told from our own rows, and each fetched from the peer by its id.

    which tasks were given to this agent? → fetch each → the page that was asked for → settle it as one reply

Decides nothing: whose a task is, `core.enforce.peers` says, and `core.wire.a2a_list` what a page holds.
INVARIANTS: the peer is never asked for a list, for all agents are one client to it; what an agent is told depends on
nothing that another one did; a task that a peer gives under another id than the one it was asked for is malformed;
one listing is at most `MAX_LISTED` requests there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from citywatch.core.enforce.peers import LISTED, listed_prefix, owner_of
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.wire import a2a, enveloped
from citywatch.core.wire.a2a_list import Filter, page, read_filter
from citywatch.core.wire.a2a_own import peers_name, renamed
from citywatch.core.wire.jsonrpc import Request, Response, format_message
from citywatch.service.enforcer import Enforcer
from citywatch.service.judged import Judged
from citywatch.service.outward import Outward
from citywatch.service.replies import Replies

MAX_LISTED = 50
AT_ONCE = 4


class Listing:
    """Answers `ListTasks`."""

    def __init__(self, enforcer: Enforcer, outward: Outward, replies: Replies) -> None:
        self._enforcer = enforcer
        self._outward = outward
        self._replies = replies

    async def response(self, judged: Judged, headers: Mapping[str, str]) -> Response:
        """The page that was asked for. Raises `Malformed`, `Refused` or `Unavailable`."""
        asked = read_filter(judged.call.arguments)
        ids = await self._own(judged, asked)
        turn = asyncio.Semaphore(AT_ONCE)

        async def fetched(name: str) -> dict[str, Any] | None:
            async with turn:
                return await self._task(judged, name, asked.history, headers)

        found = await asyncio.gather(*(fetched(one) for one in ids), return_exceptions=True)
        for one in found:
            if isinstance(one, BaseException):
                raise one
        result = page(asked, [one for one in found if isinstance(one, dict)])
        answer = Response(judged.call.rpc_id, result)
        return Response(answer.id, result, None, format_message(answer))

    async def _own(self, judged: Judged, asked: Filter) -> list[str]:
        """The newest tasks that this agent was given, as far as they are of the conversation asked for."""
        agent = judged.known.agent
        if agent is None:
            raise Refused(Code.AGENT_UNKNOWN)
        prefix = listed_prefix(judged.call.server, owner_of(agent))
        rows = await self._enforcer.store.last(LISTED, prefix, MAX_LISTED)
        wanted = () if asked.context is None else (asked.context, peers_name(owner_of(agent), asked.context))
        return [row_id.rpartition("\n")[2] for row_id, row in rows if not wanted or row.value.decode() in wanted]

    async def _task(
        self, judged: Judged, name: str, history: int | None, headers: Mapping[str, str]
    ) -> dict[str, Any] | None:
        """One task as the peer has it now, None if it has it no more."""
        call = judged.call
        params = {"id": name, **({} if history is None else {"historyLength": history})}
        assert call.rpc_id is not None
        body = format_message(Request(call.rpc_id, "GetTask", params))
        answer = await self._outward.send(judged, body, headers, repeatable=True)
        try:
            if answer.media != "json" or answer.body is None:
                raise Malformed("the peer gives no task")
            response = self._replies.read(call, answer.body)
        finally:
            await answer.close()
        a2a.check_reply("GetTask", response, judged.known.rules.links(call.server))
        if judged.known.agent is not None:
            response = renamed(response, owner_of(judged.known.agent))
        if response.result is None:
            return None
        if response.result["id"] != name:
            raise Malformed("the peer gives another task than the one it was asked for")
        return enveloped.disowned(response).result
