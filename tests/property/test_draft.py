"""What holds for every list of tools that a server might offer, when somebody drafts manifests from it."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from citywatch.config import parse_settings
from citywatch.config.draft import Draft, draft_manifests
from citywatch.config.guess import WEAKER
from citywatch.core.call import Effect
from citywatch.core.enforce.places import NUMBERED
from citywatch.core.manifest import EVERYBODY, Role

HOSTILE = st.sampled_from(
    [
        "pay", "get_x", "a: b", "x\n  evil: {effect: read}", "# c", "'", '"', "\\", "\\U0000000A", "- x", "yes", "no",
        "~", "null", "1", "1.5", "0x10", "{a}", "[]", "lines[]", "lines[0]", "lines[].price", "a.b",
        "&a", "*a", "!!str x",
        "? x", "| x", "%TAG", "\u202eevil", "\ud800", "\x00", "\x1b[2J", "\u2028", "\x85", "\ufeff", "е", "😀", " ", "",
        "__entity", "x" * 129, "😀" * 128, "decide: read", "=", "<<", "2026-01-01", "to ", " to", "result", "result.x",
    ]
)  # fmt: skip
NAMES = (
    HOSTILE | st.text(max_size=12) | st.sampled_from(["to", "amount", "note", "date", "body", "id", "sql", "password"])
)
LEAVES = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(
            ["string", "number", "integer", "boolean", "array", "object", 7, ["string", "null"], None]
        ),
        "format": NAMES | st.sampled_from(["date", "email", "uri", 5]),
        "enum": st.lists(NAMES, max_size=2) | st.none(),
        "description": NAMES,
        "$ref": st.sampled_from(["#", "#/properties/to", "#/$defs/x", "x", 3]),
    },
)
SCHEMAS = st.recursive(
    LEAVES | st.none() | st.booleans(),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["object", "array"]),
            "properties": st.dictionaries(NAMES, inner, max_size=3) | st.none(),
            "items": inner,
            "anyOf": st.lists(inner, max_size=3),
            "allOf": st.lists(inner, max_size=2),
            "if": inner,
        },
    ),
    max_leaves=12,
)
TOOLS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"name": NAMES | st.integers() | st.none()},
    optional={
        "description": NAMES | st.integers(),
        "inputSchema": SCHEMAS,
        "outputSchema": SCHEMAS,
        "annotations": st.fixed_dictionaries({"readOnlyHint": st.booleans()}) | st.none(),
    },
)


def loaded(draft: Draft) -> Any:
    """The draft as an operator pastes it: below a server that the file knows how to reach."""
    text = draft.text.replace("\n  bank:\n", "\n  bank:\n    url: http://127.0.0.1:9001/mcp\n", 1)
    return parse_settings(f"trust_domain: acme.example\n{text}", "/srv").servers.get("bank")


@given(st.lists(TOOLS, max_size=4), st.booleans())
def test_a_draft_loads_and_says_what_it_was_made_to_say(tools: list[dict[str, Any]], unsafe: bool) -> None:
    draft = draft_manifests("bank", tools, unsafe_guesses=unsafe)
    server = loaded(draft)
    assert dict(server.tools if server is not None else {}) == dict(draft.tools)
    assert all(" " <= letter <= "~" or letter == "\n" for letter in draft.text)
    usable = [one["name"] for one in tools if isinstance(one["name"], str) and one["name"].isidentifier()]
    assert {name for name in usable if name.isascii() and len(name) <= 128} <= draft.tools.keys()


@given(st.lists(TOOLS, max_size=4))
def test_a_draft_that_nobody_read_takes_nothing_away_from_silence(tools: list[dict[str, Any]]) -> None:
    for tool in draft_manifests("bank", tools).tools.values():
        assert tool.effect is Effect.IRREVERSIBLE
        assert tool.audience == (EVERYBODY,)
        assert not any(one.trusted or one.key or one.party for one in tool.output.values())
        assert all(one.role not in (None, *WEAKER) and one.party is None for one in tool.parameters.values())


@given(st.lists(TOOLS, min_size=1, max_size=3))
def test_every_weaker_guess_is_marked_for_a_person(tools: list[dict[str, Any]]) -> None:
    for unsafe in (False, True):
        draft = draft_manifests("bank", tools, unsafe_guesses=unsafe)
        weaker = sum(one.effect.effect is not Effect.IRREVERSIBLE for one in draft.drafted)
        weaker += sum(place.guess.role in WEAKER for one in draft.drafted for place in one.places)
        lines = draft.text.splitlines()
        assert sum("# decide: `" in line and "WEAKER: " in line for line in lines) == weaker
        assert draft.decisions >= weaker
        assert ("UNSAFE" in lines[0]) == (unsafe and bool(draft.drafted)) if lines else not draft.drafted


@given(st.dictionaries(NAMES, st.just({"type": "number"}), min_size=1, max_size=3), NAMES)
def test_a_server_cannot_have_one_line_of_a_draft_hold_for_two_arguments(plain: dict[str, Any], inner: str) -> None:
    """An argument that is *named* `lines[].price` would share the role of the price in each line."""
    nested = {"type": "array", "items": {"type": "object", "properties": {inner: {"type": "number"}}}}
    clash = f"lines[].{inner}"
    schema = {"properties": {**plain, clash: {"type": "string"}, "lines": nested}}
    (tool,) = draft_manifests("bank", [{"name": "act", "inputSchema": schema}], unsafe_guesses=True).drafted
    shared = [one for one in tool.places if len(one.place.tops) > 1]
    assert all(one.role is Role.DESTINATION for one in shared)
    path = NUMBERED.sub("[]", clash)
    assert path in {one.place.path for one in shared} or path not in {one.place.path for one in tool.places}
