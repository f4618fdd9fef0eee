"""Access tokens for the servers behind the gateway: who acts, for whom, through whom, for one resource and a minute.

Decides what a server is shown of the agent behind a call, and what the gateway says of itself as an issuer. Whether the
call goes through was decided before (`enforcer`); what stands in a token is `core.identity.access`'s.

INVARIANTS
1. A token is made for a judged call that was let through, and for the one resource that the file names for its server:
   no server is ever shown a token of another, nor anything that an agent showed us.
2. The keys that sign access tokens sign beside them only what we state to one authorization server, under a type and
   for an audience of its own: none passes for papers, a grant or a card, nor for a token.
3. Whoever verifies finds every key that may have signed a token that is still good, and the next one before it signs.
SPEC: RFC 9068 §2 and §4, RFC 8693 §4.1, RFC 8414 §2, RFC 7517 §5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from citywatch.core.canonical import digest
from citywatch.core.enforce.acting import acting, scope_of
from citywatch.core.errors import CitywatchError
from citywatch.core.identity.access import LONGEST_MS, TYPE, AccessToken, Acting, access_claims
from citywatch.core.signature import P256Key, format_jwk, thumbprint
from citywatch.core.wire.token_request import GRANT_TYPE
from citywatch.service.authority import p256, sign_token
from citywatch.service.judged import Judged
from citywatch.service.ports import Chance, Clock, Signer

METADATA_PATH: Final = "/.well-known/oauth-authorization-server"
KEYS_PATH: Final = "/oauth/jwks"
TOKEN_PATH: Final = "/oauth/token"  # noqa: S105


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """A resource server as the file names it: its identifier (RFC 8707), and scopes that every token for it has."""

    identifier: str
    scopes: tuple[str, ...] = ()


class AccessKeys(msgspec.Struct, frozen=True):
    """The key that signs, and the public keys (DER) of all that are believed, the signing one among them."""

    signer: Signer
    believed: tuple[bytes, ...]


class AccessTokens:
    """Writes access tokens for the resources of one gateway."""

    def __init__(
        self,
        *,
        issuer: str,
        resources: Mapping[str, Resource],
        keys: Callable[[], AccessKeys],
        clock: Clock,
        chance: Chance,
        hands_over: bool = False,
    ) -> None:
        """`resources` are by the name of a server or peer; `keys` are asked each time: a rotation needs no restart.

        `hands_over`: there are resource servers for which agents are given tokens themselves.
        """
        self.hands_over = hands_over
        self.issuer = issuer
        self.resources = resources
        self._keys = keys
        self._clock = clock
        self._chance = chance
        self._kid: tuple[bytes, str] = (b"", "")

    def of(self, judged: Judged) -> AccessToken | None:
        """The token that the server of this call is shown; None for a server that takes none from us."""
        resource = self.resources.get(judged.call.server)
        if resource is None:
            return None
        if not judged.allowed or judged.authority is None:  # INVARIANT: 1.
            raise CitywatchError("a token for a call that was not let through")
        who = acting(judged.call, judged.authority, judged.known)
        return self.write(who, resource, (scope_of(judged.call),), judged.call.id)

    def own(self, server: str, caller: str, method: str) -> AccessToken | None:
        """The token with which the gateway itself, for its operator, asks a server what it offers."""
        resource = self.resources.get(server)
        if resource is None:
            return None
        return self.write(Acting(subject=caller, actors=(), agent=caller), resource, (method,), self._chance.call_id())

    def write(
        self,
        who: Acting,
        resource: Resource,
        scopes: Sequence[str],
        call: str,
        bound: Mapping[str, str] | None = None,
    ) -> AccessToken:
        """A token for one call; `bound` is the confirmation (RFC 7800) of the key that has to be proved with it."""
        claims = access_claims(
            who,
            issuer=self.issuer,
            resource=resource.identifier,
            scopes=(*resource.scopes, *scopes),
            now=self._clock.now_ms(),
            call=call,
            token=self._chance.salt().hex(),
        )
        if bound is not None:
            claims["cnf"] = dict(bound)
        signer = self._keys().signer
        text = sign_token(signer, TYPE, claims, kid=self._named(signer.public))
        return AccessToken(text, digest(text.encode("ascii")), claims["exp"] * 1000)

    def stated(
        self, typ: str, who: Acting, server: str, scopes: Sequence[str], call: str, more: Mapping[str, str]
    ) -> str:
        """Who acts for whom, for an authorization server that is not ours (its `iss`) and for nobody else."""
        claims = access_claims(
            who,
            issuer=self.issuer,
            resource=server,
            scopes=scopes,
            now=self._clock.now_ms(),
            call=call,
            token=self._chance.salt().hex(),
        )
        return self._signed(typ, claims | dict(more))

    def introduced(self, typ: str, client: str, server: str) -> str:
        """Who we are at that server, for a minute. SPEC: RFC 7523 §3."""
        now = self._clock.now_ms() // 1000
        claims = {"iss": client, "sub": client, "aud": server, "jti": self._chance.salt().hex(), "iat": now}
        return self._signed(typ, claims | {"exp": now + LONGEST_MS // 1000})

    def _signed(self, typ: str, claims: Mapping[str, Any]) -> str:
        signer = self._keys().signer
        return sign_token(signer, typ, claims, kid=self._named(signer.public))

    def key_set(self) -> bytes:
        """# INVARIANT: 3. The public keys, as a JWK set."""
        keys = (p256(one) for one in dict.fromkeys(self._keys().believed))
        return msgspec.json.encode({"keys": [_public(key) for key in keys]})

    def metadata(self) -> bytes:
        """What the gateway is as an authorization server (RFC 8414)."""
        told: dict[str, Any] = {
            "issuer": self.issuer,
            "jwks_uri": self.issuer + KEYS_PATH,
            "response_types_supported": [],
            "grant_types_supported": [GRANT_TYPE] if self.hands_over else [],
        }
        if self.hands_over:
            told["token_endpoint"] = self.issuer + TOKEN_PATH
            told["token_endpoint_auth_methods_supported"] = ["tls_client_auth"]
        return msgspec.json.encode(told)

    def _named(self, public: bytes) -> str:
        if self._kid[0] != public:
            self._kid = public, thumbprint(p256(public))
        return self._kid[1]


def _public(key: P256Key) -> dict[str, str]:
    return {**format_jwk(key), "kid": thumbprint(key), "alg": "ES256", "use": "sig"}
