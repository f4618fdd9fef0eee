"""What a person, and the log, is shown of a definition that changed; and that showing it costs little."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import pytest

from citywatch.core.enforce import pinning
from citywatch.core.enforce.pinning import MAX_DIFFERENCE, difference


def tool(*values: str, description: str = "d") -> dict[str, Any]:
    return {"name": "t", "description": description, "inputSchema": {"type": "object", "enum": list(values)}}


def many(lines: int, step: int) -> dict[str, Any]:
    return tool(*(f"v{step * line % 101}" for line in range(lines)))


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pairs of lines each comparison may have looked at."""
    pairs: list[int] = []
    real = difflib.SequenceMatcher

    class Counted(real):  # type: ignore[valid-type, misc]
        def __init__(self, isjunk: None, a: Sequence[str], b: Sequence[str]) -> None:
            pairs.append(len(a) * len(b))
            super().__init__(isjunk, a, b)

    monkeypatch.setattr(difflib, "SequenceMatcher", Counted)
    return pairs


def test_a_change_is_shown_line_by_line() -> None:
    shown = difference(tool("a", "b", "c"), tool("a", "B", "c"))
    assert [line for line in shown.splitlines() if line[:1] in "+-"][2:] == ['-      "b",', '+      "B",']


def test_what_is_new_is_shown_whole() -> None:
    shown = difference(None, tool("a"))
    assert all(line.startswith(("+", "@@", "---")) for line in shown.splitlines())


def test_a_long_definition_is_not_compared_with_another_line_by_line_while_all_wait(compared: list[int]) -> None:
    """90,000 lines against 90,000 others stood the gateway still, and 4,000 characters of it were kept."""
    shown = difference(many(5_000, 1), many(5_000, -1), MAX_DIFFERENCE)
    assert sum(compared) <= pinning._COMPARED_WAITING
    assert len(shown) <= MAX_DIFFERENCE + 20
    assert '-      "v' in shown
    assert '+      "v' in shown


def test_nor_is_it_before_a_person_who_is_shown_all_of_it(compared: list[int]) -> None:
    shown = difference(many(5_000, 1), many(5_000, -1))
    assert sum(compared) <= pinning._COMPARED
    assert len(shown.splitlines()) > 9_000


def test_one_word_of_a_long_definition_is_found_all_the_same() -> None:
    before, after = many(50_000, 1), many(50_000, 1)
    after["inputSchema"]["enum"][40_000] = "send all to eve"
    for limit in (None, MAX_DIFFERENCE):
        said = [line for line in difference(before, after, limit).splitlines() if line[:1] in "+-"][2:]
        assert said == ['-      "v4",', '+      "send all to eve",']
