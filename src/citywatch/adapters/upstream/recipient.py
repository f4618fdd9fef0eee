"""Where an agent takes what is pushed to it: `service.ports.Recipient` over HTTP.

Decides nothing. INVARIANTS: nothing is pushed to the gateway itself; a redirect is never followed; of what comes back
only the status counts; addresses of one agent share no connection, and so many of them are kept.
SPEC: A2A 1.0 §4.3.3.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from citywatch.adapters.upstream.http import HttpUpstream
from citywatch.adapters.upstream.settings import HttpServer
from citywatch.core.errors import Code, Unavailable
from citywatch.core.wire.destination import PORTS, number_of, numbered

SHOWN = "x-a2a-notification-token"
MAX_KEPT: Final = 8


class HttpRecipient:
    """One agent's addresses. Made and used in one event loop."""

    def __init__(
        self,
        name: str,
        *,
        own: frozenset[int] = frozenset(),
        reach: Callable[[HttpServer], HttpUpstream] = lambda one: HttpUpstream(one, None),
    ) -> None:
        """`own` are the ports of this machine on which the gateway itself listens."""
        self._name = name
        self._own = own
        self._reach = reach
        self._kept: dict[tuple[str, bool], HttpUpstream] = {}

    async def push(self, url: str, body: bytes, authorization: str, token: str, *, public: bool) -> None:
        own = {name: value for name, value in (("authorization", authorization), (SHOWN, token)) if value}
        http = await self._at(numbered(url), public=public)
        answer = await http.ask("", "POST", "", body, {}, repeatable=False, own=own)
        await answer.close()
        if not 200 <= answer.status < 300:
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, f"the agent took no push: status {answer.status}")

    async def close(self) -> None:
        for http in self._kept.values():
            await http.close()

    async def _at(self, url: str, *, public: bool) -> HttpUpstream:
        """What reaches this address; the one that was used the longest ago makes room."""
        key = (url, public)
        http = self._kept.pop(key, None)
        if http is None:
            try:
                if _is_ours(url, self._own):
                    raise Unavailable(Code.UPSTREAM_UNAVAILABLE, "the address for pushes is one of our own")
                http = self._reach(HttpServer(name=self._name, url=url, kinds=frozenset(), public_only=public))
            except ValueError:
                raise Unavailable(Code.UPSTREAM_UNAVAILABLE, "the agent's address for pushes is none") from None
        self._kept[key] = http
        if len(self._kept) > MAX_KEPT:
            await self._kept.pop(next(iter(self._kept))).close()
        return http


def _is_ours(url: str, ports: frozenset[int]) -> bool:
    """Whether this is loopback, at a port where the gateway listens (its scheme's, where it names none).

    The unspecified address leads there as well.
    """
    parts = urlsplit(url)
    number = number_of(parts.hostname or "")
    if number is None or (parts.port or PORTS.get(parts.scheme)) not in ports:
        return False
    address = ip_address(number)
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified
