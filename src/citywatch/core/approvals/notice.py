"""What is sent outside to say that something waits for a person: how many, until when, and where to look. No more.

Decides what a notice may hold and how a webhook proves that it is ours. INVARIANTS
1. It carries a link, to the list or to the one ticket that is new, and nothing that could be answered with; no name
   that an agent or a server chose, no value, no secret.
2. A signature covers the time, the id and every byte of the body; one that is older than `TOLERANCE_MS` is no good, and
   whoever keeps the ids for so long takes none twice.
3. One notice speaks of all that came since the last: a flood of tickets is no flood of notices.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection
from typing import Final

import msgspec

from citywatch.core.canonical import canonical
from citywatch.core.errors import Malformed

TOLERANCE_MS: Final = 300_000
LEAST_SECRET: Final = 16
HEADER: Final = "citywatch-signature"
_HEADER = re.compile(r"t=([0-9]{1,15}),id=([0-9a-f]{32}),v1=([0-9a-f]{64})\Z")


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """So many tickets wait by now, `fresh` of them since the last notice, or passed on since; the first expires at
    `expires`."""

    id: str
    at: int
    waiting: int
    fresh: int
    expires: int
    link: str


def ticket_link(console: str, ticket: str) -> str:
    """Where people find one ticket, `console` being where browsers reach the console; empty if that is not said.

    Whoever follows it has to sign in, and nothing is answered by following it.
    """
    return f"{console}/tickets/{ticket}" if console else ""


def text_of(notice: Notice) -> str:
    """The same for people, in a line."""
    calls = "call waits" if notice.waiting == 1 else "calls wait"
    return f"{notice.waiting} {calls} for an answer, {notice.fresh} of them new. Look and answer here: {notice.link}"


def webhook_body(notice: Notice) -> bytes:
    """RFC 8785 bytes of the notice."""
    return canonical({"type": "citywatch.tickets_wait", **msgspec.to_builtins(notice)})


def slack_body(notice: Notice) -> bytes:
    """A payload that Slack and those like it take: plain text, its three special characters escaped, no buttons."""
    plain = text_of(notice).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return canonical({"text": plain})


def sign_header(secret: bytes, notice: Notice, body: bytes) -> str:
    """The value of `citywatch-signature` for a body. Raises `Malformed` for a secret that could be guessed."""
    return f"t={notice.at},id={notice.id},v1={_mac(secret, notice.at, notice.id, body)}"


def verify_header(secret: bytes, header: str, body: bytes, now: int, seen: Collection[str]) -> str:
    """The id of a notice that is ours, of now, and not among `seen`; `Malformed` for every other."""
    found = _HEADER.match(header)
    if found is None:
        raise Malformed("the signature's header is not `t=…,id=…,v1=…`")
    at, name = int(found[1]), found[2]
    if not hmac.compare_digest(_mac(secret, at, name, body), found[3]):
        raise Malformed("the signature is not ours over this body")
    if abs(now - at) > TOLERANCE_MS:  # INVARIANT: 2
        raise Malformed("the notice is not of now")
    if name in seen:
        raise Malformed("the notice was taken before")
    return name


def _mac(secret: bytes, at: int, name: str, body: bytes) -> str:
    if len(secret) < LEAST_SECRET:
        raise Malformed(f"a webhook's secret has at least {LEAST_SECRET} bytes")
    return hmac.new(secret, f"citywatch/notice/v1\n{at}\n{name}\n".encode() + body, "sha256").hexdigest()
