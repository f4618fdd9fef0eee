"""A reply that comes as a stream, passed on message by message; and the stream on which a server speaks unasked.

Decides nothing: each message is judged as a call (`questions`) or settled as a reply (`replies`), and `onward` holds
back what must wait. INVARIANTS: a message is committed before it is released, and they keep their order; however a
stream ends, its call is closed or parked for resumption, and a question that nobody can answer any more is dropped.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress

from citywatch.core.call import Call
from citywatch.core.errors import CitywatchError, Code, Malformed, Refused, Unavailable
from citywatch.core.wire import jsonrpc, mcp
from citywatch.core.wire.jsonrpc import Limits, Response
from citywatch.service.enforcer import Enforcer
from citywatch.service.judged import Judged
from citywatch.service.listening import Listening
from citywatch.service.onward import Onward, Passing
from citywatch.service.ports import Answer
from citywatch.service.questions import Questions
from citywatch.service.replies import Delivery, Outcome, Replies
from citywatch.service.unhindered import unhindered

LISTEN = "transport/listen"
GONE = "the caller went away after it was forwarded"
_PLAIN_ID = re.compile(r"[\x21-\x7e]{1,512}\Z")
"""An event id that no reader of lines can take for anything else."""


class Streams:
    """Passes streams on to agents."""

    def __init__(
        self, enforcer: Enforcer, questions: Questions, replies: Replies, listening: Listening, limits: Limits
    ) -> None:
        self._enforcer = enforcer
        self._listening = listening
        self._questions = questions
        self._replies = replies
        self._limits = limits

    def begin(self, judged: Judged, answer: Answer, asked: str | None = None) -> Outcome:
        """A stream, and what must be done if nobody ever begins to read it: a generator not begun cleans up nothing.

        `asked` names the request, where another domain's gateway may sign for the reply that the stream ends with.
        """

        async def abandon() -> None:
            await unhindered(self._over(judged, answer, 0, (Code.ABANDONED, GONE)))

        return Outcome(status=answer.status, media="sse", stream=self._stream(judged, answer, asked), abandon=abandon)

    async def _stream(self, judged: Judged, answer: Answer, named: str | None) -> AsyncGenerator[Delivery, None]:
        """Pass a stream on message by message, each committed before it is released."""
        call, index, closed, resumable = judged.call, 0, call_is_unasked(judged.call), False
        asked: list[Call] = []
        onward = Onward(call, self._enforcer.rules)
        over = (Code.ABANDONED, GONE)
        messages, stream = answer.messages(), self._listening.open(judged)
        try:
            while (said := await stream.next(messages)) is not None:
                raw, offered_id = said
                event_id = offered_id if offered_id and _PLAIN_ID.match(offered_id) else None
                resumable = resumable or event_id is not None
                if not raw:
                    await self._enforcer.recall(call, judged.credential)  # papers may have been revoked since
                message = jsonrpc.parse_message(raw, self._limits) if raw else None
                for one in onward.take(message, event_id):
                    body = await self._onward(judged, one, asked)
                    if body is not None:
                        yield Delivery(body, one.event_id, None if body else answer.retry_ms)
                if isinstance(message, Response):
                    body = await self._replied(judged, message, index, onward, named)
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
            for one in () if stream.ended else onward.end():
                with suppress(CitywatchError):
                    body = await self._onward(judged, one, asked)
                    if body is not None:
                        yield Delivery(body, one.event_id)
            if not closed:
                await self._enforcer.closing.fail(judged, *over, index)
                yield Delivery(mcp.refusal(call, *over))
        finally:
            self._listening.close(stream)
            await unhindered(self._over(judged, answer, index, over, asked, resumable=resumable))

    async def _onward(self, judged: Judged, one: Passing, asked: list[Call]) -> bytes | None:
        """What a server says beside its reply, as the agent may see it; None if it may not, nothing for a mere id."""
        if one.message is None:
            return b""
        if one.withheld:
            await self._questions.keep_back(judged, one.message, one.withheld)
            return None
        told = await self._questions.to_agent(judged, one.message, one.redacted)
        if told is not None and told.rpc_id is not None and told.session is None:
            asked.append(told)
        return None if told is None else told.body

    async def _replied(
        self, judged: Judged, response: Response, index: int, onward: Onward, asked: str | None
    ) -> bytes | None:
        """The reply that a stream ends with; on a listening stream, one to a call whose own stream broke."""
        if call_is_unasked(judged.call):
            return await self._replies.resumed(judged, response)
        self._replies.expect(judged.call, response)
        return await self._replies.settle(judged, response, index, known=onward.known, asked=asked)

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
            await self._questions.drop(one)
        if call_is_unasked(call):
            await self._enforcer.closing.fail(judged, *over, index)
        elif resumable and call.session is not None:
            await self._questions.park(call)
        else:
            await self._enforcer.closing.close(call, *over, index)


def call_is_unasked(call: Call) -> bool:
    """Whether a call is an open ear rather than a question."""
    return call.method == LISTEN
