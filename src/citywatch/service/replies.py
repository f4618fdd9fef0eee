"""A server's reply, on its way to the agent that asked: settled, or a refusal in its place.

Decides nothing: `Enforcer` settles it, the wire says what it is. `exchange` carries whole replies here, `streams` those
that come piece by piece.
INVARIANTS: the agent gets what `settle` returned, or a refusal of ours; what a server asks inside a reply is judged
before the reply is; a reply to another call than the one that was forwarded is none.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable

import msgspec

from citywatch.core.call import Call
from citywatch.core.enforce.abroad import Told
from citywatch.core.enforce.deliver import Places, deliver
from citywatch.core.enforce.invitation import invite
from citywatch.core.enforce.needs import ended_rows, invited_key, waiting_key
from citywatch.core.enforce.peers import is_message, listed_key, owner_of, thing_key
from citywatch.core.enforce.settle import Released, Withheld
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.wire import a2a, jsonrpc, mcp
from citywatch.core.wire.a2a_own import renamed
from citywatch.core.wire.jsonrpc import Limits, Request, Response
from citywatch.service.enforcer import Enforcer
from citywatch.service.judged import Judged
from citywatch.service.ports import Puts, Reads
from citywatch.service.questions import Questions, policies_of, reason_of
from citywatch.service.reply_envelopes import ReplyArrivals, ReplyEnvelopes


class Delivery(msgspec.Struct, frozen=True):
    """One message for the agent's stream; empty bytes with an id only prime resumption. `kind` is the event's, if it
    is no plain message."""

    body: bytes
    event_id: str | None = None
    retry_ms: int | None = None
    kind: str = ""


class Outcome(msgspec.Struct, kw_only=True):
    """What to write back: `media` is json (then `body`), sse (then `stream`) or none (only the status).

    `abandon` must be called if `stream` is never begun. `retry_s`: not before so many seconds is it worth trying again.
    """

    status: int
    media: str
    body: bytes = b""
    stream: AsyncGenerator[Delivery, None] | None = None
    abandon: Callable[[], Awaitable[None]] | None = None
    session: str | None = None
    retry_s: int = 0


class Replies:
    """Settles replies, and closes the calls that get none."""

    def __init__(
        self,
        enforcer: Enforcer,
        questions: Questions,
        limits: Limits,
        written: ReplyEnvelopes | None = None,
        arrivals: ReplyArrivals | None = None,
    ) -> None:
        """`written` are the envelopes that replies to agents of other domains go out in, `arrivals` takes those that
        replies of other domains come in; None where the file knows no such domain."""
        self._enforcer = enforcer
        self._written, self._arrivals = written, arrivals
        self._questions = questions
        self._limits = limits

    def told(self, judged: Judged, code: Code, detail: str) -> Outcome:
        """A refusal as its sender must be told."""
        status = mcp.status_of(code, judged.call.revision)
        policies = () if judged.allowed else policies_of(judged)
        body = mcp.refusal(judged.call, code, detail, policies=policies, ticket=judged.ticket)
        return Outcome(status=status, media="json", body=body)

    async def failed(self, judged: Judged, code: Code, detail: str) -> Outcome:
        """Close a forwarded call that gets no reply, and its session if that is what the server lost."""
        puts: Puts = ()
        if code is Code.SESSION_LOST and judged.call.session is not None:
            puts = tuple((row, None) for row in ended_rows(judged.call.session))
            await self._questions.forget(judged.call.session)
        await self._enforcer.closing.fail(judged, code, detail, 0, puts)
        return self.told(judged, code, detail)

    def read(self, call: Call, raw: bytes) -> Response:
        """The reply that these bytes are; `Malformed` if they are none, `Refused` for a reply to another call."""
        message = jsonrpc.parse_message(raw, self._limits)
        if not isinstance(message, Response):
            raise Malformed("the reply is not a JSON-RPC response")
        self.expect(call, message)
        return message

    def expect(self, call: Call, response: Response) -> None:
        """Raise `Refused` for a reply to another call."""
        if response.id != call.rpc_id or type(response.id) is not type(call.rpc_id):
            raise Refused(Code.REPLY_UNEXPECTED, "the reply has another id")

    async def settle(
        self,
        judged: Judged,
        response: Response,
        index: int,
        puts: Puts = (),
        once: Reads = (),
        known: Places | None = None,
        asked: str | None = None,
    ) -> bytes:
        """Settle a reply, and what a modern server asks of the agent inside it; return what the agent may see.

        `asked` names the request, where another domain's gateway may sign for the reply.
        """
        told = await self.vouched(judged, response, index, asked)
        if is_message(judged.call):
            return await self.given(judged, await self.heard(judged, response, index, told=told), index)
        for request in self._asked(judged, response):
            embedded = await self._questions.judge(judged, request, None)
            if not embedded.allowed:
                code, _ = reason_of(embedded)
                detail = f"the server asked for `{request.method}`"
                await self._enforcer.closing.fail(judged, code, detail, index, puts)
                return mcp.refusal(judged.call, code, detail)
        if (invitation := invite(response, self._enforcer.clock.now_ms(), judged.call.id)) is not None:
            puts = (*puts, (invited_key(judged.call), msgspec.json.encode(invitation)))
        return await self.given(
            judged, await self._enforcer.settle(judged, response, index, puts, once, known, told), index
        )

    async def vouched(self, judged: Judged, response: Response, index: int, asked: str | None) -> Told | None:
        """What another domain's gateway says of a reply; of a message in a stream, as soon as it is there."""
        return None if self._arrivals is None else await self._arrivals.told(judged, response, index, asked)

    async def heard(
        self, judged: Judged, response: Response, index: int, known: Places | None = None, told: Told | None = None
    ) -> Released | Withheld:
        """Settle what another agent says; the tasks and conversations that it names are the caller's from then on.

        `known` are the places in it where something ends that began in the stream before it.
        """
        puts = await self._given(judged, response)
        if judged.known.agent is not None:
            response = renamed(response, owner_of(judged.known.agent))
        return await self._enforcer.settle(judged, response, index, puts, known=known, told=told)

    async def given(self, judged: Judged, settled: Released | Withheld, index: int) -> bytes:
        """What goes to whoever asked: in an envelope of ours, if they are of another domain."""
        if self._written is None or isinstance(settled, Withheld):
            return self.worded(judged, settled)
        return await self._written.enveloped(judged, settled, index)

    async def _given(self, judged: Judged, response: Response) -> Puts:
        """The rows that say whose the tasks and conversations are that a peer names in its reply.

        # INVARIANT: what was given to somebody stays theirs: a peer that repeats an id to another gives nothing away.
        """
        call, agent = judged.call, judged.known.agent
        if agent is None or not a2a.gives(response):
            return ()
        try:
            a2a.check_reply(call.method, response, judged.known.rules.links(call.server))
        except Malformed:
            return ()  # `settle` says so
        named = [one for one in a2a.given(response) if one not in call.things]
        if not named:
            return ()
        loaded = await self._enforcer.store.load([thing_key(call.server, *one) for one in named], ())
        fresh = [one for one in named if thing_key(call.server, *one) not in loaded.rows]
        owner, now = owner_of(agent), self._enforcer.clock.now_ms()
        value, context = msgspec.json.encode(owner), a2a.conversation(response)
        return (
            *((thing_key(call.server, *one), value) for one in fresh),
            *((listed_key(call.server, owner, now, name), context.encode()) for kind, name in fresh if kind == "task"),
        )

    def worded(self, judged: Judged, settled: Released | Withheld) -> bytes:
        """What the agent gets of a settled message: it, or why not."""
        return mcp.refusal(judged.call, settled.code, settled.detail) if isinstance(settled, Withheld) else settled.body

    def _asked(self, judged: Judged, response: Response) -> tuple[Request, ...]:
        """What a reply asks of the agent or its person, as the agent may be given it."""
        if not _asks(response):
            return ()
        delivered = deliver(judged.call, response, self._enforcer.rules)
        return () if delivered.withheld else _asks(delivered.response)

    async def resumed(self, judged: Judged, response: Response) -> bytes | None:
        """A reply on a listening stream belongs to a call whose own stream broke; anything else is dropped."""
        key = waiting_key("parked", judged.call, response.id)
        parked, version = await self._questions.pending(key)
        if parked is None:
            await self._enforcer.rejections.add(
                Code.REPLY_UNEXPECTED, "a reply to nothing", judged.call.agent, judged.call.server
            )
            return None
        original = await self._enforcer.recall(parked, judged.credential)
        return await self.settle(original, response, 0, ((key, None),), ((key, version),))


def _asks(response: Response) -> tuple[Request, ...]:
    """What a server asks inside a reply: in a result that waits for input, or by an error that leads to an address."""
    return (*mcp.input_requests(response), *mcp.led_to(response))
