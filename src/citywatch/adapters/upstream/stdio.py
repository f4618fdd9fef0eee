"""An MCP server that is a program: the port `Upstream` over its pipes, one program for each caller and session.

Decides nothing about messages. INVARIANTS: a program serves one caller, and one session where there are sessions; a
session that is not this caller's does not exist for it; how many programs run, and how fast they are started, is
bounded; a program that breaks the rules is killed and fails its own caller's calls, nobody else's.
SPEC: MCP basic/transports "stdio"; 2025-11-25 basic/lifecycle "Shutdown".
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final

from citywatch.adapters.upstream import sandbox
from citywatch.adapters.upstream.child import Child
from citywatch.adapters.upstream.conversation import Conversation, Pending
from citywatch.adapters.upstream.mailbox import Mailbox
from citywatch.adapters.upstream.settings import StdioServer
from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from citywatch.core.identity.access import AccessToken
from citywatch.core.wire.jsonrpc import Limits, Notification, Request, Response, parse_message

_TICK: Final = 0.25
_STARTS: Final = 30
_STARTS_WINDOW: Final = 60.0


class StdioAnswer:
    """The port's `Answer` from a program: one message as JSON, more than one as a stream."""

    def __init__(
        self,
        status: int,
        conversation: Conversation | None = None,
        source: Pending | Mailbox | None = None,
        session: str | None = None,
        body: bytes | None = None,
    ) -> None:
        self.status = status
        self.media = "json" if body is not None else "none" if source is None else "sse"
        self.session = session
        self.body = body
        self.retry_ms: int | None = None
        self._conversation = conversation
        self._source = source

    async def messages(self) -> AsyncIterator[tuple[bytes, str | None]]:
        if self.body is not None:
            yield self.body, None
        if self._source is None:
            return
        mailbox = self._source.mailbox if isinstance(self._source, Pending) else self._source
        while (message := await mailbox.next()) is not None:
            yield message, None
        self._source = None

    async def close(self) -> None:
        source, self._source = self._source, None
        if source is None or self._conversation is None:
            return
        if isinstance(source, Pending):
            self._conversation.forget(source)
        else:
            self._conversation.unlisten(source)


class _Program:
    """One running program, whose it is, and what is being said."""

    def __init__(self, caller: str, session: str | None) -> None:
        self.caller = caller
        self.session = session
        self.child: Child | None = None
        self.talk: Conversation | None = None
        self.dismissed = False


class StdioUpstream:
    """One server as a program. Made and used in one event loop."""

    def __init__(self, server: StdioServer) -> None:
        self.server = server
        self._limits = Limits(size=server.bounds.answer, depth=64, nodes=100_000)
        self._stateless: dict[str, asyncio.Task[_Program]] = {}
        self._sessions: dict[tuple[str, str], _Program] = {}
        self._programs: set[_Program] = set()
        self._starts: dict[str, deque[float]] = {}
        self._starting: set[asyncio.Task[_Program]] = set()
        self._ending: set[Child] = set()
        self._ticking = False
        self._closed = False

    # -- the port ----------------------------------------------------------------------------------------------------

    async def send(
        self,
        caller: str,
        body: bytes,
        headers: Mapping[str, str],
        session: str | None,
        *,
        repeatable: bool,
        token: AccessToken | None = None,
    ) -> StdioAnswer:
        message = parse_message(body, self._limits)
        if isinstance(message, Request):
            if session is None and message.method == "initialize":
                return await self._initialize(caller, message)
            return await self._ask(await self._serving(caller, session), message)
        if session is None and caller not in self._stateless:
            # Nothing runs that could care. SPEC: a notification is accepted, not answered.
            return StdioAnswer(202)
        talk = await self._serving(caller, session)
        if isinstance(message, Notification):
            talk.tell(message)
        else:
            talk.reply(message)
        return StdioAnswer(202)

    async def listen(
        self, caller: str, headers: Mapping[str, str], session: str | None, *, token: AccessToken | None = None
    ) -> StdioAnswer:
        if session is None:
            return StdioAnswer(405)
        talk = await self._serving(caller, session)
        mailbox = talk.listen()
        return StdioAnswer(409) if mailbox is None else StdioAnswer(200, talk, mailbox)

    async def end(
        self, caller: str, headers: Mapping[str, str], session: str, *, token: AccessToken | None = None
    ) -> int:
        program = self._sessions.pop((caller, session), None)
        if program is None or program.child is None:
            return 404
        await program.child.close(Unavailable(Code.UPSTREAM_UNAVAILABLE, "the session was ended"))
        return 200

    def callers(self) -> Sequence[str]:
        return tuple({program.caller for program in self._programs})

    async def dismiss(self, caller: str) -> None:
        """Its programs are ended; one that is just starting is, once it is there."""
        failure = Unavailable(Code.UPSTREAM_UNAVAILABLE, "the agent may not act any more")
        children = []
        for program in tuple(self._programs):
            if program.caller == caller:
                program.dismissed = True
                children += [] if program.child is None else [program.child]
        await asyncio.gather(*(child.close(failure) for child in children))

    async def close(self) -> None:
        self._closed = True
        await asyncio.gather(*self._starting, return_exceptions=True)
        children = [program.child for program in self._programs if program.child is not None]
        failure = Unavailable(Code.DRAINING, "the gateway is stopping")
        await asyncio.gather(*(child.close(failure) for child in children))
        await asyncio.gather(*(child.reaped() for child in self._ending))

    # -- calls -------------------------------------------------------------------------------------------------------

    async def _initialize(self, caller: str, request: Request) -> StdioAnswer:
        """A new session is a new program. Its id cannot be guessed, and is of use to this caller alone."""
        session = secrets.token_urlsafe(24)
        program = await self._started(asyncio.ensure_future(self._start(caller, session)))
        try:
            answer = await self._ask(_talk(program), request)
            refused = answer.body is not None and _is_error(answer.body, self._limits)
        except BaseException:
            self._end(program, Unavailable(Code.UPSTREAM_UNAVAILABLE, "the session did not begin"))
            raise
        if refused:
            self._end(program, Unavailable(Code.UPSTREAM_UNAVAILABLE, "the session did not begin"))
            return answer
        self._sessions[caller, session] = program
        answer.session = session
        return answer

    async def _ask(self, talk: Conversation, request: Request) -> StdioAnswer:
        pending = talk.ask(request)
        try:
            await pending.mailbox.wait()
        except BaseException:
            talk.forget(pending)
            raise
        if pending.mailbox.only_one:
            return StdioAnswer(200, body=await pending.mailbox.next())
        return StdioAnswer(200, talk, pending)

    async def _serving(self, caller: str, session: str | None) -> Conversation:
        """Who serves this: the session's program, or the caller's one program for everything without a session."""
        if session is not None:
            program = self._sessions.get((caller, session))
            if program is None:
                raise Refused(Code.SESSION_LOST)
            return _talk(program)
        task = self._stateless.get(caller)
        if task is None:
            task = self._stateless[caller] = asyncio.ensure_future(self._start(caller, None))
        return _talk(await self._started(task))

    # -- programs ----------------------------------------------------------------------------------------------------

    async def _started(self, task: asyncio.Task[_Program]) -> _Program:
        """Wait for a start. A caller that goes away does not stop it half-way: it is ended once it is there."""
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(self._unwanted)
            raise
        except BaseException:
            self._forget_start(task)
            raise

    def _unwanted(self, task: asyncio.Task[_Program]) -> None:
        if task.cancelled() or task.exception() is not None:
            self._forget_start(task)
        elif task.result().session is not None:
            self._end(task.result(), Unavailable(Code.UPSTREAM_UNAVAILABLE, "the caller went away"))

    def _forget_start(self, task: asyncio.Task[_Program]) -> None:
        for caller, other in tuple(self._stateless.items()):
            if other is task:
                del self._stateless[caller]

    async def _start(self, caller: str, session: str | None) -> _Program:
        program = _Program(caller, session)
        self._admit(caller)
        self._programs.add(program)
        try:
            # It dies with the thread that started it (launch.py); the loop's executor keeps its threads as long as it
            # lives, so that is when the gateway ends.
            process = await asyncio.to_thread(sandbox.start, self.server)
        except BaseException:
            self._programs.discard(program)
            raise
        now = asyncio.get_running_loop().time
        child = Child(process, self.server.bounds.answer, lambda line: self._line(program, line), self._on_end(program))
        program.child = child
        program.talk = Conversation(
            child.write, child.hold, self._limits, self.server.patience, now, stateless=session is None
        )
        await child.attach()
        if self._closed or program.dismissed:
            child.end(Unavailable(Code.DRAINING if self._closed else Code.UPSTREAM_UNAVAILABLE))
        if program not in self._programs:
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, "the server's program ended at once")
        if not self._ticking:
            self._ticking = True
            self._tick()
        return program

    def _admit(self, caller: str) -> None:
        """Whether one more program may be started for this caller. An idle one without a session makes room."""
        if self._closed:
            raise Unavailable(Code.DRAINING)
        now = asyncio.get_running_loop().time()
        starts = self._starts.setdefault(caller, deque())
        while starts and starts[0] <= now - _STARTS_WINDOW:
            starts.popleft()
        if len(starts) >= _STARTS:
            raise Unavailable(Code.OVERLOADED, f"`{self.server.name}` is started too often")
        own = [program for program in self._programs if program.caller == caller]
        if len(own) >= self.server.bounds.per_caller and not self._evict(own):
            raise Unavailable(Code.OVERLOADED, f"this agent has too many sessions with `{self.server.name}`")
        if len(self._programs) >= self.server.bounds.in_all and not self._evict(list(self._programs)):
            raise Unavailable(Code.OVERLOADED, f"too many programs of `{self.server.name}` are running")
        starts.append(now)

    def _evict(self, programs: list[_Program]) -> bool:
        for program in programs:
            if program.session is None and program.talk is not None and not program.talk.busy:
                self._end(program, Unavailable(Code.UPSTREAM_UNAVAILABLE, "its place was needed"))
                return True
        return False

    def _end(self, program: _Program, failure: Unavailable) -> None:
        if program.child is not None:
            program.child.end(failure)

    def _line(self, program: _Program, line: bytes) -> None:
        try:
            _talk(program).receive(line)
        except Malformed as failure:
            self._end(program, Unavailable(Code.REPLY_MALFORMED, str(failure)))
        except Unavailable as failure:
            self._end(program, failure)

    def _on_end(self, program: _Program) -> Callable[[Unavailable], None]:
        def ended(failure: Unavailable) -> None:
            self._programs.discard(program)
            if program.session is not None:
                self._sessions.pop((program.caller, program.session), None)
            else:
                task = self._stateless.get(program.caller)
                if task is not None and (not task.done() or task.result() is program):
                    del self._stateless[program.caller]
            if program.talk is not None:
                program.talk.end(failure)
            child = program.child
            if child is not None and child.reaping is not None:
                self._ending.add(child)
                child.reaping.add_done_callback(lambda _: self._ending.discard(child))

        return ended

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for program in tuple(self._programs):
            child, talk = program.child, program.talk
            if child is None or talk is None:
                continue
            failure = talk.expire(now)
            if failure is None and child.exited:
                failure = Unavailable(Code.UPSTREAM_UNAVAILABLE, "the server's program has ended")
            elif failure is None and not talk.busy and now >= talk.quiet_since + self.server.bounds.kept:
                failure = Unavailable(Code.UPSTREAM_UNAVAILABLE, "unused for too long")
            if failure is not None:
                child.end(failure)
        self._ticking = bool(self._programs)
        if self._ticking:
            loop.call_later(_TICK, self._tick)


def _talk(program: _Program) -> Conversation:
    if program.talk is None:
        raise Unavailable(Code.UPSTREAM_UNAVAILABLE, "the server's program has ended")
    return program.talk


def _is_error(body: bytes, limits: Limits) -> bool:
    message = parse_message(body, limits)
    return isinstance(message, Response) and message.error is not None
