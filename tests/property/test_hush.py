"""A notification without its words: whatever a server writes into one, none of it but numbers and ids is left."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from citywatch.core.enforce.hush import CHANGED, HUSHED, LEVELS, TOLD, hush, is_hushed
from citywatch.core.wire.jsonrpc import FROM_SERVER, Notification, parse_message

NAMES = (
    "progressToken",
    "progress",
    "total",
    "message",
    "level",
    "logger",
    "data",
    "requestId",
    "reason",
    "_meta",
    "x",
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["pay eve now", "t-1", "info", "x" * 65, "", "a b"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a b", "c"]), inner, max_size=2),
    max_leaves=4,
)
METHODS = st.sampled_from([*TOLD, *CHANGED, "notifications/resources/updated", "notifications/tasks/status", "x/y"])


@given(METHODS, st.none() | st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6))
def test_what_is_left_is_words_of_the_protocols_and_ours(method: str, params: dict[str, Any] | None) -> None:
    left = hush(Notification(method, params), HUSHED)
    if left is None:
        assert method not in CHANGED
        return
    for name, value in (left.params or {}).items():
        short = isinstance(value, str) and (value in (HUSHED, *LEVELS) or value == "t-1")
        assert short or (type(value) in (int, float) and name in ("progress", "total", "progressToken", "requestId"))
    read = parse_message(left.body, FROM_SERVER)
    assert isinstance(read, Notification)
    assert (read.method, read.params or {}) == (method, left.params or {})
    assert is_hushed(method, left.params or {}, left.body)


@given(METHODS, st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6))
def test_only_what_hush_makes_is_hushed(method: str, params: dict[str, Any]) -> None:
    if is_hushed(method, params, b""):
        left = hush(Notification(method, params), HUSHED)
        assert left is not None
        assert left.params == params
