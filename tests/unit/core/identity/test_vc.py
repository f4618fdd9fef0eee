"""A credential says what its issuer signed of this agent, or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from citywatch.adapters.keys import KeySigner
from citywatch.core.errors import Malformed
from citywatch.core.identity.vc import (
    CONTEXT,
    MAX_BYTES,
    TYPES,
    Claims,
    format_base58,
    format_multikey,
    parse_base58,
    parse_multikey,
    signed_hash,
    verify_agent_credential,
)
from citywatch.core.signature import Ed25519Key, parse_spki
from tests.identity_city import BILLING

ISSUER = "https://auditor.example/agents"
SIGNER = KeySigner(Ed25519PrivateKey.generate())
Value = dict[str, Any]


def public(signer: KeySigner = SIGNER) -> Ed25519Key:
    key = parse_spki(signer.public)
    assert isinstance(key, Ed25519Key)
    return key


def said() -> Value:
    return {
        "@context": list(CONTEXT),
        "type": list(TYPES),
        "issuer": ISSUER,
        "validFrom": "2026-01-01T00:00:00Z",
        "validUntil": "2027-01-01T00:00:00Z",
        "credentialSubject": {
            "id": str(BILLING),
            "owner": "Accounts",
            "model": "m-1",
            "configuration": "sha256:c",
            "prompt": "sha256:p",
            "capabilities": ["pay", "look"],
        },
    }


def proof_of() -> Value:
    return {
        "type": "DataIntegrityProof",
        "cryptosuite": "eddsa-jcs-2022",
        "created": "2026-01-01T00:00:00Z",
        "verificationMethod": f"{ISSUER}#{format_multikey(public())}",
        "proofPurpose": "assertionMethod",
        "@context": list(CONTEXT),
    }


def signed(value: Value, proof: Value | None = None, by: KeySigner = SIGNER) -> Value:
    options = proof_of() if proof is None else proof
    made = format_base58(by.sign(signed_hash(value, options)))
    return {**value, "proof": {**options, "proofValue": made}}


def read(value: Value, key: Ed25519Key | None = None) -> Claims:
    return verify_agent_credential(json.dumps(value).encode(), BILLING, ISSUER, key or public())


def test_what_the_issuer_signed_is_read() -> None:
    found = read(signed(said()))
    assert (found.agent, found.issuer, found.owner, found.model) == (str(BILLING), ISSUER, "Accounts", "m-1")
    assert (found.configuration, found.prompt, found.capabilities) == ("sha256:c", "sha256:p", ("pay", "look"))
    assert found.not_after - found.not_before == 365 * 86_400_000
    # written otherwise it is the same credential, and so it is without a context in its proof
    assert verify_agent_credential(rfc8785.dumps(signed(said())), BILLING, ISSUER, public()).owner == "Accounts"
    bare = {name: value for name, value in proof_of().items() if name != "@context"}
    assert read(signed(said(), bare)).owner == "Accounts"


def test_claims_that_were_not_made_are_absent() -> None:
    value = said()
    value["credentialSubject"] = {"id": str(BILLING), "owner": "Accounts"}
    found = read(signed(value))
    assert (found.model, found.configuration, found.prompt, found.capabilities) == ("", "", "", ())


CHANGED: dict[str, Callable[[Value], object]] = {
    "owner": lambda value: value["credentialSubject"].update(owner="Mallory"),
    "model": lambda value: value["credentialSubject"].update(model="m-2"),
    "a claim taken away": lambda value: value["credentialSubject"].pop("prompt"),
    "a capability more": lambda value: value["credentialSubject"]["capabilities"].append("transfer"),
    "a longer life": lambda value: value.update(validUntil="2028-01-01T00:00:00Z"),
    "another word": lambda value: value.update(later=1),
    "another moment of signing": lambda value: value["proof"].update(created="2026-01-02T00:00:00Z"),
    "a word in the proof": lambda value: value["proof"].update(nonce="x"),
    "a context less in both": lambda value: (value["@context"].pop(), value["proof"]["@context"].pop()),
    "a bit of the signature": lambda value: value["proof"].update(proofValue="z" + "2" * 87),
    "a second key for a letter": lambda value: value["proof"].update(proofValue="u" + value["proof"]["proofValue"][1:]),
}


@pytest.mark.parametrize("how", CHANGED)
def test_what_was_changed_after_it_was_signed_is_refused(how: str) -> None:
    value = signed(said())
    read(value)
    CHANGED[how](value)
    with pytest.raises(Malformed):
        read(value)


WRONG: dict[str, Callable[[Value, Value], object]] = {
    "another agent": lambda value, _: value["credentialSubject"].update(id="spiffe://acme.example/agent/other"),
    "two agents": lambda value, _: value.update(credentialSubject=[value["credentialSubject"]]),
    "another issuer": lambda value, _: value.update(issuer="https://mallory.example"),
    "another type": lambda value, _: value.update(type=["VerifiableCredential"]),
    "no owner": lambda value, _: value["credentialSubject"].pop("owner"),
    "a number for a model": lambda value, _: value["credentialSubject"].update(model=1),
    "a text for capabilities": lambda value, _: value["credentialSubject"].update(capabilities="pay"),
    "no end": lambda value, _: value.pop("validUntil"),
    "a day that is none": lambda value, _: value.update(validUntil="2027-02-30T00:00:00Z"),
    "a time of some zone": lambda value, _: value.update(validUntil="2027-01-01T00:00:00+01:00"),
    "another suite": lambda _, proof: proof.update(cryptosuite="eddsa-rdfc-2022"),
    "another purpose": lambda _, proof: proof.update(proofPurpose="authentication"),
    "another proof": lambda _, proof: proof.update(type="Ed25519Signature2020"),
    "another key's name": lambda _, proof: proof.update(verificationMethod=f"{ISSUER}#z6Mk"),
    "a context that is not the document's": lambda _, proof: proof.update({"@context": ["https://mallory.example"]}),
    "an end of the proof's own": lambda _, proof: proof.update(expires="2020-01-01T00:00:00Z"),
}


@pytest.mark.parametrize("how", WRONG)
def test_what_was_signed_so_is_not_a_credential_of_this_agent(how: str) -> None:
    value, proof = said(), proof_of()
    WRONG[how](value, proof)
    try:
        whole = signed(value, proof)
    except Malformed:
        return  # our own hand writes no such thing either
    with pytest.raises(Malformed):
        read(whole)


def test_another_key_does_not_speak_for_the_issuer() -> None:
    """The attack: a credential signed by the agent's own key, which it names itself."""
    mine = KeySigner(Ed25519PrivateKey.generate())
    proof = {**proof_of(), "verificationMethod": f"{ISSUER}#{format_multikey(public(mine))}"}
    for whole in (signed(said(), by=mine), signed(said(), proof, mine)):
        with pytest.raises(Malformed):
            read(whole)
    with pytest.raises(Malformed):
        read({**signed(said()), "proof": [signed(said())["proof"]]})


def test_keys_are_screened() -> None:
    for raw in (bytes(32), b"\x01" + bytes(31), b"\xff" * 32, bytes(31)):
        with pytest.raises(Malformed):
            parse_multikey(format_base58(b"\xed\x01" + raw))
    with pytest.raises(Malformed):
        parse_multikey(format_base58(b"\x80\x24" + b"\x02" * 33))  # a P-256 key


@given(st.binary(max_size=80))
def test_base58_has_one_text_for_all_bytes(data: bytes) -> None:
    if data:
        assert parse_base58(format_base58(data)) == data


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: json.dumps({"proof": text}).encode()))
def test_any_bytes_are_claims_or_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        verify_agent_credential(data, BILLING, ISSUER, public())


@pytest.mark.parametrize("data", [b"[]", b'{"type":["VerifiableCredential"],"type":[]}', b" " * (MAX_BYTES + 1)])
def test_what_is_no_object_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        verify_agent_credential(data, BILLING, ISSUER, public())


@pytest.mark.parametrize("value", ["", "z", "z0", "zl", "zI", "x1", 1, None, "z" + "1" * 200])
def test_what_is_no_base58_is_malformed(value: object) -> None:
    with pytest.raises(Malformed):
        parse_base58(value)


def test_numbers_that_json_cannot_carry_exactly_are_malformed() -> None:
    with pytest.raises(Malformed):
        read({**signed(said()), "later": 2**60})
