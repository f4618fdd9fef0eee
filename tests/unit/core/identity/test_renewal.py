"""Whoever proves a registered key, now, for this gateway and for the first time, may have new papers. Nobody else."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.identity.registration import AgentRow
from citywatch.core.identity.renewal import (
    MAX_UNEXPIRED_PROOFS,
    Renewal,
    SpentProofs,
    format_proofs,
    parse_proofs,
    parse_renewal,
    spend_proof,
    verify_renewal,
)
from citywatch.core.signature import format_jwk, thumbprint
from tests.unit.core.identity.forgery import (
    AGENT,
    AUDIENCE,
    DOMAIN,
    NOW,
    Key,
    World,
    b64url,
    draw,
    es256,
    public,
)

LEEWAY = 5_000
SECOND = NOW // 1000


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def row(world: World) -> AgentRow:
    return AgentRow(agent=AGENT, keys=(world.thumbprint,), added_at=NOW)


def thumb(key: Key) -> str:
    return thumbprint(public(key))


def token(key: Key, claims: dict[str, Any], header: dict[str, Any] | None = None) -> str:
    head = {"alg": "ES256", "typ": "citywatch-renew+jwt"} | (header or {})
    text = f"{b64url(json.dumps(head).encode())}.{b64url(json.dumps(claims).encode())}"
    return f"{text}.{b64url(es256(key, text))}"


def claims(**changes: Any) -> dict[str, Any]:
    standing = {"sub": AGENT, "aud": AUDIENCE, "iat": SECOND, "exp": SECOND + 60, "jti": "n" * 16}
    return {key: value for key, value in (standing | changes).items() if value is not ...}


def body(
    signer: Key, changes: dict[str, Any] | None = None, header: dict[str, Any] | None = None, **rest: Any
) -> bytes:
    request = {"key": format_jwk(public(signer)), "proof": token(signer, claims(**(changes or {})), header), **rest}
    return json.dumps({name: value for name, value in request.items() if value is not ...}).encode()


def change_body(old: Key, new: Key, changes: dict[str, Any] | None = None, **rest: Any) -> bytes:
    """A change of keys; `changes` are made to what the new key signs."""
    by = {"by": thumb(old)}
    next_proof = token(new, claims(**(by | (changes or {}))), {"typ": "citywatch-next-key+jwt"})
    parts: dict[str, Any] = {"next": format_jwk(public(new)), "next_proof": next_proof}
    return body(old, {"next": thumb(new)}, **(parts | rest))


def renew(data: bytes, row: AgentRow | None, now: int = NOW) -> Renewal:
    return verify_renewal(parse_renewal(data, DOMAIN), row, audience=AUDIENCE, now=now, leeway=LEEWAY)


def refusal(data: bytes, row: AgentRow | None, now: int = NOW) -> Code:
    with pytest.raises(Refused) as caught:
        renew(data, row, now)
    return caught.value.code


def test_a_registered_key_renews(world: World, row: AgentRow) -> None:
    renewal = renew(body(world.agent), row)
    assert (str(renewal.agent), renewal.thumbprint, renewal.old) == (AGENT, world.thumbprint, world.thumbprint)
    assert renewal.expires == NOW + 60_000


M, X = Code.CREDENTIAL_MALFORMED, Code.CREDENTIAL_EXPIRED

CLAIMS: dict[str, tuple[dict[str, Any], Code]] = {
    "another gateway": ({"aud": "spiffe://acme.example/other"}, Code.CREDENTIAL_WRONG_AUDIENCE),
    "a list of gateways": ({"aud": [AUDIENCE]}, Code.CREDENTIAL_WRONG_AUDIENCE),
    "no gateway": ({"aud": ...}, Code.CREDENTIAL_WRONG_AUDIENCE),
    "another domain": ({"sub": "spiffe://evil.example/agent/billing"}, Code.CREDENTIAL_WRONG_DOMAIN),
    "no agent": ({"sub": "spiffe://acme.example/gateway"}, Code.CREDENTIAL_BAD_NAME),
    "another agent": ({"sub": "spiffe://acme.example/agent/admin"}, Code.KEY_NOT_REGISTERED),
    "no subject": ({"sub": ...}, M),
    "expired": ({"iat": SECOND - 65, "exp": SECOND - 5}, X),
    "not yet": ({"iat": SECOND + 6, "exp": SECOND + 60}, Code.CREDENTIAL_NOT_YET_VALID),
    "longer than a minute": ({"exp": SECOND + 61}, M),
    "an end before its beginning": ({"exp": SECOND}, M),
    "no end": ({"exp": ...}, M),
    "no beginning": ({"iat": ...}, M),
    "no nonce": ({"jti": ...}, M),
    "a short nonce": ({"jti": "n" * 15}, M),
    "a next key that is not there": ({"next": "x" * 43}, M),
}


@pytest.mark.parametrize(("changes", "code"), CLAIMS.values(), ids=CLAIMS)
def test_a_claim_that_is_wrong_is_refused(world: World, row: AgentRow, changes: dict[str, Any], code: Code) -> None:
    assert refusal(body(world.agent, changes), row) is code


@pytest.mark.parametrize(
    "header",
    [{"typ": "JWT"}, {"typ": "citywatch-next-key+jwt"}, {"alg": "none"}, {"alg": "HS256"}, {"kid": "x"}, {"jwk": {}}],
)
def test_a_header_that_is_not_a_proofs_is_refused(world: World, row: AgentRow, header: dict[str, Any]) -> None:
    assert refusal(body(world.agent, header=header), row) is M


def test_a_jwt_svid_is_no_proof(world: World, row: AgentRow) -> None:
    assert refusal(body(world.agent, proof=world.token().decode()), row) is M


def test_a_stranger_with_the_agents_public_key_is_untrusted(world: World, row: AgentRow) -> None:
    thief = draw()
    forged = body(thief, key=format_jwk(public(world.agent)))
    assert refusal(forged, row) is Code.CREDENTIAL_UNTRUSTED


def test_a_key_that_is_not_registered_is_refused(row: AgentRow) -> None:
    assert refusal(body(draw()), row) is Code.KEY_NOT_REGISTERED


def test_revoked_and_unknown_agents_get_nothing(world: World, row: AgentRow) -> None:
    assert refusal(body(world.agent), msgspec.structs.replace(row, revoked=True)) is Code.AGENT_REVOKED
    assert refusal(body(world.agent), None) is Code.KEY_NOT_REGISTERED
    other = msgspec.structs.replace(row, agent="spiffe://acme.example/agent/other")
    assert refusal(body(world.agent), other) is Code.KEY_NOT_REGISTERED


def test_a_stranger_does_not_learn_who_is_registered_or_revoked(row: AgentRow) -> None:
    stranger = body(draw())
    for found in (None, row, msgspec.structs.replace(row, revoked=True)):
        assert refusal(stranger, found) is Code.KEY_NOT_REGISTERED


def test_a_proof_is_good_for_its_minute_and_the_leeway(world: World, row: AgentRow) -> None:
    data = body(world.agent)
    assert renew(data, row, NOW - LEEWAY)
    assert refusal(data, row, NOW - LEEWAY - 1) is Code.CREDENTIAL_NOT_YET_VALID
    assert renew(data, row, NOW + 60_000 + LEEWAY - 1)
    assert refusal(data, row, NOW + 60_000 + LEEWAY) is X


def test_a_key_is_changed_for_one_that_is_proved_too(world: World, row: AgentRow) -> None:
    new = draw()
    renewal = renew(change_body(world.agent, new), row)
    assert (renewal.old, renewal.thumbprint) == (world.thumbprint, thumb(new))
    assert renewal.key == public(new)


def test_a_change_of_keys_is_one_piece(world: World, row: AgentRow) -> None:
    new, other = draw(), draw()
    swapped = change_body(world.agent, new, next=format_jwk(public(other)))
    not_proved = change_body(world.agent, new, next_proof=json.loads(change_body(world.agent, other))["next_proof"])
    assert refusal(swapped, row) is M
    assert refusal(not_proved, row) is Code.CREDENTIAL_UNTRUSTED
    for change in (
        {"jti": "m" * 16},
        {"sub": "spiffe://acme.example/agent/admin"},
        {"aud": "x"},
        {"exp": SECOND + 59},
        {"by": thumb(other)},
        {"by": ...},
        {"more": 1},
    ):
        assert refusal(change_body(world.agent, new, change), row) is M
    assert refusal(change_body(world.agent, new, next=...), row) is M
    assert refusal(change_body(world.agent, new, next_proof=...), row) is M
    assert refusal(change_body(world.agent, new, next=..., next_proof=...), row) is M


def test_the_new_key_alone_changes_nothing(world: World, row: AgentRow) -> None:
    new = draw()
    assert refusal(change_body(new, world.agent), row) is Code.KEY_NOT_REGISTERED


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"key":{},"proof":""}',
        b'{"key":1,"proof":1}',
        b'{"key":{},"key":{},"proof":""}',
        b"\xff",
        b" " * 40_000,
    ],
)
def test_other_bytes_are_malformed(row: AgentRow, data: bytes) -> None:
    assert refusal(data, row) is M


def test_a_private_key_in_the_request_is_refused(world: World, row: AgentRow) -> None:
    jwk = format_jwk(public(world.agent)) | {"d": "A" * 43}
    assert refusal(body(world.agent, key=jwk), row) is M


def spend(spent: SpentProofs, renewal: Renewal, now: int = NOW) -> SpentProofs:
    return spend_proof(spent, renewal, now=now, leeway=LEEWAY)


def test_a_proof_is_spent_once(world: World, row: AgentRow) -> None:
    first, second = renew(body(world.agent), row), renew(body(world.agent, {"jti": "m" * 16}), row)
    spent = spend(spend(SpentProofs(), first), second)
    for renewal in (first, second):
        with pytest.raises(Refused) as caught:
            spend(spent, renewal)
        assert caught.value.code is X


def test_a_clock_that_goes_back_makes_no_old_proof_new(world: World, row: AgentRow) -> None:
    old = renew(body(world.agent), row)
    spent = spend(SpentProofs(), old)
    later = NOW + 600_000
    newer = body(world.agent, {"jti": "m" * 16, "iat": later // 1000, "exp": later // 1000 + 60})
    spent = spend(spent, renew(newer, row, later), later)
    assert len(spent.spent) == 1
    with pytest.raises(Refused):
        spend(spent, old, NOW)
    unused = renew(body(world.agent, {"jti": "k" * 16}), row)
    with pytest.raises(Refused):
        spend(spent, unused, NOW)


def test_only_so_many_proofs_a_minute(world: World, row: AgentRow) -> None:
    spent = SpentProofs()
    for number in range(MAX_UNEXPIRED_PROOFS):
        spent = spend(spent, renew(body(world.agent, {"jti": f"{number:016}"}), row))
    one_more = renew(body(world.agent), row)
    with pytest.raises(Refused) as caught:
        spend(spent, one_more)
    assert caught.value.code is Code.RATE_EXCEEDED
    later = NOW + 66_000
    fresh = body(world.agent, {"iat": later // 1000, "exp": later // 1000 + 60})
    assert len(spend(spent, renew(fresh, row, later), later).spent) == 1


def test_the_row_of_spent_proofs_reads_as_it_was_written() -> None:
    spent = SpentProofs((("a", 1), ("b", 2)), 7)
    assert parse_proofs(format_proofs(spent)) == spent
    assert parse_proofs(None) == SpentProofs()
    with pytest.raises(Malformed):
        parse_proofs(b"nonsense")
