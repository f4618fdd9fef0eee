"""Where an agent takes what is pushed to it: `service.ports.Recipient` over HTTP.

Decides nothing. INVARIANTS: a push goes to the one configured address, whatever came with it; a redirect is never
followed; of what comes back only the status counts.
SPEC: A2A 1.0 §4.3.3.
"""

from __future__ import annotations

from citywatch.adapters.upstream.http import HttpUpstream
from citywatch.core.errors import Code, Unavailable

SHOWN = "x-a2a-notification-token"


class HttpRecipient:
    """One agent's address. Made and used in one event loop."""

    def __init__(self, http: HttpUpstream) -> None:
        self._http = http

    async def push(self, body: bytes, authorization: str, token: str) -> None:
        own = {name: value for name, value in (("authorization", authorization), (SHOWN, token)) if value}
        answer = await self._http.ask("", "POST", "", body, {}, repeatable=False, own=own)
        await answer.close()
        if not 200 <= answer.status < 300:
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, f"the agent took no push: status {answer.status}")

    async def close(self) -> None:
        await self._http.close()
