"""Message signatures beside `http-message-signatures`: each reads what the other signs, and no forgery."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key
from http_message_signatures import (
    HTTPMessageSigner,
    HTTPMessageVerifier,
    HTTPSignatureKeyResolver,
    InvalidSignature,
)
from http_message_signatures.algorithms import ECDSA_P256_SHA256

from citywatch.adapters.keys import KeySigner
from citywatch.core.errors import Refused
from citywatch.core.http_signature import LONGEST_MS, Head, component_values, content_digest, signed_lines
from citywatch.core.identity.message import ALWAYS, PROFILE, TAG, TOKEN_HEADER, check_body
from citywatch.core.identity.message import verify_message as verify
from citywatch.core.identity.wit import verify_wit_svid
from citywatch.core.signature import thumbprint
from citywatch.service.authority import p256
from tests.identity_city import LEEWAY, City
from tests.signed import Sent, send, wit

PRIVATE = ec.generate_private_key(ec.SECP256R1())
KEY = KeySigner(PRIVATE)
NAME = thumbprint(p256(KEY.public))
METHODS = ("POST", "GET", "DELETE")
TARGETS = ("/mcp/bank", "/mcp/bank?a=1&b=%20", "/mcp/a-b.c_d?")


class Keys(HTTPSignatureKeyResolver):
    def resolve_private_key(self, key_id: str) -> Any:
        return PRIVATE

    def resolve_public_key(self, key_id: str) -> Any:
        return load_der_public_key(KEY.public)


class Message:
    """A request as that library wants it."""

    def __init__(self, method: str, url: str, headers: dict[str, str], body: bytes) -> None:
        self.method, self.url, self.headers, self.body = method, url, headers, body


@pytest.fixture(scope="module")
def city() -> City:
    return City()


def theirs(city: City, draw: random.Random) -> tuple[Message, bytes]:
    """A request that the other library signed as WIMSE has it."""
    method, target = draw.choice(METHODS), draw.choice(TARGETS).rstrip("?")
    body = draw.randbytes(draw.randrange(1, 80)) if method == "POST" else b""
    headers = {"host": "gw.example:8461", "workload-identity-token": wit(city, KEY).decode()}
    covered = [*ALWAYS]
    if body:
        headers["content-digest"] = content_digest(body, draw.choice(("256", "512")))
        covered.append("content-digest")
    if draw.random() < 0.5:
        headers["mcp-session-id"] = f"s{draw.randrange(100)}"
        covered.append("mcp-session-id")
    draw.shuffle(covered)
    message = Message(method, f"http://gw.example:8461{target}", headers, body)
    now = city.clock.now_ms() / 1000
    signer = HTTPMessageSigner(signature_algorithm=ECDSA_P256_SHA256, key_resolver=Keys())
    signer.sign(
        message,
        key_id=NAME,
        created=datetime.fromtimestamp(now, UTC),
        expires=datetime.fromtimestamp(now + LONGEST_MS / 1000, UTC),
        nonce=f"{draw.getrandbits(128):032x}",
        tag=TAG,
        label="sig1",
        include_alg=draw.random() < 0.5,
        covered_component_ids=covered,
        use_existing_digest=bool(body),
    )
    return message, body


def as_sent(message: Message, body: bytes) -> Sent:
    target = message.url.removeprefix("http://gw.example:8461")
    headers = [(name.lower().encode(), value.encode()) for name, value in message.headers.items()]
    return Sent(Head(method=message.method, target=target.encode(), secure=False, headers=headers), body)


def we_take(city: City, sent: Sent) -> bool:
    token = verify_wit_svid(dict(sent.head.headers)[TOKEN_HEADER], city.bundle)
    try:
        check_body(verify(sent.head, token, now=city.clock.now_ms(), leeway=LEEWAY), sent.body)
    except Refused:
        return False
    return True


def they_take(city: City, sent: Sent) -> bool:
    headers = {name.decode(): value.decode("latin-1") for name, value in sent.head.headers}
    message = Message(sent.head.method, "http://" + headers["host"] + sent.head.target.decode(), headers, sent.body)
    verifier = HTTPMessageVerifier(signature_algorithm=ECDSA_P256_SHA256, key_resolver=Keys())
    verifier.max_clock_skew = verifier.max_clock_skew * 10**6  # its clock is the machine's; ours stands still
    try:
        verifier.verify(message, max_age=None, expect_tag=TAG)
    except InvalidSignature:
        return False
    return True


def test_what_the_other_library_signs_we_read(city: City) -> None:
    draw = random.Random(9421)
    for _ in range(150):
        message, body = theirs(city, draw)
        sent = as_sent(message, body)
        assert we_take(city, sent), sent
        assert not we_take(city, Sent(sent.head, body + b" "))
        forged = sent.change(target=sent.head.target + b"x")
        assert not we_take(city, forged)
        assert not they_take(city, forged)


def test_what_we_sign_the_other_library_reads(city: City) -> None:
    draw = random.Random(9530)
    for number in range(150):
        method = draw.choice(METHODS)
        body = draw.randbytes(40) if method == "POST" else b""
        headers = [(b"mcp-method", b"tools/list"), (b"mcp-session-id", b"s%d" % number)][: draw.randrange(3)]
        target = draw.choice(TARGETS).rstrip("?").encode()
        sent = send(city, KEY, body=body, method=method, target=target, headers=headers, nonce=f"{number:016d}")
        named = _with_keyid(sent)
        assert we_take(city, sent)
        assert they_take(city, named), named
        assert not they_take(city, named.put(b"host", b"other.example"))


def _with_keyid(sent: Sent) -> Sent:
    """The other library cannot do without `keyid`, which the profile has no use for: signed anew with one."""
    from base64 import b64encode

    from citywatch.service.authority import bare_signature

    described = dict(sent.head.headers)[b"signature-input"].decode().removeprefix("wimse=")
    components = tuple(described[2 : described.index(")") - 1].split('" "'))
    parameters = f'{described};keyid="{NAME}"'
    base = signed_lines(component_values(sent.head, components, PROFILE), parameters)
    made = b"wimse=:" + b64encode(bare_signature(KEY.sign(base))) + b":"
    return sent.put(b"signature-input", f"wimse={parameters}".encode()).put(b"signature", made)


def test_a_head_is_what_both_take_apart(city: City) -> None:
    """Mixed from two messages of one key, neither library takes it."""
    draw = random.Random(1)
    one, other = (as_sent(*theirs(city, draw)) for _ in range(2))
    for name in (b"signature", b"signature-input"):
        mixed = one.put(name, dict(other.head.headers)[name])
        assert not we_take(city, mixed)
        assert not they_take(city, mixed)
