"""The weights of the content model, as they ship inside the package.

Decides where the file stands; what it means is `core.content.model`'s to read. INVARIANT: the file is the one whose
digest the model card names (`docs/reference/content-model.md`; a test compares them).
"""

from __future__ import annotations

from importlib import resources

from citywatch.core.canonical import digest
from citywatch.core.content.model import Model, parse_model


def content_weights() -> bytes:
    """The bytes that ship."""
    return (resources.files("citywatch") / "weights" / "content.bin").read_bytes()


def content_digest() -> str:
    """The digest of the weights, as it stands in the entry of each start and on the model card."""
    return digest(content_weights())


def content_model() -> Model:
    """The model that ships, read once by whoever starts the gateway and passed in from there."""
    return parse_model(content_weights())
