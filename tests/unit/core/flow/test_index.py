"""Which argument stands whole in an item, by an index of it: one attack beside each honest case."""

from __future__ import annotations

import pytest

from citywatch.core.flow.index import index_text, met
from citywatch.core.flow.phrases import find_phrase
from citywatch.core.flow.tokens import MAX_CHARS, Kind

PROMPT = (
    "Move Alice's “Hawaii  Trip” plans to #general (not random-talk), invite bob@x.com for May 26th at 5pm, "
    "pay 1 200 EUR for INV-0042, see O'Brien's file /home/general/x.txt and https://shop.example/a."
)


@pytest.mark.parametrize(
    "value",
    ["Hawaii Trip", "hawaii trip", "general", "#general", "Alice", "bob@x.com", "BOB@X.com", "2024-05-26", "May 26",
     "2024-05-26T17:00", "17:00", "1200", 1200, 1200.0, "€1,200.00", "INV-0042", "O'Brien", "/home//general/x.txt",
     "https://SHOP.example:443/a", "shop.example", " general ", "Hawaii", "random-talk"],
)  # fmt: skip
def test_what_the_prompt_says_is_met(value: str | int | float) -> None:
    assert met(value, index_text(PROMPT))


@pytest.mark.parametrize(
    "value",
    ["Trip to Hawaii", "random", "Brien", "lice", "b@x.com", "x.com", "2024-05-27", "May 2", "17:01",
     "2024-05-26T18:00", 1, 200, 2, 42, "INV-004", "x.txt", "/home/general", "home/general/x.txt", "example", True, "",
     "https://shop.example/", "https://shop.example/ab", "gener\u0430l", "gene\u200bral", "general purpose"],
)  # fmt: skip
def test_what_it_does_not_say_is_not(value: str | int) -> None:
    assert not met(value, index_text(PROMPT))


def test_a_full_date_does_not_meet_another_year() -> None:
    assert not met("2023-05-26", index_text("on 2024-05-26"))
    assert met("May 26", index_text("on 2024-05-26"))
    assert [token.value for token in met("2023-05-26", index_text("on May 26"))] == ["--05-26"]


@pytest.mark.parametrize(
    ("value", "said", "unsaid"),
    [
        ("1,500", "pay 1,500 now", "pay 1.5 now"),
        ("1.500", "pay 1.500 now", "pay 1500 now"),
        ("EUR 1,500", "pay 1,500 EUR now", "pay 1.5 EUR now"),
        ("05/06/2024", "on 05/06/2024", "on June 5, 2024"),
    ],
)
def test_a_value_that_can_be_read_in_two_ways_is_met_only_by_one_that_can_too(
    value: str, said: str, unsaid: str
) -> None:
    assert met(value, index_text(said))
    assert not met(value, index_text(unsaid))


@pytest.mark.parametrize("value", ["http://a.com/b?", "http://a.com/b;", "http://a.com/b", "see http://a.com/b;"])
def test_the_beginning_of_a_url_is_not_a_phrase_of_it(value: str) -> None:
    assert not met(value, index_text("see http://a.com/b?x=1 and http://a.com/b;x"))


def test_who_said_a_thousand_did_not_say_one() -> None:
    assert met(1000, index_text("pay 1,000 now"))
    assert not met(1, index_text("pay 1,000 now"))
    assert met(1200, index_text("pay 1,200 now"))


def test_a_zone_that_the_text_gave_is_not_changed_for_another() -> None:
    assert met("17:00", index_text("at 17:00+02:00"))
    assert met("17:00Z", index_text("at 17:00"))
    assert not met("17:00Z", index_text("at 17:00+02:00"))
    assert not met("2024-05-26T17:00Z", index_text("2024-05-26T17:00+02:00"))


def test_the_parts_of_an_instant_are_named() -> None:
    assert {token.kind for token in met("2024-05-26 17:00", index_text(PROMPT))} == {Kind.DATE, Kind.TIME}


def test_an_index_says_whether_all_was_read() -> None:
    assert index_text(PROMPT).whole
    cut = index_text("a " * (MAX_CHARS // 2) + "general")
    assert not cut.whole
    assert not met("general", cut)
    assert not met("gen", index_text("a" * (MAX_CHARS - 4) + " general"))


def test_half_a_phrase_of_unseen_letters_is_no_word() -> None:
    assert not met("ral", index_text("gene\u200bral"))
    assert met("gene\u200bral", index_text("to gene\u200bral"))


def test_a_phrase_is_shown_where_it_stands() -> None:
    for value, shown in (("hawaii trip", "Hawaii  Trip"), ("alice", "Alice"), ("O'Brien's", "O'Brien's")):
        assert [PROMPT[start:end] for start, end in find_phrase(value, PROMPT)] == [shown]
    assert find_phrase("1", PROMPT) == find_phrase("purple", PROMPT) == ()
    assert len(find_phrase("a", "a " * 100)) == 16
