"""One request of the local client, asked of the gateway under the agent's name.

Decides which headers go either way: those that MCP gives a meaning, and no credential of the client's. Where it is
given a chain of grants, acts of a client that knows of none are made under it.
INVARIANTS: what is asked goes below `/mcp/` of the gateway, or to the agent's own plan and tickets, and nowhere else;
the client's own Authorization and cookies go nowhere; over TLS no bearer token does either, nor where messages are
signed; a request is repeated only when the gateway refused its papers, for then it was not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from citywatch.adapters.bridge.bearer import Bearer
from citywatch.adapters.bridge.client import GatewayClient, Headers, PapersRefused, Reply
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.wire import mcp
from citywatch.core.wire.jsonrpc import FROM_AGENT, parse_message

Chain = Callable[[], tuple[str, Sequence[str]]]

_PATH = re.compile(rb"/mcp/(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,128}\Z")
_METHODS = frozenset((b"POST", b"GET", b"DELETE"))
_OWN = frozenset(((b"POST", b"/citywatch/plan"), (b"GET", b"/citywatch/plan"), (b"POST", b"/citywatch/ticket")))
_ASKED = frozenset((b"accept", b"content-type", b"last-event-id", b"traceparent", b"tracestate"))
_ANSWERED = frozenset((b"content-type", b"cache-control", b"retry-after", b"allow", b"x-accel-buffering"))
_UNAUTHORIZED = 401


class Relay:
    """Asks the gateway with the agent's papers: over TLS the client shows the certificate, else a token goes along, or
    the message is signed."""

    def __init__(
        self, client: GatewayClient, bearer: Bearer, chain: Chain | None = None, *, signs: bool = False
    ) -> None:
        """`chain` says, for each request, under which chain of grants the agent acts: its task, and its links.

        With `signs`, each message proves the agent's key, over TLS beside the certificate.
        """
        self._client = client
        self._bearer = bearer
        self._chain = chain
        self._signs = signs

    async def ask(self, method: bytes, path: bytes, headers: Headers, body: bytes | None) -> Reply:
        """The gateway's reply to a request at `/mcp/<server>`, or about the agent's own plan and tickets;
        `Refused(SERVER_UNKNOWN)` for any other path."""
        own = (method, path) in _OWN
        if not own and (method not in _METHODS or not _PATH.match(path)):
            raise Refused(Code.SERVER_UNKNOWN, "the bridge serves POST, GET and DELETE at /mcp/<server>")
        if method == b"POST" and body is not None and self._chain is not None and not own:
            body = _under(body, *self._chain())
        kept = [(name, value) for name, value in headers if name in _ASKED or name.startswith(b"mcp-")]
        token = await self._bearer.token()
        try:
            reply = await self._client.request(method, path, self._shown(token, method, path, kept, body), body)
        except PapersRefused:
            pass
        else:
            if reply.status != _UNAUTHORIZED:
                return reply
            reply.close()
        token = await self._bearer.replace(token)
        return await self._client.request(method, path, self._shown(token, method, path, kept, body), body)

    def _shown(
        self, token: str, method: bytes, path: bytes, kept: list[tuple[bytes, bytes]], body: bytes | None
    ) -> list[tuple[bytes, bytes]]:
        """The headers that go out: the client's, and what the agent proves itself with."""
        if self._signs:
            return [*kept, *self._bearer.sign(method, path, self._client.authority, kept, body or b"")]
        return kept if self._client.secure else [*kept, (b"authorization", b"Bearer " + token.encode("ascii"))]


def _under(body: bytes, task: str, links: Sequence[str]) -> bytes:
    """The same message under a chain; what is no message is the gateway's to refuse."""
    try:
        message = parse_message(body, FROM_AGENT)
    except Malformed:
        return body
    shown = mcp.with_chain(message, task, links)
    return body if shown is message else shown.body


def answered(reply: Reply) -> list[tuple[bytes, bytes]]:
    """The headers of a reply that are for the local client: not `WWW-Authenticate`, which it could not follow."""
    return [(name, value) for name, value in reply.headers if name in _ANSWERED or name.startswith(b"mcp-")]
