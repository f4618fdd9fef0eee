"""The rows of flow control: their names, and what a value is known under."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citywatch.core.call import Call
from citywatch.core.enforce.context import (
    ANY_OBJECT,
    MAX_PEOPLE,
    SOMEBODY,
    Context,
    carried_over,
    context_key,
    flow_need,
    home_of,
    item_key,
    onward,
    party_forms,
    thing_of,
    written_key,
)
from citywatch.core.label import BOTTOM, TOP, Label, is_above
from tests.simulation.flow_city import ANN, TOOLS, FlowCity
from tests.unit.core.enforce.test_arguments import call

CITY = FlowCity()
RULES = CITY.rules(*TOOLS)


def named(name: str, **values: object) -> Call:
    import msgspec

    return msgspec.structs.replace(call(**values), name=name)


def test_a_context_is_an_agents_and_a_keys() -> None:
    rows = {context_key(agent, key) for agent in ("a", "b") for key in ("x", "y")}
    assert len(rows) == 4


def test_the_items_of_a_carried_over_context_stay_where_they_are() -> None:
    first, second = context_key("a", "x"), context_key("a", "y")
    one = carried_over(first, Context(items=2))
    assert home_of(second, one) == first
    assert home_of(second, carried_over(second, one)) == first
    assert item_key(home_of(second, one), 2) == item_key(first, 2)


@pytest.mark.parametrize("value", [ANN, "GB29 NWBK 6016 1331 9268 19", "gb29nwbk60161331926819"])
def test_a_party_is_known_in_each_of_its_notations(value: str) -> None:
    assert set(party_forms("payees", value)) & set(party_forms("payees", ANN))


def test_a_party_of_one_set_is_none_of_another() -> None:
    assert not set(party_forms("payees", ANN)) & set(party_forms("contacts", ANN))


@given(st.text(max_size=300) | st.integers() | st.floats(allow_nan=False))
def test_any_value_has_forms_and_a_name_as_an_object(value: str | int | float) -> None:
    party_forms("payees", value)
    assert written_key("bank", thing_of(value))[0] == "written"


@pytest.mark.parametrize("same", [(7, "7", 7.0, "07", "7.0"), ("File-7", "file-7")])
def test_an_object_is_one_object_however_it_is_written(same: tuple[str | int | float, ...]) -> None:
    assert len({written_key("bank", thing_of(one)) for one in same}) == 1


def test_an_act_taints_what_it_names_or_all_of_the_server() -> None:
    tool = RULES.tools["bank", "write_file"]
    need = flow_need(named("write_file", id="7", text="x"), tool, "l", "k")
    assert need.written == (written_key("bank", "7"), written_key("bank", ANY_OBJECT))
    need = flow_need(named("pay", to="x", amount=1), RULES.tools["bank", "pay"], "l", "k")
    assert need.written == (written_key("bank"),)
    many = [str(one) for one in range(1000)]
    assert written_key("bank") in flow_need(named("write_file", id=many, text="x"), tool, "l", "k").written
    assert flow_need(named("inbox"), RULES.tools["bank", "inbox"], "l", "k").written == ()


ORIGINS = st.sampled_from(["principal:alice", "server:bank", "outside:mail/inbox", "agent:spiffe://a/agent/b"])


@given(st.builds(Label, st.none() | st.frozensets(ORIGINS), st.none() | st.frozensets(st.text(max_size=3))))
def test_an_act_carries_on_all_but_servers_own_words(label: Label) -> None:
    carried = onward(label)
    assert is_above(label, carried) or carried.readers is None
    wanted = None if label.origins is None else {one for one in label.origins if not one.startswith("server:")}
    assert carried.origins == wanted


def test_very_many_people_are_carried_on_as_some_who_may_steer_nothing() -> None:
    people = frozenset(f"principal:p{number}" for number in range(MAX_PEOPLE + 1))
    letter = frozenset({"outside:mail/inbox"})
    assert onward(Label(people | letter, None)) == Label(letter | {SOMEBODY}, None)
    assert onward(Label(letter | {SOMEBODY, "principal:ann"}, None)) == Label(letter | {SOMEBODY}, None)
    few = frozenset(sorted(people)[:MAX_PEOPLE])
    assert onward(Label(few, None)) == Label(few, None)


def test_what_anybody_could_have_shaped_is_carried_on_as_that() -> None:
    assert onward(TOP) == TOP
    assert onward(BOTTOM) == BOTTOM
