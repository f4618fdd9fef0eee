"""`/a2a/<peer>`: an agent speaks to another, over HTTP, in either binding. The request becomes a call; its card comes
from `cards`.

Decides nothing but what belongs to HTTP and A2A's header: at the peer's address itself a request is JSON-RPC, below it
HTTP+JSON, and an answer goes out in the binding that was asked in. INVARIANT: a message becomes a call only with a
verified credential behind it; what it asks was read from its path, query and body alone, by one reading for both.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

import msgspec

from citywatch.core.call import Call, Direction
from citywatch.core.canonical import canonical
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.identity.credential import Credential
from citywatch.core.wire import a2a, a2a_errors, a2a_push, a2a_rest, jsonrpc, mcp
from citywatch.core.wire.jsonrpc import Limits, Message, Request
from citywatch.service.assertions import taken
from citywatch.service.exchange import Exchange
from citywatch.service.replies import Delivery, Outcome

CARD = b"/.well-known/agent-card.json"
Cards = Callable[[str, Credential, str], Awaitable[bytes]]
"""The card of a peer as this caller may have it, by the address under which it reached us; raises `Refused` for one
that nobody approved, or that changed."""
Headers = list[tuple[bytes, bytes]]
PUSH = "/a2a-push/"
Pushed = Callable[[str, Sequence[str]], Awaitable[Callable[[bytes], Awaitable[None]]]]
"""What takes a push to an address with one of these secrets; raises `Refused` where there is none such."""


class Asked:
    """One HTTP request at `/a2a/`: for which peer, at which path below its address, and in which binding."""

    def __init__(self, verb: str, raw_path: bytes, query: bytes, headers: Headers) -> None:
        name, slash, rest = raw_path.removeprefix(b"/a2a/").partition(b"/")
        self.peer = name.decode("ascii", "replace")
        self.below = (slash + rest).rstrip(b"/") if not rest else slash + rest
        self.verb = verb
        self.query = query
        self.headers = headers
        self.message: Message | None = None
        self._unread = a2a_errors.NOT_JSON

    @property
    def is_card(self) -> bool:
        return self.below == CARD

    @property
    def is_rest(self) -> bool:
        return bool(self.below) and not self.is_card

    @property
    def allow(self) -> bytes | None:
        """The one verb that there is here, if it is not the one that was used."""
        wanted = "GET" if self.is_card else "POST"
        return None if self.is_rest or self.verb == wanted else wanted.encode()

    def read(self, raw: bytes, limits: Limits) -> Message:
        """The request in it, as JSON-RPC says it."""
        if self.is_rest:
            self.message = a2a_rest.read(self.verb, self.below, self.query, self.headers, raw, limits)
        else:
            try:
                self.message = jsonrpc.parse_message(raw, limits)
            except Malformed:
                self._unread = a2a_errors.NO_REQUEST if _is_json(raw, limits) else a2a_errors.NOT_JSON
                raise
        return self.message

    def media(self, status: int) -> bytes:
        return a2a_rest.MEDIA.encode() if self.is_rest and status < 400 else b"application/json"

    def told(self, outcome: Outcome) -> Outcome:
        """The outcome in the binding that was asked in."""
        if outcome.stream is not None:
            if self.is_rest:
                outcome.stream = _events(outcome.stream)
        elif outcome.body:
            outcome.status, outcome.body = self._worded(outcome.body, outcome.status)
        return outcome

    def turned_away(self, message: Message | None, code: Code, detail: str) -> bytes:
        """Tell a sender whose request never became a call."""
        if self.is_rest:
            return a2a_rest.turned_away(code, detail)[1]
        if message is None and code is Code.MALFORMED:
            return a2a_errors.unread(self._unread, detail)
        rpc_id = message.id if isinstance(message, Request) else None
        return a2a.refusal(rpc_id, code, mcp.error_number(code), detail)

    def status(self, code: Code) -> int:
        """The HTTP status under which a refusal goes out."""
        if self.is_rest:
            return a2a_rest.turned_away(code)[0]
        return mcp.status_of(code, None if self.is_card else a2a.REVISION)

    def _worded(self, body: bytes, status: int) -> tuple[int, bytes]:
        """# SPEC: A2A 1.0 §9: clients read an error's code from the body, and only from one that came with 200."""
        return a2a_rest.told(body, status) if self.is_rest else (status if status in (401, 403) else 200, body)


def shown(verb: str, path: str, headers: Headers) -> tuple[str, list[str]]:
    """The address that somebody pushes to, and the secrets that they show."""
    if verb != "POST":
        raise Refused(Code.METHOD_UNKNOWN, "pushes are posted")
    bearers = [value for name, value in headers if name == b"authorization"]
    tokens = [value for name, value in headers if name == b"x-a2a-notification-token"]
    secrets = [*(one.removeprefix(b"Bearer ") for one in bearers), *tokens]
    return path.removeprefix(PUSH), [one.decode("latin-1") for one in secrets[:4]]


def push_refused(message: Message | None, code: Code, detail: str) -> bytes:
    """Tell a peer that its push was not taken, and no more than that."""
    return a2a_rest.turned_away(code)[1]


def push_status(code: Code) -> int:
    """The HTTP status under which that goes out."""
    return a2a_rest.turned_away(code)[0]


async def said(exchange: Exchange, asked: Asked, message: Message, credential: Credential) -> Outcome:
    """Carry one request to a peer, and what comes of it back."""
    a2a.check_version(asked.headers)
    message, asserted = taken(exchange.enforcer, message, credential, a2a.take_assertion)
    reading = a2a.read_request(message)
    token = reading.envelope
    brought = None if token is None else await exchange.brought(token, message, asked.peer, credential)
    message, target = a2a_push.parted(message)
    if target is not None:
        reading = a2a.read_request(message)  # without the agent's secrets, which no policy and no log sees
    call = Call(
        id=exchange.enforcer.chance.call_id(),
        direction=Direction.TO_SERVER,
        agent=credential.agent,
        server=asked.peer,
        method=reading.row.method,
        name=reading.name,
        arguments=reading.arguments,
        body=message.body,
        revision=a2a.REVISION,
        rpc_id=message.id if isinstance(message, Request) else None,
        task=reading.task,
        chain=reading.chain,
        things=reading.things,
        tightened=reading.tightened,
        brought=brought,
        type=reading.type,
        asserted=asserted,
    )
    told = {"a2a-version": a2a.VERSION}
    if extensions := _activated(exchange, asked):
        told["a2a-extensions"] = extensions
    return asked.told(await exchange.request(call, credential, told, target))


def _activated(exchange: Exchange, asked: Asked) -> str:
    """The extensions that the sender asks for, of those that the file names for this peer: any other word in that
    header would be one that nobody judged."""
    peer = exchange.enforcer.rules.peers.get(asked.peer)
    offered = () if peer is None else peer.extensions
    if not offered:
        return ""
    said = b",".join(value for name, value in asked.headers if name == b"a2a-extensions").decode("latin-1")
    wanted = {one.strip() for one in said.split(",")}
    return ", ".join(one for one in offered if one in wanted)


def _is_json(raw: bytes, limits: Limits) -> bool:
    try:
        jsonrpc.parse_json(raw, limits)
    except Malformed:
        return False
    return True


def etag(card: bytes) -> bytes:
    """What names this card as long as it says the same; its signature is another each time."""
    value = msgspec.json.decode(card)
    value.pop("signatures", None)
    return b'W/"' + hashlib.sha256(canonical(value)).hexdigest().encode() + b'"'


async def _events(stream: AsyncGenerator[Delivery, None]) -> AsyncGenerator[Delivery, None]:
    """# SPEC: A2A 1.0 §11.7: each event is a StreamResponse; a failure is an event of a kind of its own."""
    try:
        async for delivery in stream:
            status, body = a2a_rest.told(delivery.body, 0)
            yield Delivery(body, kind="error" if status >= 400 else "")
    finally:
        await stream.aclose()
