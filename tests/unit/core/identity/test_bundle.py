"""A bundle says whom to believe: read strictly, written so that anybody can read it."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest

from citywatch.core.errors import Malformed
from citywatch.core.identity.bundle import (
    MAX_BUNDLE_BYTES,
    format_bundle,
    format_svid_bundle,
    parse_bundle,
    parse_token_keys,
)
from citywatch.core.signature import format_jwk
from tests.unit.core.identity.forgery import DOMAIN, World, authority_certificate, draw, public, usage


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def document(world: World) -> Any:
    return json.loads(format_bundle(world.bundle))


def parsed(value: Any, domain: str = DOMAIN) -> Any:
    return parse_bundle(json.dumps(value).encode(), domain)


def test_it_reads_what_it_writes(world: World) -> None:
    assert parse_bundle(format_bundle(world.bundle), DOMAIN) == world.bundle


def test_it_is_written_as_the_specification_says(world: World) -> None:
    certificates, tokens = document(world)["keys"]
    assert certificates["use"] == "x509-svid"
    assert "kid" not in certificates
    assert base64.b64decode(certificates["x5c"][0]) == world.ca_der
    assert tokens["use"] == "jwt-svid"
    assert tokens["kid"] == "tokens-1"
    assert document(world)["spiffe_sequence"] == 1


@pytest.mark.parametrize(
    "entry",
    [
        {"kty": "RSA", "use": "jwt-svid", "kid": "r", "n": "AQAB", "e": "AQAB"},
        {"kty": "EC", "crv": "P-384", "use": "jwt-svid", "kid": "r", "x": "AA", "y": "AA"},
        {"kty": "EC", "crv": "P-256", "use": "a-later-one", "kid": "w"},
        {"kty": "EC", "crv": "P-256", "kid": "no use"},
        {"kty": "EC", "crv": "P-256", "use": "x509-svid"},
        {"kty": "EC", "crv": "P-256", "use": "x509-svid", "x5c": []},
        {},
    ],
)
def test_an_entry_of_a_kind_we_do_not_know_is_ignored(world: World, entry: Any) -> None:
    value = document(world)
    value["keys"].append(entry)
    assert parsed(value) == world.bundle


def test_members_we_do_not_know_are_ignored(world: World) -> None:
    assert parsed(document(world) | {"later": True}) == world.bundle


def change(entry: int, **changes: Any) -> Any:
    def apply(value: Any) -> None:
        value["keys"][entry].update(changes)

    return apply


def der(**changes: Any) -> Any:
    key = draw()
    certificate = authority_certificate(key, **changes)
    return change(0, x5c=[base64.b64encode(certificate).decode()], **format_jwk(public(key)))


def whole(**changes: Any) -> Any:
    return lambda value: value.update(changes)


def double(value: Any) -> None:
    value["keys"].append(value["keys"][1])


DEFECTS = {
    "keys missing": lambda value: value.pop("keys"),
    "keys no list": whole(keys={}),
    "an entry no object": whole(keys=[1]),
    "too many keys": lambda value: value.update(keys=value["keys"] * 33),
    "a sequence of text": whole(spiffe_sequence="1"),
    "a sequence of true": whole(spiffe_sequence=True),
    "a negative hint": whole(spiffe_refresh_hint=-1),
    "x5c of numbers": change(0, x5c=[1]),
    "x5c a text": change(0, x5c="MIIB"),
    "x5c not base64": change(0, x5c=["!"]),
    "x5c no certificate": change(0, x5c=["AAAA"]),
    "another key than the certificate's": change(0, **format_jwk(public(draw()))),
    "a private key": change(1, d="AA"),
    "no kid": change(1, kid=""),
    "a kid of numbers": change(1, kid=1),
    "two keys of one kid": double,
    "no point on the curve": change(1, x="A" * 43),
    "a leaf": der(ca=False, path_length=None),
    "no power to sign certificates": der(key_usage=usage(digital_signature=True)),
    "an authority of another domain": der(uris=("spiffe://evil.example",)),
    "an authority with a path": der(uris=("spiffe://acme.example/agent/billing",)),
    "an authority of two domains": der(uris=("spiffe://acme.example", "spiffe://evil.example")),
}


@pytest.mark.parametrize("spoil", DEFECTS.values(), ids=DEFECTS)
def test_an_entry_that_is_wrong_refuses_the_whole_bundle(world: World, spoil: Any) -> None:
    value = document(world)
    assert parsed(value) == world.bundle
    spoil(value)
    with pytest.raises(Malformed):
        parsed(value)


def test_an_authority_without_a_name_is_taken_for_the_domain_it_is_listed_under(world: World) -> None:
    value = document(world)
    der(uris=())(value)
    assert len(parsed(value).certificates) == 1


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"keys":[],"keys":[]}', b"\xff", b"[" * 100_000, b" " * 300_000])
def test_other_bytes_are_malformed(text: bytes) -> None:
    with pytest.raises(Malformed):
        parse_bundle(text, DOMAIN)


def test_the_domain_is_the_callers_and_never_the_texts(world: World) -> None:
    with pytest.raises(Malformed):
        parsed(document(world), "evil.example")
    with pytest.raises(Malformed):
        parsed(document(world), "NOT A DOMAIN")


def test_who_refuses_what_he_does_not_know_gets_what_everybody_knows(world: World) -> None:
    """SPIRE refuses a whole bundle for one key of another use."""
    full = msgspec.structs.replace(world.bundle, bound={"w": public(draw())}, envelopes={"e": public(draw())})
    assert {one["use"] for one in json.loads(format_svid_bundle(full))["keys"]} == {"x509-svid", "jwt-svid"}
    assert parse_bundle(format_svid_bundle(full), DOMAIN) == world.bundle


@pytest.mark.parametrize("use", [None, "jwt-svid"])
def test_keys_of_a_workload_api_need_not_say_what_they_are_for(world: World, use: str | None) -> None:
    told = {"kid": "tokens-1", **format_jwk(public(world.tokens)), **({} if use is None else {"use": use})}
    others = [
        {"kty": "RSA", "kid": "r", "n": "AQAB", "e": "AQAB"},
        {"kty": "EC", "crv": "P-384", "kid": "r", "x": "AA", "y": "AA"},
        {**told, "kid": "another", "use": "wit-svid"},
        {**told, "kid": "another", "use": "x509-svid"},
    ]
    assert parse_token_keys(json.dumps({"keys": [told, *others]}).encode()) == world.bundle.keys


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b"[]",
        b'{"keys": {}}',
        b'{"keys": [1]}',
        b'{"keys": [{"kty": "EC", "crv": "P-256"}]}',
        b'{"keys": [{"kty": "EC", "crv": "P-256", "kid": "1", "x": "AA", "y": "AA"}]}',
        b" " * (MAX_BUNDLE_BYTES + 1),
    ],
)
def test_keys_of_a_workload_api_are_read_strictly(text: bytes) -> None:
    with pytest.raises(Malformed):
        parse_token_keys(text)


def test_two_keys_of_a_workload_api_have_two_names(world: World) -> None:
    told = {"kid": "tokens-1", **format_jwk(public(world.tokens))}
    with pytest.raises(Malformed):
        parse_token_keys(json.dumps({"keys": [told, told]}).encode())
