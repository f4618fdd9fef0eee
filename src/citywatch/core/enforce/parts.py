"""What stands beside the fields of a reply: texts that say something else, pictures, links, members nobody declared.

Decides what of a result is its declared value (`told`) and what is beside it, and how that is read. INVARIANTS
1. No path of a manifest speaks of what stands beside: it has no fields, no keys, no parties and no records, and a place
   that no path can name.
2. A text beside the fields is as trusted as the least trusted of them.
3. Bytes that are no text are a third party's, unless the manifest vouches for a tool's parts: what is painted in a
   picture is read by a model as words are.
4. All that reaches an agent is met, `_meta` too: programs show it to models.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from citywatch.core.flow.blob import Blob, blob_data, find_blobs
from citywatch.core.flow.fields import MAX_LEAVES, MAX_PATH, UNSEEN, Fields, Leaf
from citywatch.core.manifest import UNTRUSTED, Output

_PLUMBING: Final = frozenset(
    ("content", "structuredContent", "isError", "resultType", "ttlMs", "cacheScope", "requestState")
)
"""Members of a result that `told` and the parts cover, or that are for programs and not for a model."""
_ORDINARY: Final = {"fastmcp": {"wrap_result": True}, "_fastmcp": {"wrap_result": True}}
"""What servers of a common SDK add to every structured reply: constant, so that it says nothing."""
_ANY: Final = Fields({})
HIDDEN_ERROR: Final = {"code": -32000, "message": UNSEEN}
"""What is left of an error whose receiver may not see all fields of the reply that would have come."""


class Beside(msgspec.Struct, frozen=True):
    """The leaves and the bytes that stand beside the fields; `cut`: there was more than is told apart."""

    leaves: tuple[Leaf, ...] = ()
    blobs: tuple[Blob, ...] = ()
    cut: bool = False

    @property
    def empty(self) -> bool:
        return not self.leaves and not self.blobs and not self.cut


def told(result: Mapping[str, Any]) -> Any:
    """The value that paths speak of: the structured content, or the text if it is JSON, or the text."""
    structured = result.get("structuredContent")
    if structured is not None:
        only = isinstance(structured, dict) and structured.keys() == {"result"}
        return structured["result"] if only else structured
    text = "\n".join(part["text"] for _, part in parts(result) if is_text(part))
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict | list) else text


def beside(result: Mapping[str, Any], value: Any, vouched: bool) -> Beside:
    """What else the agent sees. `value` is what `told` said; `vouched` that no field can be a third party's."""
    output = Output(trusted=True) if vouched else UNTRUSTED  # INVARIANT: 2.
    leaves: list[Leaf] = []
    for path, one in others(result, value):
        for leaf in _ANY.walk(one).leaves:
            # INVARIANT: 1. A path of a field begins with `$`, and a record of ours is numbered.
            where = f"{path}{leaf.path[1:]}"[:MAX_PATH]
            leaves.append(Leaf(where, "", -1, leaf.value, output))
        if len(leaves) > MAX_LEAVES:
            break
    blobs, more = find_blobs({name: one for name, one in result.items() if name != "structuredContent"}, "beside")
    return Beside(tuple(leaves[:MAX_LEAVES]), blobs, more or len(leaves) > MAX_LEAVES)


def others(result: Mapping[str, Any], value: Any) -> Iterator[tuple[str, Any]]:
    """Everything of a result that `told` does not say, each under a place that no path of a manifest can name."""
    spoken = result.get("structuredContent") is not None
    for at, part in parts(result):
        if not is_text(part):
            yield f"content[{at}]", without_bytes(part)
        elif spoken and part["text"] != UNSEEN and not repeats(part["text"], value):
            yield f"content[{at}]", part["text"]
    for name, one in result.items():
        if name == "_meta" and isinstance(one, dict):
            yield "_meta", {key: inner for key, inner in one.items() if _ORDINARY.get(key) != inner}
        elif name not in _PLUMBING:
            yield "beside", {name: one}  # a name is a text as well


def is_text(part: Mapping[str, Any]) -> bool:
    """Whether a part of the content is a text, as it says."""
    return part.get("type") == "text" and isinstance(part.get("text"), str)


def without_bytes(value: Any) -> Any:
    """A part as a text: all of it but the bytes that it holds."""
    if isinstance(value, dict):
        return {
            name: without_bytes(one)
            for name, one in value.items()
            if not (name in ("data", "blob") and blob_data(value, name) is not None)
        }
    return [without_bytes(one) for one in value] if isinstance(value, list) else value


def repeats(text: str, value: Any) -> bool:
    """Whether a text says what the structured content says, all of it or one element, as SDK servers write it."""
    among = [value, *value] if isinstance(value, list) else [value]
    if text in among:
        return True
    try:
        return json.loads(text) in among
    except (ValueError, RecursionError):
        return False


def parts(result: Mapping[str, Any]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The parts of the content that are objects, each with its number."""
    found = result.get("content")
    for at, part in enumerate(found if isinstance(found, list) else ()):
        if isinstance(part, dict):
            yield at, part
