"""Which values could carry something of the agent's own, and which are only what an audience may see anyway."""

from __future__ import annotations

import base64

import msgspec
import pytest

from citywatch.core.enforce.readers import stands
from citywatch.core.flow.blob import find_blobs
from citywatch.core.flow.fields import Fields
from citywatch.core.flow.history import History, Value
from citywatch.core.flow.item import Reading, read_prompt, read_reply
from citywatch.core.label import BOTTOM, Label
from citywatch.core.manifest import Output

HR = frozenset({"hr"})


def history() -> History:
    found = History()
    found.add(read_prompt("Ask McDonald about 120 crates, ref TX-7", "d", "alice", 0))
    fields = Fields({"$": Output(trusted=True), "$.pay": Output(trusted=True, readers=("hr",))})
    for value in (
        {"who": "Dora Meyer", "text": "write to dora@acme.example by May"},
        {"pay": 91234, "who": "Eve Adams"},
    ):
        reading = Reading(
            source="x/y",
            trusted=Label(frozenset({"server:x"}), None),
            untrusted=Label(frozenset({"outside:x/y"}), None),
            shaped=BOTTOM,
        )
        found.add(read_reply(fields.walk(value), "d", reading, 0))
    return found


@pytest.mark.parametrize(
    "value", ["McDonald", "120 crates", 120, "Dora Meyer", "DORA MEYER", "dora@acme.example", "TX-7"]
)
def test_what_stands_whole_where_the_audience_may_see_it_carries_nothing(value: Value) -> None:
    assert stands(value, history(), None)


@pytest.mark.parametrize(
    "value",
    ["mcdonald", "McD", "", "dOra Meyer", "Dora\u200b Meyer", "Dora  Meyer", "D\u043era Meyer", "0120", "120.0", 121,
     True, "Eve Adams", 91234, "Dora Meyer earns 91234"],
)  # fmt: skip
def test_what_is_dressed_up_or_for_others_does(value: Value) -> None:
    assert not stands(value, history(), None)


@pytest.mark.parametrize("value", ["Eve Adams", 91234, "Dora Meyer"])
def test_to_its_own_audience_a_value_may_go(value: Value) -> None:
    assert stands(value, history(), HR)


@pytest.mark.parametrize(
    ("value", "readers"),
    [
        ({"name": "x"}, None),
        ({"pay": 1}, {"hr"}),
        ({"pay": True}, {"hr"}),
        ({"pay": None, "name": "x"}, None),
        ({"deep": {"pay": 1}}, None),
        ({"deep": {"secret": 1}}, {"board"}),
        ({"pay": 1, "deep": {"secret": 1}}, set()),
        ("pay is 1", set()),
        ({"team": "lead is x"}, {"hr", "leads"}),
        ({"team": {"name": "x"}}, None),
        ({"team": {"lead": "x"}}, {"hr", "leads"}),
        ({str(number): 1 for number in range(5000)}, set()),
    ],
)
def test_an_item_is_for_those_who_may_see_all_of_its_fields(value: object, readers: set[str] | None) -> None:
    fields = Fields(
        {
            "$": Output(trusted=True),
            "$.pay": Output(trusted=True, readers=("hr",)),
            "$.team.lead": Output(trusted=True, readers=("hr", "leads")),
            "$..secret": Output(readers=("board",)),
        }
    )
    reading = Reading(source="x/y", trusted=BOTTOM, untrusted=BOTTOM, shaped=BOTTOM)
    label = read_reply(fields.walk(value), "d", reading, 0).label
    assert label.readers == (None if readers is None else frozenset(readers))


def test_bytes_go_where_the_item_may_go_that_brought_them() -> None:
    data = base64.b64encode(bytes(range(64))).decode()
    found = History()
    reading = Reading(source="x/y", trusted=BOTTOM, untrusted=BOTTOM, shaped=BOTTOM)
    blobs, _ = find_blobs([{"blob": data, "mimeType": "image/png"}], "$")
    walk = msgspec.structs.replace(Fields({}).walk([]), blobs=blobs, readers=HR)
    found.add(read_reply(walk, "d", reading, 0))
    assert stands(data, found, HR)
    assert stands(f"data:image/png;base64,{data}", found, HR)
    assert not stands(f"data:image/gif;base64,{data}", found, HR)  # the type would be the agent's word
    assert not stands(data, found, None)
