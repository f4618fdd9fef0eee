"""Plans and templates from files of YAML or JSON. What they may say is `core.plan`'s; here what a file may not hide.

INVARIANT: every file gives a value or `Malformed`, never another error, in bounded work: no name twice, no aliases.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import yaml

from citywatch.core.errors import Malformed
from citywatch.core.names import parse_segment
from citywatch.core.plan.contract import Plan
from citywatch.core.plan.template import Template, parse_template
from citywatch.core.plan.text import BadPlan, parse_plan

MAX_CHARACTERS: Final = 256 * 1024
SUFFIX: Final = ".yaml"


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
    return parse_plan(_read_value(path))


def read_template(folder: str | None, name: str) -> Template:
    """Read the operator's template of that name; `Malformed` if there is none, or for all that is wrong with it."""
    if folder is None:
        raise Malformed("no `plan_templates` folder is configured")
    path = Path(folder) / f"{parse_segment(name, 'name for a template')}{SUFFIX}"
    if not path.is_file():
        known = ", ".join(f"`{one}`" for one in template_names(folder)) or "none"
        raise Malformed(f"there is no template `{name}` in `{folder}`; there are {known}")
    try:
        return parse_template(_read_value(path))
    except BadPlan as failure:
        raise Malformed(f"template `{name}`: {failure}") from None


def template_names(folder: str) -> list[str]:
    """The templates of a folder, by name."""
    return sorted(path.stem for path in Path(folder).glob(f"*{SUFFIX}"))


def read_values(pairs: Iterable[str]) -> dict[str, str]:
    """`NAME=VALUE` for each parameter; `Malformed` for what is no pair, or stands twice."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name or name in found:
            raise Malformed(f"`{pair[:80]}` is no NAME=VALUE, or stands twice")
        found[name] = value
    return found


def _read_value(path: Path) -> Any:
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
    return value
