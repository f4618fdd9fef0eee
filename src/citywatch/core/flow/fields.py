"""Which declaration holds for which field of a reply: a small part of JSONPath, and a walk over all leaves.

Decides only which path matches; what an `Output` means is for others. The most specific path wins: the longest, and a
name before a wildcard. INVARIANTS: every leaf is met exactly once, in order, or the walk says that it was cut; what no
path names is `UNTRUSTED`; work is linear in leaves times declared steps, however often a path names one thing twice.
SPEC: RFC 9535, of which `$`, `.name`, `["name"]`, `[*]` and `..name` are taken.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from citywatch.core.errors import Malformed
from citywatch.core.flow.blob import Blob
from citywatch.core.flow.readings import NAMING
from citywatch.core.flow.tokens import exact_tokens
from citywatch.core.label import Label, join_all, may_flow
from citywatch.core.manifest import UNTRUSTED, Delivery, Output, audience_of

MAX_LEAVES: Final = 4096
"""How many leaves of one reply are told apart; what comes after them counts as one, written by a third party."""

MAX_PATH: Final = 256
"""Paths and names are for people and for comparing fields: a longer one is cut, or a long name in an outer object would
be repeated in the path of every leaf."""

UNSEEN: Final = "[redacted: readers]"
"""What stands for a value that its receiver may not see. It says nothing, so that everybody may see it."""

ANY: Final = "*"
DEEP: Final = ".."
_ADDRESS: Final = re.compile(r"[0-9@./:]")
"""In each address and account there is one of these; in most names of members, none."""
_STEP: Final = re.compile(r"""(\.\.|\.)([A-Za-z_][A-Za-z0-9_-]*)|\.(\*)|\[(\*)\]|\["([^"\\\]]{1,128})"\]""")

Step = tuple[str, str]
"""`(kind, name)`: kind is `.` for a member of that name, `..` for one at any depth, `*` for every member or element."""


def parse_path(text: str) -> tuple[Step, ...]:
    """Read a path such as `$[*].subject`; raise `Malformed` for any other text."""
    if not text.startswith("$"):
        raise Malformed(f"`{text[:80]}` does not begin with `$`, which stands for the whole reply")
    steps: list[Step] = []
    at = 1
    while at < len(text):
        step = _STEP.match(text, at)
        if step is None:
            raise Malformed(f"`{text[at : at + 20]}` is not a step of a path")
        at = step.end()
        dots, name, star, stars, quoted = step.groups()
        if star or stars:
            steps.append((ANY, ""))
        else:
            steps.append((dots or ".", name or quoted))
    return tuple(steps)


class Leaf(msgspec.Struct, frozen=True):
    """One value that is not an object or a list, or a member's name that holds one.

    `record` numbers the innermost object around it (-1: none); `name` is that object's member it stands under, and
    empty for a member's name itself: of those that a server vouches for, each address is in the record.
    `readers` are who may see it (None: everybody).
    """

    path: str
    name: str
    record: int
    value: str | int | float | bool
    output: Output
    readers: frozenset[str] | None = None


class Walk(msgspec.Struct, frozen=True):
    """All leaves; the parent of each record (-1: none); whether there were more leaves, and who may see those.

    `blobs` are bytes that came along and are no text; `vouched`: the operator vouches for what is in them.
    """

    leaves: tuple[Leaf, ...]
    parents: tuple[int, ...]
    cut: bool
    readers: frozenset[str] | None = None
    blobs: tuple[Blob, ...] = ()
    vouched: bool = False


class Shown(msgspec.Struct, frozen=True):
    """What of a value an audience may see, how much of it is hidden, and whether that withholds all of it."""

    value: Any
    hidden: int
    withheld: bool


class Fields:
    """The declared paths of one tool's reply, ready to walk with."""

    def __init__(self, outputs: Mapping[str, Output], words: frozenset[str] = frozenset()) -> None:
        """`words` are the protocol's own, as a member's name or as a value: nobody chose them, so the first stands for
        all."""
        self._words = words
        self._rules = tuple((parse_path(path), output) for path, output in outputs.items())
        self._start = tuple((number, 0) for number in range(len(self._rules)))
        self.readers = meet(audience_of(output.readers) for output in outputs.values())

    def walk(self, value: Any) -> Walk:
        """Meet every leaf of a JSON value, each with the declaration that holds for it."""
        return self._undeclared(value) if not self._rules else self.walk_slowly(value)

    def _undeclared(self, value: Any) -> Walk:
        """The same where nothing is declared: every leaf is a third party's, for everybody."""
        leaves: list[Leaf] = []
        parents: list[int] = []
        words, heard = self._words, False
        pending: list[tuple[str, str, int, Any]] = [("$", "", -1, value)]
        while pending:
            path, name, record, inside = pending.pop()
            if len(leaves) >= MAX_LEAVES:
                return Walk(tuple(leaves), tuple(parents), True)
            if isinstance(inside, dict):
                number, children = len(parents), []
                parents.append(record)
                for key, item in inside.items():
                    where = (path + (f".{key}" if key.isidentifier() else _step(key)))[:MAX_PATH]
                    children.append((where, key[:MAX_PATH], number, item))
                    if key in words:
                        if heard:
                            continue
                        heard = True
                    if len(leaves) >= MAX_LEAVES:
                        return Walk(tuple(leaves), tuple(parents), True)
                    leaves.append(Leaf(where, "", -1, key, UNTRUSTED))
                children.reverse()
                pending += children
            elif isinstance(inside, list):
                pending.extend(
                    (_clip(f"{path}[{at}]"), name, record, item) for at, item in reversed(list(enumerate(inside)))
                )
            elif inside is not None and not (heard and type(inside) is str and inside in words):
                leaves.append(Leaf(path, name, record, inside, UNTRUSTED))
        return Walk(tuple(leaves), tuple(parents), False)

    def walk_slowly(self, value: Any) -> Walk:
        """The same, with whatever is declared."""
        leaves: list[Leaf] = []
        parents: list[int] = []
        words, heard = self._words, False
        pending: list[Node] = [self.root(value)]
        while pending:
            node = pending.pop()
            if len(leaves) >= MAX_LEAVES:
                return Walk(tuple(leaves), tuple(parents), True, self.readers)
            inside = node.value
            if isinstance(inside, dict):
                record = len(parents)
                parents.append(node.record)
                children = [self._child(node, _step(key), key, key, record, item) for key, item in inside.items()]
                for (key, item), child in zip(inside.items(), children, strict=True):
                    if key in words:
                        if heard:
                            continue
                        heard = True
                    named = node.output.trusted and self._is_listed(node, key)
                    if named or isinstance(item, dict | list) or not node.output.trusted:
                        if len(leaves) >= MAX_LEAVES:
                            return Walk(tuple(leaves), tuple(parents), True, self.readers)
                        where = record if named else -1
                        leaves.append(Leaf(child.path, "", where, key, node.output, self._name_readers(child, key)))
                pending.extend(reversed(children))
            elif isinstance(inside, list):
                record = node.record
                pending.extend(
                    self._child(node, f"[{number}]", None, node.name, record, item)
                    for number, item in reversed(list(enumerate(inside)))
                )
            elif inside is not None and not (heard and isinstance(inside, str) and inside in words):
                leaves.append(Leaf(node.path, node.name, node.record, inside, node.output, self._readers(node)))
        return Walk(tuple(leaves), tuple(parents), False)

    # -- one node at a time, for who rebuilds a value ----------------------------------------------------------------

    def root(self, value: Any) -> Node:
        """The whole value, with the declaration that holds for it."""
        output, rank = self._best(self._start, UNTRUSTED, (0, 0))
        return Node("$", "", -1, value, self._start, output, rank)

    def children(self, node: Node) -> Iterator[tuple[str, Node]]:
        """The members of an object, or the elements of a list, each with the declaration that holds for it."""
        if isinstance(node.value, dict):
            yield from ((key, self._child(node, _step(key), key, key, -1, one)) for key, one in node.value.items())
        else:
            for number, one in enumerate(node.value):
                yield "", self._child(node, f"[{number}]", None, node.name, -1, one)

    def goes_on(self, node: Node) -> bool:
        """Whether a declared path can lead further down from here."""
        return any(at < len(self._rules[number][0]) for number, at in node.states)

    def _is_listed(self, node: Node, key: str) -> bool:
        """Whether a member's name is a value of its own, an address or an account: `{"bob@x.example": "rw"}`."""
        if not _ADDRESS.search(key) or self.names(node, key):
            return False
        return any(token.kind in NAMING for token in exact_tokens(key[:MAX_PATH]))

    def names(self, node: Node, key: str) -> bool:
        """Whether a declared path says this member's name, from here."""
        steps = (self._rules[number][0][at] for number, at in node.states if at < len(self._rules[number][0]))
        return any(kind != ANY and name == key for kind, name in steps)

    def seen_by(self, node: Node) -> frozenset[str] | None:
        """Who may see a value."""
        return self._readers(node)

    def shown(self, value: Any, audience: frozenset[str] | None) -> Shown:
        """The value as this audience may see it: a mark stands for each leaf, and each name, that it may not."""
        hidden: list[bool] = []
        seen = self._shown(self.root(value), audience, hidden)
        return Shown(seen, len(hidden), any(hidden))

    def _shown(self, node: Node, audience: frozenset[str] | None, hidden: list[bool]) -> Any:
        inside = node.value
        if isinstance(inside, list):
            return [
                self._shown(self._child(node, f"[{at}]", None, node.name, -1, one), audience, hidden)
                for at, one in enumerate(inside)
            ]
        if not isinstance(inside, dict):
            return inside if inside is None or self._may(node, audience, hidden) else UNSEEN
        kept: dict[str, Any] = {}
        for key, one in inside.items():
            child = self._child(node, _step(key), key, key, -1, one)
            # A name that the manifest has is no news; any other was chosen by the server, and may be the secret itself.
            if self._declares(child.states, key) or self._may(child, audience, hidden):
                kept[key] = self._shown(child, audience, hidden)
            else:
                kept[UNSEEN] = UNSEEN
        return kept

    def _may(self, node: Node, audience: frozenset[str] | None, hidden: list[bool]) -> bool:
        """Whether this audience may see a leaf or a name; if not, note whether that withholds everything."""
        if may_flow(Label(frozenset(), self._readers(node)), audience):
            return True
        hidden.append(any(one.deliver is Delivery.WITHHOLD for one in self._outputs(node)))
        return False

    def _declares(self, states: tuple[tuple[int, int], ...], key: str) -> bool:
        return any(at and self._rules[number][0][at - 1][1] == key for number, at in states)

    def _readers(self, node: Node) -> frozenset[str] | None:
        """Who may see a value: what is declared of it and, if it is a text where fields were declared, of those."""
        if self.readers is None or node.value == UNSEEN:
            return None
        return meet(audience_of(one.readers) for one in self._outputs(node))

    def _name_readers(self, child: Node, key: str) -> frozenset[str] | None:
        """Who may see a member's name: everybody, if the manifest says that there is one of that name."""
        return None if key == UNSEEN or self._declares(child.states, key) else self._readers(child)

    def _outputs(self, node: Node) -> Iterator[Output]:
        yield node.output
        if not isinstance(node.value, dict | list):
            inner = (self._rules[number] for number, at in node.states if at < len(self._rules[number][0]))
            yield from (one for path, one in inner if node.path == "$" or path[-1][0] != DEEP)

    def _child(self, node: Node, step: str, key: str | None, name: str, record: int, value: Any) -> Node:
        states = tuple(dict.fromkeys(self._advance(node.states, key)))
        output, rank = self._best(states, node.output, node.rank)
        return Node(_clip(node.path + step), _clip(name), record, value, states, output, rank)

    def _advance(self, states: tuple[tuple[int, int], ...], key: str | None) -> Iterator[tuple[int, int]]:
        """The paths that still match one step further down; `key` is None for an element of a list."""
        for number, at in states:
            path = self._rules[number][0]
            if at == len(path):
                continue
            kind, name = path[at]
            if kind == ANY or (kind in (".", DEEP) and name == key):
                yield number, at + 1
            if kind == DEEP:
                yield number, at

    def _best(
        self, states: tuple[tuple[int, int], ...], output: Output, rank: tuple[int, int]
    ) -> tuple[Output, tuple[int, int]]:
        """What holds here: a path that ends here and is more specific than what holds above, or that."""
        for number, at in states:
            path, declared = self._rules[number]
            if at == len(path):
                own = (len(path), sum(kind == "." for kind, _ in path))
                if own >= rank:
                    output, rank = declared, own
        return output, rank


def _clip(path: str) -> str:
    return path[:MAX_PATH]


def _step(key: str) -> str:
    """One step of a path: a name that a reply chose must not read as two steps, or as another field's."""
    name = _clip(key)
    return f".{name}" if name.isidentifier() else f"[{json.dumps(name)}]"


def meet(audiences: Iterable[frozenset[str] | None]) -> frozenset[str] | None:
    """Who belongs to all of these audiences; None is everybody."""
    return join_all(Label(frozenset(), one) for one in audiences).readers


class Node(msgspec.Struct, frozen=True):
    path: str
    name: str
    record: int
    value: Any
    states: tuple[tuple[int, int], ...]
    output: Output
    rank: tuple[int, int]
