"""Nodes as typed values: each reader gives its value, or notes a mistake and gives None.

Decides what a well-formed text, number, duration, size, path, URL is. Does not know any key of the file.
INVARIANTS: a reader that gives None has noted why (or passed over something already noted); a value is echoed in a
message only by readers of things that are never secret.
"""

from __future__ import annotations

import difflib
import os.path
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

import msgspec

from citywatch.config.document import Items, Node, Scalar, Table, Unread
from citywatch.config.settings import Mistake
from citywatch.core.errors import Malformed

T = TypeVar("T")
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})\Z")
_DURATION = re.compile(r"([1-9][0-9]{0,8}) ?(ms|s|m|h|d)\Z")
_SIZE = re.compile(r"([1-9][0-9]{0,11}) ?(B|KiB|MiB|GiB)?\Z")
_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_UNIT_BYTES = {None: 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_ENVIRONMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")
SECRET_NAME = re.compile(
    r"(?i)token(?!i[sz])|secret|passw|pwd|credential|private|auth(?!or)|api[_-]?key|(^|[_&-])(key|sig)(=|$)"
)


class Notes(msgspec.Struct):
    """The mistakes noted so far, and the folder that relative paths start from.

    `audiences` are those of the file with their members; None: it declares none.
    """

    folder: str
    mistakes: list[Mistake]
    audiences: Mapping[str, frozenset[str]] | None = None

    def wrong(self, node: Node, path: str, message: str, advice: str) -> None:
        self.mistakes.append(Mistake(node.line, node.column, path, message, advice))


Reader = Callable[[Notes, Node, str], T | None]


def shown(value: str) -> str:
    """A short, one-line form of what stands in the file, in backticks."""
    line = " ".join(value.split())
    return f"`{line[:60]}{'…' if len(line) > 60 else ''}`"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant."""
    close = difflib.get_close_matches(word.lower()[:100], list(known), n=1, cutoff=0.6)
    return close[0] if close else None


def instead(word: str, known: Iterable[str]) -> str:
    """Advice for a word that is none of the known ones."""
    words = list(known)
    meant = nearest(word, words)
    return f"did you mean `{meant}`?" if meant else f"write one of {', '.join(words)}" if words else "remove it"


def _thing(node: Node) -> str:
    if isinstance(node, Table):
        return "a mapping"
    if isinstance(node, Items):
        return "a list"
    kinds = {"null": "nothing", "bool": "a yes or no", "int": "a number", "float": "a number", "timestamp": "a date"}
    return kinds.get(node.kind, "text") if isinstance(node, Scalar) else "something unreadable"


def text(notes: Notes, node: Node, path: str) -> str | None:
    """Text on one line, not empty. What YAML would read as something else must stand in quotes."""
    if isinstance(node, Unread):
        return None
    if not isinstance(node, Scalar) or node.kind == "null":
        notes.wrong(node, path, f"expected text, found {_thing(node)}", "write one text")
    elif node.kind not in ("str", "timestamp"):
        notes.wrong(node, path, f"expected text, found {_thing(node)}", "put it in quotes")
    elif not node.value.strip() or not node.value.isprintable():
        notes.wrong(node, path, "expected text on one line, found none or more", "write one line")
    else:
        return node.value
    return None


def flag(notes: Notes, node: Node, path: str) -> bool | None:
    if isinstance(node, Scalar) and node.kind == "bool" and node.value in ("true", "false"):
        return node.value == "true"
    if not isinstance(node, Unread):
        notes.wrong(node, path, "expected true or false", "write true or false")
    return None


def integer(low: int, high: int) -> Reader[int]:
    """A decimal number of the range, both ends included."""

    def read(notes: Notes, node: Node, path: str) -> int | None:
        if isinstance(node, Unread):
            return None
        if isinstance(node, Scalar) and node.kind == "int" and _INTEGER.match(node.value):
            if low <= int(node.value) <= high:
                return int(node.value)
            notes.wrong(node, path, f"{shown(node.value)} is out of range", f"write a number from {low} to {high}")
        else:
            notes.wrong(node, path, "expected a whole number", f"write a number from {low} to {high}, digits only")
        return None

    return read


def duration(low: str, high: str) -> Reader[int]:
    """A time with its unit, as milliseconds."""
    lowest, highest = _milliseconds(low), _milliseconds(high)

    def read(notes: Notes, node: Node, path: str) -> int | None:
        if isinstance(node, Unread):
            return None
        found = _milliseconds(node.value) if isinstance(node, Scalar) else 0
        if not found:
            notes.wrong(node, path, "expected a duration", "write a number and a unit, such as 500ms, 30s, 5m, 1h, 1d")
        elif not lowest <= found <= highest:
            notes.wrong(node, path, "this duration is out of range", f"write a time from {low} to {high}")
        else:
            return found
        return None

    return read


def _milliseconds(value: str) -> int:
    match = _DURATION.match(value)
    return int(match[1]) * _UNIT_MS[match[2]] if match else 0


def size(low: str, high: str) -> Reader[int]:
    """A number of bytes, with or without a binary unit."""
    lowest, highest = _bytes(low), _bytes(high)

    def read(notes: Notes, node: Node, path: str) -> int | None:
        if isinstance(node, Unread):
            return None
        found = _bytes(node.value) if isinstance(node, Scalar) else 0
        if not found:
            notes.wrong(node, path, "expected a size", "write a number of bytes with B, KiB, MiB or GiB, such as 4MiB")
        elif not lowest <= found <= highest:
            notes.wrong(node, path, "this size is out of range", f"write a size from {low} to {high}")
        else:
            return found
        return None

    return read


def _bytes(value: str) -> int:
    match = _SIZE.match(value)
    return int(match[1]) * _UNIT_BYTES[match[2]] if match else 0


def one_of(words: Iterable[str]) -> Reader[str]:
    known = tuple(words)

    def read(notes: Notes, node: Node, path: str) -> str | None:
        word = text(notes, node, path)
        if word is not None and word not in known:
            meant = f"did you mean `{near}`? " if (near := nearest(word, known)) else ""
            notes.wrong(node, path, f"{shown(word)} is not a choice here", f"{meant}write one of {', '.join(known)}")
            return None
        return word

    return read


def named(parse: Callable[[str], str]) -> Reader[str]:
    """A text that one of core's grammars accepts; its own words say what is wrong."""

    def read(notes: Notes, node: Node, path: str) -> str | None:
        word = text(notes, node, path)
        if word is None:
            return None
        try:
            return parse(word)
        except Malformed as error:
            message, _, advice = str(error).partition(": ")
            notes.wrong(node, path, message, advice or "choose another name")
            return None

    return read


def where(notes: Notes, node: Node, path: str) -> str | None:
    """A path of the file system, resolved against the file's own folder; nothing in it is expanded."""
    word = text(notes, node, path)
    if word is None:
        return None
    if word.startswith("~") or "$" in word:
        notes.wrong(node, path, "`~` and `$` are not expanded in a path", "write the path itself, or one from here")
        return None
    return os.path.normpath(os.path.join(notes.folder, word))


def variable(notes: Notes, node: Node, path: str) -> str | None:
    """The name of an environment variable. It is not echoed: people paste the secret itself here."""
    word = text(notes, node, path)
    if word is not None and not _ENVIRONMENT.match(word):
        notes.wrong(node, path, "not the name of an environment variable", "use letters, digits, underscores")
        return None
    return word


def url(notes: Notes, node: Node, path: str) -> SplitResult | None:
    """An absolute http or https URL, without a name, password or secret in it. It is not echoed, it may hold one."""
    word = text(notes, node, path)
    if word is None:
        return None
    parts = None
    if word.isascii() and not re.search(r"[\x00-\x20\x7f\\]", word):  # urlsplit drops some of these in silence
        try:
            parts = urlsplit(word)
            fine = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            fine = False
    if parts is None or not fine:
        notes.wrong(node, path, "not an http or https URL", "write it as http://127.0.0.1:9001/mcp or https://host/mcp")
    elif parts.username is not None or parts.password is not None or SECRET_NAME.search(parts.query):
        notes.wrong(node, path, "a secret inside a URL", "use `credential: {env: NAME}`")
    elif parts.fragment:
        notes.wrong(node, path, "a URL with a fragment (`#`)", "remove the fragment")
    else:
        return parts
    return None


def each(read: Reader[T]) -> Reader[tuple[T, ...]]:
    """A list, every item read by `read`; items that are wrong are noted and left out."""

    def inner(notes: Notes, node: Node, path: str) -> tuple[T, ...] | None:
        if isinstance(node, Items):
            found = [read(notes, item, f"{path}[{index}]") for index, item in enumerate(node.items)]
            return tuple(item for item in found if item is not None)
        if not isinstance(node, Unread):
            notes.wrong(node, path, f"expected a list, found {_thing(node)}", "write it as [one, two] or as `- ` lines")
        return None

    return inner


def some(read: Reader[T]) -> Reader[tuple[T, ...]]:
    """A list that is not empty."""

    def inner(notes: Notes, node: Node, path: str) -> tuple[T, ...] | None:
        if isinstance(node, Items) and not node.items:
            notes.wrong(node, path, "an empty list", "name at least one, or remove the key")
            return None
        return each(read)(notes, node, path)

    return inner
