"""Tokens of a server's own authorization server: asked for with a statement of ours, kept for a while, shown to it.

    who acts, as verified → an assertion of ours, for that authorization server alone → its token → the one resource

Decides for whom a token may be used again, and for how long. What is asked and what an answer is worth is
`core.wire.token_grant`'s; whether the call goes through was decided before, for each call (`enforcer`).

INVARIANTS
1. A token is asked for a judged call that was let through, and kept for exactly this agent as it is registered, this
   key, this chain and task, and this server: nobody is lent what another was.
2. It is used no longer than its answer says, than it says itself, and than the chain that it was asked under.
3. When anything is revoked, all of them are dropped, and a call that waited for one is held against the rows anew.
4. Of several calls that need one token one asks; what failed is told to all of them and kept for nobody.
5. No token and no assertion stands in an entry, an error or a `repr`.
SPEC: RFC 8693, RFC 7523, RFC 8707.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

import msgspec

from citywatch.core.canonical import digest
from citywatch.core.enforce.acting import acting
from citywatch.core.errors import CitywatchError
from citywatch.core.identity.access import AccessToken, Acting
from citywatch.core.wire.token_grant import CLIENT_TYPE, TYPES, format_grant_request, read_grant_answer
from citywatch.service.access import AccessTokens
from citywatch.service.judged import Judged
from citywatch.service.ports import Chance, Clock

MAX_KEPT: Final = 4_096
MARGIN_MS: Final = 10_000
"""So long before its end a token is not used any more: it has a way to go."""
Key = tuple[str, ...]


class Lender(msgspec.Struct, frozen=True, kw_only=True):
    """A server's own authorization server, as the file has it: its `issuer`, and the name that we have there."""

    resource: str
    scopes: tuple[str, ...]
    issuer: str
    client: str
    grant: str


class TokenEndpoint(Protocol):
    """Where one authorization server is asked. Raises `Unavailable` when it does not answer."""

    async def ask(self, form: bytes) -> tuple[int, bytes]:
        """Its status and body."""
        ...


class Borrowed:
    """The tokens that one process was lent."""

    def __init__(
        self,
        *,
        tokens: AccessTokens,
        lenders: Mapping[str, tuple[Lender, TokenEndpoint]],
        clock: Clock,
        chance: Chance,
        stands: Callable[[Judged], Awaitable[None]] | None = None,
    ) -> None:
        """`tokens` signs what we state; `lenders` are by the name of a server or peer. `stands` raises `Refused` where
        a call that was let through may not go on."""
        self._tokens = tokens
        self._lenders = lenders
        self._clock = clock
        self._chance = chance
        self._stands = stands
        self._kept: dict[Key, AccessToken] = {}
        self._asking: dict[Key, asyncio.Task[AccessToken]] = {}
        self._round = 0

    def lends(self, server: str) -> bool:
        """Whether a server takes tokens of its own authorization server, and none of ours."""
        return server in self._lenders

    async def of(self, judged: Judged, owner: str) -> AccessToken:
        """The token that the server of this call is shown; `owner` is the agent as it was registered."""
        if not judged.allowed or judged.authority is None:  # INVARIANT: 1.
            raise CitywatchError("a token for a call that was not let through")
        who, delegated = acting(judged.call, judged.authority, judged.known), judged.authority.delegated
        head = "" if delegated is None else delegated.head
        key = (judged.call.server, owner, judged.authority.key, head, who.task or "", who.subject)
        token, waited = await self._lent(key, judged.call.server, who, judged.call.id)
        if waited and self._stands is not None:
            await self._stands(judged)  # INVARIANT: 3.
        return token

    async def own(self, server: str, caller: str) -> AccessToken:
        """The token with which the gateway itself, for its operator, asks a server what it offers."""
        who = Acting(subject=caller, actors=(), agent=caller)
        return (await self._lent((server, caller), server, who, self._chance.call_id()))[0]

    def forget(self) -> None:
        """Drop all that was lent; what is being asked for is kept for nobody. # INVARIANT: 3."""
        self._round += 1
        self._kept.clear()
        self._asking.clear()

    async def _lent(self, key: Key, server: str, who: Acting, call: str) -> tuple[AccessToken, bool]:
        """The token, and whether it had to be waited for."""
        kept = self._kept.get(key)
        if kept is not None and self._clock.now_ms() < kept.not_after:  # INVARIANT: 2.
            return kept, False
        task = self._asking.get(key)
        if task is None:  # INVARIANT: 4.
            task = self._asking[key] = asyncio.create_task(self._ask(key, server, who, call, self._round))
            task.add_done_callback(lambda done: self._asked(key, done))
        return await asyncio.shield(task), True

    def _asked(self, key: Key, done: asyncio.Task[AccessToken]) -> None:
        if self._asking.get(key) is done:
            del self._asking[key]
        if not done.cancelled():
            done.exception()  # whoever waits has it; if all have gone, nobody is to be told

    async def _ask(self, key: Key, server: str, who: Acting, call: str, begun: int) -> AccessToken:
        lender, endpoint = self._lenders[server]
        assertion, client = self._stated(lender, who, call)
        asked = {"resource": lender.resource, "scopes": lender.scopes}
        status, body = await endpoint.ask(format_grant_request(lender.grant, assertion, client, **asked))  # type: ignore[arg-type]
        now = self._clock.now_ms()
        lent = read_grant_answer(
            status, body, sent=(assertion, client), resource=lender.resource, issuer=lender.issuer,
            scopes=lender.scopes, now=now,
        )  # fmt: skip
        end = now + lent.seconds * 1000 - MARGIN_MS
        end = end if who.until is None else min(end, who.until)  # INVARIANT: 2.
        token = AccessToken(lent.text, digest(lent.text.encode("ascii")), end)
        if begun == self._round and now < end:
            self._keep(key, token, now)
        return token

    def _keep(self, key: Key, token: AccessToken, now: int) -> None:
        for over in [one for one, kept in self._kept.items() if kept.not_after <= now]:
            del self._kept[over]
        if len(self._kept) >= MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = token

    def _stated(self, lender: Lender, who: Acting, call: str) -> tuple[str, str]:
        """Who acts for whom, and who says so: both for this authorization server and for nobody else."""
        told = {"client_id": lender.client, "resource": lender.resource}
        stated = self._tokens.stated(TYPES[lender.grant], who, lender.issuer, lender.scopes, call, told)
        return stated, self._tokens.introduced(CLIENT_TYPE, lender.client, lender.issuer)
