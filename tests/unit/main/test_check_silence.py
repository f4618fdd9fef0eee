"""What `citywatch check` says of a tool of which the file says nothing, or not everything."""

from __future__ import annotations

from typing import Any

import pytest

from citywatch.core.call import Effect
from citywatch.core.manifest import Parameter, Role, ToolManifest
from citywatch.main.check import silence

ORDER = {"order": {"type": "object", "properties": {"to": {}, "lines": {"items": {"properties": {"price": {}}}}}}}


def said(manifest: ToolManifest | None, properties: dict[str, Any], tool: str = "pay") -> list[str]:
    return list(silence("bank", tool, manifest, {"name": tool, "inputSchema": {"properties": properties}}))


def declared(effect: Effect = Effect.IRREVERSIBLE, **roles: Role) -> ToolManifest:
    return ToolManifest(effect=effect, parameters={name: Parameter(role=role) for name, role in roles.items()})


def test_a_tool_without_a_manifest_is_named_with_each_of_its_arguments() -> None:
    (line,) = said(None, {"to": {}, "amount": {}})
    assert line == (
        "bank/pay has no manifest: it counts as irreversible, and as a destination each of `amount`, `to`; "
        "declare `servers.bank.tools.pay`"
    )
    assert said(None, {}) == ["bank/pay has no manifest: it counts as irreversible; declare `servers.bank.tools.pay`"]


def test_an_argument_without_a_role_is_named_with_where_to_give_it_one() -> None:
    assert said(declared(to=Role.DESTINATION), {"to": {}, "note": {}}) == [
        "bank/pay has no role for `note`: what stands there counts as destination; "
        "give each a `role` under `servers.bank.tools.pay.parameters`"
    ]
    assert said(declared(to=Role.DESTINATION), {"to": {}}) == []


@pytest.mark.parametrize("effect", [Effect.WRITE, Effect.IRREVERSIBLE])
def test_members_are_named_where_only_some_have_a_role(effect: Effect) -> None:
    manifest = ToolManifest(effect=effect, parameters={"order.to": Parameter(role=Role.DESTINATION)})
    (line,) = said(manifest, ORDER)
    assert "`order`, `order.lines[]`, `order.lines[].price`: what stands there counts as destinations" in line


def test_of_a_read_nothing_is_missing() -> None:
    assert said(declared(Effect.READ), {"to": {}}) == []


def test_a_declaration_of_what_the_tool_does_not_have_is_named() -> None:
    (line,) = said(declared(to=Role.DESTINATION, recipent=Role.DESTINATION), {"to": {}})
    assert line == "bank/pay declares `recipent`, which its approved definition does not have"


def test_a_servers_words_do_not_reach_the_terminal() -> None:
    for line in said(None, {"\x1b[2J": {}, "a\u202eb": {}}, tool="pay\n\x07"):
        assert line.isascii()
        assert line.isprintable()
