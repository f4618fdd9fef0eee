"""Where words stand whole in what people said, and where they are only a piece of a longer name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citywatch.core.flow.mentions import find_phrase, find_said, spoken_form, whole_words

TEXTS = st.lists(st.sampled_from(["plan", "old", "docx", "-", ".", "_", "@", "/", " ", ", ", "'"]), max_size=9).map(
    "".join
)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("plan.docx", "send old-plan.docx to her"),
        ("bank.example", "look at www.good-bank.example today"),
        ("www.bank.co", "look at www.bank.co.uk today"),
        ("bob", "write to bob@x.example"),
        ("x.example", "write to bob@x.example"),
        ("minutes", "send 'team-minutes.docx'"),
        ("draft", "the file draft_2"),
        ("www.x.example", "see www.x.example/alice"),
    ],
)
def test_a_piece_of_a_longer_name_was_not_said(words: str, text: str) -> None:
    assert find_said(words, text) == -1
    assert find_phrase(words, text) >= 0


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("plan.docx", "send 'plan.docx'."),
        ("plan.docx", "old-plan.docx, and plan.docx"),
        ("bob", "tell bob's team"),
        ("www.x.example", "see https://www.x.example."),
        ("kick-off", "the kick-off (meeting)"),
        ("c++", "the c++ book"),
    ],
)
def test_a_name_of_its_own_was_said_wherever_it_stands(words: str, text: str) -> None:
    assert text[find_said(words, text) :].startswith(words)


@given(st.sampled_from(["plan", "old-plan", "plan.docx", "docx"]), TEXTS)
def test_what_was_said_stands_whole_and_one_plain_word_is_found_by_either_way(words: str, text: str) -> None:
    at = find_said(words, text)
    assert at == -1 or (text[at:].startswith(words) and find_phrase(words, text) >= 0)
    assert not words.isalnum() or (at >= 0) == (words in whole_words(text))


@pytest.mark.parametrize(
    ("name", "spoken"),
    [
        ("team-meeting-minutes.docx", "team meeting minutes"),
        ("team_meeting minutes", "team meeting minutes"),
        ("plan.docx", ""),
        ("team meeting", ""),
        ("", ""),
    ],
)
def test_a_file_is_spoken_of_without_its_ending(name: str, spoken: str) -> None:
    assert spoken_form(name) == spoken
