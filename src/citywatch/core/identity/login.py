"""Who just signed in? What a provider of OpenID Connect says of somebody becomes a `Vouched`, or is refused.

Decides that the configured provider signed this ID token, for this client alone, in answer to the very sign-in that
began here. Does not decide who of the file that is, nor what they may do (`approvals.people`).

    1. size, three segments, base64url in its one form, JSON objects without double members
    2. an algorithm of the list, no member that steers (`crit`, `jku`, `jwk`, …)
    3. the key that the provider's set has under `kid`, of the kind that the algorithm is for
    4. signed by that key
    5. of this issuer, letter by letter
    6. for this client and nobody else, also by `azp`
    7. with the nonce that this sign-in drew
    8. inside its time, which is no longer than a day; issued by now
    9. a subject of plain text

INVARIANTS: any text gives a `Vouched` or `Malformed`; the token chooses neither key nor algorithm; without a nonce of
ours there is no sign-in.
SPEC: OpenID Connect Core §3.1.3.7, RFC 8725.
"""

from __future__ import annotations

from collections.abc import Mapping
from hmac import compare_digest
from typing import Final
from urllib.parse import urlsplit

import msgspec

from citywatch.core.errors import Malformed
from citywatch.core.identity.foreign import ALGORITHMS, HARMLESS, LONGEST_MS, ForeignKey, check_foreign_signature
from citywatch.core.identity.token import MAX_TOKEN_BYTES, parse_object, text_claim, time_claim
from citywatch.core.signature import parse_b64url

MAX_SUBJECT: Final = 255
CHALLENGE: Final = "S256"


class Vouched(msgspec.Struct, frozen=True):
    """Somebody who signed in: the provider's issuer, and the subject that it never gives to another."""

    issuer: str
    subject: str


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """Where a provider's endpoints are, as it says itself at its issuer's address."""

    issuer: str
    authorization: str
    token: str
    keys: str
    names_itself: bool = False


def verify_id_token(
    token: str, issuer: str, client: str, keys: Mapping[str, ForeignKey], nonce: str, now: int, leeway: int
) -> Vouched:
    """Return whom the provider vouches for, at `now`; raise `Malformed` if it does not."""
    if len(token) > MAX_TOKEN_BYTES or not token.isascii() or token.count(".") != 2:  # 1
        raise Malformed(f"an ID token is a compact token of at most {MAX_TOKEN_BYTES} ASCII characters")
    head, body, signature = token.split(".")
    header, claims = parse_object(parse_b64url(head)), parse_object(parse_b64url(body))
    algorithm = header.get("alg")
    kind = ALGORITHMS.get(algorithm) if isinstance(algorithm, str) else None  # 2
    if kind is None or not header.keys() <= HARMLESS or str(header.get("typ", "JWT")).upper() != "JWT":
        raise Malformed(f"an ID token is signed under one of {', '.join(ALGORITHMS)}, and nothing in its header steers")
    kid = header.get("kid")
    key = keys.get(kid) if isinstance(kid, str) else None
    if not isinstance(key, kind):  # 3
        raise Malformed("the ID token's `kid` names no key of the provider for that algorithm")
    check_foreign_signature(key, f"{head}.{body}".encode("ascii"), parse_b64url(signature))  # 4
    if text_claim(claims, "iss") != issuer:  # 5
        raise Malformed("the ID token is of another issuer")
    if claims.get("aud") not in (client, [client]) or claims.get("azp", client) != client:  # 6
        raise Malformed("the ID token is not for this client alone")
    if not nonce or not compare_digest(text_claim(claims, "nonce").encode(), nonce.encode()):  # 7
        raise Malformed("the ID token answers another sign-in")
    issued, end = time_claim(claims, "iat"), time_claim(claims, "exp")
    if now >= end + leeway or now < issued - leeway or end - issued > LONGEST_MS:  # 8
        raise Malformed("the ID token has expired, or is not valid yet")
    subject = text_claim(claims, "sub")  # 9
    if not 0 < len(subject) <= MAX_SUBJECT:
        raise Malformed(f"a subject has 1 to {MAX_SUBJECT} characters")
    return Vouched(issuer, subject)


def parse_provider(data: bytes, issuer: str) -> Provider:
    """What a provider publishes of itself (OpenID Connect Discovery §4.3); `Malformed` unless it is the one we asked.

    Its endpoints have to be as safe as its issuer: a page in plain text would hand over the code.
    """
    value = parse_object(data)
    if text_claim(value, "issuer") != issuer:
        raise Malformed("what was found there calls itself by another issuer's name")
    methods = value.get("code_challenge_methods_supported", [CHALLENGE])
    if not isinstance(methods, list) or CHALLENGE not in methods:
        raise Malformed(f"the provider does not speak PKCE with {CHALLENGE}")
    found = Provider(
        issuer=issuer,
        authorization=text_claim(value, "authorization_endpoint"),
        token=text_claim(value, "token_endpoint"),
        keys=text_claim(value, "jwks_uri"),
        names_itself=value.get("authorization_response_iss_parameter_supported") is True,
    )
    home = urlsplit(issuer)
    for one in (found.authorization, found.token, found.keys):
        parts = urlsplit(one)
        plain_at_home = parts.scheme == home.scheme == "http" and parts.hostname == home.hostname
        if (parts.scheme != "https" and not plain_at_home) or not parts.hostname or "@" in parts.netloc:
            raise Malformed("the provider names an endpoint that is not reached over https")
        if not one.isascii() or not one.isprintable() or " " in one or parts.fragment:
            raise Malformed("the provider names an endpoint that is not an address")
    return found
