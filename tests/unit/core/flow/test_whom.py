"""Whether words say whom they mean."""

from __future__ import annotations

import pytest

from citywatch.core.flow.fold import fold
from citywatch.core.flow.whom import leaves_open, proper_part, speaks_of_several


@pytest.mark.parametrize(
    ("sentence", "several", "left_open"),
    [
        ("Add all users to that channel", True, True),
        ("Tell everybody but Bob", True, True),
        ("Find a user who wrote most", False, True),
        ("Pay Apple the difference", False, False),
        ("Send it to Alice's allies", False, False),
    ],
)
def test_several_and_someone_are_told_from_one_by_name(sentence: str, several: bool, left_open: bool) -> None:
    assert speaks_of_several(fold(sentence)) is several
    assert leaves_open(fold(sentence)) is left_open


@pytest.mark.parametrize(
    ("name", "proper"),
    [
        ("Apple", "apple"),
        ("Pay Apple", "apple"),
        ("Sarah Baker", "sarah baker"),
        ("Please", ""),
        ("Please Send", ""),
        ("Friday", ""),
        ("On Friday", ""),
        ("plan.docx", ""),
    ],
)
def test_a_word_at_the_head_a_day_and_a_file_are_nobodys_name(name: str, proper: str) -> None:
    assert proper_part(fold(name)) == proper
