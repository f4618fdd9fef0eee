"""Drafted manifests: what is guessed of ordinary tools, and that a server's own words free nothing."""

from __future__ import annotations

from typing import Any

import pytest

from citywatch.config.draft import Drafted, draft_manifests
from citywatch.core.call import Effect
from citywatch.core.manifest import ParameterType, Role

STRING, NUMBER = {"type": "string"}, {"type": "number"}


def drafted(name: str, properties: dict[str, Any], **more: Any) -> Drafted:
    tool = {"name": name, "inputSchema": {"type": "object", "properties": properties}, **more}
    return draft_manifests("bank", [tool]).drafted[0]


def guess(schema: dict[str, Any], path: str = "x") -> Role | None:
    found = drafted("act", {path: schema})
    return found.places[-1].guess.role


@pytest.mark.parametrize(
    ("name", "schema", "role"),
    [
        ("recipient", STRING, Role.DESTINATION),
        ("webhookUrl", STRING, Role.DESTINATION),
        ("account_number", STRING, Role.DESTINATION),
        ("channel_id", STRING, Role.DESTINATION),
        ("anything", {"type": "string", "format": "email"}, Role.DESTINATION),
        ("anything", {"anyOf": [{"type": "string", "format": "uri"}, {"type": "null"}]}, Role.DESTINATION),
        ("invoice_id", STRING, Role.OBJECT),
        ("path", STRING, Role.OBJECT),
        ("amount", NUMBER, Role.AMOUNT),
        ("unit_price", NUMBER, Role.AMOUNT),
        ("quantity", {"type": "integer"}, Role.AMOUNT),
        ("due_date", STRING, Role.TIME),
        ("anything", {"type": "string", "format": "date-time"}, Role.TIME),
        ("sql", STRING, Role.COMMAND),
        ("permission", {"enum": ["r", "rw"]}, Role.COMMAND),
        ("api_key", STRING, Role.SECRET),
        ("access_token", STRING, Role.SECRET),
        ("newPassword", STRING, Role.SECRET),
        ("email_body", STRING, Role.CONTENT),
        ("note", STRING, Role.CONTENT),
        ("page_token", STRING, None),
        ("zip_code", STRING, None),
        ("frobnication", STRING, None),
        ("note", NUMBER, None),
    ],
)
def test_a_role_is_guessed_by_name_type_and_format(name: str, schema: dict[str, Any], role: Role | None) -> None:
    assert guess(schema, name) is role


@pytest.mark.parametrize(
    ("name", "effect"),
    [
        ("get_balance", Effect.READ),
        ("listInvoices", Effect.READ),
        ("get_order", Effect.READ),
        ("search_contacts_by_email", Effect.READ),
        ("update_note", Effect.WRITE),
        ("send_money", Effect.IRREVERSIBLE),
        ("file_delete", Effect.IRREVERSIBLE),
        ("check_and_pay", Effect.IRREVERSIBLE),
        ("get_or_create_user", Effect.IRREVERSIBLE),
        ("get_rid_delete", Effect.IRREVERSIBLE),
        ("frobnicate", Effect.IRREVERSIBLE),
        ("", Effect.IRREVERSIBLE),
    ],
)
def test_an_effect_is_guessed_by_the_words_of_the_name(name: str, effect: Effect) -> None:
    tools = [{"name": name or "x", "inputSchema": {}}]
    assert draft_manifests("bank", tools).drafted[0].effect.effect is effect


def test_what_a_server_says_only_takes_a_weaker_guess_back() -> None:
    assert drafted("look", {}, annotations={"readOnlyHint": True}).effect.effect is Effect.IRREVERSIBLE
    assert drafted("get_it", {}, annotations={"readOnlyHint": False}).effect.effect is Effect.IRREVERSIBLE
    assert drafted("get_it", {}, annotations={"destructiveHint": True}).effect.effect is Effect.IRREVERSIBLE
    assert drafted("get_it", {}, description="Sends the report to a person").effect.effect is Effect.IRREVERSIBLE
    assert drafted("get_it", {"sql": STRING}).effect.effect is Effect.IRREVERSIBLE
    assert drafted("get_it", {"verbose": {"type": "boolean"}}).effect.effect is Effect.READ


def test_money_is_a_number_with_fractions_that_is_named_so() -> None:
    types = {name: one.type for name, one in drafted("pay", {"price": NUMBER, "n": NUMBER}).manifest.parameters.items()}
    assert types == {"price": ParameterType.MONEY, "n": None}
    whole = drafted("pay", {"price": {"type": "integer"}})  # perhaps in cents already: a hundred times too much
    assert whole.manifest.parameters["price"].type is None


def test_members_have_places_of_their_own_and_so_has_the_rest() -> None:
    lines = {"type": "array", "items": {"type": "object", "properties": {"price": NUMBER, "text": STRING}}}
    roles = {name: one.role for name, one in drafted("order", {"lines": lines}).manifest.parameters.items()}
    assert roles == {
        "lines": Role.DESTINATION,
        "lines[]": Role.DESTINATION,
        "lines[].price": Role.AMOUNT,
        "lines[].text": Role.DESTINATION,
    }


def test_fields_of_replies_are_named_and_none_is_trusted() -> None:
    result = {"type": "array", "items": {"type": "object", "properties": {"id": STRING, "from": STRING}}}
    found = drafted("get_mail", {}, outputSchema={"type": "object", "properties": {"result": result}})
    assert list(found.manifest.output) == ["$", "$[*].id", "$[*].from"]
    assert not any(one.trusted for one in found.manifest.output.values())


def test_a_tool_that_the_file_has_and_one_that_it_could_not_hold_are_named() -> None:
    tools = [{"name": "pay"}, {"name": "pay"}, {"name": "x\ny"}, {"name": "z" * 129}]
    draft = draft_manifests("bank", tools, ["pay"])
    assert list(draft.tools) == ["pay"]
    assert "citywatch.yaml declares it already" in draft.text
    assert draft.text.count("left out, so that silence holds") == 3
