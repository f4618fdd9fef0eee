"""YAML text as a tree that knows where each value stands.

Decides what is YAML that we read: one document of plain mappings, lists and scalars. Does not know any key.
INVARIANTS: any text gives a tree or a mistake, never another error; the size of the tree is bounded by the size of
the text (anchors, aliases and tags are refused, so nothing can multiply or turn into an object); a plain scalar keeps
its text, so that `no`, `1_000` and `0x10` can be questioned instead of guessed.
"""

from __future__ import annotations

import msgspec
import yaml

from citywatch.config.settings import ConfigError, Mistake

MAX_CHARACTERS = 1 << 20
MAX_DEPTH = 24
_RESOLVER = yaml.resolver.Resolver()


class Scalar(msgspec.Struct, frozen=True):
    """`kind` is what YAML reads an unquoted text as: str, int, float, bool, null, timestamp…; a quoted one is str."""

    line: int
    column: int
    value: str
    kind: str


class Items(msgspec.Struct, frozen=True):
    line: int
    column: int
    items: list[Node]


class Table(msgspec.Struct, frozen=True):
    """Pairs in the order of the file; keys may be repeated or strange, the reader says so where it knows the path."""

    line: int
    column: int
    pairs: list[tuple[Node, Node]]


class Unread(msgspec.Struct, frozen=True):
    """Something that a mistake was already reported for; readers pass over it in silence."""

    line: int
    column: int


Node = Scalar | Items | Table | Unread


def parse_document(text: str, mistakes: list[Mistake]) -> Node:
    """Parse one YAML document; add to `mistakes`, or raise `ConfigError` where no tree can be had at all."""
    if len(text) > MAX_CHARACTERS:
        raise _hopeless(1, 1, f"the file has more than {MAX_CHARACTERS} characters", "keep only what you configured")
    try:
        return _tree(text, mistakes)
    except yaml.reader.ReaderError as error:
        line, column = _position(text, error.position)
        raise _hopeless(line, column, "a character that text cannot contain", "save the file as UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        advice = "indent with spaces" if "'\\t'" in (error.problem or "") else "correct the YAML here"
        start = error.context_mark
        begun = f" {error.context} begun on line {start.line + 1}" if start and error.problem and mark != start else ""
        raise _hopeless(line, column, f"not YAML: {error.problem or error.context}{begun}", advice) from None
    except (ValueError, OverflowError):  # PyYAML on "\UFFFFFFFF" and on a %YAML directive with a giant number
        raise _hopeless(1, 1, "not YAML: an escape or a directive out of range", "remove it") from None


def _hopeless(line: int, column: int, message: str, advice: str) -> ConfigError:
    return ConfigError((Mistake(line, column, "", message, advice),))


def _position(text: str, index: int) -> tuple[int, int]:
    before = text[:index]
    return before.count("\n") + 1, index - (before.rfind("\n") + 1) + 1


def _tree(text: str, mistakes: list[Mistake]) -> Node:
    """Build the tree from the parser's events, without recursion: a deep file is a mistake, not a stack overflow."""
    top = Items(1, 1, [])
    open_: list[tuple[Items | Table, list[Node]]] = [(top, top.items)]  # a table's list alternates key, value
    documents = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        mark = event.start_mark
        assert mark is not None
        line, column = mark.line + 1, mark.column + 1
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents == 2:
                mistakes.append(Mistake(line, column, "", "a second document", "keep one; remove the `---`"))
            continue
        if documents > 1 or not isinstance(event, yaml.NodeEvent | yaml.CollectionEndEvent):
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            done, parts = open_.pop()
            if isinstance(done, Table):
                done.pairs.extend(zip(parts[::2], parts[1::2], strict=True))
            continue
        _question(event, line, column, mistakes)
        parts = open_[-1][1]
        if isinstance(event, yaml.MappingStartEvent):
            table = Table(line, column, [])
            parts.append(table)
            open_.append((table, []))
        elif isinstance(event, yaml.SequenceStartEvent):
            items = Items(line, column, [])
            parts.append(items)
            open_.append((items, items.items))
        else:
            parts.append(_leaf(event, line, column, mistakes))
        if len(open_) > MAX_DEPTH:
            raise _hopeless(line, column, f"nested deeper than {MAX_DEPTH} levels", "flatten it; no key needs that")
    return top.items[0] if top.items else Scalar(1, 1, "", "null")


def _question(event: yaml.NodeEvent, line: int, column: int, mistakes: list[Mistake]) -> None:
    """Refuse what makes one text mean another: references, and tags that turn text into objects."""
    if isinstance(event, yaml.AliasEvent):
        mistakes.append(Mistake(line, column, "", "an alias (`*`)", "write the value out"))
    elif event.anchor is not None:
        mistakes.append(Mistake(line, column, "", "an anchor (`&`)", "remove it and write the value out where needed"))
    if getattr(event, "tag", None) is not None:
        mistakes.append(Mistake(line, column, "", "a tag (`!`)", "remove it; plain values are enough"))


def _leaf(event: yaml.NodeEvent, line: int, column: int, mistakes: list[Mistake]) -> Node:
    if not isinstance(event, yaml.ScalarEvent):
        return Unread(line, column)
    value: str = event.value
    if not value.isprintable() and any(not (c.isprintable() or c in "\n\t") for c in value):
        # Escapes can smuggle what the file itself may not hold: NUL into a path, half a character into a name.
        mistakes.append(Mistake(line, column, "", "a control character or half a character", "write visible text"))
        return Unread(line, column)
    if event.style is not None:
        return Scalar(line, column, value, "str")
    tag = _RESOLVER.resolve(yaml.ScalarNode, value, (True, False))  # type: ignore[no-untyped-call]
    return Scalar(line, column, value, str(tag).rpartition(":")[2])
