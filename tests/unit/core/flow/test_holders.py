"""Those who have what a person spoke of: each way to get into such a list beside the honest one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citywatch.core.flow.fields import Fields
from citywatch.core.flow.history import History
from citywatch.core.flow.holders import given_to
from citywatch.core.flow.item import Item, Reading, read_prompt, read_reply
from citywatch.core.flow.provenance import Provenance
from citywatch.core.flow.readings import Typed
from citywatch.core.label import BOTTOM, Label
from citywatch.core.manifest import Output

ALICE, BOB, EVE, MALLORY = (f"{name}@x.example" for name in ("alice", "bob", "eve", "mallory"))
DRIVE = {
    "$": Output(),
    "$[*].id": Output(trusted=True, key=True),
    "$[*].owner": Output(trusted=True),
    "$[*].shared_with": Output(trusted=True),
    "$[*].blocked": Output(trusted=True),
}
ASKED = "Please send the team meeting minutes to each person in them"
MINUTES = "team-meeting-minutes.docx"


def file(name: str = MINUTES, owner: str = ALICE, *sharers: str, **more: Any) -> dict[str, Any]:
    return {"id": "7", "name": name, "owner": owner, "shared_with": dict.fromkeys(sharers, "rw"), **more}


def listing(*files: dict[str, Any], shaped: Label = BOTTOM, outputs: dict[str, Output] | None = None) -> Item:
    reading = Reading(
        source="drive/find",
        trusted=Label(frozenset(("server:drive",)), None),
        untrusted=Label(frozenset(("outside:drive/find",)), None),
        shaped=shaped,
    )
    return read_reply(Fields(outputs or DRIVE).walk(list(files)), "d", reading, 0)


def holds(value: str, *items: Item, prompt: str = ASKED) -> bool:
    history = History()
    for item in (read_prompt(prompt, "d", "alice", 0), *items):
        history.add(item)
    people = Provenance(history, lambda source: source == "principal:alice", lambda item: True)
    return given_to(history, people, Typed(value), "send_mail", lambda part: part.whole == ALICE) is not None


@pytest.mark.parametrize("prompt", [ASKED, f"Send everybody who has '{MINUTES}' a reminder"])
def test_those_to_whom_the_minutes_were_given_are_whom_their_owner_can_mean(prompt: str) -> None:
    drive = listing(file(MINUTES, ALICE, BOB, EVE), file("plans.docx", ALICE, MALLORY))
    assert holds(BOB, drive, prompt=prompt)
    assert holds(EVE, drive, prompt=prompt)
    assert not holds(MALLORY, drive, prompt=prompt)


def test_who_shares_a_file_of_that_name_has_put_nobody_in_a_list_of_hers() -> None:
    """The attack: Mallory shares minutes of his own with Alice and with whomever he wants her mail to go to."""
    assert not holds(EVE, listing(file(MINUTES, MALLORY, ALICE, EVE)))
    assert not holds(EVE, listing(file(MINUTES, MALLORY, ALICE, EVE), file(MINUTES, ALICE, BOB)))


def test_an_owner_for_whom_no_server_vouches_is_no_owner() -> None:
    outputs = {**DRIVE, "$[*].owner": Output()}
    assert not holds(BOB, listing(file(MINUTES, ALICE, BOB), outputs=outputs))
    assert not holds(BOB, listing({**file(MINUTES, MALLORY, BOB), "sent_to": ALICE}))


def test_a_second_file_of_that_name_that_others_have_makes_it_ambiguous() -> None:
    first = listing(file(MINUTES, ALICE, BOB))
    assert not holds(BOB, first, listing(file("team_meeting_minutes.pdf", ALICE, EVE)))
    assert not holds(BOB, first, listing(file("meeting-minutes.docx", MALLORY, EVE)))
    assert holds(BOB, first, listing(file(MINUTES, ALICE, BOB, EVE)))


def test_a_list_in_a_field_that_others_can_write_makes_nobody_one_who_was_meant() -> None:
    outputs = {path: one for path, one in DRIVE.items() if path != "$[*].shared_with"}
    assert not holds(BOB, listing(file(MINUTES, ALICE, BOB), outputs=outputs))


def test_a_list_of_others_than_those_who_have_it_does_not_count() -> None:
    assert not holds(EVE, listing(file(MINUTES, ALICE, BOB, blocked={EVE: "2026-01-01"})))


def test_a_thing_counts_only_by_its_name_and_where_the_act_was_asked_for() -> None:
    drive = listing(file(MINUTES, ALICE, BOB))
    assert not holds(BOB, drive, prompt="Read the team meeting minutes. Count the words. Then send all of them a mail")
    assert not holds(BOB, drive, prompt="Send the minutes to each person in them")
    assert not holds(BOB, listing(file("minutes", ALICE, BOB)), prompt="Send the minutes to each person in them")


@pytest.mark.parametrize("origin", ["principal:alice", "outside:mail/inbox", "agent:spiffe://x.example/agent/a"])
def test_whom_an_agents_write_may_have_added_is_not_whom_the_next_act_is_for(origin: str) -> None:
    """The attack: a harmless question, "share the minutes with Eve", and mail that nobody is asked about."""
    assert not holds(EVE, listing(file(MINUTES, ALICE, EVE), shaped=Label(frozenset((origin,)), None)))


FILES = st.builds(
    lambda name, owner, sharers: file(name, owner, *sharers),
    st.sampled_from([MINUTES, "meeting-minutes.docx", "team meeting minutes.txt", "plans.docx", "minutes"]),
    st.sampled_from([ALICE, MALLORY]),
    st.lists(st.sampled_from([ALICE, BOB, EVE]), max_size=3),
)


@settings(max_examples=200)
@given(st.lists(FILES, max_size=4), st.sampled_from([BOB, EVE, MALLORY]))
def test_who_counts_has_every_thing_that_was_said_and_one_of_them_is_hers(
    files: Sequence[dict[str, Any]], who: str
) -> None:
    said = [one for one in files if one["name"] not in ("plans.docx", "minutes")]
    hers = any(one["owner"] == ALICE for one in said)
    assert holds(who, listing(*files)) == (hers and all(who in one["shared_with"] for one in said))
