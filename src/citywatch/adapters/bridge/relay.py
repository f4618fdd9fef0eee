"""One request of the local client, asked of the gateway under the agent's name.

Decides which headers go either way: those that MCP or A2A gives a meaning, and no credential of the client's. Where it
is given a chain of grants, acts of a client that knows of none are made under it.
INVARIANTS: what is asked goes below `/mcp/` or `/a2a/` of the gateway, or to the agent's own plan and tickets, and
nowhere else;
the client's own Authorization and cookies go nowhere; over TLS no bearer token does either, nor where messages are
signed; a request is repeated only when the gateway refused its papers, for then it was not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import msgspec

from citywatch.adapters.bridge.bearer import Bearer
from citywatch.adapters.bridge.client import GatewayClient, Headers, PapersRefused, Reply
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.wire import a2a, a2a_card, a2a_rest, mcp
from citywatch.core.wire.jsonrpc import FROM_AGENT, FROM_SERVER, Message, parse_json, parse_message

Chain = Callable[[], tuple[str, Sequence[str]]]

_PATH = re.compile(rb"/mcp/(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,128}\Z")
_PEER = re.compile(
    rb"/a2a/(?!\.{1,2}(?:[/?]|\Z))[A-Za-z0-9._-]{1,128}"
    rb"(?P<below>/(?:(?!\.{1,2}(?:[/?]|\Z))[A-Za-z0-9._:-]{1,300}(?:/|(?=[?]|\Z))){0,4})?"
    rb"(?:\?[A-Za-z0-9._~!$&'()*+,;=:@/?%-]{0,4096})?\Z"
)
_METHODS = frozenset((b"POST", b"GET", b"DELETE"))
_OWN = frozenset(((b"POST", b"/citywatch/plan"), (b"GET", b"/citywatch/plan"), (b"POST", b"/citywatch/ticket")))
_ASKED = frozenset((b"accept", b"content-type", b"last-event-id", b"traceparent", b"tracestate", b"if-none-match"))
_PREFIXES = (b"mcp-", b"a2a-", b"citywatch-")
_ANSWERED = frozenset((b"content-type", b"cache-control", b"retry-after", b"allow", b"x-accel-buffering", b"etag"))
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
        """The gateway's reply to a request at `/mcp/<server>`, at or below `/a2a/<peer>`, or about the agent's own plan
        and tickets; `Refused(SERVER_UNKNOWN)` for any other path."""
        own = (method, path) in _OWN
        peer = _PEER.match(path)
        if not own and (method not in _METHODS or not (peer or _PATH.match(path))):
            raise Refused(Code.SERVER_UNKNOWN, "the bridge serves POST, GET and DELETE at /mcp/<server>, /a2a/<peer>")
        kept = [(name, value) for name, value in headers if name in _ASKED or name.startswith(_PREFIXES)]
        if self._chain is not None and not own:
            if peer is not None and peer["below"] not in (None, b"/"):
                kept = _headed(kept, *self._chain())
            elif method == b"POST" and body is not None:
                body = _under(body, *self._chain(), with_chain=mcp.with_chain if peer is None else a2a.with_chain)
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


def _headed(headers: list[tuple[bytes, bytes]], task: str, links: Sequence[str]) -> list[tuple[bytes, bytes]]:
    """The same request over HTTP+JSON under a chain, unless its client shows one itself."""
    if any(name == a2a_rest.CHAIN_HEADER for name, _ in headers):
        return headers
    rest = [(name, value) for name, value in headers if name != a2a_rest.TASK_HEADER]
    shown = ((a2a_rest.TASK_HEADER, task), (a2a_rest.CHAIN_HEADER, ",".join(links)))
    return [*rest, *((name, value.encode("ascii")) for name, value in shown)]


def _under(
    body: bytes, task: str, links: Sequence[str], with_chain: Callable[[Message, str, Sequence[str]], Message]
) -> bytes:
    """The same message under a chain; what is no message is the gateway's to refuse."""
    try:
        message = parse_message(body, FROM_AGENT)
    except Malformed:
        return body
    shown = with_chain(message, task, links)
    return body if shown is message else shown.body


def answered(reply: Reply) -> list[tuple[bytes, bytes]]:
    """The headers of a reply that are for the local client: not `WWW-Authenticate`, which it could not follow."""
    return [(name, value) for name, value in reply.headers if name in _ANSWERED or name.startswith(b"mcp-")]


def is_card(path: bytes) -> bool:
    """Whether a path is that of an agent's card."""
    peer = _PEER.match(path)
    return peer is not None and peer["below"] == a2a_card.PATH.encode()


def led_back(card: bytes, here: str) -> bytes:
    """The card with the bridge's own address in the place of the gateway's.

    Its signature goes, for it is about the other address: whoever asks here trusts the bridge, which asked a gateway
    that has proved itself. The gateway signs no such card: a signed one that leads to a port of this machine would
    lead everybody on it to whoever holds that port.
    """
    value = parse_json(card, FROM_SERVER)[0]
    interfaces = value.get("supportedInterfaces") if type(value) is dict else None
    if type(interfaces) is not list:
        raise Malformed("the gateway's card is none")
    led = [{**one, "url": here} for one in interfaces if type(one) is dict]
    rest = {key: item for key, item in value.items() if key != "signatures"}
    return msgspec.json.encode({**rest, "supportedInterfaces": led})
