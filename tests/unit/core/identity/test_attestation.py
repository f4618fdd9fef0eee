"""An attestation says what a named builder's key signed, as what it was signed; or nothing."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from citywatch.adapters.keys import KeySigner
from citywatch.core.errors import Malformed
from citywatch.core.identity.attestation import (
    AGENT_KIND,
    MAX_SUBJECTS,
    PAYLOAD_TYPE,
    PROGRAM,
    SLSA_KIND,
    STATEMENT,
    Attestation,
    Said,
    verify_attestation,
)
from citywatch.core.identity.dsse import MAX_BYTES, MAX_SIGNATURES, open_envelope, pae
from citywatch.core.names import AgentId
from citywatch.core.signature import parse_p256_key, parse_spki, thumbprint
from citywatch.service.vouching import attest
from tests.identity_city import BILLING, signer

ED, P256 = KeySigner(Ed25519PrivateKey.generate()), signer()
SIGNERS = pytest.mark.parametrize("by", [ED, P256], ids=["ed25519", "p256"])
FILE, WHOLE = "a" * 64, "b" * 64
HOUR = 3_600_000
Value = dict[str, Any]


def said(**changed: Any) -> Said:
    fields = {"agent": BILLING, "builder": "ci", "program": WHOLE, "files": (("prompt", FILE),), "built_at": 0}
    return Said(**{**fields, "until": HOUR, **changed})


def statement(**changed: Any) -> Value:
    predicate = {
        "agent": str(BILLING),
        "builder": "ci",
        "built": "2026-01-01T00:00:00Z",
        "until": "2027-01-01T00:00:00Z",
    }
    subject = [{"name": "program", "digest": {PROGRAM: WHOLE}}, {"name": "prompt", "digest": {"sha256": FILE}}]
    value = {"_type": STATEMENT, "predicateType": AGENT_KIND, "predicate": predicate, "subject": subject}
    return {**value, **changed}


def envelope(payload: bytes, by: KeySigner = ED, kind: str = PAYLOAD_TYPE, shown: str | None = None) -> Value:
    signature = b64encode(by.sign(pae(kind, payload))).decode()
    return {
        "payload": b64encode(payload).decode(),
        "payloadType": kind if shown is None else shown,
        "signatures": [{"sig": signature}],
    }


def read(value: Value, by: KeySigner = ED) -> Attestation:
    return verify_attestation(json.dumps(value).encode(), BILLING, "ci", parse_spki(by.public))


def signed(value: Value, by: KeySigner = ED) -> Value:
    return envelope(json.dumps(value).encode(), by)


def test_the_example_of_the_specification_verifies() -> None:
    # SPEC: DSSE v1.0, protocol.md, "Test Vectors"; its signature is r and s, one after the other
    x = 46950820868899156662930047687818585632848591499744589407958293238635476079160
    y = 5640078356564379163099075877009565129882514886557779369047442380624545832820
    kind = "http://example.com/HelloWorld"
    assert pae(kind, b"hello world") == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    sig = "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="
    value = {"payload": "aGVsbG8gd29ybGQ=", "payloadType": kind, "signatures": [{"sig": sig}]}
    key = parse_p256_key(b"\x04" + x.to_bytes(32, "big") + y.to_bytes(32, "big"))
    assert open_envelope(json.dumps(value).encode(), kind, key) == b"hello world"
    with pytest.raises(Malformed):
        open_envelope(json.dumps({**value, "payload": "aGVsbG8gd29ybGR="}).encode(), kind, key)


@given(st.tuples(st.text(max_size=8), st.binary(max_size=8)), st.tuples(st.text(max_size=8), st.binary(max_size=8)))
def test_two_pairs_of_type_and_payload_never_have_one_encoding(
    one: tuple[str, bytes], other: tuple[str, bytes]
) -> None:
    assert (pae(*one) == pae(*other)) == (one == other)


@SIGNERS
def test_what_a_builder_makes_is_what_is_read(by: KeySigner) -> None:
    made = attest(said(), by)
    found = verify_attestation(made, BILLING, "ci", parse_spki(by.public))
    assert (found.programs, found.subjects, found.builder, found.kind) == (
        (WHOLE,),
        (f"sha256:{FILE}",),
        "ci",
        AGENT_KIND,
    )
    assert found.key == thumbprint(parse_spki(by.public))
    attestors = {"ci": found.key}
    assert [found.holds(attestors, now) for now in (-1, 0, HOUR - 1, HOUR)] == [False, True, True, False]
    assert not found.holds({}, 1)
    assert not found.holds({"other": found.key}, 1)
    assert not found.holds({"ci": "another key"}, 1)


@SIGNERS
def test_payload_and_signature_may_be_in_either_alphabet(by: KeySigner) -> None:
    value = signed(statement(predicate={**statement()["predicate"], "note": "?>?>\u00fb\u00ff"}), by)
    turned = {**value, "payload": urlsafe_b64encode(b64decode(value["payload"])).decode()}
    turned["signatures"] = [{"sig": urlsafe_b64encode(b64decode(value["signatures"][0]["sig"])).decode()}]
    assert read(turned, by).programs == read(value, by).programs


PLAIN = "+/8AAA=="  # the bytes fb ff 00 00


@pytest.mark.parametrize(
    "text", ["+_8AAA==", "+/8AAA", "+/8AAA==\n", " +/8AAA==", "+/8AAB==", "+/8AAA=", "\u00e4", "", 7, None]
)
def test_a_payload_in_another_than_its_one_form_is_malformed(text: object) -> None:
    value, kind = envelope(b64decode(PLAIN), kind="text/x"), "text/x"
    for form in (PLAIN, "-_8AAA=="):
        assert open_envelope(json.dumps({**value, "payload": form}).encode(), kind, parse_spki(ED.public))
    with pytest.raises(Malformed):
        open_envelope(json.dumps({**value, "payload": text}).encode(), kind, parse_spki(ED.public))


def test_one_signature_of_several_is_enough_and_names_of_keys_are_not_read() -> None:
    value = signed(statement())
    other = signed(statement(), P256)["signatures"][0]
    value["signatures"] = [
        {**other, "keyid": thumbprint(parse_spki(ED.public))},
        {**value["signatures"][0], "keyid": 7},
    ]
    assert read(value).programs == (WHOLE,)


WRONG: dict[str, Callable[[], Value]] = {
    "another key's": lambda: signed(statement(), KeySigner(Ed25519PrivateKey.generate())),
    "a key of another kind": lambda: signed(statement(), P256),
    "signed as another type": lambda: envelope(json.dumps(statement()).encode(), kind="text/x", shown=PAYLOAD_TYPE),
    "shown as another type": lambda: envelope(json.dumps(statement()).encode(), shown="text/x"),
    "no type": lambda: envelope(json.dumps(statement()).encode(), shown=""),
    "signed without the encoding": lambda: {
        **signed(statement()),
        "signatures": [{"sig": b64encode(ED.sign(json.dumps(statement()).encode())).decode()}],
    },
    "no signature": lambda: {**signed(statement()), "signatures": []},
    "too many signatures": lambda: {
        **signed(statement()),
        "signatures": signed(statement())["signatures"] * (MAX_SIGNATURES + 1),
    },
    "a signature that is no object": lambda: {**signed(statement()), "signatures": ["x"]},
    "signatures that are no list": lambda: {**signed(statement()), "signatures": {"sig": "x"}},
    "not a statement": lambda: signed(statement(_type="https://in-toto.io/Statement/v0.1")),
    "of an unknown kind": lambda: signed(statement(predicateType="https://example.com/v1")),
    "of no kind": lambda: signed(statement(predicateType=None)),
    "without a predicate": lambda: signed(statement(predicate=None)),
    "about another agent": lambda: signed(
        statement(predicate={**statement()["predicate"], "agent": str(AgentId("acme.example", "other"))})
    ),
    "without a builder": lambda: signed(statement(predicate={**statement()["predicate"], "builder": 1})),
    "without an end": lambda: signed(statement(predicate={**statement()["predicate"], "until": None})),
    "it ends first": lambda: signed(statement(predicate={**statement()["predicate"], "until": "2025-01-01T00:00:00Z"})),
    "without subjects": lambda: signed(statement(subject=[])),
    "too many subjects": lambda: signed(statement(subject=[{"digest": {"sha256": FILE}}] * (MAX_SUBJECTS + 1))),
    "subjects that are no list": lambda: signed(statement(subject={"digest": {"sha256": FILE}})),
    "a subject without a digest": lambda: signed(statement(subject=[{"name": "x"}])),
    "only digests of other kinds": lambda: signed(statement(subject=[{"digest": {"sha512": "a" * 128}}])),
    "a digest in capitals": lambda: signed(statement(subject=[{"digest": {"sha256": "A" * 64}}])),
    "a digest that is short": lambda: signed(statement(subject=[{"digest": {"sha256": "a" * 63}}])),
    "a digest that is no text": lambda: signed(statement(subject=[{"digest": {PROGRAM: 7}}])),
    "a payload that is no JSON": lambda: envelope(b"\xff"),
    "a member twice": lambda: envelope(json.dumps(statement())[:-1].encode() + b', "subject": []}'),
    "provenance without a builder": lambda: signed(statement(predicateType=SLSA_KIND)),
    "provenance whose builder has no name": lambda: signed(
        statement(predicateType=SLSA_KIND, predicate={"runDetails": {"builder": {}}})
    ),
}


@pytest.mark.parametrize("make", WRONG.values(), ids=WRONG)
def test_what_is_wrong_in_one_thing_is_no_attestation(make: Callable[[], Value]) -> None:
    assert read(signed(statement())).programs == (WHOLE,)
    with pytest.raises(Malformed):
        read(make())


def test_provenance_of_slsa_names_its_builder_and_has_no_end() -> None:
    predicate = {"buildDefinition": {}, "runDetails": {"builder": {"id": "https://ci.example/runner"}}}
    found = read(signed(statement(predicateType=SLSA_KIND, predicate=predicate)))
    assert (found.builder, found.kind, found.not_after) == ("https://ci.example/runner", SLSA_KIND, 0)
    assert found.holds({"ci": found.key}, 2**60)


def test_a_file_with_the_text_of_a_program_is_no_program() -> None:
    # the attack: a builder that attests whatever artifacts it is handed is handed the text that a measurement hashes
    found = read(signed(statement(subject=[{"name": "artifact", "digest": {"sha256": WHOLE}}])))
    assert (found.programs, found.subjects) == ((), (f"sha256:{WHOLE}",))


def test_an_envelope_has_its_size() -> None:
    large = statement(subject=[{"digest": {"sha256": FILE}, "name": "x" * MAX_BYTES}])
    with pytest.raises(Malformed, match="bytes"):
        read(signed(large))


@given(st.binary(max_size=200))
def test_any_bytes_are_an_attestation_or_malformed(data: bytes) -> None:
    for by in (ED, P256):
        with pytest.raises(Malformed):
            verify_attestation(data, BILLING, "ci", parse_spki(by.public))
        with pytest.raises(Malformed):
            verify_attestation(json.dumps(envelope(data, by)).encode(), BILLING, "ci", parse_spki(by.public))


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 72])
def test_a_signature_of_any_length_is_one_or_none(length: int) -> None:
    value = {**signed(statement(), P256), "signatures": [{"sig": b64encode(bytes(length)).decode()}]}
    with pytest.raises(Malformed):
        read(value, P256)


def test_r_and_s_alone_are_taken_as_well_as_der() -> None:
    value = signed(statement(), P256)
    r, s = decode_dss_signature(b64decode(value["signatures"][0]["sig"]))
    value["signatures"] = [{"sig": b64encode(r.to_bytes(32, "big") + s.to_bytes(32, "big")).decode()}]
    assert read(value, P256).programs == (WHOLE,)
