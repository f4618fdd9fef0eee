"""A token of somebody else's authorization server: what it is asked for one, and what its answer is worth.

    status → JSON → an error's code, or: a bearer token → not what we sent → for the resource, of the issuer → how long

Decides whether an answer is a token that may be shown to the one resource it was asked for. Whose authority it speaks
of stands in what was sent (`service.borrowed`); what is in an opaque token only its own server can tell.

INVARIANTS
1. Any bytes give a `Lent` or one error; nothing of an answer but a code of RFC 6749's letters is ever repeated.
2. What comes back is not what was sent: an assertion of ours that returns as a token would be passed on to a server.
3. A token that says for whom it is, by whom, or until when, is held to that: another resource's is refused, and so is
   one of another issuer, or with more scopes than were asked for.
SPEC: RFC 8693 §2.1 and §2.2, RFC 7523 §2, RFC 6749 §5, RFC 8707 §2, RFC 6750 §2.1; draft-ietf-oauth-identity-assertion-
authz-grant for the shape of what `jwt_bearer` sends.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
import orjson

from citywatch.core.errors import Code, Malformed, Unavailable
from citywatch.core.signature import parse_b64url

TOKEN_EXCHANGE: Final = "token_exchange"  # noqa: S105
JWT_BEARER: Final = "jwt_bearer"
GRANTS: Final = (TOKEN_EXCHANGE, JWT_BEARER)
TYPES: Final = {TOKEN_EXCHANGE: "JWT", JWT_BEARER: "oauth-id-jag+jwt"}
"""What an assertion calls itself, by the grant that it is for."""
CLIENT_TYPE: Final = "client-authentication+jwt"
MAX_ANSWER: Final = 65_536
SHORT_S: Final = 60
"""How long a token counts whose answer does not say for how long it does."""
LONGEST_S: Final = 3_600
_URN: Final = "urn:ietf:params:oauth:"
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]{8,16384}=*\Z")
_CODE: Final = re.compile(r"[a-z_]{1,64}\Z")


class Lent(msgspec.Struct, frozen=True):
    """A token for one resource, and for how many more seconds it is good."""

    text: str
    seconds: int

    def __repr__(self) -> str:
        return f"Lent({self.seconds} s)"


def format_grant_request(grant: str, assertion: str, client: str, *, resource: str, scopes: Sequence[str]) -> bytes:
    """The form that asks for a token; `client` is the assertion by which we say who we are (RFC 7523 §2.2)."""
    form = {"resource": resource, **({"scope": " ".join(scopes)} if scopes else {})}
    if grant == TOKEN_EXCHANGE:
        form |= {
            "grant_type": f"{_URN}grant-type:token-exchange",
            "subject_token": assertion,
            "subject_token_type": f"{_URN}token-type:jwt",
            "requested_token_type": f"{_URN}token-type:access_token",
        }
    else:
        form |= {"grant_type": f"{_URN}grant-type:jwt-bearer", "assertion": assertion}
    form |= {"client_assertion_type": f"{_URN}client-assertion-type:jwt-bearer", "client_assertion": client}
    return urlencode(form).encode("ascii")


def read_grant_answer(
    status: int, body: bytes, *, sent: Sequence[str], resource: str, issuer: str, scopes: Sequence[str], now: int
) -> Lent:
    """The token that an authorization server answered with; `now` in milliseconds.

    Raises `Unavailable` with the server's error code where it gave none, and for an answer that may not be used.
    """
    value = _object(body)
    if status != 200:
        said = value.get("error")
        code = said if isinstance(said, str) and _CODE.match(said) else "no code of an error"
        raise _unusable(f"it answered with the status {status}, {code}")
    text, kind = value.get("access_token"), value.get("token_type")
    if not isinstance(text, str) or not _TOKEN.match(text):
        raise _unusable("its answer holds no access token")
    if not isinstance(kind, str) or kind.lower() != "bearer":  # RFC 8693 has `N_A` for what is no access token
        raise _unusable("what it gave is no bearer token")
    if text in sent:  # INVARIANT: 2.
        raise _unusable("it gave back what it was sent")
    granted = value.get("scope")
    if scopes and isinstance(granted, str) and not set(granted.split()) <= set(scopes):  # INVARIANT: 3.
        raise _unusable("it gave more scopes than were asked for")
    said_s = value.get("expires_in", SHORT_S)
    seconds = said_s if type(said_s) is int and said_s > 0 else SHORT_S
    return Lent(text, min(seconds, LONGEST_S, _of_its_own(text, resource, issuer, now)))


def _of_its_own(text: str, resource: str, issuer: str, now: int) -> int:
    """# INVARIANT: 3. For how many seconds a token says itself that it is good, where it can be read at all."""
    claims = _claims(text)
    if claims is None:
        return LONGEST_S
    for name in ("aud", "resource"):
        said = claims.get(name)
        several = said if isinstance(said, list) else [said]
        if said is not None and resource not in several:
            raise _unusable("it gave a token for another resource")
    if claims.get("iss", issuer) != issuer:
        raise _unusable("it gave a token of another issuer")
    end = claims.get("exp")
    if end is None:
        return LONGEST_S
    if type(end) not in (int, float) or end * 1000 <= now:
        raise _unusable("it gave a token that is over")
    return int(end - now / 1000)


def _claims(text: str) -> dict[str, Any] | None:
    """The claims of a signed token, unverified: they can only make us refuse what another verifies."""
    parts = text.split(".")
    if len(parts) != 3:
        return None
    try:
        found = orjson.loads(parse_b64url(parts[1]))
    except (Malformed, orjson.JSONDecodeError):
        return None
    return found if isinstance(found, dict) else None


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(body) if len(body) <= MAX_ANSWER else None
    except orjson.JSONDecodeError:
        found = None
    return found if isinstance(found, dict) else {}


def _unusable(why: str) -> Unavailable:
    return Unavailable(Code.UPSTREAM_UNAVAILABLE, f"no token of the server's authorization server: {why}")
