"""Many calls over one pair of pipes: which message of the server belongs to which call.

Decides where a server's message goes, by ids of our own: a response to the request it answers, progress to the call
whose token it names, anything else to the one call in flight, or to the listening stream. What it says is judged by the
service. INVARIANTS: ids and progress tokens on the pipe are ours, so that no two calls can collide; a response goes to
the server only if the server asked; a message that answers nothing goes nowhere; every queue is bounded.
SPEC: MCP basic/transports "stdio", basic/utilities (progress, cancellation); JSON-RPC 2.0 §5.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, Final

from citywatch.adapters.upstream.mailbox import Mailbox, Valve
from citywatch.adapters.upstream.settings import Patience
from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from citywatch.core.wire.jsonrpc import Id, Limits, Notification, Request, Response, format_message, parse_message

SUBSCRIPTION_ID: Final = "io.modelcontextprotocol/subscriptionId"

_MAX_IN_FLIGHT: Final = 256
_MAX_ASKED: Final = 64
_MAX_BACKLOG: Final = 256
_MAX_LATE: Final = 256
_MAX_STRAY: Final = 1000
_FORGIVEN_A_SECOND: Final = 100
_METHOD_NOT_FOUND: Final = -32601


class Pending:
    """One request that the server has not answered. `number` is its id and its progress token on the pipe."""

    __slots__ = ("deadline", "mailbox", "number", "request", "token")

    def __init__(self, number: int, request: Request, token: Any, mailbox: Mailbox, deadline: float) -> None:
        self.number = number
        self.request = request
        self.token = token
        self.mailbox = mailbox
        self.deadline = deadline

    @property
    def subscribes(self) -> bool:
        return self.request.method == "subscriptions/listen"


class Conversation:
    """What one caller and one program have said to each other and not finished.

    `write` sends one line, `hold` stops or resumes reading. `stateless`: the revision without sessions, in which a
    server sends no requests and calls of several clients of one agent share the program.
    """

    def __init__(
        self,
        write: Callable[[bytes], None],
        hold: Callable[[bool], None],
        limits: Limits,
        patience: Patience,
        now: Callable[[], float],
        *,
        stateless: bool,
    ) -> None:
        self.stateless = stateless
        self.quiet_since = now()
        self._write = write
        self._limits = limits
        self._patience = patience
        self._now = now
        self._valve = Valve(hold, now)
        self._number = 0
        self._calls: dict[int, Pending] = {}
        self._late: OrderedDict[int, None] = OrderedDict()
        self._asked: set[Id] = set()
        self._listener: Mailbox | None = None
        self._backlog: deque[bytes] = deque()
        self._stray = 0.0
        self._stray_at = now()
        self._failure: Unavailable | None = None

    @property
    def busy(self) -> bool:
        return bool(self._calls) or self._listener is not None

    # -- the caller's side -------------------------------------------------------------------------------------------

    def ask(self, request: Request) -> Pending:
        """Send a request under a number of ours. Its answer, and what comes before it, arrives in the mailbox."""
        self._check_open()
        if len(self._calls) >= _MAX_IN_FLIGHT:
            raise Unavailable(Code.OVERLOADED, "too many calls are in flight")
        self._number += 1
        token = _meta(request.params).get("progressToken")
        params = request.params if token is None else _with_meta(request.params, "progressToken", self._number)
        deadline = self._now() + self._patience.first_byte
        pending = Pending(self._number, request, token, Mailbox(self._valve), deadline)
        self._write(format_message(Request(self._number, request.method, params)))
        self._calls[self._number] = pending
        return pending

    def tell(self, notification: Notification) -> None:
        """Send a notification. A cancellation names a call by our number, or goes nowhere."""
        self._check_open()
        if notification.method != "notifications/cancelled":
            self._write(notification.body)
            return
        wanted = (notification.params or {}).get("requestId")
        for pending in self._calls.values():
            # Ids are the client's choice, and clients of one agent choose alike: without a session, whose call it is
            # cannot be told. There the end of the answer's stream cancels.
            if not self.stateless and pending.request.id == wanted and type(pending.request.id) is type(wanted):
                params = {**(notification.params or {}), "requestId": pending.number}
                self._write(format_message(Notification(notification.method, params)))
                return

    def reply(self, response: Response) -> None:
        """Send the answer to something the server asked; raises `Refused` if it did not ask, or was answered."""
        self._check_open()
        if response.id not in self._asked:
            raise Refused(Code.REPLY_UNEXPECTED, "the server asked nothing under this id")
        self._asked.discard(response.id)
        self._write(response.body)

    def listen(self) -> Mailbox | None:
        """Open the one stream for what the server says unasked; None if it is open already."""
        self._check_open()
        if self._listener is not None:
            return None
        self._listener = Mailbox(self._valve)
        while self._backlog:
            self._listener.put(self._backlog.popleft())
        return self._listener

    def forget(self, pending: Pending) -> None:
        """The caller no longer waits. SPEC: a lost connection cancels a call only where there are no sessions."""
        if self._calls.get(pending.number) is pending:
            self._drop(pending, cancel=self.stateless)
        pending.mailbox.close()

    def unlisten(self, mailbox: Mailbox) -> None:
        if self._listener is mailbox:
            self._listener = None
            self.quiet_since = self._now()
        mailbox.close()

    # -- the server's side -------------------------------------------------------------------------------------------

    def receive(self, line: bytes) -> None:
        """Take one line of the server's. Raises `Malformed` if it is no message, or if the server babbles."""
        message = parse_message(line, self._limits)
        if isinstance(message, Response):
            self._answered(message)
        elif isinstance(message, Notification):
            self._told(message)
        else:
            self._was_asked(message)

    def expire(self, now: float) -> Unavailable | None:
        """Fail the calls that have waited too long; return why everything must end, if nobody reads any more."""
        if self._valve.shut_since is not None:
            # While its pipe is shut the server cannot answer, and is not to blame.
            unread = now >= self._valve.shut_since + self._patience.idle
            return Unavailable(Code.OVERLOADED, "the agent does not read what the server sends") if unread else None
        for pending in tuple(self._calls.values()):
            if now >= pending.deadline:
                self._drop(pending, cancel=pending.request.method != "initialize")
                pending.mailbox.fail(Unavailable(Code.UPSTREAM_TIMEOUT, "the server did not answer in time"))
        return None

    def end(self, failure: Unavailable) -> None:
        """Nothing more will come: every call in flight fails."""
        self._failure = self._failure or failure
        for pending in self._calls.values():
            pending.mailbox.fail(failure)
        self._calls.clear()
        if self._listener is not None:
            self._listener.finish()
            self._listener = None

    def _answered(self, response: Response) -> None:
        number = response.id
        if number is None and len(self._calls) == 1:
            # An error without an id: the server could not read what we sent, and there is only one thing it can mean.
            number = next(iter(self._calls))
        pending = self._calls.pop(number, None) if type(number) is int else None
        if pending is None:
            if type(number) is int and number in self._late:
                del self._late[number]
            else:
                self._count_stray()
            return
        self.quiet_since = self._now()
        result = response.result
        if result is not None and _meta(result).get(SUBSCRIPTION_ID) == pending.number:
            result = _with_meta(result, SUBSCRIPTION_ID, pending.request.id)
        pending.mailbox.put(format_message(Response(pending.request.id, result, response.error)))
        pending.mailbox.finish()

    def _told(self, notification: Notification) -> None:
        params = notification.params
        subscription = _meta(params).get(SUBSCRIPTION_ID)
        if notification.method == "notifications/progress":
            pending = self._call((params or {}).get("progressToken"))
            if pending is None or pending.token is None:
                self._count_stray()
                return
            params = {**(params or {}), "progressToken": pending.token}
        elif subscription is not None:
            pending = self._call(subscription)
            if pending is None or not pending.subscribes:
                self._count_stray()
                return
            params = _with_meta(params, SUBSCRIPTION_ID, pending.request.id)
        else:
            self._pass_on(notification.body)
            return
        self._put(pending, format_message(Notification(notification.method, params)))

    def _was_asked(self, request: Request) -> None:
        if request.id in self._asked:
            # Whatever we answered under this id would be taken for the first question's answer: the gates refuse it.
            self._count_stray()
            self._pass_on(request.body)
            return
        if self.stateless or len(self._asked) >= _MAX_ASKED:
            self._count_stray()
            error = {"code": _METHOD_NOT_FOUND, "message": "this request is not accepted"}
            self._write(format_message(Response(request.id, None, error)))
            return
        self._asked.add(request.id)
        self._pass_on(request.body)

    def _pass_on(self, body: bytes) -> None:
        """What names no call: to the only one there is, or to the listening stream, or kept for it."""
        calls = [pending for pending in self._calls.values() if not pending.subscribes]
        if len(calls) == 1:
            self._put(calls[0], body)
        elif self._listener is not None:
            self._listener.put(body)
        elif self.stateless:
            self._count_stray()
        else:
            if len(self._backlog) >= _MAX_BACKLOG:
                self._backlog.popleft()
                self._count_stray()
            self._backlog.append(body)

    def _put(self, pending: Pending, body: bytes) -> None:
        patience = self._patience.listen if pending.subscribes else self._patience.idle
        pending.deadline = self._now() + patience
        pending.mailbox.put(body)

    def _call(self, number: object) -> Pending | None:
        return self._calls.get(number) if type(number) is int else None

    def _drop(self, pending: Pending, *, cancel: bool) -> None:
        del self._calls[pending.number]
        self.quiet_since = self._now()
        self._late[pending.number] = None
        if len(self._late) > _MAX_LATE:
            self._late.popitem(last=False)
        if cancel and self._failure is None:
            params = {"requestId": pending.number, "reason": "the caller no longer waits"}
            with contextlib.suppress(Unavailable):
                self._write(format_message(Notification("notifications/cancelled", params)))

    def _count_stray(self) -> None:
        """Late and misdirected messages happen; a flood of them only costs us time."""
        now = self._now()
        self._stray = max(0.0, self._stray - (now - self._stray_at) * _FORGIVEN_A_SECOND) + 1
        self._stray_at = now
        if self._stray > _MAX_STRAY:
            raise Malformed("the server floods us with messages that nobody asked for")

    def _check_open(self) -> None:
        if self._failure is not None:
            raise self._failure


def _meta(members: dict[str, Any] | None) -> dict[str, Any]:
    meta = (members or {}).get("_meta")
    return meta if type(meta) is dict else {}


def _with_meta(members: dict[str, Any] | None, key: str, value: Any) -> dict[str, Any]:
    return {**(members or {}), "_meta": {**_meta(members), key: value}}
