"""The way out: what goes to a server, for whom, and with which token of ours.

Decides nothing. INVARIANTS: a message goes to the server that its call was judged for, on connections of its agent's
own; a server that is to be shown a token gets one that was made for this call, or the message does not go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from citywatch.core.enforce.needs import Session
from citywatch.core.identity.access import AccessToken
from citywatch.service.access import AccessTokens
from citywatch.service.borrowed import Borrowed
from citywatch.service.judged import Judged
from citywatch.service.ports import Answer, Upstream


class Outward:
    """The upstreams of one process, each with what it is shown."""

    def __init__(
        self, upstreams: Mapping[str, Upstream], tokens: AccessTokens | None = None, borrowed: Borrowed | None = None
    ) -> None:
        """`tokens` writes those of ours, `borrowed` has those of servers' own authorization servers."""
        self.upstreams = upstreams
        self.tokens = tokens
        self.borrowed = borrowed

    async def send(self, judged: Judged, body: bytes, headers: Mapping[str, str], *, repeatable: bool) -> Answer:
        """Send one message of a judged call to its server."""
        return await self.upstreams[judged.call.server].send(
            caller_of(judged),
            body,
            headers,
            upstream_session(judged),
            repeatable=repeatable,
            **await self._shown(judged),
        )

    async def listen(self, judged: Judged, headers: Mapping[str, str]) -> Answer:
        """Open the stream on which a server speaks unasked."""
        return await self.upstreams[judged.call.server].listen(
            caller_of(judged), headers, upstream_session(judged), **await self._shown(judged)
        )

    async def end(self, judged: Judged, session: str, headers: Mapping[str, str]) -> int:
        """End a session that the server of this call opened."""
        shown = await self._shown(judged)
        return await self.upstreams[judged.call.server].end(caller_of(judged), headers, session, **shown)

    async def drop(self, judged: Judged, over: Session) -> None:
        """End a session, at whatever server, that made room for the one which this call opens."""
        upstream = self.upstreams.get(over.server)
        lent = self.borrowed is not None and self.borrowed.lends(over.server)  # a token is for calls at that server
        if upstream is not None and over.upstream is not None and not lent:
            token = None if self.tokens is None else self.tokens.own(over.server, judged.call.agent, "transport/end")
            await upstream.end(caller_of(judged), {}, over.upstream, **_with(token))

    def forget(self) -> None:
        """Drop what was lent: something was revoked."""
        if self.borrowed is not None:
            self.borrowed.forget()

    async def _shown(self, judged: Judged) -> dict[str, Any]:
        if self.borrowed is not None and self.borrowed.lends(judged.call.server):
            return _with(await self.borrowed.of(judged, caller_of(judged)))
        return _with(None if self.tokens is None else self.tokens.of(judged))


def _with(token: AccessToken | None) -> dict[str, Any]:
    """Most upstreams take no tokens of ours, and need not know of them."""
    return {} if token is None else {"token": token}


def caller_of(judged: Judged) -> str:
    """Whom an upstream serves: an agent as it was registered. Whoever is given the name later gets nothing that was
    kept for it, no connection and no running program."""
    row = judged.known.agent
    return judged.call.agent if row is None else f"{judged.call.agent}#{row.added_at}"


def upstream_session(judged: Judged) -> str | None:
    """The server's own name of the session that a call was made in."""
    return None if judged.known.session is None else judged.known.session.upstream
