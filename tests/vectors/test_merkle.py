"""The transparency-dev vectors for RFC 9162 proofs, read by core and, where it speaks of them, by the verifier.

The set rejects a consistency proof from size 0 and takes an empty subtree: so do the functions here, see
`spec/vectors/third_party/README.md`.
"""

import json
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from citywatch.core.errors import Malformed
from citywatch.core.log.merkle import (
    verify_consistency,
    verify_inclusion,
    verify_subtree_consistency,
    verify_subtree_inclusion,
)
from spec import verify_log

FOLDER = Path(__file__).parents[2] / "spec/vectors/third_party/merkle"
COUNTS = {"inclusion": 98, "consistency": 98, "subtreeinclusion": 204, "subtreeconsistency": 118}


def cases(kind: str) -> list[Any]:
    found = json.loads((FOLDER / f"{kind}.json").read_bytes())
    assert len(found) >= COUNTS[kind]
    return [pytest.param(case, id=name) for name, case in found.items()]


def data(text: str | None) -> bytes:
    return b64decode(text or "")


def proof(case: dict[str, Any]) -> list[bytes]:
    return [data(each) for each in case["proof"] or []]


def judge(case: dict[str, Any], verify: Callable[[], None], error: type[Exception]) -> None:
    if case["wantErr"]:
        with pytest.raises(error):
            verify()
    else:
        verify()


@pytest.mark.parametrize("case", cases("inclusion"))
def test_inclusion(case: dict[str, Any]) -> None:
    leaf, root = data(case["leafHash"]), data(case["root"])
    index, size = case["leafIdx"], case["treeSize"]
    judge(case, lambda: verify_inclusion(leaf, index, size, proof(case), root), Malformed)
    if all(len(each) == 32 for each in (leaf, *proof(case))):  # the verifier hashes leaves itself
        judge(case, lambda: verify_log.check_inclusion(index, size, leaf, proof(case), root), verify_log.Wrong)


@pytest.mark.parametrize("case", cases("consistency"))
def test_consistency(case: dict[str, Any]) -> None:
    sizes, roots = (case["size1"], case["size2"]), (data(case["root1"]), data(case["root2"]))
    judge(case, lambda: verify_consistency(*sizes, proof(case), *roots), Malformed)
    judge(case, lambda: verify_log.check_growth(*sizes, proof(case), *roots), verify_log.Wrong)


@pytest.mark.parametrize("case", cases("subtreeinclusion"))
def test_inclusion_in_a_subtree(case: dict[str, Any]) -> None:
    leaf, root = data(case["leafHash"]), data(case["root"])
    span = case["leafIdx"], case["start"], case["end"]
    judge(case, lambda: verify_subtree_inclusion(leaf, *span, proof(case), root), Malformed)


@pytest.mark.parametrize("case", cases("subtreeconsistency"))
def test_consistency_of_a_subtree(case: dict[str, Any]) -> None:
    span, roots = (case["start"], case["end"], case["size"]), (data(case["root1"]), data(case["root2"]))
    judge(case, lambda: verify_subtree_consistency(*span, proof(case), *roots), Malformed)
