"""A message proves its key, or nothing: every way to use somebody's signature for another request is refused."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable

import pytest

from citywatch.core.errors import Code, Refused
from citywatch.core.http_signature import content_digest, signed_lines
from citywatch.core.identity.credential import Credential, Kind
from citywatch.core.identity.message import (
    TOKEN_HEADER,
    check_body,
    shown_token,
    verify_message,
)
from citywatch.core.identity.wit import verify_wit_svid
from citywatch.core.signature import parse_jwk, thumbprint, verify_p256
from citywatch.service.authority import p256
from tests.identity_city import BILLING, LEEWAY, City, signer
from tests.signed import BODY, Sent, send, wit

INPUT = b"signature-input"


@pytest.fixture(scope="module")
def city() -> City:
    return City()


KEY = signer()


def enter(city: City, sent: Sent, after: int = 0) -> Credential:
    token = shown_token(sent.head.headers)
    assert token is not None
    bound = verify_wit_svid(token, city.bundle)
    return check_body(verify_message(sent.head, bound, now=city.clock.now_ms() + after, leeway=LEEWAY), sent.body)


def refused(city: City, sent: Sent, after: int = 0) -> Refused:
    with pytest.raises(Refused) as failure:
        enter(city, sent, after)
    return failure.value


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
def test_a_signed_message_proves_its_agent_and_its_key(city: City, method: str) -> None:
    body = BODY if method == "POST" else b""
    headers = [(b"mcp-session-id", b"s1"), (b"mcp-method", b"tools/list"), (b"last-event-id", b" 7 ")]
    found = enter(city, send(city, KEY, body=body, method=method, headers=headers))
    assert (found.agent, found.key, found.kind) == (str(BILLING), thumbprint(p256(KEY.public)), Kind.WIT)


CHANGED: dict[str, Callable[[Sent], Sent]] = {
    "another method": lambda sent: sent.change(method="DELETE"),
    "another server": lambda sent: sent.change(target=b"/mcp/payroll?a=%41"),
    "the same path, written otherwise": lambda sent: sent.change(target=b"/mcp/bank?a=A"),
    "another query": lambda sent: sent.change(target=b"/mcp/bank?a=%41&b"),
    "another gateway": lambda sent: sent.put(b"host", b"other.example:8460"),
    "another port": lambda sent: sent.put(b"host", b"localhost:8461"),
    "another session": lambda sent: sent.put(b"mcp-session-id", b"s2"),
    "another digest": lambda sent: sent.put(b"content-digest", dict(sent.head.headers)[b"content-digest"].upper()),
    "another label of time": lambda sent: sent.edit(INPUT, b";expires=18", b";expires=0018"),
    "another nonce": lambda sent: sent.edit(INPUT, b"n" * 16, b"m" * 16),
    "components in another order": lambda sent: sent.edit(INPUT, b'"@method" "@authority"', b'"@authority" "@method"'),
}


@pytest.mark.parametrize("how", CHANGED)
def test_a_message_that_was_changed_on_the_way_proves_nobody(city: City, how: str) -> None:
    sent = send(city, KEY, headers=[(b"mcp-session-id", b"s1")])
    enter(city, sent)
    failure = refused(city, CHANGED[how](sent))
    assert failure.code is Code.CREDENTIAL_UNTRUSTED, failure


def test_another_body_under_the_same_signature_is_refused(city: City) -> None:
    sent = send(city, KEY)
    failure = refused(city, Sent(sent.head, BODY.replace(b"list", b"call")))
    assert (failure.code, failure.detail) == (Code.CREDENTIAL_UNTRUSTED, "the body is not the one that was signed")
    assert refused(city, Sent(sent.head, b"")).code is Code.CREDENTIAL_UNTRUSTED


def test_a_body_that_no_digest_covers_is_refused(city: City) -> None:
    bare = send(city, KEY, body=b"")
    failure = refused(city, Sent(bare.head, BODY))
    assert (failure.code, failure.detail) == (
        Code.CREDENTIAL_MALFORMED,
        "the message has a body and its signature covers no content-digest",
    )
    # and a digest that was added on the way covers nothing
    added = bare.add(b"content-digest", content_digest(BODY).encode())
    assert "does not cover `content-digest`" in refused(city, Sent(added.head, BODY)).detail


@pytest.mark.parametrize(
    "name", [b"mcp-session-id", b"last-event-id", b"authorization", b"mcp-param-to", b"a2a-version"]
)
def test_a_header_that_steers_can_be_neither_added_nor_taken_away(city: City, name: bytes) -> None:
    sent = send(city, KEY)
    assert f"does not cover `{name.decode()}`" in refused(city, sent.add(name, b"x")).detail
    covered = send(city, KEY, headers=[(name, b"x")])
    enter(city, covered)
    assert "which was not sent" in refused(city, covered.without(name)).detail
    assert refused(city, covered.add(name, b"y")).code is Code.CREDENTIAL_UNTRUSTED


@pytest.mark.parametrize("name", ["@method", "@authority", "@request-target", "workload-identity-token"])
def test_what_always_decides_is_always_covered(city: City, name: str) -> None:
    sent = send(city, KEY)
    described = dict(sent.head.headers)[INPUT].decode()
    less = described.replace(f'"{name}" ', "").replace(f' "{name}"', "")
    assert f"does not cover `{name}`" in refused(city, sent.put(INPUT, less.encode())).detail


MALFORMED: dict[str, Callable[[Sent], Sent]] = {
    "no signature": lambda sent: sent.without(b"signature"),
    "no description": lambda sent: sent.without(INPUT),
    "two signatures": lambda sent: sent.add(b"signature", b"wimse=:AA==:"),
    "two descriptions": lambda sent: sent.add(INPUT, b"a=()"),
    "two hosts": lambda sent: sent.add(b"host", b"localhost:8460"),
    "two labels": lambda sent: sent.put(INPUT, dict(sent.head.headers)[INPUT] + b", b=()"),
    "one label twice": lambda sent: sent.put(INPUT, b", ".join([dict(sent.head.headers)[INPUT]] * 2)),
    "another label": lambda sent: sent.edit(b"signature", b"wimse=", b"other="),
    "a component twice": lambda sent: sent.edit(INPUT, b'("@method"', b'("@method" "@method"'),
    "a component with a parameter": lambda sent: sent.edit(INPUT, b'"@authority"', b'"@authority";req'),
    "an unknown component": lambda sent: sent.edit(INPUT, b'"@method"', b'"@method" "@status"'),
    "the signature itself": lambda sent: sent.edit(INPUT, b'"@method"', b'"@method" "signature"'),
    "two spaces": lambda sent: sent.edit(INPUT, b'"@method" ', b'"@method"  '),
    "a parameter twice": lambda sent: sent.edit(INPUT, b";tag=", b';nonce="nnnnnnnnnnnnnnnn";tag='),
    "an unknown parameter": lambda sent: sent.edit(INPUT, b";tag=", b";later=1;tag="),
    "no nonce": lambda sent: sent.edit(INPUT, b';nonce="nnnnnnnnnnnnnnnn"', b""),
    "a short nonce": lambda sent: sent.edit(INPUT, b"n" * 16, b"n" * 15),
    "a number for a nonce": lambda sent: sent.edit(INPUT, b'"nnnnnnnnnnnnnnnn"', b"1"),
    "no end": lambda sent: sent.edit(INPUT, b";expires=", b";created="),
    "a text for a time": lambda sent: sent.edit(INPUT, b";created=", b';created="1";keyid='),
    "another use": lambda sent: sent.edit(INPUT, b"wimse-workload", b"wimse-webpage"),
    "another algorithm": lambda sent: sent.edit(INPUT, b";tag=", b';alg="hmac-sha256";tag='),
    "none for an algorithm": lambda sent: sent.edit(INPUT, b";tag=", b';alg="none";tag='),
    "another key": lambda sent: sent.edit(INPUT, b";tag=", b';keyid="mine";tag='),
    "padding that stands for nothing": lambda sent: sent.edit(b"signature", b"==:", b"=:"),
    "not ASCII": lambda sent: sent.put(INPUT, b"wimse=\xff"),
    "two tokens": lambda sent: sent.add(TOKEN_HEADER, dict(sent.head.headers)[TOKEN_HEADER]),
}


@pytest.mark.parametrize("how", MALFORMED)
def test_a_signature_in_any_other_form_is_refused(city: City, how: str) -> None:
    assert refused(city, MALFORMED[how](send(city, KEY))).code is Code.CREDENTIAL_MALFORMED


def test_a_signature_lives_for_a_minute(city: City) -> None:
    sent = send(city, KEY)
    enter(city, sent, 60_000 + LEEWAY - 1_000)
    assert refused(city, sent, 60_000 + LEEWAY).code is Code.CREDENTIAL_EXPIRED
    assert refused(city, sent, -LEEWAY - 1_000).code is Code.CREDENTIAL_NOT_YET_VALID


def test_nobody_gives_his_signature_a_longer_life(city: City) -> None:
    sent = send(city, KEY)
    described = dict(sent.head.headers)[INPUT]
    expires = described.partition(b";expires=")[2].partition(b";")[0]
    longer = sent.edit(INPUT, b";expires=" + expires, b";expires=%d" % (int(expires) + 1))
    assert "a minute at most" in refused(city, longer).detail


def test_another_key_does_not_speak_for_the_token(city: City) -> None:
    """The attack: a token that was seen on the way, and a key of the attacker's own."""
    stolen, mine = wit(city, KEY), signer()
    assert refused(city, send(city, mine, token=stolen)).code is Code.CREDENTIAL_UNTRUSTED
    # a token of the attacker's own, put in place of the honest one
    assert refused(city, send(city, KEY).put(TOKEN_HEADER, wit(city, mine))).code is Code.CREDENTIAL_UNTRUSTED


def test_a_flipped_bit_is_no_signature(city: City) -> None:
    sent = send(city, KEY)
    raw = bytearray(b64decode(dict(sent.head.headers)[b"signature"][7:-1]))
    raw[40] ^= 1
    assert refused(city, sent.put(b"signature", b"wimse=:" + b64encode(raw) + b":")).code is Code.CREDENTIAL_UNTRUSTED
    short = sent.put(b"signature", b"wimse=:" + b64encode(raw[:63]) + b":")
    assert refused(city, short).code is Code.CREDENTIAL_UNTRUSTED


def test_the_signature_of_rfc_9421_b_2_4_verifies() -> None:
    """Other people's vector: an answer, signed with ecdsa-p256-sha256."""
    key = parse_jwk(
        {
            "kty": "EC",
            "crv": "P-256",
            "x": "qIVYZVLCrPZHGHjP17CTW0_-D9Lfw0EkjqF7xB4FivA",
            "y": "Mc4nN9LTDOBhfoUeg8Ye9WedFRhnZXZJA12Qp0zZ6F0",
        },
        use="sig",
    )
    digest = "sha-512=:mEWXIS7MaLRuGgxOBdODa3xqM1XdEvxoYhvlCFJ41QJgJc4GTsPp29l5oGX69wWdXymyU0rjJuahq4l5aGgfLQ==:"
    values = {"@status": "200", "content-type": "application/json", "content-digest": digest, "content-length": "23"}
    parameters = (
        '("@status" "content-type" "content-digest" "content-length");created=1618884473;keyid="test-key-ecc-p256"'
    )
    signature = "wNmSUAhwb5LxtOtOpNa6W5xj067m5hFrj0XQ4fvpaCLx0NKocgPquLgyahnzDnDAUy5eCdlYUEkLIj+32oiasw=="
    verify_p256(key, signed_lines(values, parameters), b64decode(signature))  # type: ignore[arg-type]
