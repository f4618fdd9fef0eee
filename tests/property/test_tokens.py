"""One value is one in all its notations, is found whole wherever it stands alone, and never inside a longer one."""

from __future__ import annotations

from datetime import date, time

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from citywatch.core.flow.encodings import MAX_CHARS as MAX_DECODED
from citywatch.core.flow.encodings import MAX_TEXTS
from citywatch.core.flow.fold import scannable
from citywatch.core.flow.index import index_text, met
from citywatch.core.flow.phrases import find_lines, find_names, find_phrase, phrase
from citywatch.core.flow.tokens import (
    Kind,
    Token,
    decodings,
    find_tokens,
    fold,
    is_looser,
    looks_like,
    split_tokens,
    whole_tokens,
)
from tests.property import strategies as draw

AMOUNTS = st.tuples(st.integers(0, 10**9), st.integers(0, 99))


def meanings(tokens: tuple[Token, ...], kind: Kind | None = None) -> set[tuple[Kind, str]]:
    return {(token.kind, token.value) for token in tokens if kind in (None, token.kind)}


def exact(value: str) -> set[tuple[Kind, str]]:
    """The full readings of a value, without what a vaguer text would say."""
    end = len(value)
    return meanings(tuple(t for t in find_tokens(value, names=False) if (t.start, t.end) == (0, end)))


@given(AMOUNTS)
def test_every_notation_of_a_number_gives_one_normal_form(amount: tuple[int, int]) -> None:
    plain = f"{amount[0]}.{amount[1]:02}".rstrip("0").rstrip(".")
    for notation in draw.number_notations(*amount):
        assert (Kind.NUMBER, plain) in meanings(whole_tokens(notation)), notation


@given(AMOUNTS, st.sampled_from(["{} EUR", "EUR {}", "€{}", "{}€", "€ {}", "{} euros", "EUR{}"]))
def test_every_notation_of_money_meets_the_money_and_the_bare_number(amount: tuple[int, int], form: str) -> None:
    plain = f"{amount[0]}.{amount[1]:02}".rstrip("0").rstrip(".")
    for notation in draw.number_notations(*amount):
        found = meanings(whole_tokens(form.format(notation)))
        assert {(Kind.MONEY, f"EUR {plain}"), (Kind.NUMBER, plain)} <= found, form.format(notation)


@given(draw.DATES)
def test_every_notation_of_a_date_gives_one_normal_form(day: date) -> None:
    for notation in draw.date_notations(day):
        assert (Kind.DATE, day.isoformat()) in meanings(whole_tokens(notation)), notation


@given(draw.DATES, draw.DATES)
def test_a_date_without_a_year_is_met_by_that_day_of_any_year_and_years_do_not_meet(one: date, other: date) -> None:
    vague = f"{draw.MONTHS[one.month - 1]} {one.day}"
    held = index_text(f"on {vague}, surely")
    assert met(one.isoformat(), held)
    assert bool(met(other.isoformat(), held)) == ((other.month, other.day) == (one.month, one.day))
    assert met(vague, index_text(one.isoformat()))
    assert bool(met(other.isoformat(), index_text(one.isoformat()))) == (one == other)
    assert all(is_looser(token) for token in whole_tokens(vague))


@given(st.times().map(lambda t: t.replace(second=0, microsecond=0)))
def test_every_notation_of_a_time_gives_one_normal_form(at: time) -> None:
    half, hour = "ap"[at.hour >= 12], (at.hour + 11) % 12 + 1
    ways = [f"{at:%H:%M}", f"{at:%H:%M:%S}", f"{hour}:{at:%M}{half}m", f"{hour}:{at:%M} {half}.m."]
    ways += [f"{hour}{half}m", f"{hour} {half.upper()}M"] if at.minute == 0 else []
    for notation in ways:
        assert (Kind.TIME, f"{at:%H:%M}") in meanings(whole_tokens(notation)), notation


@given(draw.DATES, st.integers(0, 23))
def test_an_instant_is_met_by_its_date_and_its_time_together_and_by_neither_alone(day: date, hour: int) -> None:
    value = f"{day.isoformat()}T{hour:02}:00:00"
    said = f"{draw.MONTHS[day.month - 1]} {day.day}"
    assert met(value, index_text(f"{said} then, and it begins at {hour:02}:00."))
    assert met(value, index_text(f"{day.isoformat()} {hour:02}:00"))
    assert not met(value, index_text(f"on {said}"))
    assert not met(value, index_text(f"at {hour:02}:00"))
    assert split_tokens(value)


@given(draw.EMAILS)
def test_every_notation_of_an_address_gives_one_normal_form(address: str) -> None:
    local, _, host = address.partition("@")
    for notation in (address, address.upper(), f"{local}@{host.title()}", f"{local}@{host}".replace("a", "A")):
        assert meanings(whole_tokens(notation), Kind.EMAIL) == {(Kind.EMAIL, address)}
    assert (Kind.EMAIL, address) in meanings(find_tokens(f"<mailto:{address}?subject=x>"))


@given(draw.URLS)
def test_every_notation_of_a_url_gives_one_normal_form(url: str) -> None:
    scheme, _, rest = url.partition("://")
    host, _, tail = rest.partition("/")
    port = {"http": 80, "https": 443}[scheme]
    escaped = "".join(f"%{ord(char):02x}" if char.isalnum() else char for char in tail.partition("?")[0])
    query = tail[len(tail.partition("?")[0]) :]
    ways = [
        f"{scheme.upper()}://{host}/{tail}",
        f"{scheme}://{host.upper()}:{port}/{tail}",
        f"{scheme}://{host}./{tail}",
    ]
    ways += [f"{scheme}://{host}/{escaped}{query}", f"{scheme}://{host}/x/../{tail}", f"{scheme}://{host}/./{tail}"]
    for notation in ways:
        assert (Kind.URL, url) in meanings(whole_tokens(notation)), notation
    assert (Kind.HOST, host) in meanings(find_tokens(url))


@given(draw.IBANS)
def test_every_notation_of_an_iban_gives_one_normal_form(iban: str) -> None:
    groups = " ".join(iban[n : n + 4] for n in range(0, len(iban), 4))
    for notation in (iban, iban.lower(), groups, groups.lower(), groups.replace(" ", "-")):
        assert meanings(whole_tokens(notation)) == {(Kind.IBAN, iban)}
    wrong = iban[:2] + f"{(int(iban[2:4]) + 1) % 100:02}" + iban[4:]
    assert not meanings(find_tokens(wrong), Kind.IBAN)


@given(draw.PATHS)
def test_every_notation_of_a_path_gives_one_normal_form(path: str) -> None:
    assume(meanings(whole_tokens(path), Kind.PATH))
    head, _, tail = path.rpartition("/")
    for notation in (path, f"{head}//{tail}", f"{head}/./{tail}", f"{head}/x/../{tail}", f"{path}/"):
        assert meanings(whole_tokens(notation), Kind.PATH) == {(Kind.PATH, path)}, notation


@given(draw.PHONES)
def test_every_notation_of_a_phone_number_gives_one_normal_form(phone: str) -> None:
    digits = phone[3:]
    for notation in (phone, f"+49 {digits[:3]} {digits[3:]}", f"+49 (0){digits[:3]}-{digits[3:]}", f"0049{digits}"):
        assert (Kind.PHONE, phone) in meanings(whole_tokens(notation)), notation


@given(draw.VALUES, draw.AROUND)
def test_a_value_that_stands_alone_is_found_whole(value: str, around: tuple[str, str]) -> None:
    assume("@" not in value or around[0] != "key=")  # `key=a@b.c` is another mailbox
    text = value.join(around)
    wanted = exact(value)
    assert wanted
    assert wanted <= meanings(find_tokens(text)), text
    assert met(value, index_text(text))


@given(draw.VALUES, st.data())
def test_no_part_of_a_value_is_whole_in_it(value: str, data: st.DataObject) -> None:
    """Unless it means the same (`1` of `1.0`), or is a part of another kind: the host of a URL."""
    start = data.draw(st.integers(0, len(value) - 1))
    end = data.draw(st.integers(start + 1, len(value)))
    part = value[start:end]
    assume(part != value)
    same = meanings(whole_tokens(value)) | meanings(find_tokens(value), Kind.HOST)
    if "://" in value:
        same |= {(kind, host.value) for host in find_tokens(value) if host.kind is Kind.HOST for kind in Kind}
    assert meanings(met(part, index_text(value))) <= same


@given(draw.VALUES, st.sampled_from("0aZ_\u200b\u0301\u0430\uff10@"), st.booleans())
def test_a_value_with_one_more_character_is_another_value(value: str, more: str, before: bool) -> None:
    longer = more + value if before else value + more
    assume(exact(value) != exact(longer))
    assume(not (exact(value) & exact(longer)))  # `01` is `1`
    hosts = meanings(find_tokens(longer), Kind.HOST)
    assert meanings(met(value, index_text(longer))) <= hosts, longer


@given(draw.ANY_TEXT)
@example("\ud800@\udfff.com http://\ud800/ \ud8001")
def test_any_text_has_tokens_whose_spans_read_the_same_alone(text: str) -> None:
    for token in find_tokens(text):
        assert 0 <= token.start < token.end <= len(text)
        if token.kind not in (Kind.HOST, Kind.NAME):  # an odd IPv4 notation is a host only where a host must stand
            assert (token.kind, token.value) in meanings(whole_tokens(text[token.start : token.end])), token


@given(draw.ANY_TEXT)
def test_any_text_is_an_argument_an_index_and_a_hiding_place(text: str) -> None:
    whole_tokens(text)
    split_tokens(text)
    looks_like(text)
    met(text, index_text(text))
    hidden = decodings(text)
    assert len(hidden) <= MAX_TEXTS
    assert sum(map(len, hidden)) <= MAX_DECODED
    assert text not in hidden


@given(draw.ANY_TEXT)
def test_folding_twice_folds_no_further(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(st.text(st.characters(), max_size=60))
def test_what_differs_only_in_what_is_not_seen_folds_to_one(text: str) -> None:
    assert fold("\u200b".join(text)) == fold(text) or not text.isascii()


@given(
    st.lists(st.sampled_from("Hawaii trip O'Brien general-purpose a.b x@y.com 42 #one über".split()), min_size=1),
    st.data(),
)
def test_a_phrase_is_whole_exactly_at_the_borders_of_words(pieces: list[str], data: st.DataObject) -> None:
    text = " ".join(pieces)
    start = data.draw(st.integers(0, len(pieces) - 1))
    part = " ".join(pieces[start : data.draw(st.integers(start + 1, len(pieces)))])
    assume(phrase(part))
    places = find_phrase(part, text)
    assert places
    assert all(text[a:b] == part for a, b in places)
    assume(part[1:].strip() and part[0] != "#")
    assert not find_phrase(part[1:], text) or f" {part[1:]} " in f" {text} "


@pytest.mark.parametrize("value", [True, False])
def test_a_truth_value_is_no_token(value: bool) -> None:
    assert whole_tokens(value) == ()


LINES = st.text(st.sampled_from("Ab1 :-*.)'\"`\t,é\u2022"), max_size=80) | st.text(max_size=30)


@given(LINES)
def test_a_line_alone_is_read_as_the_same_line_under_another(line: str) -> None:
    """One line is tried where it begins and nowhere else, and quotes are looked for where there is one."""
    assume("\n" not in scannable(line))
    for find in (find_lines, find_names):
        under = find("\n" + line, scannable("\n" + line), 99)
        assert find(line, scannable(line), 99) == [
            Token(one.kind, one.value, one.start - 1, one.end - 1) for one in under
        ]
