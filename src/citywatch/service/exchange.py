"""Forwarding between the two halves of the sequence: requests, and replies as JSON or stream.

Decides nothing: `Enforcer` judges and settles, the wire says what a message is, `questions` carries what servers ask,
`onward` holds back what a stream says. Long, and one thing because a call that was forwarded must be closed on each of
these ways, and only together do they show that it is.
INVARIANTS: a message reaches the agent only as what `settle` or `judge` returned for it; a call that was forwarded is
always closed: settled, failed, parked for resumption, or (if this process dies) `lost`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

import msgspec

from citywatch.core.call import Call
from citywatch.core.enforce.deliver import Places, deliver
from citywatch.core.enforce.invitation import invite
from citywatch.core.enforce.needs import Session, invited_key, is_synced, session_key, waiting_key
from citywatch.core.enforce.settle import Withheld
from citywatch.core.errors import CitywatchError, Code, Malformed, Refused, Unavailable
from citywatch.core.identity.credential import Credential
from citywatch.core.wire import jsonrpc, mcp
from citywatch.core.wire.jsonrpc import Limits, Request, Response
from citywatch.service.enforcer import Enforcer, Judged
from citywatch.service.onward import Onward, Passing
from citywatch.service.ports import Answer, Puts, Reads, Upstream
from citywatch.service.questions import Questions, caller_of, reason_of, upstream_session
from citywatch.service.unhindered import unhindered


class Delivery(msgspec.Struct, frozen=True):
    """One message for the agent's stream; empty bytes with an id only prime resumption."""

    body: bytes
    event_id: str | None = None
    retry_ms: int | None = None


class Outcome(msgspec.Struct, kw_only=True):
    """What to write back: `media` is json (then `body`), sse (then `stream`) or none (only the status).

    `abandon` must be called if `stream` is never begun.
    """

    status: int
    media: str
    body: bytes = b""
    stream: AsyncGenerator[Delivery, None] | None = None
    abandon: Callable[[], Awaitable[None]] | None = None
    session: str | None = None


Opened = tuple[str | None, Puts, Reads, tuple[tuple[str, Session], ...]]


class Exchange:
    """Carries judged calls to their servers and settled replies back."""

    def __init__(
        self, enforcer: Enforcer, upstreams: Mapping[str, Upstream], limits: Limits, max_sessions: int
    ) -> None:
        self.enforcer = enforcer
        self.upstreams = upstreams
        self.limits = limits
        self.max_sessions = max_sessions
        self.questions = Questions(enforcer, upstreams)

    async def request(self, call: Call, credential: Credential, headers: Mapping[str, str]) -> Outcome:
        """Run the whole sequence for a request that expects a reply."""
        judged = await self.enforcer.judge(call, credential)
        if not judged.allowed:
            return self._refused(judged)
        upstream = self.upstreams[call.server]
        session = upstream_session(judged)
        try:
            try:
                answer = await upstream.send(
                    caller_of(judged),
                    judged.call.body,
                    _told_by(judged, headers),
                    session,
                    repeatable=_repeatable(judged),
                )
            except (Unavailable, Refused) as failure:
                return await self._failed(judged, failure.code, failure.detail)
            try:
                return await self._answered(judged, answer)
            except (Malformed, Refused) as failure:
                code = failure.code if isinstance(failure, Refused) else Code.REPLY_MALFORMED
                return await self._failed(judged, code, str(failure))
        except asyncio.CancelledError:
            await self.enforcer.abandon(call, GONE)
            raise

    async def _answered(self, judged: Judged, answer: Answer) -> Outcome:
        """What became of a forwarded request: a whole reply, a stream, or only a status."""
        if not 200 <= answer.status <= 599:
            await answer.close()
            raise Malformed(f"the server answered with the status {answer.status}")
        if answer.media == "json" and answer.body is not None:
            return await self._reply(judged, answer, answer.body)
        if answer.media == "sse" and judged.call.method == "initialize":
            return await self._greeting(judged, answer)
        if answer.media == "sse":
            return self._streamed(judged, answer)
        await answer.close()
        await self.enforcer.fail(judged, Code.UPSTREAM_UNAVAILABLE, f"status {answer.status} without a reply", 0)
        return Outcome(status=answer.status if answer.status >= 400 else 502, media="none")

    async def notify(self, call: Call, credential: Credential, headers: Mapping[str, str]) -> Outcome:
        """Forward a notification: judged and recorded like any call, with no reply to settle."""
        judged = await self.enforcer.judge(call, credential)
        if not judged.allowed:
            return Outcome(status=403, media="none")
        answer = await self.upstreams[call.server].send(
            caller_of(judged), judged.call.body, headers, upstream_session(judged), repeatable=_repeatable(judged)
        )
        await answer.close()
        return Outcome(status=answer.status, media="none")

    async def answer(
        self, call: Call, response: Response, credential: Credential, headers: Mapping[str, str]
    ) -> Outcome:
        """Take an agent's answer to a server's request: to that server, from that agent, in that session, once."""
        key = waiting_key("asked", call, response.id)
        asked, version = await self.questions.pending(key)
        if asked is None or (asked.server, asked.agent) != (call.server, call.agent):
            raise Refused(Code.REPLY_UNEXPECTED)
        judged = await self.enforcer.recall(asked, credential)

        async def carry() -> Outcome:
            settled = await self.enforcer.settle(judged, response, 0, ((key, None),), ((key, version),))
            if isinstance(settled, Withheld):
                raise Refused(settled.code, settled.detail)
            answer = await self.upstreams[call.server].send(
                caller_of(judged), settled.body, headers, upstream_session(judged), repeatable=False
            )
            await answer.close()
            return Outcome(status=answer.status, media="none")

        return await unhindered(carry())  # what the log says was let through to the server goes there

    async def listen(self, call: Call, credential: Credential, headers: Mapping[str, str]) -> Outcome:
        """Open the stream on which a server speaks unasked; each of its messages is a call of its own."""
        judged = await self.enforcer.judge(call, credential)
        if not judged.allowed:
            return Outcome(status=403, media="none")
        try:
            answer = await self.upstreams[call.server].listen(caller_of(judged), headers, upstream_session(judged))
        except asyncio.CancelledError:
            await unhindered(self.enforcer.fail(judged, Code.ABANDONED, GONE, 0))
            raise
        if answer.media != "sse":
            await answer.close()
            return Outcome(status=answer.status, media="none")
        return self._streamed(judged, answer)

    async def end(self, call: Call, credential: Credential, headers: Mapping[str, str]) -> Outcome:
        """End a session: the row goes with the judgement, so that nothing can use it any more."""
        if call.session is None:
            raise Refused(Code.SESSION_UNKNOWN)
        judged = await unhindered(self._ended(call, call.session, credential))
        if not judged.allowed:
            return Outcome(status=403, media="none")
        session = upstream_session(judged)
        status = 200 if session is None else await self.upstreams[call.server].end(caller_of(judged), headers, session)
        return Outcome(status=status, media="none")

    async def _ended(self, call: Call, session: str, credential: Credential) -> Judged:
        judged = await self.enforcer.judge(call, credential, puts=((session_key(session), None),))
        if judged.allowed:
            await self.questions.forget(session)
        return judged

    # -- replies -----------------------------------------------------------------------------------------------------

    async def _reply(self, judged: Judged, answer: Answer, raw: bytes) -> Outcome:
        """The whole reply in one JSON body: the path that nearly every call takes."""
        response = self._response(judged.call, raw)
        if judged.call.method == "initialize":
            return await self._opened(judged, answer, response)
        return Outcome(status=answer.status, media="json", body=await self._settle(judged, response, 0))

    async def _opened(self, judged: Judged, answer: Answer, response: Response) -> Outcome:
        """A reply to `initialize`: the session it opens is counted, so a race with another one is run again."""
        for _ in range(self.max_sessions + 1):
            try:
                session, puts, reads, over = await self._session(judged, answer, response)
                body = await self._settle(judged, response, 0, puts, reads)
            except Unavailable as failure:
                if failure.code is not Code.CONFLICT:
                    raise
            else:
                for one, row in over:
                    await self._drop(judged, one, row)
                return Outcome(status=answer.status, media="json", body=body, session=session)
        with suppress(CitywatchError):  # the server need not keep what the agent will not get
            await self.upstreams[judged.call.server].end(caller_of(judged), {}, answer.session or "")
        raise Refused(Code.OVERLOADED, "too many sessions are being opened at once")

    async def _drop(self, judged: Judged, session: str, row: Session) -> None:
        """See to what a session that made room for another leaves behind, here and at its server, which need not
        answer."""
        await self.questions.forget(session)
        upstream = self.upstreams.get(row.server)
        if upstream is None or row.upstream is None:
            return
        with suppress(CitywatchError, TimeoutError):
            async with asyncio.timeout(END_S):
                await upstream.end(caller_of(judged), {}, row.upstream)

    async def _greeting(self, judged: Judged, answer: Answer) -> Outcome:
        """A streamed reply to `initialize`, as JSON: the header with our session id must precede the reply."""
        try:
            async for raw, _ in answer.messages():
                if raw and isinstance(jsonrpc.parse_message(raw, self.limits), Response):
                    return await self._reply(judged, answer, raw)
        except Unavailable as failure:
            return await self._failed(judged, failure.code, str(failure))
        finally:
            await answer.close()
        return await self._failed(judged, Code.UPSTREAM_UNAVAILABLE, "the stream ended without a reply")

    def _streamed(self, judged: Judged, answer: Answer) -> Outcome:
        """A stream, and what must be done if nobody ever begins to read it: a generator not begun cleans up nothing."""

        async def abandon() -> None:
            await unhindered(self._over(judged, answer, 0, (Code.ABANDONED, GONE)))

        return Outcome(status=answer.status, media="sse", stream=self._stream(judged, answer), abandon=abandon)

    async def _stream(self, judged: Judged, answer: Answer) -> AsyncGenerator[Delivery, None]:
        """Pass a stream on message by message, each committed before it is released."""
        call, index, closed, resumable = judged.call, 0, call_is_unasked(judged.call), False
        asked: list[Call] = []
        onward = Onward(call, self.enforcer.rules)
        over = (Code.ABANDONED, GONE)
        try:
            async for raw, offered_id in answer.messages():
                event_id = offered_id if offered_id and _PLAIN_ID.match(offered_id) else None
                resumable = resumable or event_id is not None
                if not raw:
                    await self.enforcer.recall(call, judged.credential)  # papers may have been revoked since
                message = jsonrpc.parse_message(raw, self.limits) if raw else None
                for one in onward.take(message, event_id):
                    body = await self._onward(judged, one, asked)
                    if body is not None:
                        yield Delivery(body, one.event_id, None if body else answer.retry_ms)
                if isinstance(message, Response):
                    body = await self._replied(judged, message, index, onward)
                    closed = not call_is_unasked(call)
                    if body is not None:
                        yield Delivery(body, event_id)
                    if closed:
                        return
                index += bool(raw)
            over = (Code.UPSTREAM_UNAVAILABLE, "the stream ended without a reply")
            # What a server would send again, once the stream is resumed, need not go on without its end.
            for one in () if resumable and call.session is not None else onward.end():
                body = await self._onward(judged, one, asked)
                if body is not None:
                    yield Delivery(body, one.event_id)
        except (Malformed, Unavailable, Refused) as failure:
            code = failure.code if isinstance(failure, Unavailable | Refused) else Code.REPLY_MALFORMED
            over = (code, str(failure))
            for one in onward.end():
                with suppress(CitywatchError):
                    body = await self._onward(judged, one, asked)
                    if body is not None:
                        yield Delivery(body, one.event_id)
            if not closed:
                await self.enforcer.fail(judged, *over, index)
                yield Delivery(mcp.refusal(call, *over))
        finally:
            await unhindered(self._over(judged, answer, index, over, asked, resumable=resumable))

    async def _onward(self, judged: Judged, one: Passing, asked: list[Call]) -> bytes | None:
        """What a server says beside its reply, as the agent may see it; None if it may not, nothing for a mere id."""
        if one.message is None:
            return b""
        if one.withheld:
            await self.questions.keep_back(judged, one.message, one.withheld)
            return None
        told = await self.questions.to_agent(judged, one.message, one.redacted)
        if told is not None and told.rpc_id is not None and told.session is None:
            asked.append(told)
        return None if told is None else told.body

    async def _replied(self, judged: Judged, response: Response, index: int, onward: Onward) -> bytes | None:
        """The reply that a stream ends with; on a listening stream, one to a call whose own stream broke."""
        if call_is_unasked(judged.call):
            return await self._resumed(judged, response)
        self._expect(judged.call, response)
        return await self._settle(judged, response, index, known=onward.known)

    async def _settle(
        self,
        judged: Judged,
        response: Response,
        index: int,
        puts: Puts = (),
        once: Reads = (),
        known: Places | None = None,
    ) -> bytes:
        """Settle a reply, and what a modern server asks of the agent inside it; return what the agent may see."""
        for request in self._asked(judged, response):
            embedded = await self.questions.judge(judged, request, None)
            if not embedded.allowed:
                code, _ = reason_of(embedded)
                detail = f"the server asked for `{request.method}`"
                await self.enforcer.fail(judged, code, detail, index, puts)
                return mcp.refusal(judged.call, code, detail)
        if (invitation := invite(response, self.enforcer.clock.now_ms(), judged.call.id)) is not None:
            puts = (*puts, (invited_key(judged.call), msgspec.json.encode(invitation)))
        settled = await self.enforcer.settle(judged, response, index, puts, once, known)
        if isinstance(settled, Withheld):
            return mcp.refusal(judged.call, settled.code, settled.detail)
        return settled.body

    def _asked(self, judged: Judged, response: Response) -> tuple[Request, ...]:
        """What a reply asks of the agent, as the agent may be given it."""
        if not mcp.input_requests(response):
            return ()
        delivered = deliver(judged.call, response, self.enforcer.rules)
        return () if delivered.withheld else mcp.input_requests(delivered.response)

    async def _resumed(self, judged: Judged, response: Response) -> bytes | None:
        """A reply on a listening stream belongs to a call whose own stream broke; anything else is dropped."""
        key = waiting_key("parked", judged.call, response.id)
        parked, version = await self.questions.pending(key)
        if parked is None:
            await self.enforcer.rejections.add(
                Code.REPLY_UNEXPECTED, "a reply to nothing", judged.call.agent, judged.call.server
            )
            return None
        original = await self.enforcer.recall(parked, judged.credential)
        return await self._settle(original, response, 0, ((key, None),), ((key, version),))

    async def _over(
        self,
        judged: Judged,
        answer: Answer,
        index: int,
        over: tuple[Code, str],
        asked: Sequence[Call] = (),
        *,
        resumable: bool = False,
    ) -> None:
        """See to what a stream that is over leaves open: its call, and questions that nobody can answer any more.

        `over` says why it is. Within a session questions outlive the stream, and so does the call if the stream can be
        resumed.
        """
        await answer.close()
        call = judged.call
        for one in asked:
            await self.questions.drop(one)
        if call_is_unasked(call):
            await self.enforcer.fail(judged, *over, index)
        elif resumable and call.session is not None:
            await self.questions.park(call)
        else:
            await self.enforcer.close(call, *over, index)

    async def _failed(self, judged: Judged, code: Code, detail: str) -> Outcome:
        puts: Puts = ()
        if code is Code.SESSION_LOST and judged.call.session is not None:
            puts = ((session_key(judged.call.session), None),)
            await self.questions.forget(judged.call.session)
        await self.enforcer.fail(judged, code, detail, 0, puts)
        return self._told(judged, code, detail)

    def _refused(self, judged: Judged) -> Outcome:
        return self._told(judged, *reason_of(judged))

    def _told(self, judged: Judged, code: Code, detail: str) -> Outcome:
        """A refusal as its sender must be told."""
        status = mcp.status_of(code, judged.call.revision)
        return Outcome(status=status, media="json", body=mcp.refusal(judged.call, code, detail))

    def _response(self, call: Call, raw: bytes) -> Response:
        message = jsonrpc.parse_message(raw, self.limits)
        if not isinstance(message, Response):
            raise Malformed("the reply is not a JSON-RPC response")
        self._expect(call, message)
        return message

    def _expect(self, call: Call, response: Response) -> None:
        if response.id != call.rpc_id or type(response.id) is not type(call.rpc_id):
            raise Refused(Code.REPLY_UNEXPECTED, "the reply has another id")

    async def _session(self, judged: Judged, answer: Answer, response: Response) -> Opened:
        """Bind a session that the server just opened to the agent that asked, under an id of ours."""
        call = judged.call
        if call.method != "initialize" or answer.session is None or response.error is not None:
            return None, (), (), ()
        session = self.enforcer.chance.call_id()
        row = Session(
            agent=call.agent,
            server=call.server,
            upstream=answer.session,
            replica=self.enforcer.replica,
            revision=mcp.negotiated(response) or call.revision,
            opened=self.enforcer.clock.now_ms(),
        )
        listed, reads, over = await self.enforcer.snapshots.opened(call.agent, session, self.max_sessions)
        return session, ((session_key(session), msgspec.json.encode(row)), *listed), reads, over


LISTEN = "transport/listen"
END = "transport/end"
END_S = 2.0
GONE = "the caller went away after it was forwarded"


def _repeatable(judged: Judged) -> bool:
    """Whether a call may reach its server twice, if a kept connection broke while it was under way."""
    return not is_synced(judged.known.rules, judged.call)


def _told_by(judged: Judged, headers: Mapping[str, str]) -> Mapping[str, str]:
    """The headers that repeat arguments say what is forwarded, not the handle that the agent wrote there."""
    call = judged.call
    wanted = judged.known.rules.mirrored(call.server, call.name) if call.filled else ()
    return mcp.mirrored_anew(headers, wanted, call.arguments)


def call_is_unasked(call: Call) -> bool:
    """Whether a call is an open ear rather than a question."""
    return call.method == LISTEN


_PLAIN_ID = re.compile(r"[\x21-\x7e]{1,512}\Z")
"""An event id that no reader of lines can take for anything else."""
