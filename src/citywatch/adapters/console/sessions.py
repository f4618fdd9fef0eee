"""Who is signed in, in the memory of this process: a session is over when it ends, and so is everybody's.

Decides how long a session lasts. Does not decide who somebody is, nor what a role may do. INVARIANTS: a session is
named by 256 bits that are drawn when somebody signs in and kept nowhere but in their browser (here: its digest); it
ends after `IDLE_MS` without a request and after `WHOLE_MS` in any case; nothing that was known before the sign-in names
it afterwards; there are no more than `MOST`.
"""

from __future__ import annotations

import secrets
from hashlib import sha256
from hmac import compare_digest
from typing import Final

import msgspec

from citywatch.core.approvals.people import RIGHTS, Duty, Right

IDLE_MS: Final = 30 * 60_000
WHOLE_MS: Final = 10 * 3_600_000
MOST: Final = 500


class Visitor(msgspec.Struct, frozen=True):
    """Somebody who is signed in: as the log names them, what they may do, and how they proved it."""

    person: str
    roles: tuple[Duty, ...]
    how: str

    @property
    def name(self) -> str:
        return self.person.partition(":")[2] or self.person

    def may(self, right: Right) -> bool:
        return any(right in RIGHTS[role] for role in self.roles)


class Session(msgspec.Struct):
    """`proof` has to come with whatever changes something; `kept` is what one page leaves for the next."""

    visitor: Visitor
    proof: str
    began: int
    seen: int
    kept: dict[str, bytes] = {}

    def proves(self, said: str) -> bool:
        return compare_digest(said.encode("utf-8", "replace"), self.proof.encode())


class Sessions:
    """All sessions of this console."""

    def __init__(self) -> None:
        self._open: dict[bytes, Session] = {}

    def begin(self, visitor: Visitor, now: int) -> str:
        """Open a session, and return what the browser is to hold."""
        self._sweep(now)
        while len(self._open) >= MOST:
            del self._open[min(self._open, key=lambda one: self._open[one].seen)]
        token = secrets.token_urlsafe(32)
        self._open[_digest(token)] = Session(visitor, secrets.token_urlsafe(32), now, now, {})
        return token

    def find(self, token: str, now: int) -> Session | None:
        """The session that a browser holds, if it is not over."""
        session = self._open.get(_digest(token))
        if session is None:
            return None
        if _over(session, now):
            del self._open[_digest(token)]
            return None
        session.seen = now
        return session

    def holds(self, session: Session, now: int) -> bool:
        """Whether that session is open still. To ask is no sign of life."""
        return any(one is session for one in self._open.values()) and not _over(session, now)

    def end(self, token: str) -> None:
        self._open.pop(_digest(token), None)

    def _sweep(self, now: int) -> None:
        for one in [one for one, session in self._open.items() if _over(session, now)]:
            del self._open[one]


def _over(session: Session, now: int) -> bool:
    # INVARIANT: whatever was clicked meanwhile, a session has an end; a clock that goes back ends it too.
    return not (session.seen <= now < session.seen + IDLE_MS and session.began <= now < session.began + WHOLE_MS)


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "replace")).digest()
