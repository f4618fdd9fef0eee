"""The token endpoint: an agent gives what it holds, and gets a token for one resource server that it goes to itself.

    read the form → are the tokens in it whoever proves this request's? → one call through the sequence
    → its entry is committed → the token is written → its digest is an entry, against the rows that let it through
    → it is handed over

Decides that subject and actor are one: whoever proves the request's key. Whether the chain holds, and whether anybody
may have the token, the gates decide (`enforce.verify`, `enforce.tokens`, policy).

INVARIANTS
1. Subject and actor belong together by signatures, and not by being sent together: the chain ends at the agent and key
   that this request proves, an actor token names the same two, and so does the agent's own token as a subject.
2. No token leaves before both entries are committed and synced; what was revoked in between leaves nothing behind it.
3. Nothing that an agent showed is in the log but its chain, which is worth nothing without its key.
4. `unsafe_observe` hands over nothing that was not permitted.
5. A token is bound to the key or certificate that this request proved (`cnf`).
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Final

import msgspec

from citywatch.core import events
from citywatch.core.call import Allow, Call, Direction
from citywatch.core.delegation.grant import parse_link
from citywatch.core.enforce.acting import acting
from citywatch.core.enforce.exchanging import METHOD
from citywatch.core.enforce.settle import check_stands, standing_rows
from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from citywatch.core.identity.access import AccessToken
from citywatch.core.identity.bundle import TrustBundle
from citywatch.core.identity.credential import Credential, Kind, check_time
from citywatch.core.identity.jwt import verify_jwt_svid
from citywatch.core.log.entry import encode_event
from citywatch.core.wire import mcp
from citywatch.core.wire.token_request import ACCESS_TYPE, TokenRequest, parse_token_request, refusal
from citywatch.service.access import AccessTokens, Resource
from citywatch.service.enforcer import Enforcer
from citywatch.service.judged import Judged
from citywatch.service.ports import Append, Appended, NewEntry
from citywatch.service.questions import reason_of
from citywatch.service.snapshots import versions_of

MAX_CONFLICTS: Final = 3
ISSUED: Final = "access"
OK, REFUSED = 200, 400


class TokenExchange:
    """Hands tokens over, by the rules of one gateway."""

    def __init__(
        self, enforcer: Enforcer, tokens: AccessTokens, bundle: Callable[[], TrustBundle], audience: str
    ) -> None:
        """`bundle` and `audience` are those that an agent's own tokens are verified by."""
        self._enforcer = enforcer
        self._tokens = tokens
        self._bundle = bundle
        self._audience = audience

    async def exchange(self, credential: Credential, body: bytes) -> tuple[int, bytes]:
        """Answer `POST /oauth/token` with a status and a body; raises `Unavailable`."""
        try:
            asked = parse_token_request(body)
            self._check_shown(asked, credential)
            call = self._call(asked, credential)
        except (Malformed, Refused) as failure:
            return await self._turned_down(failure, credential, "")
        judged = await self._enforcer.judge(call, credential)
        if not judged.allowed or not isinstance(judged.found, Allow):  # INVARIANT: 4. What was judged is on record.
            return REFUSED, refusal(*_why(judged))
        try:
            token = await self._issued(judged, asked)
        except Refused as failure:
            return await self._turned_down(failure, credential, call.server)
        return OK, msgspec.json.encode(
            {
                "access_token": token.text,
                "issued_token_type": ACCESS_TYPE,
                "token_type": "Bearer" if credential.kind is Kind.X509 else "DPoP",
                "expires_in": max(0, token.not_after - self._enforcer.clock.now_ms()) // 1000,
                "scope": " ".join(asked.scopes),
            }
        )

    async def _turned_down(
        self, failure: Malformed | Refused, credential: Credential, server: str
    ) -> tuple[int, bytes]:
        code = failure.code if isinstance(failure, Refused) else Code.MALFORMED
        detail = failure.detail if isinstance(failure, Refused) else str(failure)
        await self._enforcer.rejections.add(code, detail, credential.agent, server)
        return REFUSED, refusal(code, detail)

    def _check_shown(self, asked: TokenRequest, credential: Credential) -> None:
        """# INVARIANT: 1. The chain's own end is `verify`'s to check."""
        for shown in (asked.own, asked.actor):
            if shown is None:
                continue
            found = verify_jwt_svid(shown, self._bundle(), self._audience)
            check_time(found, self._enforcer.clock.now_ms(), self._enforcer.rules.leeway_ms)
            if (found.agent, found.key) != (credential.agent, credential.key):
                raise Refused(Code.ACTOR_MISMATCH, "a token in the form is another agent's, or another key's")

    def _call(self, asked: TokenRequest, credential: Credential) -> Call:
        """# INVARIANT: 3. What is judged and kept is a message of ours, made of what was read."""
        task = asked.task if not asked.chain else _task_of(asked.chain[0])
        meta = {
            **({} if task is None else {mcp.TASK: task}),
            **({mcp.CHAIN: list(asked.chain)} if asked.chain else {}),
        }
        arguments = {"resource": asked.resource, "scope": " ".join(asked.scopes)}
        message = {"jsonrpc": "2.0", "method": METHOD, "params": {**arguments, "_meta": meta}}
        return Call(
            id=self._enforcer.chance.call_id(),
            direction=Direction.TO_SERVER,
            agent=credential.agent,
            server=self._named(asked.resource),
            method=METHOD,
            name=None,
            arguments=arguments,
            body=msgspec.json.encode(message),
            revision=mcp.MODERN[-1],
            task=task,
            chain=asked.chain,
        )

    def _named(self, resource: str) -> str:
        for name, one in self._enforcer.rules.resources.items():
            if one.identifier == resource:
                return name
        raise Refused(Code.SERVER_UNKNOWN, "the resource is none of this gateway's file")

    async def _issued(self, judged: Judged, asked: TokenRequest) -> AccessToken:
        """# INVARIANT: 2."""
        enforcer, call = self._enforcer, judged.call
        if judged.authority is None:
            raise Refused(Code.AGENT_UNKNOWN)
        who = acting(call, judged.authority, judged.known)
        token = self._tokens.write(
            who, Resource(identifier=asked.resource), asked.scopes, call.id, _bound(judged.credential)
        )
        rows = standing_rows(call, judged.authority)
        for _ in range(MAX_CONFLICTS):
            loaded = await enforcer.store.load(rows, ())
            check_stands(call, judged.authority, {key: enforcer.snapshots.decode(key, loaded) for key in rows})
            event = events.CredentialIssued(
                at=enforcer.clock.now_ms(),
                replica=enforcer.replica,
                agent=call.agent,
                key=judged.authority.key,
                kind=ISSUED,
                digest=token.digest,
                not_after=token.not_after,
                call=call.id,
            )
            append = Append(entries=(NewEntry(encode_event(event)),), reads=versions_of(rows, loaded), sync=True)
            if isinstance(await enforcer.store.append(append), Appended):
                return token
        raise Unavailable(Code.CONFLICT, "the token was not handed over: what it rests on kept changing")


def _bound(credential: Credential) -> dict[str, str]:
    """# INVARIANT: 5. SPEC: RFC 8705 §3.1 for a certificate, RFC 9449 §6.1 for any other key.

    Another authority's bearer token proves a name and no key: nothing could be bound to that.
    """
    if credential.kind is Kind.X509:
        return {"x5t#S256": urlsafe_b64encode(bytes.fromhex(credential.digest)).rstrip(b"=").decode("ascii")}
    if credential.holder == credential.agent:
        raise Refused(Code.ACTOR_MISMATCH, "a token is bound to a key, and another domain's bearer token proves none")
    return {"jkt": credential.holder}


def _task_of(link: str) -> str:
    """The task of a chain, as its first link says; that all links say so is `verify`'s to check."""
    try:
        return parse_link(link).grant.task
    except Malformed as failure:
        raise Refused(Code.CHAIN_MALFORMED, f"link 0: {failure}") from None


def _why(judged: Judged) -> tuple[Code, str]:
    reason = getattr(judged.found, "reason", None)
    return reason_of(judged) if reason is None or not judged.allowed else (reason.code, reason.detail)
