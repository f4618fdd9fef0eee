"""Cedar text becomes policies with names and lines; every call into cedarpy goes through `guarded`.

Decides whether a text is a policy. Does not decide what a policy may refer to (`check`), nor any call (`decide`).
INVARIANTS: policies are parsed one by one, and the parts are the whole (checked); all mistakes of all files are
reported at once; ids are unique, from `@id` or `<file>:<line>`; a template is refused, for it permits nothing and looks
as if it did; a panic of the native library becomes `NativeFailure`, which refuses; nothing is handed to cedarpy that
its parser would overflow its stack on (it does: 4,000 brackets kill the process).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import cedarpy
import msgspec
from cedarpy import pst

from citywatch.core.canonical import canonical, digest
from citywatch.core.errors import Malformed

MAX_BRACKETS = 64
MAX_OPERATORS = 512

_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|;|[\[({]|[\])}]|&&|\|\||[-+*.!]|\b(?:if|has|in|is|like)\b', re.DOTALL)
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}\Z")
_SPACE = re.compile(r"(?:\s|//[^\n]*(?:\n|\Z))*")

_T = TypeVar("_T")


class NativeFailure(Exception):
    """cedarpy panicked or gave no answer. Whoever catches it denies. Never leaves `core.policy`."""


class Source(msgspec.Struct, frozen=True):
    """The text of one policy file; `file` is the name a person knows it by."""

    file: str
    text: str


class Mistake(msgspec.Struct, frozen=True, order=True):
    """One thing wrong with the policies, where, and in which policy (empty if it has no name)."""

    file: str
    line: int
    policy: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}"
        return f"{where}: {self.message}" if self.policy in ("", where) else f"{where}: {self.policy}: {self.message}"


class PolicyMistakes(Malformed):
    """The policies cannot be used: all reasons, by file and line."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(sorted(mistakes))
        super().__init__("\n".join(map(str, self.mistakes)))


class Policy(msgspec.Struct, frozen=True):
    """One policy. `tree` is None where it is nested too deep for cedarpy's typed tree: then cedarpy evaluates it."""

    id: str
    file: str
    line: int
    text: str
    permits: bool
    tree: pst.Template | None


def guarded(function: Callable[..., _T], *arguments: Any) -> _T:
    """Call cedarpy. Its panics derive from BaseException and would pass every `except Exception` on their way out."""
    try:
        return function(*arguments)
    except BaseException as panic:
        if type(panic).__name__ != "PanicException":
            raise
        raise NativeFailure("the policy library panicked") from None


def parse_policies(sources: Iterable[Source]) -> tuple[Policy, ...]:
    """Read policy files into policies, in the order of their ids; raises `PolicyMistakes`, with all of them."""
    found: dict[str, Policy] = {}
    mistakes: list[Mistake] = []
    for source in sources:
        texts = split(source.text)
        before = len(mistakes)
        for line, text in texts:
            policy = _policy(source.file, line, text, mistakes)
            if policy is None:
                continue
            if policy.id in found:
                other = found[policy.id]
                message = f"the id `{policy.id}` is taken by the policy at {other.file}:{other.line}"
                mistakes.append(Mistake(source.file, line, policy.id, message))
            found.setdefault(policy.id, policy)
        if len(mistakes) == before:
            _same_as_whole(source, len(texts), mistakes)
    if mistakes:
        raise PolicyMistakes(mistakes)
    return tuple(found[name] for name in sorted(found))


def digest_of(policies: Iterable[Policy]) -> str:
    """What stands for a set of policies in the log: the SHA-256 over their ids and texts, whatever their order."""
    pairs = sorted([policy.id, policy.text] for policy in policies)
    return digest(b"citywatch/policies/v1\n" + canonical(pairs))


def split(text: str) -> list[tuple[int, str]]:
    """The policies of a file, each with the line it begins on; comments before a policy are not part of it."""
    parts: list[tuple[int, str]] = []
    start = _SPACE.match(text, 0).end()  # type: ignore[union-attr]
    for token in _TOKEN.finditer(text):
        if token[0] == ";" and token.start() >= start:
            parts.append((text.count("\n", 0, start) + 1, text[start : token.end()]))
            start = _SPACE.match(text, token.end()).end()  # type: ignore[union-attr]
    if start < len(text):
        parts.append((text.count("\n", 0, start) + 1, text[start:]))
    return parts


def _policy(file: str, line: int, text: str, mistakes: list[Mistake]) -> Policy | None:
    def wrong(message: str) -> None:
        mistakes.append(Mistake(file, line + _line_of(text, message), "", message))

    if _too_deep(text):
        wrong(f"nested deeper than {MAX_BRACKETS} brackets or longer than {MAX_OPERATORS} operators: split it in two")
        return None
    try:
        parsed = guarded(cedarpy.PolicySet.from_str, text)
    except (ValueError, NativeFailure) as error:
        wrong(str(error))
        return None
    if parsed.templates():
        wrong("a template (`?principal`, `?resource`) permits nothing by itself: write the name")
        return None
    tree = _tree(parsed)
    effect, annotations = (tree.effect, tree.annotations) if tree else _head(text)
    name = annotations.get("id")
    if name is not None and not _ID.match(name):
        wrong(f"`{name[:40]}` is no id: use letters, digits, dots, dashes, colons, slashes, at most 128")
        return None
    return Policy(name or f"{file}:{line}", file, line, text, effect == "permit", tree)


def _tree(parsed: cedarpy.PolicySet) -> pst.Template | None:
    """The typed tree, None beyond its limit of a hundred levels (a long `||`, say)."""
    try:
        (tree,) = guarded(parsed.to_pst).static_policies.values()
    except (ValueError, NativeFailure):
        return None
    return tree


def _head(text: str) -> tuple[str, Mapping[str, str]]:
    """Effect and annotations of a policy that has no typed tree."""
    (policy,) = json.loads(guarded(cedarpy.policies_to_json_str, text))["staticPolicies"].values()
    return policy["effect"], policy.get("annotations", {})


def _too_deep(text: str) -> bool:
    depth = deepest = operators = 0
    for token in _TOKEN.finditer(text):
        if token[0] in ("[", "(", "{"):
            depth += 1
            deepest = max(deepest, depth)
        elif token[0] in ("]", ")", "}"):
            depth -= 1
        elif token[0][0] not in '"/;':
            operators += 1
    return deepest > MAX_BRACKETS or operators > MAX_OPERATORS


def _line_of(text: str, message: str) -> int:
    """How many lines into a policy a parser's complaint points: to the one line that has the token it quotes."""
    quoted = re.search("`(.+?)`", message)
    lines = [number for number, line in enumerate(text.split("\n")) if quoted and quoted[1] in line]
    return lines[0] if len(lines) == 1 else 0


def _same_as_whole(source: Source, count: int, mistakes: list[Mistake]) -> None:
    # INVARIANT: had we cut the file elsewhere than Cedar does, a forbid could hide in what we took for a comment
    try:
        whole = len(guarded(cedarpy.PolicySet.from_str, source.text))
    except (ValueError, NativeFailure) as error:
        mistakes.append(Mistake(source.file, 1, "", str(error)))
        return
    if whole != count:
        mistakes.append(Mistake(source.file, 1, "", f"read as {count} policies one by one, as {whole} at once"))
