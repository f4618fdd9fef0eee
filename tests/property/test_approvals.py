"""What people are shown, whatever agents, servers and strangers wrote; and what is read of what authenticators send."""

from __future__ import annotations

import unicodedata
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citywatch.core.approvals.cbor import parse_cbor
from citywatch.core.approvals.drawn import as_text
from citywatch.core.approvals.looks import looks
from citywatch.core.approvals.plain import named, plain, prose, word
from citywatch.core.approvals.showing import (
    MAX_VALUE,
    Document,
    Excerpt,
    Fact,
    Kind,
    Subject,
    Why,
    document_digest,
    render,
)
from citywatch.core.approvals.statement import parse_statement
from citywatch.core.approvals.ticket import State, Ticket
from citywatch.core.call import Effect, Source
from citywatch.core.errors import Malformed
from citywatch.core.label import Label
from citywatch.core.manifest import ParameterType
from tests.passkeys import cbor

HOSTILE = (
    "\u202e", "\u2066", "\u2069", "\u200b", "\u200d", "\u2060", "\ufeff", "\u00ad", "\u115f", "\u3164", "\ufe0f",
    "\U000e0041", "\x1b[2J", "\x1b]8;;http://e.example\x07", "\x00", "\x07", "\r", "\x85", "\u2028", "\u2029", "\t",
    "\n", "\ue000", "<b>", "</script><script>", "**", "`", "[x](y)", "“", "”", "»", "«", "│", "! ", "What a no does",
    "\u0430nn", "\u0440\u0430ypal.com", "\ud800",
)  # fmt: skip
TEXTS = st.lists(st.sampled_from(HOSTILE) | st.text(max_size=8), max_size=10).map("".join)
VALUES = TEXTS | st.integers() | st.floats(allow_nan=True) | st.booleans() | st.none()
MONEY = ParameterType.MONEY
STRANGERS = Label(frozenset({"outside:mail/inbox"}), None)


def ticket(why: str = "", advice: tuple[str, ...] = (), tool: str = "pay") -> Ticket:
    return Ticket(
        id="t1", agent="spiffe://a.example/agent/clerk", server="bank", tool=tool, state=State.PENDING, asked=0,
        expires=86_400_000, why=why, call="c", advice=advice, salt="00",
    )  # fmt: skip


@st.composite
def subjects(draw: st.DrawFn) -> Subject:
    facts = []
    for _ in range(draw(st.integers(0, 4))):
        path, text = draw(TEXTS), draw(TEXTS)
        start, end = draw(st.integers(-3, 20)), draw(st.integers(-3, 20))
        how = draw(st.sampled_from(("", "named")))
        source = Source(path=path, role="destination", how=how, where=draw(TEXTS), label=STRANGERS,
                        item=draw(TEXTS), part=draw(TEXTS), at=1, traced=draw(st.booleans()))  # fmt: skip
        facts.append(
            Fact(
                path=path,
                role=draw(st.sampled_from(("destination", "object", "amount", "time", "content", ""))),
                value=draw(VALUES),
                type=draw(st.none() | st.sampled_from([*ParameterType])),
                scale=draw(st.integers(0, 6)),
                source=draw(st.none() | st.just(source)),
                excerpt=draw(st.none() | st.just(Excerpt(text, start, end))),
                handle=draw(TEXTS),
            )
        )
    return Subject(
        ticket=ticket(draw(TEXTS), (draw(TEXTS),), draw(TEXTS)),
        effect=draw(st.sampled_from([*Effect])),
        audience=("everybody",),
        facts=tuple(facts),
        via=(draw(TEXTS),),
        near=("paypal.com", "ann"),
        off=(draw(TEXTS),),
    )


def drawable(text: str) -> bool:
    refused = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    joins = "\u200d\ufe0f"
    return all(char == "\n" or char in joins or unicodedata.category(char) not in refused for char in text)


@given(subjects())
def test_whatever_stands_in_a_call_its_document_is_made_and_can_be_drawn(subject: Subject) -> None:
    document = render(subject)
    assert document == render(subject)
    assert document_digest(document, "00") == document_digest(render(subject), "00")
    for line in document.lines():
        assert all(drawable(one) for one in (line.text, line.label, line.quoted, *line.notes))
        assert "\n" not in line.text + line.label + "".join(line.notes)
        assert 0 <= line.start <= line.end <= len(line.quoted)


@given(subjects())
def test_nothing_that_somebody_wrote_can_pass_for_ours(subject: Subject) -> None:
    """Each line of theirs stands behind a bar, and none of ours begins with one; markup is theirs in values alone."""
    document = render(subject)
    for line in document.lines():
        assert "│" not in line.text
        for said in (line.text, line.label, *line.notes):
            outside = said.split("“")[0] + "".join(piece.split("”", 1)[-1] for piece in said.split("“")[1:])
            assert not any(char in outside for char in "<>`*[]“”│\x1b")
        if line.kind is Kind.QUOTE or line.kind is Kind.UNUSUAL:
            assert not any(char in line.quoted for char in "<>&`*_~[]#|\\") or line.kind is Kind.UNUSUAL
    theirs = sum(len(line.quoted.split("\n")) for line in document.lines() if line.quoted)
    drawn = as_text(document, width=10**9).split("\n")
    assert sum(one.startswith("    │ ") for one in drawn) == theirs
    headings = {
        "What will happen",
        "On whose authority",
        "Where its values come from",
        "What is unusual",
        "What a no does",
    }
    assert sum(one in headings for one in drawn) == 5


@given(st.lists(st.tuples(TEXTS, VALUES), min_size=1, max_size=3))
def test_what_is_not_shown_as_it_is_is_called_uninspectable(values: list[tuple[str, Any]]) -> None:
    facts = tuple(Fact(path=path, role="content", value=value) for path, value in values)
    document = render(Subject(ticket=ticket(), effect=Effect.WRITE, audience=(), facts=facts))
    shown = [line.quoted for line in document.lines() if line.kind is Kind.VALUE]
    exact = all(
        not isinstance(value, str) or value.replace("\r\n", "\n").replace("\t", "    ") == text
        for (_, value), text in zip(values, shown, strict=True)
    )
    paths = all(plain(path, MAX_VALUE).faithful for path, _ in values)
    assert (Why.UNPRINTABLE.value in document.uninspectable) is not (exact and paths)


def test_a_megabyte_is_cut_said_to_be_and_uninspectable() -> None:
    fact = Fact(path="note", role="content", value="a" * (1 << 20))
    document = render(Subject(ticket=ticket(), effect=Effect.WRITE, audience=(), facts=(fact,)))
    assert document.uninspectable == ("too_long",)
    (line,) = [line for line in document.lines() if line.kind is Kind.VALUE]
    assert len(line.quoted) == MAX_VALUE
    assert line.notes == (f"{(1 << 20) - MAX_VALUE} more characters are sent and not shown",)
    assert any("more than 8000 characters" in one.text for one in document.lines())


def test_more_values_than_can_be_shown_are_said_to_be_there() -> None:
    facts = tuple(Fact(path=f"to[{at}]", role="destination", value="a@b.example") for at in range(65))
    document = render(Subject(ticket=ticket(), effect=Effect.WRITE, audience=(), facts=facts))
    assert document.uninspectable == ("too_many",)
    assert any(one.text == "It reaches 65 recipients in" for one in document.lines())


@pytest.mark.parametrize(
    ("fact", "note"),
    [
        (Fact(path="a", role="amount", value=1234.5, type=MONEY, currency="EUR"), "an amount of 1,234.50 EUR"),
        (
            Fact(path="a", role="amount", value=0.005, type=MONEY, currency="EUR"),
            "an amount of 0.005 (more digits than the currency has) EUR",
        ),
        (Fact(path="a", role="amount", value=7, type=MONEY), "an amount of 7.00 in the currency of the account"),
        (Fact(path="a", role="amount", value=1200000), "that is 1,200,000"),
        (Fact(path="a", role="time", value="2026-11-27"), "a Friday, 27 November 2026"),
        (Fact(path="a", role="destination", value="аnn"), "mixes alphabets: cyrillic, latin"),
        (Fact(path="a", role="destination", value="раураl"), "looks like “paypal”, and is not it"),
        (
            Fact(path="a", role="destination", value="x@xn--pypal-4ve.com"),
            "“xn--pypal-4ve” is written “pаypal”, in cyrillic, latin",
        ),
        (Fact(path="a", role="destination", value="x@bücher.example"), "is “xn--bcher-kva.example” to a computer"),
        (Fact(path="a", role="destination", value="paypa1"), "looks like “paypal”, and is not it"),
        (Fact(path="a", role="content", value=None), "no value"),
        (Fact(path="a", role="content", value=True), "a yes or a no, not a word"),
        (Fact(path="a", role="content", value=""), "an empty text"),
        (Fact(path="a", role="content", value="x", handle="mail/inbox body"), "from “mail/inbox body”"),
    ],
)  # fmt: skip
def test_a_value_is_read_out_as_people_say_it(fact: Fact, note: str) -> None:
    subject = Subject(ticket=ticket(), effect=Effect.WRITE, audience=(), facts=(fact,), near=("paypal",))
    (line,) = [line for line in render(subject).lines() if line.kind is Kind.VALUE]
    assert any(note in one for one in line.notes), line.notes


@pytest.mark.parametrize(
    "value", ["ann", "ann@acme.example", "https://acme.example/x", "GB29NWBK60161331926819", "müller", "анна"]
)
def test_an_ordinary_name_has_no_note(value: str) -> None:
    assert looks(value, ("ben", "acme.example")) == ()


def test_a_picture_of_several_parts_is_shown_and_bytes_behind_a_letter_are_not() -> None:
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f"
    assert plain(family, 99).text == family
    assert plain("a\ufe0f\u200db", 99).removed == ("U+FE0F", "U+200D")
    assert plain("\u2764\ufe0f\ufe0f\ufe0f", 99).removed == ("U+FE0F × 2",)


def test_the_source_is_quoted_with_the_value_marked_and_no_more_than_around_it() -> None:
    text = "a" * 500 + " pay <b>DE89</b> now " + "b" * 500
    start = text.index("DE89")
    source = Source(
        path="to", role="destination", how="", where="", label=STRANGERS, item="mail/inbox", part="$.body", at=1
    )
    fact = Fact(path="to", role="destination", value="DE89", source=source, excerpt=Excerpt(text, start, start + 4))
    (line,) = [
        one
        for one in render(Subject(ticket=ticket(), effect=Effect.WRITE, audience=(), facts=(fact,))).lines()
        if one.kind is Kind.QUOTE
    ]
    assert line.quoted[line.start : line.end] == "DE89"
    assert "<b>" not in line.quoted
    assert len(line.quoted) < 350
    assert "from a reply of “mail/inbox”, in its field “body”" in line.notes[0]


@given(TEXTS, st.integers(0, 30))
def test_a_text_without_oddities_is_shown_as_it_is(text: str, limit: int) -> None:
    shown = plain(text, limit)
    assert drawable(shown.text)
    if shown.faithful:
        assert shown.text.replace("    ", "") == text.replace("\r\n", "\n").replace("\t", "").replace("    ", "")
    assert not any(char in prose(text, limit).text for char in "<>&`*_~|\\[](){}#=^")
    assert "\n" not in word(text)
    quoted = named(text)
    assert (quoted[0], quoted[-1]) == ("“", "”")
    assert not any(char in quoted[1:-1] for char in '“”«»"`<>\n')


@given(st.binary(max_size=64))
def test_any_bytes_are_a_cbor_value_or_malformed(data: bytes) -> None:
    with suppress(Malformed):
        assert cbor(parse_cbor(data)) == data, "there is one form"


@given(st.text(max_size=80))
def test_any_text_is_a_statement_or_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        parse_statement(text)


def test_a_document_is_one_value() -> None:
    one = Document(ticket="t", sections=())
    assert document_digest(one, "aa") != document_digest(one, "bb")
    assert document_digest(one, "aa") != document_digest(Document(ticket="u", sections=()), "aa")
