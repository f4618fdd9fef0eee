"""Which values a text holds whole, and which it does not: the honest notation beside the trick that looks like it."""

from __future__ import annotations

import pytest

from citywatch.core.flow.tokens import (
    MAX_CHARS,
    MAX_CHUNKS,
    MAX_TOKENS,
    Kind,
    find_tokens,
    looks_like,
    split_tokens,
    whole_tokens,
)


def found(text: str, kind: Kind) -> list[str]:
    return [token.value for token in find_tokens(text, names=False) if token.kind is kind]


def whole(value: str | int | float | bool, kind: Kind) -> list[str]:
    return [token.value for token in whole_tokens(value) if token.kind is kind]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("pay 1,200.00 now", ["1200"]),
        ("pay 1.200,00 now", ["1200"]),
        ("1'200.50", ["1200.5"]),
        ("1_000", ["1000"]),
        ("1,00,000", ["100000"]),
        ("1.2k and 1.2e3", ["1200", "1200"]),
        ("-5 and −5", ["-5", "-5"]),
        ("1.200", ["1.2", "1200"]),
        ("1,200", ["1.2", "1200"]),
        ("0.123", ["0.123"]),
        ("007", ["7"]),
        ("10%", ["10"]),
        ("１２００", ["1200"]),
        ("١٢٠٠", ["1200"]),
        ("[1,2,3]", ["1", "2", "3"]),
        ("1 200", ["1", "1200", "200"]),
        ("1 200 EUR", ["1200"]),
        ("x=1&y=2", ["1", "2"]),
        ("2024-05-01,1200.50,x", ["1200.5"]),
    ],
)
def test_numbers_in_all_notations(text: str, numbers: list[str]) -> None:
    assert found(text, Kind.NUMBER) == numbers


@pytest.mark.parametrize(
    "text",
    ["100", "1st", "v1", "1a", "x1y", "1:100", "1/100", "1-100", "1.2.3", "$1x", "1\u200b", "\u200b1", "1\u0301", "1²",
     "a@1.com", "http://x.com/1", "/home/1", "1_", "#1a", "TX-1", "0x1", "½1", "+1 555 123 4567"],
)  # fmt: skip
def test_one_is_whole_in_none_of_these(text: str) -> None:
    assert "1" not in found(text, Kind.NUMBER) + found(text, Kind.ID)


@pytest.mark.parametrize(
    ("text", "money"),
    [
        ("1,200.00 EUR", ["EUR 1200"]),
        ("€1.2k", ["EUR 1200"]),
        ("EUR 1200", ["EUR 1200"]),
        ("costs $ 5.50.", ["USD 5.5"]),
        ("US$5", ["USD 5"]),
        ("5 dollars", ["USD 5"]),
        ("5 DAYS", []),
        ("EURO5", []),
        ("5 EURx", []),
    ],
)
def test_money_is_its_currency_and_its_number(text: str, money: list[str]) -> None:
    assert found(text, Kind.MONEY) == money


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("on May 26th.", ["--05-26"]),
        ("26 May 2024", ["2024-05-26"]),
        ("May 26, 2024,", ["2024-05-26"]),
        ("26/05/2024", ["2024-05-26"]),
        ("05/06/2024", ["2024-06-05", "2024-05-06"]),
        ("on 5/26", ["--05-26"]),
        ("2024-05-26T17:00Z", ["2024-05-26", "2024-05-26T17:00Z"]),
        ("2024-05-26 17:00", ["2024-05-26", "2024-05-26T17:00"]),
        ("20240526", ["2024-05-26"]),
        ("2023-02-29", []),
        ("31/04/2024", []),
        ("you may 5 times", []),
        ("2024-05-261", []),
        ("12024-05-26", []),
        ("May 263", []),
        ("Mayor 26", []),
        ("26 Mayhem", []),
    ],
)
def test_dates_in_all_notations(text: str, days: list[str]) -> None:
    assert found(text, Kind.DATE) == days


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("at 5pm", ["17:00"]),
        ("at 5 p.m.", ["17:00"]),
        ("12am, 12 pm", ["00:00", "12:00"]),
        ("17:00:00", ["17:00"]),
        ("17:00:30.500Z", ["17:00:30.5Z"]),
        ("09:00-10:00", ["09:00", "10:00"]),
        ("2024-05-26T09:00:00+02:00", ["09:00+02:00"]),
        ("25:00, 16:9, 5, 13pm", []),
    ],
)
def test_times_in_all_notations(text: str, times: list[str]) -> None:
    assert found(text, Kind.TIME) == times


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("Alice.B+x@Example.COM", ["alice.b+x@example.com"]),
        ("<mailto:bob@b.org?subject=x>", ["bob@b.org"]),
        ("'a@b.com', a@b.com's", ["a@b.com", "a@b.com"]),
        ("to:a@b.com;c@d.com,e@f.com", ["a@b.com", "c@d.com", "e@f.com"]),
        ("a@bücher.example", ["a@xn--bcher-kva.example"]),
        ("xa@b.com", ["xa@b.com"]),
        ("a@b.com.evil.org", ["a@b.com.evil.org"]),
        ("a@b.com@evil.org", []),
        ("a@b", []),
        ("a\u200b@b.com", ["a\u200b@b.com"]),
    ],
)
def test_addresses_are_whole_or_another(text: str, addresses: list[str]) -> None:
    assert found(text, Kind.EMAIL) == addresses


def test_a_look_alike_address_is_another_and_is_said_to_pose() -> None:
    posing = "\u0430lice@x.com"
    assert whole(posing, Kind.EMAIL) == [posing]
    assert whole("alice@x.com", Kind.EMAIL) == ["alice@x.com"]
    assert looks_like(posing) == "alice@x.com"
    assert looks_like("ali\u200bce@x.com") == "alice@x.com"
    assert looks_like("alice@x.com") is None
    assert looks_like("привет") is None
    assert looks_like("日本") is None


@pytest.mark.parametrize(
    ("text", "url", "host"),
    [
        ("HTTPS://Example.com:443/%7Ea/../b?q=1,", "https://example.com/b?q=1", "example.com"),
        ("(http://a.com/x(y))", "http://a.com/x(y)", "a.com"),
        ("http://bank.com@evil.com/", "http://bank.com@evil.com/", "evil.com"),
        ("http://bank.com:80@evil.com", "http://bank.com:80@evil.com/", "evil.com"),
        ("http://0x7f.1/", "http://127.0.0.1/", "127.0.0.1"),
        ("http://2130706433", "http://127.0.0.1/", "127.0.0.1"),
        ("http://0177.0.0.1", "http://127.0.0.1/", "127.0.0.1"),
        ("http://[::ffff:1.2.3.4]:8080/", "http://[::ffff:102:304]:8080/", "[::ffff:102:304]"),
        ("http://bücher.example.", "http://xn--bcher-kva.example/", "xn--bcher-kva.example"),
        ("http://ｅvil.com/", "http://evil.com/", "evil.com"),
        ("http://%65vil.com/", "http://evil.com/", "evil.com"),
        ("http://a.com/%2541", "http://a.com/%2541", "a.com"),
        ("http://bank.com\\@evil.com/", "http://bank.com\\@evil.com/", None),
        ("http://a.com:99999/", "http://a.com:99999/", None),
        ("http://a..com/", "http://a..com/", None),
        ("http://bank.com℀.evil.com/", "http://bank.com℀.evil.com/", None),
    ],
)  # fmt: skip
def test_a_url_is_read_as_its_consumer_reads_it(text: str, url: str, host: str | None) -> None:
    assert found(text, Kind.URL) == [url]
    assert found(text, Kind.HOST) == ([host] if host else [])


@pytest.mark.parametrize(
    "text",
    ["xb.com", "b.com.evil.org", "b.community", "a.b.com", "b.com-evil.org", "a@b.com", "http://b.com.evil.org/b.com",
     "http://b.com@evil.org", "http://evil.org/?b.com", "http://evil.org#b.com", "b.com\u200b", "\u0301b.com"],
)  # fmt: skip
def test_a_host_is_whole_in_no_longer_one(text: str) -> None:
    assert "b.com" not in found(text, Kind.HOST)


def test_a_bare_host_meets_its_url_only_where_nothing_else_was_asked_for() -> None:
    assert whole("https://www.x.com", Kind.URL) == ["https://www.x.com/", "//www.x.com/"]
    assert found("go to www.x.com.", Kind.URL) == ["//www.x.com/"]
    assert found("go to www.x.com:8080.", Kind.URL) == ["//www.x.com:8080/"]
    assert found("go to http://www.x.com/?leak=1", Kind.URL) == ["http://www.x.com/?leak=1"]
    assert whole("https://x.com/a", Kind.URL) == ["https://x.com/a", "//x.com/a"]
    assert found("see x.com/a", Kind.URL) == ["//x.com/a"]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/etc//passwd", "/etc/passwd"),
        ("/safe/../etc/./passwd", "/etc/passwd"),
        ("/../../etc/passwd", "/etc/passwd"),
        ("../x", "../x"),
        ("C:\\Temp\\x", "c:/Temp/x"),
        ("~/a/", "~/a"),
        ("report.pdf", "report.pdf"),
    ],
)
def test_a_path_has_one_form(text: str, path: str) -> None:
    assert path in found(text, Kind.PATH)


@pytest.mark.parametrize("text", ["/etc/passwd.bak", "/x/etc/passwd", "x/etc/passwd", "/etc/passwd/x", "/etc/passwd*"])
def test_a_path_is_whole_in_no_longer_one(text: str) -> None:
    assert "/etc/passwd" not in found(text, Kind.PATH)


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("GB29 NWBK 6016 1331 9268 19 and", Kind.IBAN, "GB29NWBK60161331926819"),
        ("gb29nwbk60161331926819.", Kind.IBAN, "GB29NWBK60161331926819"),
        ("+49 (0)30 123-4567", Kind.PHONE, "+49301234567"),
        ("(555) 123-4567", Kind.PHONE, "5551234567"),
        ("tel 555-123-4567", Kind.PHONE, "5551234567"),
        ("#123", Kind.ID, "123"),
        ("TX-42", Kind.ID, "TX-42"),
        ("550E8400-E29B-41D4-A716-446655440000", Kind.ID, "550e8400-e29b-41d4-a716-446655440000"),
        ("01ARZ3NDEKTSV4RRFFQ69G5FAV", Kind.ID, "01ARZ3NDEKTSV4RRFFQ69G5FAV"),
        ("0xDEADBEEF01", Kind.ID, "0xdeadbeef01"),
        ("fe80::1", Kind.HOST, "[fe80::1]"),
    ],
)
def test_names_that_machines_give(text: str, kind: Kind, value: str) -> None:
    assert found(text, kind) == [value]


@pytest.mark.parametrize("text", ["GB28NWBK60161331926819", "GB29NWBK601613319268190", "XX29NWBK60161331926819"])
def test_an_iban_that_does_not_check_is_none(text: str) -> None:
    assert found(text, Kind.IBAN) == []


def test_an_argument_is_one_value_or_a_phrase_or_nothing() -> None:
    assert whole("1,200.00 EUR", Kind.NUMBER) == ["1200"]
    assert whole(1200, Kind.NUMBER) == whole(1200.0, Kind.NUMBER) == ["1200"]
    assert whole("Hawaii  Trip", Kind.NAME) == ["hawaii trip"]
    assert whole("general", Kind.NAME) == ["general"]
    for nothing in (True, "", "  ", "1 and 2, " * 60, "!?", float("nan"), float("inf"), 10**400, "x" * 5000):
        assert whole_tokens(nothing) == ()


def test_an_instant_is_said_in_parts() -> None:
    parts = [{token.value for token in way} for way in split_tokens("2024-05-26T17:00:00Z")]
    assert parts == [
        {"2024-05-26", "17:00Z"},
        {"2024-05-26", "17:00"},
        {"--05-26", "17:00Z"},
        {"--05-26", "17:00"},
    ]
    assert split_tokens("2024-05-26") == ()


def test_what_looks_like_a_name_is_listed() -> None:
    text = 'Add "a trip" for New York\'s mayor, `general`, iPhone Users and É. Zola to /Home'
    names = [token.value for token in find_tokens(text) if token.kind is Kind.NAME]
    assert names == ["add", "a trip", "new york", "general", "é", "zola"]


def test_a_value_that_goes_on_past_what_is_read_is_not_whole() -> None:
    text = "x" * (MAX_CHARS - 3) + " 1200"
    assert find_tokens(text) == ()
    assert found("7 " + text, Kind.NUMBER) == ["7"]


def test_there_are_never_more_tokens_than_said() -> None:
    assert len(find_tokens("A" + " 1" * (MAX_CHARS // 2))) <= MAX_TOKENS
    assert found("a/b " * MAX_CHUNKS + "42", Kind.NUMBER) == []
