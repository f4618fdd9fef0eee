"""What waits for one message: a server's question for its answer, a call whose stream broke for its reply.

Decides nothing: `Enforcer` judges each question as a call of its own. INVARIANTS: a server's message reaches the agent
only if it was judged and allowed; a question is kept under the session it was asked in (without one: under its agent
and server) by its id, so that its one answer goes back to whoever asked and to nobody else; a second question under
that id is refused until then.
"""

from __future__ import annotations

import msgspec

from citywatch.core.call import Call, Direction
from citywatch.core.enforce.needs import TOOL_CALL, Key, OpenCall, open_key, waiting_key
from citywatch.core.errors import CitywatchError, Code, Refused
from citywatch.core.wire import jsonrpc, mcp
from citywatch.core.wire.jsonrpc import Notification, Request
from citywatch.service.enforcer import WAITING, Enforcer
from citywatch.service.judged import Judged
from citywatch.service.outward import Outward
from citywatch.service.ports import Append, Puts


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A call that was let through and awaits one message by another request than its own."""

    call: Call


class Questions:
    """Judges what servers ask of agents, and keeps what waits."""

    def __init__(self, enforcer: Enforcer, outward: Outward) -> None:
        self.enforcer = enforcer
        self.outward = outward

    async def to_agent(
        self, judged: Judged, message: Request | Notification, redacted: tuple[str, ...] = ()
    ) -> Call | None:
        """Judge a server's own message; return it as a call for release, or None after answering it ourselves."""
        mcp.read_server_message(message, judged.call.revision)
        rpc_id = message.id if isinstance(message, Request) else None
        asked = await self.judge(judged, message, rpc_id, redacted)
        if asked.allowed:
            return asked.call
        code, detail = reason_of(asked)
        if code is Code.ID_IN_USE:
            # A refusal under this id would be the answer to the first question: the stream ends instead, by name.
            raise Refused(code, "the server asked again under the id of a question that is not answered")
        await self._turn_down(judged, asked.call, code, detail)
        return None

    async def keep_back(self, judged: Judged, message: Request | Notification, why: str) -> None:
        """See to a message that holds what the agent is not to have: it is counted, and a question is answered."""
        call = judged.call
        await self.enforcer.rejections.add(Code.CONTENT_WITHHELD, why, call.agent, call.server)
        rpc_id = message.id if isinstance(message, Request) else None
        await self._turn_down(judged, self._call(judged, message, rpc_id), Code.CONTENT_WITHHELD, "")

    async def _turn_down(self, judged: Judged, asked: Call, code: Code, detail: str) -> None:
        """Tell the server that its question was not put."""
        if asked.rpc_id is None:
            return
        headers = {"mcp-protocol-version": judged.call.revision}
        answer = await self.outward.send(judged, mcp.refusal(asked, code, detail), headers, repeatable=False)
        await answer.close()

    async def judge(
        self,
        judged: Judged,
        message: Request | Notification,
        rpc_id: jsonrpc.Id | None,
        redacted: tuple[str, ...] = (),
    ) -> Judged:
        """Judge what a server asks of, or tells, the agent; a question that is let through awaits its one answer."""
        call = self._call(judged, message, rpc_id)
        puts: Puts = ()
        if rpc_id is not None:
            puts = ((waiting_key("asked", call, rpc_id), format_waiting(call)),)
        return await self.enforcer.judge(call, judged.credential, puts, redacted)

    def _call(self, judged: Judged, message: Request | Notification, rpc_id: jsonrpc.Id | None) -> Call:
        near = judged.call
        row = mcp.find_method(
            Direction.TO_AGENT, near.revision, message.method, notification=isinstance(message, Notification)
        )
        name, arguments = mcp.name_and_arguments(row, message.params)
        return Call(
            id=self.enforcer.chance.call_id(),
            direction=Direction.TO_AGENT,
            agent=near.agent,
            server=near.server,
            method=message.method,
            name=name,
            arguments=arguments,
            body=message.body,
            revision=near.revision,
            session=near.session,
            rpc_id=rpc_id,
            task=near.task,
            about=near.name if near.method == TOOL_CALL else None,
        )

    async def pending(self, key: Key) -> tuple[Call | None, int]:
        """What waits under a key, and the version of its row, by which it is answered once."""
        row = (await self.enforcer.store.load((key,), ())).rows.get(key)
        return (None, 0) if row is None else (parse_waiting(row.value), row.version)

    async def park(self, call: Call) -> None:
        """Keep an open call whose stream broke: its reply may still come on a stream that is resumed."""
        key = open_key(call)
        row = (await self.enforcer.store.load((key,), ())).rows.get(key)
        if row is not None and msgspec.json.decode(row.value, type=OpenCall).call == call.id:
            parked = (waiting_key("parked", call, call.rpc_id), format_waiting(call))
            await self.enforcer.store.append(Append(reads=((key, row.version),), puts=(parked,)))

    async def drop(self, asked: Call) -> None:
        """Close a question that nobody can answer any more, if it is still unanswered."""
        gone = (waiting_key("asked", asked, asked.rpc_id), None)
        await self.enforcer.closing.close(asked, Code.ABANDONED, "the stream it came on is over", 0, (gone,))

    async def forget(self, session: str) -> None:
        """Drop what still waited for a message in a session that is over, and close those calls."""
        for kind in WAITING:
            for row_id, row in await self.enforcer.store.scan(kind):
                if row_id.startswith(f"{session}\n"):
                    call = parse_waiting(row.value)
                    gone = ((kind, row_id), None)
                    await self.enforcer.closing.close(call, Code.ABANDONED, "its session ended", 0, (gone,))


def format_waiting(call: Call) -> bytes:
    """A call as it is kept while its message is awaited: who and what, not the message itself, which the log has."""
    return msgspec.json.encode(Waiting(call=msgspec.structs.replace(call, body=b"", arguments={}, continuation=None)))


def parse_waiting(value: bytes) -> Call:
    """The inverse of `format_waiting`."""
    return msgspec.json.decode(value, type=Waiting).call


def reason_of(judged: Judged) -> tuple[Code, str]:
    """Why a call was not let through, and what its sender is told of it."""
    reason = getattr(judged.decision, "reason", None)
    if reason is None:
        raise CitywatchError("a refusal without a reason")
    rules = f"rule: {', '.join(reason.policies)}" if reason.policies else ""
    return reason.code, "; ".join(part for part in (reason.detail, rules) if part)


def policies_of(judged: Judged) -> tuple[str, ...]:
    """The policies that a refusal names."""
    reason = getattr(judged.decision, "reason", None)
    return () if reason is None else tuple(reason.policies)
