"""The approvals API as one ASGI application, beside the console's pages and behind the same name.

    1. it is for us (Host), short enough, and one of the operations · 2. somebody's key signed its head · 3. they do not
    ask too fast · 4. its body is short, and the one that was signed · 5. it did not come before · 6. their role lets
    them · 7. its query and body are what the operation takes · 8. the operation

Decides who is let through to an operation, and which problem a failure is. Does not decide what an operation does.
INVARIANTS
1. Nothing but an operation for anybody is done before a key of a person signed this very request, or a passkey of
   theirs what it asks; no cookie is read, and none is set.
2. No page of another site is told anything: there is no CORS, for no origin.
3. What is not asked exactly as the table says is refused; no answer says more of a failure than its kind and what the
   services say of it.
4. Whoever is refused holds up nobody but themselves: how fast one asks is counted for each person, and what nobody
   signed for each address.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
from starlette.types import Receive, Scope, Send

from citywatch.adapters.approvals_api.answers import Answers, Asked, Desk, Unknown
from citywatch.adapters.approvals_api.forms import Problem
from citywatch.adapters.approvals_api.operations import (
    ANYBODY,
    DOCUMENT,
    OPERATIONS,
    PASSKEY,
    PROBLEM_MEDIA,
    PROBLEMS,
    Operation,
)
from citywatch.core.approvals.people import Person, Right
from citywatch.core.approvals.plain import plain
from citywatch.core.approvals.request import PROFILE
from citywatch.core.errors import CitywatchError, Code, Malformed, Refused, Unavailable
from citywatch.core.http_signature import Head
from citywatch.service.callers import Caller, Callers
from citywatch.service.pace import Pace

MAX_BODY: Final = 65_536
MAX_TARGET: Final = 4_096
SPAN_MS: Final = 60_000
REQUESTS: Final = 600
ANSWERS: Final = 60
STRANGERS: Final = 20
HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
_CHALLENGE: Final = (
    (b"www-authenticate", b"Signature"),
    (
        b"accept-signature",
        f'sig=("@method" "@authority" "@request-target" "content-digest");created;expires;tag="{PROFILE.tag}"'.encode(),
    ),
)
_Headers = tuple[tuple[bytes, bytes], ...]
_NOBODY: Final = Person(name="", roles=())


class _Wrong(Exception):
    """A problem, by its name in the table."""

    def __init__(self, name: str, detail: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(detail)
        self.name = name
        self.detail = detail
        self.headers = headers


class ApprovalsApi:
    """`origin` is where we are, as the console's address says it: scheme, name and port."""

    def __init__(self, desk: Desk, callers: Callers, origin: str, log: Callable[[str], None]) -> None:
        self._callers = callers
        self._clock = desk.clock
        self._origin = origin
        self._log = log
        self._handlers = Answers(desk).all()
        self._asking, self._answering = Pace(REQUESTS, SPAN_MS), Pace(ANSWERS, SPAN_MS)
        self._strangers = Pace(STRANGERS, SPAN_MS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            given = msgspec.json.encode(await self._given(scope, receive))
        except _Wrong as wrong:
            await _send(send, PROBLEMS[wrong.name].status, PROBLEM_MEDIA, _problem(wrong), wrong.headers)
        except Exception as failure:  # the one place: whatever an operation did not foresee shows nothing
            self._log(f"an operation of the approvals API failed: {type(failure).__name__}")
            await _send(send, 500, PROBLEM_MEDIA, _problem(_Wrong("failed", "nothing more is said of it here")))
        else:
            await _send(send, 200, "application/json", given)

    async def _given(self, scope: Scope, receive: Receive) -> Any:
        operation, ticket = self._operation(scope)  # 1
        secure = self._origin.startswith("https:")
        head = Head(method=scope["method"], target=_target(scope), secure=secure, headers=scope["headers"])
        if operation.needs == PASSKEY:
            return await self._shown(operation, head, scope, await _read_body(receive))
        who, body = _NOBODY, b""
        if operation.needs != ANYBODY:
            who, body = await self._signed(operation, head, scope, receive)  # 2 to 5: INVARIANT: 1.
        if isinstance(operation.needs, Right) and not who.may(operation.needs):  # 6
            raise _Wrong("not_yours", f"`{who.name}` has no role that lets them {operation.needs.value}")
        asked = Asked(who=who, ticket=ticket, given=_read(operation, scope, body))  # 7
        try:
            return await self._handlers[operation.name](asked)  # 8
        except (CitywatchError, Unknown) as failure:
            raise _failed(failure) from None

    def _operation(self, scope: Scope) -> tuple[Operation, str]:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if hosts != [self._origin.partition("://")[2].encode()]:
            raise _Wrong("misdirected", f"this is the approvals API of {self._origin}, reached by that name alone")
        if len(_target(scope)) > MAX_TARGET:
            raise _Wrong("address_too_long", f"an address has at most {MAX_TARGET} bytes")
        path = scope["raw_path"].decode("latin-1")
        here = [(one, ticket) for one in OPERATIONS if (ticket := one.ticket_of(path)) is not None]
        if not here:
            raise _Wrong("unknown", f"the paths of this API stand in {DOCUMENT}")
        found = next((one for one in here if one[0].method == scope["method"]), None)
        if found is None:
            allowed = ", ".join(one.method for one, _ in here)
            raise _Wrong("no_such_method", f"it is asked with {allowed}", (b"allow", allowed.encode()))
        return found

    async def _signed(self, operation: Operation, head: Head, scope: Scope, receive: Receive) -> tuple[Person, bytes]:
        """Whose request it is, and its body; whoever nobody knows is slowed down by their address."""
        try:
            caller = await self._callers.whose(head)  # 2
            self._check_pace(operation, caller.person)  # 3
            body = await _read_body(receive)  # 4
            return await self._taken(operation, caller, body), body  # 5
        except Refused as refusal:
            raise self._stranger(scope, refusal) from None
        except Unavailable as failure:
            raise _failed(failure) from None

    async def _taken(self, operation: Operation, caller: Caller, body: bytes) -> Person:
        """Whose it is; if it came before, or with another body, it is a stranger's, and counts for an address."""
        try:
            return await self._callers.take(caller, body)
        except Refused:
            self._asking.take_back(caller.person.name)  # INVARIANT: 4.
            if operation.needs is Right.ANSWER:
                self._answering.take_back(caller.person.name)
            raise

    async def _shown(self, operation: Operation, head: Head, scope: Scope, body: bytes) -> Any:
        """What is given to somebody who shows in the request itself who they are: until then, a stranger."""
        asked = Asked(who=_NOBODY, given=_read(operation, scope, body), head=head, body=body)
        try:
            return await self._handlers[operation.name](asked)
        except (Refused, Malformed) as refusal:
            raise self._stranger(scope, refusal) from None
        except Unavailable as failure:
            raise _failed(failure) from None

    def _stranger(self, scope: Scope, refusal: Refused | Malformed) -> _Wrong:
        """# INVARIANT: 4."""
        address = scope["client"][0] if scope.get("client") else ""
        if not self._strangers.allows(address, self._clock.now_ms()):
            return _Wrong("too_fast", "too many requests from your address that nobody signed")
        if isinstance(refusal, Malformed):
            return _failed(refusal)
        return _Wrong("unsigned", refusal.detail, *_CHALLENGE)

    def _check_pace(self, operation: Operation, person: Person) -> None:
        now = self._clock.now_ms()
        if not self._asking.allows(person.name, now):
            raise _Wrong("too_fast", f"at most {REQUESTS} requests in a minute")
        if operation.needs is Right.ANSWER and not self._answering.allows(person.name, now):
            raise _Wrong("too_fast", f"at most {ANSWERS} answers in a minute: nobody reads so fast")


def _target(scope: Scope) -> bytes:
    query: bytes = scope["query_string"]
    path: bytes = scope["raw_path"]
    return path + b"?" + query if query else path


async def _read_body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            raise _Wrong("too_long", f"a body has at most {MAX_BODY} bytes")
        if not message.get("more_body", False):
            return bytes(body)


def _read(operation: Operation, scope: Scope, body: bytes) -> Any:
    """The query or the body, as the operation's type. # INVARIANT: 3."""
    query = _read_query(operation, scope["query_string"])
    if operation.body is None:
        if body:
            raise _Wrong("malformed", "this operation takes no body")
        return query
    if [value for name, value in scope["headers"] if name == b"content-type"] != [b"application/json"]:
        raise _Wrong("not_json", "the body is said to be something else than `application/json`")
    try:
        given = msgspec.json.decode(body, type=operation.body)
        json.loads(body, object_pairs_hook=_once)  # there is one way to read it
    except (msgspec.DecodeError, ValueError, RecursionError) as failure:
        raise _Wrong("malformed", _line(str(failure))) from None
    return given


def _once(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("an object has a member twice")


def _read_query(operation: Operation, raw: bytes) -> Any:
    if operation.query is None:
        if raw:
            raise _Wrong("malformed", "this operation takes no query")
        return None
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, strict_parsing=True, max_num_fields=8)
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a member of the query stands there twice")
        return msgspec.convert(dict(pairs), type=operation.query, strict=False)
    except (ValueError, msgspec.ValidationError) as failure:
        raise _Wrong("malformed", _line(str(failure))) from None


def _line(text: str) -> str:
    """What was wrong, without what cannot be drawn: a name of a member is whatever was sent."""
    return plain(" ".join(text.split()), 300).text or "it cannot be read"


def _failed(failure: Exception) -> _Wrong:
    if isinstance(failure, Unavailable):
        return _Wrong("unavailable", "nothing was changed")
    if isinstance(failure, Refused):
        return _Wrong("stands_otherwise" if failure.code is Code.CONFLICT else "not_yours", _line(failure.detail))
    return _Wrong("unknown" if isinstance(failure, Unknown) else "does_not_count", _line(str(failure)))


def _problem(wrong: _Wrong) -> bytes:
    kind = PROBLEMS[wrong.name]
    where = f"{DOCUMENT}#/x-problems/{wrong.name}"
    return msgspec.json.encode(Problem(type=where, title=kind.title, status=kind.status, detail=wrong.detail))


async def _send(send: Send, status: int, media: str, body: bytes, more: _Headers = ()) -> None:
    length = (b"content-length", str(len(body)).encode())
    headers = [(b"content-type", media.encode()), length, *HEADERS, *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
