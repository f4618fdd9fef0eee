"""A superlative picks out one record, by what the server vouches for, or none."""

from __future__ import annotations

from typing import Any

import pytest

from citywatch.core.manifest import Output
from tests.unit.core.flow.test_provenance import TRUSTED, people, reply

FILES = [{"id": "11", "size": 5}, {"id": "12", "size": 90}, {"id": "13", "size": 9}]


@pytest.mark.parametrize(("words", "which"), [("the largest file", "12"), ("the smallest file", "11")])
def test_a_superlative_picks_out_one_record(words: str, which: str) -> None:
    said = people(f"Delete {words}", reply(FILES))
    assert [one["id"] for one in FILES if said.linked(str(one["id"])) is not None] == [which]


@pytest.mark.parametrize(
    "files",
    [
        [*FILES, {"id": "14", "size": 90}],  # two of them
        [*FILES, {"id": "14"}],  # one that says nothing
        [*FILES, {"id": "14", "size": "very big"}],  # one that cannot be compared
        FILES[1:2],  # one file is not the largest of anything
    ],
)
def test_where_it_is_not_plain_which_one_is_meant_it_is_none(files: list[dict[str, Any]]) -> None:
    said = people("Delete the largest file", reply(files))
    assert all(said.linked(str(one["id"])) is None for one in files)


def test_what_a_third_party_can_have_written_is_not_compared() -> None:
    outputs = {"$": TRUSTED, "$[*].size": Output()}
    said = people("Delete the largest file", reply(FILES, outputs=outputs))
    assert said.linked("12") is None


def test_of_many_records_none_is_looked_at_twice_for_each_other() -> None:
    """Counted by its outcome: two thousand records are compared by one pass for each field."""
    files = [{"id": f"f-{n}", "size": n} for n in range(2000)]
    said = people("Delete the largest file", reply(files))
    assert said.linked("f-1999") is not None
    assert said.linked("f-1998") is None
