"""What another agent says in a stream, passed on message by message, each settled like a reply of its own.

Decides nothing: `Enforcer` settles. INVARIANTS: a message is committed before it is released, and they keep their
order; after one that is withheld nothing more is heard; a stream that ends before its task does is closed as failed,
one that its caller leaves as abandoned.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable

from citywatch.core.enforce.settle import Withheld
from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from citywatch.core.wire import a2a, jsonrpc, mcp
from citywatch.core.wire.jsonrpc import Limits, Response
from citywatch.service.enforcer import Enforcer
from citywatch.service.judged import Judged
from citywatch.service.listening import Listening
from citywatch.service.ports import Answer
from citywatch.service.replies import Delivery, Outcome, Replies
from citywatch.service.unhindered import unhindered

First = Callable[[Response], Awaitable[None]]
LEFT = "the caller went away before the peer was done"


class Conversations:
    """Passes on what peers say in streams."""

    def __init__(self, enforcer: Enforcer, replies: Replies, listening: Listening, limits: Limits) -> None:
        self._enforcer = enforcer
        self._listening = listening
        self._replies = replies
        self._limits = limits

    def begin(self, judged: Judged, answer: Answer, first: First | None = None) -> Outcome:
        """The stream, and what must be done if nobody ever begins to read it; `first` is told its first message."""

        async def abandon() -> None:
            await unhindered(self._over(judged, answer, 0, (Code.ABANDONED, LEFT)))

        return Outcome(status=answer.status, media="sse", stream=self._stream(judged, answer, first), abandon=abandon)

    async def _stream(self, judged: Judged, answer: Answer, first: First | None) -> AsyncGenerator[Delivery, None]:
        index, rests = 0, False
        over: tuple[Code, str] | None = (Code.ABANDONED, LEFT)
        messages, stream = answer.messages(), self._listening.open(judged)
        try:
            while (said := await stream.next(messages)) is not None:
                raw, _ = said
                if not raw:
                    continue
                response = self._read(judged, raw)
                settled = await self._replies.heard(judged, response, index)
                if first is not None and index == 0:
                    await first(response)
                index += 1
                if isinstance(settled, Withheld):
                    over = None
                    yield Delivery(mcp.refusal(judged.call, settled.code, settled.detail))
                    return
                last, rests = a2a.is_last(response), a2a.may_be_last(response)
                if last:
                    over = None
                yield Delivery(settled.body)
                if last:
                    return
            if rests:
                over = None
                return
            over = (Code.UPSTREAM_UNAVAILABLE, "the stream ended before the peer was done")
            yield Delivery(mcp.refusal(judged.call, *over))
        except (Malformed, Refused, Unavailable) as failure:
            code = Code.REPLY_MALFORMED if isinstance(failure, Malformed) else failure.code
            over = (code, str(failure))
            yield Delivery(mcp.refusal(judged.call, *over))
        finally:
            self._listening.close(stream)
            await unhindered(self._over(judged, answer, index, over))

    def _read(self, judged: Judged, raw: bytes) -> Response:
        message = jsonrpc.parse_message(raw, self._limits)
        if not isinstance(message, Response):
            raise Malformed("a peer's stream holds a message that is no response")
        self._replies.expect(judged.call, message)
        return message

    async def _over(self, judged: Judged, answer: Answer, index: int, over: tuple[Code, str] | None) -> None:
        """See to what a stream that is over leaves open; None: its last message was settled."""
        await answer.close()
        if over is not None:
            await self._enforcer.closing.fail(judged, *over, index)
