"""An A2A agent that speaks HTTP+JSON: the port `Upstream`, which carries JSON-RPC, over `HttpUpstream`.

Decides nothing: `core.wire.a2a_rest` says where a request goes and what an answer is. INVARIANTS: what is sent is
written from the message that was judged and from nothing else; one request of ours is one request there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from citywatch.adapters.upstream.answer import HttpAnswer
from citywatch.adapters.upstream.http import HttpUpstream
from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from citywatch.core.identity.access import AccessToken
from citywatch.core.wire import a2a_rest
from citywatch.core.wire.jsonrpc import Id, Limits, Request, parse_message


class RestAnswer:
    """The port's `Answer`: what an agent said over HTTP+JSON, as JSON-RPC says it."""

    def __init__(self, answer: HttpAnswer, rpc_id: Id, limits: Limits) -> None:
        self._answer = answer
        self._rpc_id = rpc_id
        self._limits = limits
        self.status = answer.status
        self.session: str | None = None
        self.media = answer.media
        self.retry_ms: int | None = None
        self.body: bytes | None = None
        if answer.media != "sse" and (answer.body is not None or answer.status < 300):
            self.media, self.body = "json", a2a_rest.heard(rpc_id, answer.status, answer.body, limits)

    async def messages(self) -> AsyncIterator[tuple[bytes, str | None]]:
        if self.body is not None:
            yield self.body, None
            return
        async for kind, raw in self._answer.events():
            try:
                yield a2a_rest.streamed(self._rpc_id, kind, raw, self._limits), None
            except Malformed as failure:
                raise Unavailable(Code.REPLY_MALFORMED, str(failure)) from None

    async def close(self) -> None:
        await self._answer.close()


class RestUpstream:
    """One agent over HTTP+JSON. Made and used in one event loop."""

    def __init__(self, http: HttpUpstream, limits: Limits) -> None:
        self._http = http
        self._limits = limits

    async def send(
        self,
        caller: str,
        body: bytes,
        headers: Mapping[str, str],
        session: str | None,
        *,
        repeatable: bool,
        token: AccessToken | None = None,
    ) -> RestAnswer:
        message = parse_message(body, self._limits)
        if not isinstance(message, Request):
            raise ValueError("what is sent to an agent is a request")
        verb, below, content = a2a_rest.write(message)
        answer = await self._http.ask(caller, verb, below, content, headers, repeatable=repeatable, token=token)
        try:
            return RestAnswer(answer, message.id, self._limits)
        except Malformed as failure:
            raise Refused(Code.REPLY_MALFORMED, str(failure)) from None

    async def listen(
        self, caller: str, headers: Mapping[str, str], session: str | None, *, token: AccessToken | None = None
    ) -> HttpAnswer:
        raise ValueError("an agent has no stream of its own")

    async def end(
        self, caller: str, headers: Mapping[str, str], session: str, *, token: AccessToken | None = None
    ) -> int:
        raise ValueError("an agent has no session")

    def callers(self) -> Sequence[str]:
        return self._http.callers()

    async def dismiss(self, caller: str) -> None:
        await self._http.dismiss(caller)

    async def close(self) -> None:
        await self._http.close()
