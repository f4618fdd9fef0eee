"""The manifests of the suites: what their tools do, as a security engineer who owns them declares it.

Reads `manifests/<suite>.yaml` and decides nothing. `Declared.raw` is the file as it stands; `tools` is as much of it
as the present `ToolManifest` can say; what it cannot is named in `unread`, never left out in silence.
INVARIANT: a manifest says what a tool does, never which task calls it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import yaml

from citywatch.core.call import Effect
from citywatch.core.manifest import EVERYBODY, Output, Parameter, ParameterType, Principal, Role, ToolManifest

FOLDER = Path(__file__).parent / "manifests"


class Declared(msgspec.Struct, frozen=True):
    """One server's manifests, `raw` and as the gates of this tree read them."""

    raw: Mapping[str, Any]
    tools: Mapping[str, ToolManifest]
    unread: tuple[str, ...]
    principals: Mapping[str, Principal]


@cache
def declared(suite: str) -> Declared:
    """The manifests of one suite."""
    return read_manifests((FOLDER / f"{suite}.yaml").read_text())


def read_manifests(text: str) -> Declared:
    """One file's text. Keys that today's manifests cannot hold are collected in `unread`."""
    raw = yaml.safe_load(text)
    unread: set[str] = {key for key in raw if key not in ("tools", "principals")}
    tools = {name: _tool(body, unread) for name, body in raw["tools"].items()}
    principals = {
        name: Principal(name=name, may=tuple(one["may"]), own=tuple(one.get("own", ())))
        for name, one in raw.get("principals", {}).items()
    }
    return Declared(raw=raw, tools=tools, unread=tuple(sorted(unread)), principals=principals)


def mismatches(tools: Declared, definitions: Iterable[Mapping[str, Any]]) -> list[str]:
    """Where manifests and offered tools differ: a tool or argument that only one of the two has."""
    found, offered = [], {one["name"]: set(one["inputSchema"].get("properties", {})) for one in definitions}
    for name in sorted(offered.keys() ^ tools.tools.keys()):
        found.append(f"`{name}` is {'offered' if name in offered else 'declared'} only")
    for name in sorted(offered.keys() & tools.tools.keys()):
        declared = {re.split(r"[.\[]", path)[0] for path in tools.tools[name].parameters}
        for parameter in sorted(offered[name] ^ declared):
            side = "offered" if parameter in offered[name] else "declared"
            found.append(f"`{name}`: `{parameter}` is {side} only")
    return found


def _tool(body: Mapping[str, Any], unread: set[str]) -> ToolManifest:
    return ToolManifest(
        effect=Effect(body.get("effect", Effect.IRREVERSIBLE.value)),
        audience=tuple(body.get("audience", (EVERYBODY,))),
        parameters={name: _parameter(one, unread) for name, one in body.get("parameters", {}).items()},
        output={path: _label(one, unread) for path, one in body.get("output", {}).items()},
    )


def _parameter(body: Mapping[str, Any], unread: set[str]) -> Parameter:
    unread |= {f"parameters.*.{key}" for key in body if key not in ("type", "scale", "role", "party")}
    kind = ParameterType(body["type"]) if "type" in body else None
    role = Role(body["role"]) if "role" in body else None
    return Parameter(type=kind, scale=body.get("scale", 2), role=role, party=body.get("party"))


def _label(body: str | Mapping[str, Any], unread: set[str]) -> Output:
    if isinstance(body, str):
        return Output(trusted=body == "trusted")
    unread |= {f"output.*.{key}" for key in body if key not in ("label", "party", "key", "handle")}
    return Output(
        trusted=body["label"] == "trusted",
        party=body.get("party"),
        key=body.get("key", False),
        handle=body.get("handle", False),
    )
