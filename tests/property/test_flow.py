"""Information flow, as sentences: reading more never entitles, and what is entitled is entitled by somebody."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from citywatch.core.enforce.context import party_forms
from citywatch.core.flow.item import Item
from citywatch.core.flow.readings import Readings
from citywatch.core.label import is_above
from citywatch.core.manifest import Output
from tests.simulation.flow_city import ANN, MALLORY
from tests.unit.core.enforce.test_steering import letter, said, steer

TRUSTED = {"$": Output(trusted=True), "$[*].text": Output()}
WORDS = st.sampled_from([ANN, MALLORY, "plan.docx", "13", "14", "plumber", "bob@x.example", "900", "2024-05-26", "eve"])
NUMBERS = st.sampled_from([7, 13, 30, 100, 450, 900, 100.5])
PROMPTS = st.lists(
    st.sampled_from(
        [
            f"Pay 100.50 to {ANN}",
            "Delete the file 'plan.docx'",
            "Pay the plumber half of 900",
            "Send the plan to bob@x.example, his email is on www.bob.example",
            "Send the notes to the participants of the 'kick-off' event",
            "Pay 10 % more than last time",
            "Something else",
        ]
    ),
    min_size=1,
    max_size=2,
)
RECORDS = st.lists(
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(("id", "name", "iban", "amount", "text", "participants", "title"), WORDS | NUMBERS),
    ),
    min_size=1,
    max_size=3,
)
VOUCHED = st.builds(lambda value: letter(value, outputs=TRUSTED), RECORDS)
STRANGERS = st.builds(lambda value: letter(value), RECORDS | WORDS | st.text(max_size=20))
CALLS: st.SearchStrategy[tuple[str, dict[str, Any]]] = st.one_of(
    st.tuples(st.just("pay"), st.fixed_dictionaries({"to": WORDS, "amount": NUMBERS}, optional={"date": WORDS})),
    st.tuples(st.just("delete_file"), st.fixed_dictionaries({"id": WORDS})),
    st.tuples(st.just("send"), st.fixed_dictionaries({"to": WORDS, "text": WORDS})),
    st.tuples(st.just("write_file"), st.fixed_dictionaries({"id": WORDS, "text": WORDS})),
    st.tuples(st.just("wipe"), st.just({})),
)


def passes(items: tuple[Item, ...], call: tuple[str, dict[str, Any]], parties: tuple[str, ...]) -> bool:
    return all(one.how for one in steer(items, call[0], parties, **call[1]))


@settings(max_examples=400)
@given(PROMPTS, st.lists(VOUCHED, max_size=2), st.lists(STRANGERS, min_size=1, max_size=2), CALLS, st.booleans())
def test_reading_what_a_stranger_wrote_never_turns_an_ask_into_an_allow(
    prompts: list[str], vouched: list[Item], strange: list[Item], call: tuple[str, dict[str, Any]], known: bool
) -> None:
    """Whatever was said, in one prompt or two, whoever is known, and wherever in the order it was read."""
    parties = party_forms("payees", ANN) if known else ()
    before = (*said(*prompts), *vouched)
    for after in ((*before, *strange), (*strange, *before)):
        assert passes(before, call, parties) or not passes(after, call, parties)


@settings(max_examples=200)
@given(PROMPTS, st.lists(VOUCHED, max_size=2), st.lists(STRANGERS, max_size=2), CALLS)
def test_the_same_call_against_the_same_rows_decides_the_same(
    prompts: list[str], vouched: list[Item], strange: list[Item], call: tuple[str, dict[str, Any]]
) -> None:
    items = (*said(*prompts), *vouched, *strange)
    assert steer(items, call[0], **call[1]) == steer(items, call[0], **call[1])


@settings(max_examples=200)
@given(PROMPTS, st.lists(VOUCHED, max_size=2), st.lists(STRANGERS, max_size=2), st.lists(CALLS, min_size=2, max_size=5))
def test_what_the_calls_of_a_context_carried_before_changes_no_decision(
    prompts: list[str], vouched: list[Item], strange: list[Item], calls: list[tuple[str, dict[str, Any]]]
) -> None:
    items, memory = (*said(*prompts), *vouched, *strange), Readings()
    for name, values in calls:
        assert steer(items, name, readings=memory, **values) == steer(items, name, **values)


@settings(max_examples=200)
@given(PROMPTS, st.lists(STRANGERS, min_size=1, max_size=3), WORDS, NUMBERS)
def test_what_nobody_entitled_supplied_whole_does_not_steer(
    prompts: list[str], strange: list[Item], to: str, amount: float
) -> None:
    items = (*said(*prompts), *strange)
    if any(is_above(one.label, letter("x").label) for one in strange) and not any(to in one for one in prompts):
        assert not passes(items, ("pay", {"to": to, "amount": amount}), ())


@given(st.integers(10, 10**6), st.integers(0, 9))
def test_a_value_that_overlaps_but_is_not_whole_raises_nothing(number: int, digit: int) -> None:
    items = (*said(f"Pay {number}{digit} to {ANN}"), letter("hello"))
    assert passes(items, ("pay", {"to": ANN, "amount": int(f"{number}{digit}")}), ())
    assert not passes(items, ("pay", {"to": ANN, "amount": number}), ()) or number == 0
    assert not passes(items, ("pay", {"to": ANN[:-1], "amount": int(f"{number}{digit}")}), ())


@given(st.lists(STRANGERS | VOUCHED, min_size=1, max_size=4))
def test_the_label_of_a_context_is_above_that_of_each_of_its_items(items: list[Item]) -> None:
    from citywatch.core.label import join_all

    total = join_all(item.label for item in items)
    assert all(is_above(total, item.label) for item in items)
