"""A plan from a file of YAML or JSON. What a plan may say is `core.plan.text`'s; here only what a file may not hide.

INVARIANT: every file gives a plan or `Malformed`, never another error, in bounded work: no name twice, no aliases.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import yaml

from citywatch.core.errors import Malformed
from citywatch.core.plan.contract import Plan
from citywatch.core.plan.text import parse_plan

MAX_CHARACTERS: Final = 256 * 1024


class _Loader(yaml.SafeLoader):
    """Plain values; of two members of one name the reader would see the first and the loader take the second."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias: write out what it stands for")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value in seen:
                raise yaml.YAMLError(f"line {key.start_mark.line + 1}: a name that stands twice, or is no text")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_plan(path: Path) -> Plan:
    """Read a plan; `Malformed` tells all that is wrong with it."""
    try:
        with path.open(encoding="utf-8") as stream:
            text = stream.read(MAX_CHARACTERS + 1)
        if len(text) > MAX_CHARACTERS:
            raise Malformed(f"`{path}` is longer than {MAX_CHARACTERS} characters")
        value = yaml.load(text, _Loader)  # noqa: S506 (a SafeLoader)
        json.dumps(value, allow_nan=False)
    except TypeError as failure:
        raise Malformed(f"`{path}` holds a value that is not JSON, a date is put in quotes: {failure}") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as failure:
        raise Malformed(f"`{path}` cannot be read: {' '.join(str(failure).split())}") from None
    return parse_plan(value)
