"""What an authorization server that is not ours may answer, and what of it reaches a server."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citywatch.core.errors import Unavailable
from citywatch.core.wire.token_grant import (
    JWT_BEARER,
    LONGEST_S,
    SHORT_S,
    TOKEN_EXCHANGE,
    Lent,
    format_grant_request,
    read_grant_answer,
)

RESOURCE, ISSUER, NOW = "https://ledger.example/mcp", "https://login.ledger.example", 1_700_000_000_000
SENT = ("assertion-of-ours", "client-of-ours")


def signed(**claims: Any) -> str:
    def part(value: Any) -> str:
        return urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'ES256'})}.{part(claims)}.{part('signature')}"


def read(status: int = 200, body: bytes | None = None, scopes: tuple[str, ...] = ("mcp",), **answer: Any) -> Lent:
    told = {"access_token": "opaque-token", "token_type": "Bearer", **answer}
    text = json.dumps({name: value for name, value in told.items() if value is not None}).encode()
    return read_grant_answer(
        status, text if body is None else body, sent=SENT, resource=RESOURCE, issuer=ISSUER, scopes=scopes, now=NOW
    )


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        ({}, SHORT_S),
        ({"expires_in": 300}, 300),
        ({"expires_in": 10**9}, LONGEST_S),
        ({"expires_in": -1}, SHORT_S),
        ({"expires_in": True}, SHORT_S),
        ({"expires_in": 300, "access_token": signed(exp=NOW // 1000 + 20)}, 20),
        ({"expires_in": 300, "access_token": signed(aud=[RESOURCE, "https://b.example"], iss=ISSUER)}, 300),
        ({"expires_in": 300, "access_token": "not.a.token", "scope": "mcp", "token_type": "bearer"}, 300),
    ],
)
def test_a_token_is_taken_for_as_long_as_the_shortest_word_for_it(answer: dict[str, Any], seconds: int) -> None:
    assert read(**answer).seconds == seconds


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"access_token": signed(aud="https://other.example/mcp")}, "another resource"),
        ({"access_token": signed(aud=[])}, "another resource"),
        ({"access_token": signed(resource="https://other.example/mcp")}, "another resource"),
        ({"access_token": signed(iss="https://evil.example")}, "another issuer"),
        ({"access_token": signed(exp=NOW // 1000)}, "that is over"),
        ({"access_token": signed(exp="tomorrow")}, "that is over"),
        ({"access_token": SENT[0]}, "gave back what it was sent"),
        ({"access_token": SENT[1]}, "gave back what it was sent"),
        ({"access_token": "a token\r\nX-Admin: yes"}, "no access token"),
        ({"access_token": ""}, "no access token"),
        ({"access_token": None}, "no access token"),
        ({"token_type": "N_A"}, "no bearer token"),
        ({"token_type": "DPoP"}, "no bearer token"),
        ({"scope": "mcp admin"}, "more scopes"),
        ({"body": b"[]"}, "no access token"),
        ({"body": b"<html>"}, "no access token"),
        ({"status": 400, "error": "invalid_grant"}, "status 400, invalid_grant"),
        ({"status": 400, "error": "secret: assertion-of-ours"}, "no code of an error"),
        ({"status": 302}, "status 302"),
    ],
)
def test_what_may_not_be_shown_to_a_server_is_refused(answer: dict[str, Any], why: str) -> None:
    with pytest.raises(Unavailable, match=why) as refused:
        read(**answer)
    assert "ours" not in str(refused.value)


@given(st.binary(max_size=300), st.sampled_from([200, 204, 301, 400, 500]))
def test_any_bytes_are_no_token_or_one_error(body: bytes, status: int) -> None:
    with pytest.raises(Unavailable):
        read(status=status, body=body)


def test_a_token_stands_in_no_repr() -> None:
    assert "opaque" not in repr(read())


@pytest.mark.parametrize("grant", [TOKEN_EXCHANGE, JWT_BEARER])
def test_what_is_asked_names_the_resource_and_who_asks(grant: str) -> None:
    form = parse_qs(format_grant_request(grant, *SENT, resource=RESOURCE, scopes=("mcp", "a")).decode())
    assert form["resource"] == [RESOURCE]
    assert form["scope"] == ["mcp a"]
    assert form["client_assertion"] == [SENT[1]]
    assert form["assertion" if grant == JWT_BEARER else "subject_token"] == [SENT[0]]
