"""What it costs to prove a key over one message, beside `http-message-signatures` in the same rounds.

Both verify the same request with a body: the other library's own signature, and its digest of the body. `cold` also
verifies the WIT-SVID, which the gateway does once for each token. Nonces and the store are not in it: `commit` has what
a row costs. And what an envelope costs, to write and to verify, beside `joserfc`, which signs and verifies the same
claims and looks at none of them; the rows of a reply's have the digest of the reply and its bytes in them. Run it:
`python -m bench message`.
"""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from bench.decide import row
from citywatch.adapters.keys import KeySigner
from citywatch.adapters.memory import SeededChance
from citywatch.core.canonical import canonical
from citywatch.core.http_signature import Head
from citywatch.core.identity.envelope import (
    REPLY_TYPE,
    TYPE,
    Answered,
    Arrived,
    Envelope,
    Items,
    ReplyTo,
    envelope_claims,
    message_digest,
    reply_digest,
    verify_envelope,
    verify_reply,
)
from citywatch.core.identity.message import ALWAYS, TAG, TOKEN_HEADER, check_body, verify_message
from citywatch.core.identity.wit import verify_wit_svid
from citywatch.core.label import Label
from citywatch.core.names import AgentId
from citywatch.core.signature import thumbprint
from citywatch.core.wire import enveloped
from citywatch.core.wire.jsonrpc import Response, format_message
from citywatch.service.authority import Authority, bundle_of, found_generation, p256
from citywatch.service.envelopes import signed

ROUNDS, COUNT = 9, 300
DOMAIN = "bench.example"
BODY = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"look","arguments":{"of":"orders"}}}'
URL = "http://localhost:8460"
TARGET = "/mcp/bank"


class Message:
    """A request as the other library wants it."""

    def __init__(self, headers: dict[str, str]) -> None:
        self.method, self.url, self.headers = "POST", URL + TARGET, headers


def run() -> list[dict[str, Any]]:
    """The rows; without the other library, ours could not be compared and nothing is measured."""
    if importlib.util.find_spec("http_message_signatures") is None:
        print("bench.message: not measured, for want of http-message-signatures (`make test` installs it)")
        return []
    theirs = importlib.import_module("http_message_signatures")
    algorithm = importlib.import_module("http_message_signatures.algorithms").ECDSA_P256_SHA256
    private = ec.generate_private_key(ec.SECP256R1())
    key, now = KeySigner(private), int(time.time()) * 1000
    certificates, tokens = (KeySigner(ec.generate_private_key(ec.SECP256R1())) for _ in range(2))
    chance = SeededChance(1)
    generation = found_generation(DOMAIN, 1, certificates, tokens, now=now, ttl=3_600_000, chance=chance)
    authority = Authority(DOMAIN, generation, certificates=certificates, tokens=tokens, chance=chance)
    bundle = bundle_of(DOMAIN, [generation], sequence=1, refresh_hint=1)
    token = authority.issue_wit(AgentId(DOMAIN, "clerk"), p256(key.public), now=now, ttl=3_600_000).value

    class Keys(theirs.HTTPSignatureKeyResolver):  # type: ignore[misc, name-defined]
        def resolve_private_key(self, key_id: str) -> Any:
            return private

        def resolve_public_key(self, key_id: str) -> Any:
            return private.public_key()

    message = Message({"host": "localhost:8460", TOKEN_HEADER.decode(): token.decode()})
    theirs.HTTPMessageSigner(signature_algorithm=algorithm, key_resolver=Keys()).sign(
        message,
        key_id=thumbprint(p256(key.public)),
        created=datetime.fromtimestamp(now / 1000, UTC),
        expires=datetime.fromtimestamp(now / 1000 + 60, UTC),
        nonce="n" * 32,
        tag=TAG,
        covered_component_ids=[*ALWAYS, "content-digest"],
        body=BODY,
    )
    headers = [(name.lower().encode(), value.encode()) for name, value in message.headers.items()]
    head = Head(method="POST", target=TARGET.encode(), secure=False, headers=headers)
    bound = verify_wit_svid(token, bundle)
    verifier = theirs.HTTPMessageVerifier(signature_algorithm=algorithm, key_resolver=Keys())

    def warm() -> None:
        check_body(verify_message(head, bound, now=now, leeway=60_000), BODY)

    def cold() -> None:
        check_body(verify_message(head, verify_wit_svid(token, bundle), now=now, leeway=60_000), BODY)

    def other() -> None:
        verifier.verify(message, max_age=None, expect_tag=TAG, body=BODY)

    rounds = [(spent(warm), spent(cold), spent(other)) for _ in range(ROUNDS)]
    ours, first, peer = ([one[which] for one in rounds] for which in range(3))
    return [
        *envelopes(),
        row("message.verify_us", ours, "us", COUNT * ROUNDS, "http-message-signatures", peer),
        row("message.cold_us", first, "us", COUNT * ROUNDS, "http-message-signatures", peer),
    ]


def envelopes() -> list[dict[str, Any]]:
    """The rows of envelopes; for want of `joserfc`, none."""
    if importlib.util.find_spec("joserfc") is None:
        print("bench.message: envelopes are not measured, for want of joserfc (`make test` installs it)")
        return []
    jws, keys = importlib.import_module("joserfc.jws"), importlib.import_module("joserfc.jwk")
    private, now = ec.generate_private_key(ec.SECP256R1()), int(time.time()) * 1000
    signer = KeySigner(private)
    kid = thumbprint(p256(signer.public))
    one = Envelope(
        issuer=f"spiffe://{DOMAIN}/gateway",
        sender=f"spiffe://{DOMAIN}/agent/router",
        receiver=f"spiffe://{DOMAIN}/agent/billing",
        issued=now,
        expires=now + 60_000,
        name="a" * 32,
        message=message_digest("SendMessage", {"message": {"parts": [{"text": "hello"}]}}),
        label=Label(frozenset(f"outside:bank/{name}" for name in range(8)), None),
        items=Items(count=40, newest=("b" * 64,) * 16, before="c" * 64),
        task="t",
        chain="d" * 64,
        hops=2,
        trace=None,
    )
    theirs, header = keys.ECKey.import_key(private), {"alg": "ES256", "kid": kid, "typ": TYPE}
    token = signed(one, signer, kid)
    arrived = Arrived(message=one.message, sender=one.sender, receiver=one.receiver)
    trusted = {DOMAIN: {kid: p256(signer.public)}}

    def write() -> None:
        signed(one, signer, kid)

    def verify() -> None:
        verify_envelope(token.encode(), trusted, arrived, now=now, leeway=0)

    reply = msgspec.structs.replace(one, reply=ReplyTo("e" * 64, 0))
    sealed = signed(reply, signer, kid, REPLY_TYPE)
    answered = Answered(
        message=one.message, sender=one.sender, receivers=frozenset((one.receiver,)), reply=ReplyTo("e" * 64, 0)
    )
    result = {"message": {"messageId": "m", "role": "ROLE_AGENT", "parts": [{"text": "hello " * 40}]}}

    def reply_written() -> None:
        """With what it is put into: the digest of the answer, its place, the bytes that go out."""
        bare, _ = enveloped.parted(result, spoken=True)
        told = enveloped.put_in(bare, signed(named(bare), signer, kid, REPLY_TYPE), spoken=True)
        format_message(Response(1, told))

    def named(bare: Mapping[str, Any]) -> Envelope:
        return msgspec.structs.replace(reply, message=reply_digest(bare))

    shown = enveloped.put_in(result, sealed, spoken=True) or {}

    def reply_verified() -> None:
        bare, token = enveloped.parted(shown, spoken=True)
        reply_digest(bare)
        verify_reply((token or "").encode(), trusted, answered, now=now, leeway=0)

    def other_writes() -> None:
        jws.serialize_compact(header, canonical(envelope_claims(one)), theirs, algorithms=["ES256"])

    def other_verifies() -> None:
        jws.deserialize_compact(token, theirs, algorithms=["ES256"])

    timed = (write, other_writes, verify, other_verifies, reply_written, reply_verified)
    rounds = [[spent(work) for work in timed] for _ in range(ROUNDS)]
    writes, peer_writes, verifies, peer_verifies, seals, opens = ([one[at] for one in rounds] for at in range(6))
    return [
        row("envelope.reply_sign_us", seals, "us", COUNT * ROUNDS, "joserfc", peer_writes),
        row("envelope.reply_verify_us", opens, "us", COUNT * ROUNDS, "joserfc", peer_verifies),
        row("envelope.sign_us", writes, "us", COUNT * ROUNDS, "joserfc", peer_writes),
        row("envelope.verify_us", verifies, "us", COUNT * ROUNDS, "joserfc", peer_verifies),
    ]


def spent(work: Callable[[], None]) -> float:
    """Microseconds of this process for one piece of work."""
    began = time.process_time()
    for _ in range(COUNT):
        work()
    return (time.process_time() - began) / COUNT * 1e6


def main() -> None:
    for found in run():
        print(
            f"{found['name']:<28}{found['value']:>10} {found['unit']:<3} spread {found['spread']:<6} {found['ratio']}"
        )


if __name__ == "__main__":
    main()
