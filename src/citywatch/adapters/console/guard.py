"""The door of the console: what is looked at before any page is, and what every answer carries.

Decides whether a request is for us (Host), from us (Origin, for whatever changes something) and small enough; and what
a browser may do with the answer. Does not decide who somebody is. INVARIANTS: a name that is not ours gets no page, so
that a stranger's domain which points here shows them nothing; no page runs a script, shows a style or talks to an
address that is not ours; nothing is kept by a cache; an error says nothing of what went wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY: Final = 65_536
MAX_TARGET: Final = 4_096
CHANGES: Final = ("POST",)
LOOKS: Final = ("GET", "HEAD")

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; font-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = (
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "same-origin"),  # with none, a form of ours would come from `Origin: null`
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "publickey-credentials-get=(self), publickey-credentials-create=(self), interest-cohort=()"),
)


class Guard:
    """ASGI around the pages. `origin` is where we are, as a browser writes it: scheme, name and port."""

    def __init__(self, app: ASGIApp, origin: str, log: Callable[[str], None]) -> None:
        self._app = app
        self._origin = origin
        self._host = origin.partition("://")[2]
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        begun = False

        async def answer(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message = {**message, "headers": self._headers(scope, message)}
            await send(message)

        wrong = self._wrong(scope)
        if wrong is not None:
            await _plain(answer, *wrong)
            return
        try:
            await self._app(scope, _bounded(receive), answer)
        except _TooLong:
            if not begun:
                await _plain(answer, 413, "that is too long")
        except Exception as failure:  # the one place: whatever a page did not foresee shows nothing
            self._log(f"a page failed: {type(failure).__name__}")
            if not begun:
                await _plain(answer, 500, "this page failed; nothing was changed by showing it")

    def _wrong(self, scope: Scope) -> tuple[int, str] | None:
        headers = scope["headers"]
        hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
        if hosts != [self._host]:  # INVARIANT: by our own name only
            return 421, f"this is the console of {self._origin}, and it is reached by that name alone"
        if scope["method"] not in (*LOOKS, *CHANGES):
            return 405, "there is nothing of that kind here"
        if len(scope["raw_path"]) + len(scope["query_string"]) > MAX_TARGET:
            return 414, "that address is too long"
        if scope["method"] in CHANGES:
            origins = [value.decode("latin-1") for name, value in headers if name == b"origin"]
            sites = [value for name, value in headers if name == b"sec-fetch-site"]
            # INVARIANT: whatever changes something was begun by a page of ours, and a browser says so.
            if origins != [self._origin] or sites not in ([], [b"same-origin"]):
                return 403, "that did not come from a page of this console"
        return None

    def _headers(self, scope: Scope, message: Message) -> list[tuple[bytes, bytes]]:
        given = list(message.get("headers", ()))
        names = {name.lower() for name, _ in given}
        more = [*HEADERS, ("content-security-policy", POLICY)]
        if b"cache-control" not in names:
            more.append(("cache-control", "no-store"))
        return [*given, *((name.encode(), value.encode()) for name, value in more)]


class _TooLong(Exception):
    pass


def _bounded(receive: Receive) -> Receive:
    size = 0

    async def bounded() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > MAX_BODY:
            raise _TooLong
        return message

    return bounded


async def _plain(send: Any, status: int, text: str) -> None:
    body = f"{text}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
