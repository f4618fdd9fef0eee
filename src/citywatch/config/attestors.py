"""The `attestors` part of the file: whose word counts on what agents run, and under which key.

Decides which keys can be an attestor's. INVARIANTS: each key was screened (`core.signature`); two attestors never share
one, for then nobody could say whose word it was.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping

from citywatch.config.document import Node
from citywatch.config.reader import Notes, named, text
from citywatch.config.table import Section, table
from citywatch.core.errors import Malformed
from citywatch.core.names import parse_segment
from citywatch.core.signature import Key, format_spki, parse_spki

_EXAMPLE = "MCowBQYDK2VwAyEA…"


def attestors(notes: Notes, node: Node, path: str) -> dict[str, str]:
    """The keys of all attestors by their name, each a SubjectPublicKeyInfo in base64."""
    first: dict[str, str] = {}

    def attestor(notes: Notes, node: Node, path: str, name: str) -> str | None:
        section = Section(notes, node, path, "attestors.*")
        key = section.need("key", _key, _EXAMPLE)
        if key is not None and (other := first.setdefault(key, name)) != name:
            section.wrong("key", f"this is the key of `{other}` too", "give each attestor a key of its own")
            return None
        return key

    return table(named(lambda name: parse_segment(name, "name for an attestor")), attestor)(notes, node, path) or {}


def attestor_keys(attestors: Mapping[str, str]) -> dict[str, Key]:
    """Under which key the word of each attestor counts."""
    return {name: parse_spki(b64decode(key)) for name, key in attestors.items()}


def _key(notes: Notes, node: Node, path: str) -> str | None:
    word = text(notes, node, path)
    if word is None:
        return None
    advice = "write the base64 of a public key's PEM on one line: `openssl pkey -in KEY -pubout`, without the dashes"
    try:
        return b64encode(format_spki(parse_spki(b64decode(word, validate=True)))).decode()
    except (Base64Error, ValueError):
        notes.wrong(node, path, "not a public key in base64", advice)  # not echoed: people paste private keys here
    except Malformed as error:
        notes.wrong(node, path, str(error), "use an Ed25519 key, or one on P-256")
    return None
