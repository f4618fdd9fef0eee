"""The reference page of the approvals API, written from its OpenAPI document.

Decides nothing; the document is made of the table that routes requests. INVARIANT: each operation, each member of what
goes in and out, and each kind of problem has its row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

HEAD = """# The approvals API

Written by `make docs` from the table that routes its requests; the same as OpenAPI 3.1 is
[approvals-api.json](approvals-api.json), which the console serves at `{document}`.
[How to use it](../how-to/use-your-own-front-end.md), and [what is signed](approvals.md#3-the-statement).
"""


def page(document: Mapping[str, Any], where: str) -> str:
    """The page; `where` is the path at which the document is served."""
    return "\n".join([HEAD.format(document=where), *_lines(document)]) + "\n"


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    yield from (document["info"]["description"], "", "## A signed request", "")
    for name, scheme in document["components"]["securitySchemes"].items():
        yield f"- `{name}`: {scheme['description']}"
    for path, methods in document["paths"].items():
        for method, one in methods.items():
            yield from ("", f"## `{method.upper()} {path}`", "", f"{one['summary']}. {one['description']}", "")
            yield from _operation(one)
    yield from ("", "## What goes in and out", "")
    for name, schema in document["components"]["schemas"].items():
        yield from (f"### {name}", "", schema.get("description", ""), "", *_members(schema), "")
    yield from ("## Problems", "", "Each is `application/problem+json` (RFC 9457).", "")
    yield from ("| status | type ends in | what it means | what to do |", "|---|---|---|---|")
    for name, kind in document["x-problems"].items():
        yield f"| {kind['status']} | `{name}` | {kind['title']} | {kind['advice']} |"


def _operation(one: Mapping[str, Any]) -> Iterator[str]:
    whose = {"anybody": "For anybody, unsigned.", "passkey": "Signed by the key that is lent."}
    yield whose.get(one["x-right"], f"Signed by somebody who may `{one['x-right']}`.")
    for name in (f"`{each['name']}` ({_type(each['schema'])})" for each in one["parameters"] if each["in"] == "query"):
        yield f"Query: {name}."
    if "requestBody" in one:
        yield f"Takes {_type(_schema(one['requestBody']['content']))}."
    yield f"Gives {_type(_schema(one['responses']['200']['content']))}."


def _schema(content: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = content["application/json"]["schema"]
    return found


def _members(schema: Mapping[str, Any]) -> Iterator[str]:
    if "enum" in schema:
        yield "One of " + ", ".join(f"`{one}`" for one in schema["enum"]) + "."
        return
    yield from ("| member | type | |", "|---|---|---|")
    needed = schema.get("required", ())
    for name, member in schema["properties"].items():
        left_out = "" if name in needed else f"`{_value(member.get('default'))}` if left out"
        yield f"| `{name}` | {_type(member)} | {member.get('description', '') or left_out} |"


def _value(value: Any) -> str:
    return '""' if value == "" else str(value)


def _type(schema: Mapping[str, Any]) -> str:
    """In words, with its bounds."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    bounds = {
        "minimum": "at least {}", "maximum": "at most {}", "maxLength": "at most {} characters", "pattern": "`{}`",
    }  # fmt: skip
    told = [says.format(schema[name]) for name, says in bounds.items() if name in schema]
    return ", ".join([str(schema.get("type", "object")), *told])
