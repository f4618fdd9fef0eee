"""What another agent says in a stream, passed on message by message, each settled like a reply of its own.

Decides nothing: `Enforcer` settles, and `core.enforce.streamed` holds back what must wait. INVARIANTS: a message is
committed before it is released, and they keep their order; after one that is withheld nothing more is heard; a stream
that ends before its task does is closed as failed, one that its caller leaves as abandoned.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress

from citywatch.core.enforce.abroad import Told
from citywatch.core.enforce.needs import agent_name
from citywatch.core.enforce.settle import Withheld
from citywatch.core.enforce.streamed import Piece, Streamed
from citywatch.core.errors import CitywatchError, Code, Malformed, Refused, Unavailable
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


class _Course:
    """How far a stream has come: how many messages were settled, whether it may end there, whether it did, and what has
    to be written down of it if nothing more comes (None: its last message was settled).

    `asked` names the request, `came` counts what has come, and `told` is what another domain's gateway says of each
    message that has come and is not settled yet."""

    def __init__(self, asked: str | None = None) -> None:
        self.index = self.came = 0
        self.asked = asked
        self.told: deque[Told | None] = deque()
        self.rests = self.done = False
        self.over: tuple[Code, str] | None = (Code.ABANDONED, LEFT)


class Conversations:
    """Passes on what peers say in streams."""

    def __init__(self, enforcer: Enforcer, replies: Replies, listening: Listening, limits: Limits) -> None:
        self._enforcer = enforcer
        self._listening = listening
        self._replies = replies
        self._limits = limits

    def begin(self, judged: Judged, answer: Answer, first: First | None = None, asked: str | None = None) -> Outcome:
        """The stream, and what must be done if nobody ever begins to read it; `first` is told its first message.

        `asked` names the request, where another domain's gateway may sign for each message.
        """

        async def abandon() -> None:
            await unhindered(self._over(judged, answer, _Course()))

        stream = self._stream(judged, answer, first, _Course(asked))
        return Outcome(status=answer.status, media="sse", stream=stream, abandon=abandon)

    async def _stream(
        self, judged: Judged, answer: Answer, first: First | None, course: _Course
    ) -> AsyncGenerator[Delivery, None]:
        rules = self._enforcer.rules
        held = Streamed({} if rules.observe else rules.cleared(agent_name(judged.call)).content)
        messages, stream = answer.messages(), self._listening.open(judged)
        try:
            while (said := await stream.next(messages)) is not None:
                raw, _ = said
                pieces = held.take(await self._read(judged, raw, course)) if raw else []
                async for delivery in self._settled(judged, pieces, course, first):
                    yield delivery
                if course.done:
                    return
            async for delivery in self._settled(judged, held.end(), course, first):
                yield delivery
            if not course.rests:
                raise Unavailable(Code.UPSTREAM_UNAVAILABLE, "the stream ended before the peer was done")
            course.over = None
        except (Malformed, Refused, Unavailable) as failure:
            with suppress(CitywatchError):
                async for delivery in self._settled(judged, [] if stream.ended else held.end(), course, first):
                    yield delivery
            if not course.done:
                code = Code.REPLY_MALFORMED if isinstance(failure, Malformed) else failure.code
                course.over = (code, str(failure))
                yield Delivery(mcp.refusal(judged.call, *course.over))
        finally:
            self._listening.close(stream)
            await unhindered(self._over(judged, answer, course))

    async def _settled(
        self, judged: Judged, pieces: Sequence[Piece], course: _Course, first: First | None
    ) -> AsyncGenerator[Delivery, None]:
        """What goes on of these, each committed before it does; nothing after the last one, or one that is withheld."""
        for piece in pieces:
            told = course.told.popleft()
            settled = await self._replies.heard(judged, piece.response, course.index, piece.known, told)
            if first is not None and course.index == 0:
                await first(piece.response)
            number, course.index = course.index, course.index + 1
            course.rests = a2a.may_be_last(piece.response)
            withheld = isinstance(settled, Withheld)
            course.done = withheld or a2a.is_last(piece.response)
            if course.done:
                course.over = None
            yield Delivery(await self._replies.given(judged, settled, number))
            if course.done:
                return

    async def _read(self, judged: Judged, raw: bytes, course: _Course) -> Response:
        message = jsonrpc.parse_message(raw, self._limits)
        if not isinstance(message, Response):
            raise Malformed("a peer's stream holds a message that is no response")
        self._replies.expect(judged.call, message)
        told = await self._replies.vouched(judged, message, course.came, course.asked)
        course.told.append(told)
        course.came += 1
        return message

    async def _over(self, judged: Judged, answer: Answer, course: _Course) -> None:
        """See to what a stream that is over leaves open."""
        await answer.close()
        if course.over is not None:
            await self._enforcer.closing.fail(judged, *course.over, course.index)
