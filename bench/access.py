"""What a token for one message costs, beside `joserfc` writing the same claims in the same rounds.

`exchange.mint_us` is from a judged chain to the token's text: subject, nested actors, signature. The other library is
given the claims and signs them with the same key. Its reading of our tokens is counted, and that of Authlib's
validator where it is installed: neither should refuse one. Run it: `python -m bench.access`.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import time
from collections.abc import Callable
from random import Random
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench.decide import row
from bench.grants import Author
from citywatch.adapters.keys import KeySigner
from citywatch.adapters.memory import MemoryClock, SeededChance
from citywatch.core.delegation.chain import verify_chain
from citywatch.core.identity.access import TYPE, Acting, access_claims
from citywatch.service.access import AccessKeys, AccessTokens, Resource

ROUNDS, COUNT, READ = 9, 400, 500
SCOPES = ("mcp", "tool:pay")
ISSUER, RESOURCE = "https://gateway.bench.example", "https://ledger.bench.example/mcp"


def run() -> list[dict[str, Any]]:
    """The rows; without the other library, ours could not be compared and nothing is measured."""
    if importlib.util.find_spec("joserfc") is None:
        print("bench.access: not measured, for want of joserfc (`make bench` installs it)")
        return []
    jwt, jwk = importlib.import_module("joserfc.jwt"), importlib.import_module("joserfc.jwk")
    private = ec.generate_private_key(ec.SECP256R1())
    signer, clock = KeySigner(private), MemoryClock(int(time.time()) * 1000)
    keys = AccessKeys(signer, (signer.public,))
    resource = Resource(identifier=RESOURCE, scopes=("mcp",))
    tokens = AccessTokens(
        issuer=ISSUER, resources={"ledger": resource}, keys=lambda: keys, clock=clock, chance=SeededChance(1)
    )
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    theirs, public = jwk.ECKey.import_key(pem), jwk.KeySet.import_key_set(json.loads(tokens.key_set()))
    who = acting_under(Author(Random(7)), 3)
    header = {"alg": "ES256", "typ": TYPE, "kid": json.loads(tokens.key_set())["keys"][0]["kid"]}

    def mint() -> None:
        tokens.write(who, resource, ("tool:pay",), "call")

    def other() -> None:
        claims = access_claims(
            who, issuer=ISSUER, resource=RESOURCE, scopes=SCOPES, now=clock.now_ms(), call="call", token="t"
        )
        jwt.encode(header, claims, theirs, algorithms=["ES256"])

    mine, them = [], []
    for _ in range(ROUNDS):
        mine.append(timed(mint))
        them.append(timed(other))
    refused = 0
    for seed in range(READ):
        text = tokens.write(acting_under(Author(Random(seed))), resource, ("tool:pay",), "call").text
        refused += not reads(jwt, public, text)
    print(f"  joserfc refused {refused} of {READ} tokens of ours")
    return [
        row("exchange.mint_us", mine, "us", COUNT * ROUNDS, "joserfc", them),
        row("exchange.refused_elsewhere", [float(refused + authlib_refuses(tokens, resource, public))], "", READ),
    ]


def acting_under(author: Author, links: int | None = None) -> Acting:
    """Who acts under a drawn chain, as the gates verified it."""
    shown = author.honest(links)
    found = verify_chain(shown.texts, shown.asking, shown.trust, shown.now)
    return Acting(subject=found.principal, actors=found.hops, agent=shown.asking.agent, task=found.task)


def reads(jwt: Any, keys: Any, text: str) -> bool:
    try:
        claims = jwt.decode(text, keys, algorithms=["ES256"]).claims
        needed = {name: {"essential": True} for name in ("exp", "iat", "sub", "jti", "client_id")}
        fixed = {"iss": {"essential": True, "value": ISSUER}, "aud": {"essential": True, "value": RESOURCE}}
        jwt.JWTClaimsRegistry(**needed, **fixed).validate(claims)
    except ValueError:
        return False
    return True


def authlib_refuses(tokens: AccessTokens, resource: Resource, keys: Any) -> int:
    """How many of our tokens Authlib's RFC 9068 validator does not take; 0 where it is not installed, and said so."""
    if importlib.util.find_spec("authlib") is None:
        print("  Authlib is not installed: its validator was not asked")
        return 0
    base = importlib.import_module("authlib.oauth2.rfc9068").JWTBearerTokenValidator

    class Validator(base):  # type: ignore[misc, valid-type]
        def get_jwks(self) -> Any:
            return keys

    validator, refused = Validator(ISSUER, RESOURCE), 0
    for seed in range(READ):
        text = tokens.write(acting_under(Author(Random(seed))), resource, ("tool:pay",), "call").text
        try:
            validator.validate_token(validator.authenticate_token(text), ["mcp"], None)
        except Exception:  # whatever it raises, it did not take the token
            refused += 1
    print(f"  Authlib refused {refused} of {READ} tokens of ours")
    return refused


def timed(work: Callable[[], None]) -> float:
    """Microseconds of this process for one."""
    start = time.process_time()
    for _ in range(COUNT):
        work()
    return (time.process_time() - start) / COUNT * 1e6


if __name__ == "__main__":
    for one in run():
        print(one)
