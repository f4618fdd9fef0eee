"""What others wrote is seen as others' words: nothing hidden, nothing turned round, nothing that a browser obeys."""

from __future__ import annotations

import html
import re
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from citywatch.adapters.console.words import IN_A_LINE, called, plain, said

HOSTILE = "<img src=x onerror=alert(1)>\u202egnp.exe\u200b\x07\u2066**bold**\x00\ufeff"


def text_of(markup: object) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", str(markup)))


@given(st.text(max_size=400))
def test_nothing_that_cannot_be_seen_is_left_and_nothing_is_obeyed(text: str) -> None:
    for shown in (str(said(text)), str(called(text)), plain(text)):
        for one in shown:
            assert one == " " or unicodedata.category(one) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs")
    tags = set(re.findall(r"<[^>]*>", str(said(text))))
    assert tags <= {
        '<bdi class="said">', "</bdi>", "</span>", '<span class="cut">',
        '<span class="unseen" title="a character that cannot be seen">',
    }  # fmt: skip


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=IN_A_LINE))
def test_what_can_be_read_is_shown_as_it_is(text: str) -> None:
    assert text_of(said(text)) == text
    assert text_of(called(text, 400)) == text
    assert plain(text) == text


def test_hidden_characters_stand_there_by_number() -> None:
    shown = text_of(said(HOSTILE))
    assert shown.startswith("<img src=x onerror=alert(1)>U+202Egnp.exeU+200B U+0007 U+2066**bold**")
    assert "<img" not in str(said(HOSTILE))
    assert "\u202e" not in plain(HOSTILE)
    assert "U+202E" in plain(HOSTILE)


def test_a_name_that_wears_anothers_letters_is_marked() -> None:
    assert 'title="cyrillic small letter a">а</span>' in str(called("p\u0430y"))
    assert "foreign" not in str(called("pay"))


def test_a_megabyte_is_cut_and_says_how_long_it_was() -> None:
    shown = said("x" * (1 << 20))
    assert len(str(shown)) < 400
    assert "1,048,576 characters in all" in text_of(shown)


def test_lines_are_kept_only_where_they_are_asked_for() -> None:
    assert "U+000A" in text_of(said("a\nb"))
    assert text_of(said("a\nb", lines=True)) == "a\nb"
