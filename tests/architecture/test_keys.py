"""A public key is read in one module, so that no way in goes past its screening."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src/citywatch"
READERS = {
    "Ed25519PublicKey",
    "EllipticCurvePublicKey",
    "EllipticCurvePublicNumbers",
    "from_public_bytes",
    "from_encoded_point",
    "load_der_public_key",
    "load_pem_public_key",
    "load_ssh_public_key",
    "load_ssh_public_identity",
}
ALONE = "core/signature.py"


def names(tree: ast.AST) -> Iterator[str]:
    """Every name that a module speaks: imported, called, an attribute of something."""
    for node in ast.walk(tree):
        if isinstance(node, ast.alias):
            yield node.name.rpartition(".")[2]
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Name):
            yield node.id


def readers(source: str) -> set[str]:
    return READERS & set(names(ast.parse(source)))


def test_keys_are_read_in_one_module_alone() -> None:
    files = sorted(SOURCE.rglob("*.py"))
    found = {path.relative_to(SOURCE).as_posix(): readers(path.read_text(encoding="utf-8")) for path in files}
    assert found.pop(ALONE), "what screens keys reads them"
    assert {path: seen for path, seen in found.items() if seen} == {}


@pytest.mark.parametrize(
    "seeded",
    [
        "from cryptography.hazmat.primitives.serialization import load_der_public_key",
        "key = ed25519.Ed25519PublicKey.from_public_bytes(raw)",
        "import x\nkey = x.load_pem_public_key(pem)",
        "from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicNumbers as Point",
    ],
)
def test_a_module_that_reads_one_itself_is_found(seeded: str) -> None:
    assert readers(seeded)
