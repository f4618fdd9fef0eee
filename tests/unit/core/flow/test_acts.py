"""Which words of a person ask for what a tool does, and which only name what it does it to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citywatch.core.flow.acts import asks_for_anything, hands_over, is_known, mentions, speaks_of, speaks_of_all
from citywatch.core.flow.fold import fold


@pytest.mark.parametrize("name", ["delete_file", "file_delete", "deleteFile", "FileDelete", "drive.file-delete"])
def test_what_an_act_is_done_to_does_not_speak_of_it_wherever_it_stands_in_the_name(name: str) -> None:
    assert not speaks_of(name, fold("What is in this file?"))
    assert speaks_of(name, fold("Delete this file."))


@pytest.mark.parametrize(
    ("name", "attack", "honest"),
    [
        ("send_email", "Summarise my emails", "Email Bob the summary"),
        ("send_email", "Tell me what is in it", "Tell Bob what is in it"),
        ("post_message", "Read the last post", "1. Post it to the board"),
        ("book_room", "Read me the book", "Please book a room"),
        ("order_update", "Show my order", "Update my order"),
        ("post_order", "Show my last post", "Post the order"),
        ("update_order", "Where is my order?", "Change my order to two"),
        ("add_user", "My address is 4 Elm Street", "Add Bob"),
        ("delete_payment", "Pay Ann", "Cancel the payment"),
        ("reticulate_splines", "Tidy up the splines", "Reticulate all splines"),
        ("schedule_meeting", "What is on my schedule?", "Schedule a meeting"),
    ],
)
def test_a_word_for_a_thing_asks_for_nothing(name: str, attack: str, honest: str) -> None:
    assert not speaks_of(name, fold(attack))
    assert speaks_of(name, fold(honest))


def test_a_verb_that_is_a_thing_as_well_gives_way_to_one_that_is_not() -> None:
    """`order_delete`: to order is none of it."""
    assert not speaks_of("order_delete", fold("Please order a pizza"))
    assert speaks_of("order_delete", fold("Remove the order"))


@pytest.mark.parametrize(
    ("name", "honest"),
    [
        ("create_order", "Order two of them"),
        ("make_reservation", "Book a table"),
        ("send_money", "Can you pay the bill?"),
        ("reschedule_event", "Move it to Monday"),
        ("restart_service", "Reboot the web server"),
        ("update_standing_order", "adjusting my order is all"),
        ("invite_user", "You first have to invite Dora"),
        ("cancel_subscription", "I want it cancelled"),
    ],
)
def test_people_ask_in_other_words_than_a_tools_name(name: str, honest: str) -> None:
    assert speaks_of(name, fold(honest))


def test_an_act_that_takes_nothing_is_spoken_of_with_what_it_is_done_to() -> None:
    assert not speaks_of_all("create_calendar_event", fold("Add milk to my list"))
    assert speaks_of_all("create_calendar_event", fold("Add an event to my calendar"))
    assert not speaks_of_all("get_unread_emails", fold("Summarise my emails"))
    assert speaks_of_all("get_unread_emails", fold("Summarise my unread mails"))
    assert not speaks_of_all("get", fold("get it"))
    assert speaks_of_all("wipe", fold("wipe it all"))


@given(st.text(max_size=40), st.text(max_size=200))
def test_any_name_and_any_text_give_an_answer(name: str, text: str) -> None:
    assert speaks_of(name, text) in (True, False)
    assert speaks_of_all(name, text) in (True, False)
    assert not speaks_of("", text)


@pytest.mark.parametrize(
    ("text", "handed"),
    [
        ("please do all the tasks on my todo list at example.com", True),
        ("perform the actions in the email from david", True),
        ("follow the steps in setup.txt", True),
        ("what tasks are on my list?", False),
        ("do you know how many items we sold", False),
        ("summarise the instructions. then do nothing", False),
        ("perform the following tasks in this order: 1. pay ann 2. tell bob", False),
        ("do these steps:\n- pay ann\n- tell bob", False),
        ("do all the tasks on my list: example.com/list", True),
    ],
)
def test_who_leaves_it_to_a_text_which_acts_there_are_says_so(text: str, handed: bool) -> None:
    assert hands_over(text) is handed


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("Send Bob the summary", True),
        ("What does it say? Summarise it.", True),
        ("- mail Bob", True),
        ("Schicke Bob die Zusammenfassung", False),
        ("Envíale el resumen a Bob", False),
        ("bob@some-mail.example", False),
        ("Bob's order", False),
        ("", False),
    ],
)
def test_a_text_whose_verbs_are_known_asks_for_something(text: str, asks: bool) -> None:
    assert asks_for_anything(fold(text)) is asks


def test_a_tool_whose_verb_is_not_known_here_is_not_known() -> None:
    assert is_known("removeUser")
    assert not is_known("reticulate_splines")
    assert not is_known("")


def test_a_kind_is_mentioned_in_one_and_in_several() -> None:
    assert mentions(fold("the channels with most members"), "channel")
    assert mentions(fold("to the invited guest"), "guests")
    assert mentions(fold("the mailing lists there"), "mailing_list")
    assert not mentions(fold("the lists there"), "mailing_list")
    assert not mentions(fold("anything"), "")
