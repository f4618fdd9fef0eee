"""VC Data Integrity EdDSA 1.0, appendix B.2: the authors' credential under `eddsa-jcs-2022`."""

import json
from pathlib import Path
from typing import Any

import pytest

from citywatch.core.errors import Malformed
from citywatch.core.identity.vc import format_multikey, parse_multikey, verify_proof

FILE = Path(__file__).parents[2] / "spec/vectors/third_party/eddsa-jcs/signedJCS.json"


def document() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(FILE.read_bytes())
    return value


def test_the_authors_credential_verifies() -> None:
    value = document()
    method = value["proof"]["verificationMethod"]
    multikey = method.partition("#")[2]
    assert format_multikey(parse_multikey(multikey)) == multikey
    verify_proof(value, method, parse_multikey(multikey))


@pytest.mark.parametrize("name", ["name", "issuer", "validFrom", "id"])
def test_it_does_not_with_one_word_changed(name: str) -> None:
    value = document()
    method = value["proof"]["verificationMethod"]
    with pytest.raises(Malformed):
        verify_proof({**value, name: value[name] + "x"}, method, parse_multikey(method.partition("#")[2]))
