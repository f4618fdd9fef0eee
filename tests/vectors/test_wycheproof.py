"""Wycheproof: Ed25519 signatures, JSON Web Signatures, JSON Web Keys. Each case names its verdict.

We allow two algorithms, so a `valid` case under another one must be refused: that is the only departure.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from citywatch.core.errors import Malformed
from citywatch.core.signature import (
    parse_ed25519_key,
    parse_jwk,
    parse_spki,
    verify_ed25519,
    verify_jws,
)

FOLDER = Path(__file__).parents[2] / "spec/vectors/third_party/wycheproof"
ALLOWED = {("EC", "P-256", "ES256"), ("OKP", "Ed25519", "EdDSA")}
OURS = {"EC": "ES256", "OKP": "EdDSA"}


def load(name: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    document = json.loads((FOLDER / name).read_bytes())
    cases = [(group, case) for group in document["testGroups"] for case in group["tests"]]
    assert len(cases) == document["numberOfTests"] > 0
    return cases


def name(case: Any) -> str:
    return f"{case['tcId']}-{case['comment'].replace(' ', '_')}" if "tcId" in case else ""


@pytest.mark.parametrize(("group", "case"), load("ed25519_test.json"), ids=name)
def test_ed25519(group: dict[str, Any], case: dict[str, Any]) -> None:
    message, signature = bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"])

    def verify() -> None:
        key = parse_ed25519_key(bytes.fromhex(group["publicKey"]["pk"]))
        assert parse_spki(bytes.fromhex(group["publicKeyDer"])) == key
        assert verify_ed25519(key, message, signature).message == message

    expect(case["result"] == "valid", verify)


def is_ours(jwk: dict[str, Any]) -> bool:
    return (jwk["kty"], jwk.get("crv"), jwk.get("alg", OURS.get(jwk["kty"]))) in ALLOWED


@pytest.mark.parametrize(("group", "case"), load("json_web_signature_test.json"), ids=name)
def test_json_web_signature(group: dict[str, Any], case: dict[str, Any]) -> None:
    jwk = group.get("public", group["private"])
    expect(case["result"] == "valid" and is_ours(jwk), lambda: verify_jws(case["jws"], parse_jwk(jwk, use="sig")))


@pytest.mark.parametrize(("group", "case"), load("json_web_key_test.json"), ids=name)
def test_json_web_key(group: dict[str, Any], case: dict[str, Any]) -> None:
    keys = group.get("public", group["private"])["keys"]

    def verify() -> None:
        parsed = [parse_jwk(jwk, use="sig") for jwk in keys]
        verify_jws(case["jws"], parsed[0])

    expect(case["result"] == "valid" and all(map(is_ours, keys)), verify)


def test_some_cases_of_each_kind_are_accepted() -> None:
    """Refusing everything would pass the tests above but for this one."""
    tokens = [
        case
        for group, case in load("json_web_signature_test.json")
        if is_ours(group.get("public", group["private"])) and case["result"] == "valid"
    ]
    assert len(tokens) >= 2
    assert sum(case["result"] == "valid" for _, case in load("ed25519_test.json")) > 50


def expect(accepted: bool, verify: Any) -> None:
    if accepted:
        verify()
    else:
        with pytest.raises(Malformed):
            verify()
