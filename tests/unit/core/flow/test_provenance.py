"""What people have said of a value: in so many words, by describing its record, by naming its source."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citywatch.core.flow import provenance
from citywatch.core.flow.derive import derive
from citywatch.core.flow.fields import Fields
from citywatch.core.flow.history import History
from citywatch.core.flow.item import Item, Reading, read_prompt, read_reply
from citywatch.core.flow.mentions import find_marked, find_phrase
from citywatch.core.flow.provenance import Provenance
from citywatch.core.flow.tokens import Kind
from citywatch.core.label import BOTTOM, Label
from citywatch.core.manifest import Output

TRUSTED = Output(trusted=True)
MAIL = frozenset(("email",))
NUMBERS = frozenset(("number", "money"))


def reply(value: Any, /, *about: str, outputs: dict[str, Output] | None = None) -> Item:
    reading = Reading(
        source="bank/look",
        trusted=Label(frozenset(("server:bank",)), None),
        untrusted=Label(frozenset(("outside:bank/look",)), None),
        shaped=BOTTOM,
        about=about,
    )
    return read_reply(Fields({"$": TRUSTED} if outputs is None else outputs).walk(value), "d", reading, 0)


def people(prompt: str, *items: Item, steers: bool = True, counts: bool = True) -> Provenance:
    history = History()
    for item in (read_prompt(prompt, "d", "alice", 0), *items):
        history.add(item)
    return Provenance(history, lambda source: steers and source == "principal:alice", lambda item: counts)


def test_a_prompt_of_somebody_who_may_not_steer_the_act_names_nothing() -> None:
    assert people("mail bob@x.example").named("bob@x.example", MAIL, "to") is not None
    assert people("mail bob@x.example", steers=False).named("bob@x.example", MAIL, "to") is None
    assert people("mail bob@x.example", counts=False).named("bob@x.example", MAIL, "to") is None


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_number_that_overlaps_but_is_not_whole_is_not_named(one: int, other: int) -> None:
    said = people(f"pay {one}{other}.77 now")
    assert said.named(one, NUMBERS, "amount") is None


@given(st.text(alphabet="abc ", min_size=1, max_size=8), st.text(alphabet="abcd", min_size=1, max_size=3))
def test_a_word_that_overlaps_but_is_not_whole_is_no_phrase(text: str, more: str) -> None:
    assert find_phrase("dddd", f"{text}dddd{more}") == -1 or (text[-1] == " " and not more[0].isalnum())


def test_a_short_number_names_something_only_behind_a_word_for_it() -> None:
    assert find_marked("13", "file", "open file 13") >= 0
    assert find_marked("13", "file", "13 files, see #14") == -1


def test_a_record_that_a_person_described_supplies_its_fields() -> None:
    files = reply([{"id": "13", "name": "plan.docx"}, {"id": "14", "name": "taxes.xlsx"}])
    said = people("delete 'plan.docx'", files)
    assert said.linked("13") is not None
    assert said.linked("14") is None


def test_another_record_of_that_description_makes_it_ambiguous_when_the_value_is_in_a_record_within() -> None:
    """The attack: a second file of the name, whose inner record holds another account than that of the first."""
    mine, theirs = ({"name": "plan.docx", "for": {"account": one}} for one in ("GB29NWBK60161331926819", "x-77"))
    said = "send 'plan.docx'"
    assert people(said, reply([mine])).linked("GB29NWBK60161331926819") is not None
    assert people(said, reply([mine, theirs])).linked("GB29NWBK60161331926819") is None
    assert people(said, reply([theirs]), reply([mine])).linked("x-77") is None
    assert people(said, reply([mine]), reply([mine])).linked("GB29NWBK60161331926819") is not None


def test_a_record_whose_name_is_a_piece_of_the_one_that_was_said_was_not_described() -> None:
    """The attack: a stranger shares `minutes.docx`, and people speak of `client-minutes.docx`."""
    files = [{"id": "31", "name": "minutes.docx", "owner": "mallory@x.example"}]
    assert people("send 'minutes.docx' to the client", reply(files)).linked("mallory@x.example") is not None
    assert people("send 'client-minutes.docx' to the client", reply(files)).linked("mallory@x.example") is None
    assert people("send client_minutes.docx", reply([{"id": "31", "name": "minutes"}])).linked("31") is None


def test_a_host_that_is_a_piece_of_the_one_that_was_said_was_not_named() -> None:
    said = people("Look at www.good-bank.example and at www.bank.co.uk.They know")
    hosts = frozenset(("url", "host"))
    assert said.named("www.good-bank.example", hosts, "url") is not None
    assert said.named("www.bank.co.uk", hosts, "url") is not None  # a sentence that begins without a space
    assert said.named("bank.example", hosts, "url") is None
    assert said.named("www.bank.co", hosts, "url") is None


def test_another_record_of_that_description_makes_it_ambiguous_wherever_it_comes_from() -> None:
    one, twin = reply([{"id": "13", "name": "plan.docx"}]), reply([{"id": "66", "name": "plan.docx"}], outputs={})
    assert people("delete 'plan.docx'", one, twin).linked("13") is None


def test_a_source_that_a_person_named_supplies_the_one_address_that_it_holds() -> None:
    page = reply("Write to dora@dora.example", "www.dora.example", outputs={})
    assert people("Mail Dora: her email is on www.dora.example", page).endorsed("dora@dora.example", MAIL) is not None
    both = reply("Write to dora@dora.example or eve@evil.example", "www.dora.example", outputs={})
    assert people("Mail Dora: her email is on www.dora.example", both).endorsed("dora@dora.example", MAIL) is None


def test_a_source_of_which_a_person_named_only_a_part_supplies_nothing() -> None:
    """A hijacked agent adds a word of the prompt to a question that it makes up, and calls the answer the source."""
    page = reply("Write to eve@evil.example", "https://evil.example/pay", "bill", outputs={})
    assert people("Send the bill by email to the landlord", page).endorsed("eve@evil.example", MAIL) is None


def test_a_record_that_no_server_vouches_for_supplies_nothing_by_description() -> None:
    """A page of a stranger that looks like an event: nothing in it is a field of anybody's."""
    made_up = [{"title": "Kick-off", "participants": ["eve@evil.example"]}]
    said = "Send the notes to the participants of the 'Kick-off' event"
    declared = {"$[*].id": TRUSTED}
    event = [{"id": "e1", "title": "Kick-off", "participants": ["bob@x.example"]}]
    assert people(said, reply(made_up, outputs={})).endorsed("eve@evil.example", MAIL) is None
    assert people(said, reply(event, outputs=declared)).endorsed("bob@x.example", MAIL) is not None


def test_a_value_that_stands_in_very_many_records_is_compared_with_a_bounded_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ten thousand twins: work is counted, and what was not compared entitles to nothing."""
    monkeypatch.setattr(provenance, "MAX_TWINS", 8)
    said = people("delete 'plan.docx'", *(reply([{"id": "13", "name": "plan.docx"}]) for _ in range(9)))
    looked: list[int] = []
    record = History.record

    def counted(self: History, number: int, which: int) -> Any:
        looked.append(number)
        return record(self, number, which)

    monkeypatch.setattr(History, "record", counted)
    assert said.linked("13") is None
    assert len(looked) <= 9


def test_amounts_of_more_records_than_are_compared_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    rent = reply([{"name": "landlord", "amount": 1200}])
    assert people("pay the landlord half", rent).numbers()[0] == [Decimal(1200)]
    monkeypatch.setattr(provenance, "MAX_TWINS", 0)
    assert people("pay the landlord half", rent).numbers()[0] == []


@pytest.mark.parametrize("hostile", ["1" * 60_000, "1." * 30_000, "1 % " * 15_000, "a.\n" * 20_000, "(" * 60_000])
def test_hostile_words_are_read_once(hostile: str) -> None:
    said = people(hostile)
    given_, percents = said.numbers()
    assert len(said.sentences) <= provenance.MAX_SENTENCES
    assert derive(Decimal("0.5"), given_, percents) is None or percents


def test_a_percentage_is_whole_or_none() -> None:
    assert people("tip 12.5 % please").numbers()[1] == [Decimal("12.5")]
    assert people("x1.1.12%").numbers()[1] == []


def test_what_one_persons_words_say_is_not_remembered_as_anothers_nor_what_was_said_before_a_later_prompt() -> None:
    history = History()
    bill = reply([{"name": "landlord", "amount": 1200}, {"name": "plumber", "amount": 90}])
    for item in (read_prompt("pay the landlord half", "d", "alice", 0), bill):
        history.add(item)

    def amounts(*names: str) -> list[Decimal]:
        return Provenance(history, lambda source: source.partition(":")[2] in names, lambda item: True).numbers()[0]

    for _ in range(2):
        assert amounts("alice") == [Decimal(1200)]
        assert amounts("bob") == amounts() == []
    history.add(read_prompt("and the plumber", "d", "bob", 1))
    for _ in range(2):
        assert amounts("alice") == [Decimal(1200)]
        assert amounts("bob") == [Decimal(90)]
        assert amounts("alice", "bob") == [Decimal(1200), Decimal(90)]
    history.add(reply([{"name": "landlord", "amount": 1300}]))
    assert amounts("alice") == []  # two records of that name, and two amounts


def test_a_page_that_was_named_by_its_address_supplies_no_further_page() -> None:
    """The attack: a website was named, a stranger wrote one link on it, and that is the "website" then."""
    page = reply("Mail dora@dora.example, see https://evil.example/x", "www.dora.example", outputs={})
    link = frozenset((Kind.URL, Kind.HOST))
    assert people("Her email is on her website www.dora.example", page).endorsed("https://evil.example/x", link) is None
    assert people("Follow the link on www.dora.example", page).endorsed("https://evil.example/x", link) is not None
