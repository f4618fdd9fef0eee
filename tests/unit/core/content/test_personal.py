"""Each detector of personal data fires on a published specimen, and lets the same with a wrong digit through."""

from __future__ import annotations

import pytest

from citywatch.core.content import checksums
from citywatch.core.content.personal import IBAN_LENGTHS, PERSONAL
from citywatch.core.content.scan import scan
from citywatch.core.content.signals import Channel, Kind

# Name, what the signal spans, and what looks like one and is none.
CASES = [
    ("email", "dora.meyer+x@mail.example.com", "dora@localhost and @handle, a @ b"),
    ("email", "o'brien@x.io".split("'")[1], "x@y..example"),
    ("phone", "+49 30 1234567", "+1 +2 +3"),
    ("phone", "(212) 555-0187", "(2024) 1-2-3"),
    ("phone", "212-555-0187", "112-055-0187"),
    ("iban", "GB29 NWBK 6016 1331 9268 19", "GB29 NWBK 6016 1331 9268 18"),
    ("iban", "DE89370400440532013000", "DE89370400440532013001"),
    ("iban", "NO9386011117947", "ZZ9386011117947"),
    ("payment-card", "4111 1111 1111 1111", "4111 1111 1111 1112"),
    ("payment-card", "378282246310005", "378282246310006"),
    ("payment-card", "5555-5555-5555-4444", "9955-5555-5555-4444"),
    ("id-es", "12345678Z", "12345678A"),
    ("id-es", "X1234567L", "X1234567M"),
    ("id-it", "RSSMRA85T10A562S", "RSSMRA85T10A562T"),
    ("id-br", "111.444.777-35", "111.444.777-36"),
    ("id-br", "529.982.247-25", "111.111.111-11"),
    ("id-pl", "44051401359", "44051401358"),
    ("id-pl", "44051401359", "44991401359"),
    ("id-be", "85.07.30-033.28", "85.07.30-033.29"),
    ("id-fr", "2 55 08 14 168 025 38", "2 55 08 14 168 025 39"),
    ("id-de", "86095742719", "86095742718"),
    ("id-de", "47036892816", "12345678901"),
    ("id-se", "811228-9874", "811228-9875"),
    ("id-no", "29029600013", "29029600014"),
    ("id-fi", "131052-308T", "131052-308U"),
    ("id-ch", "756.9217.0769.85", "756.9217.0769.86"),
    ("id-in", "2341 2341 2346", "2341 2341 2347"),
    ("id-cn", "11010519491231002X", "110105194912310021"),
    ("id-gb-health", "943 476 5919", "943 476 5918"),
    ("id-gb-insurance", "QQ 12 34 56 C".replace("QQ", "AB"), "GB 12 34 56 C"),
    ("id-us", "536-90-4399", "666-90-4399"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "honest"), CASES)
def test_personal_data_is_seen_where_it_stands_and_a_wrong_digit_is_not(name: str, value: str, honest: str) -> None:
    text = f"Dear all: {value} (see above)"
    found = [(one.name, text[one.start : one.end]) for one in scan(text, Channel.DATA, None).of(Kind.PERSONAL)]
    assert (name, value) in found
    assert name not in [one.name for one in scan(f"so {honest}, then", Channel.DATA, None).of(Kind.PERSONAL)]


def test_every_detector_has_a_case() -> None:
    assert {name for name, _, _ in CASES} == {detector.name for detector in PERSONAL}


SPECIMENS = {
    "luhn": "4111111111111111",
    "verhoeff": "234123412346",
    "mod11_10": "86095742719",
    "ean13": "7569217076985",
}


@pytest.mark.parametrize("name", SPECIMENS)
def test_a_checksum_notices_every_single_wrong_digit(name: str) -> None:
    specimen = {
        "luhn": "4111111111111111",
        "verhoeff": "234123412346",
        "mod11_10": "86095742719",
        "ean13": "7569217076985",
    }
    rule, good = getattr(checksums, name), specimen[name]
    assert rule(good)
    for place in range(len(good)):
        for digit in "0123456789":
            assert rule(good[:place] + digit + good[place + 1 :]) == (digit == good[place])


def test_an_iban_inside_a_longer_word_is_none() -> None:
    assert scan("DE893704004405320130001", Channel.DATA, None).of(Kind.PERSONAL) == ()
    assert IBAN_LENGTHS["DE"] == 22


def test_a_card_behind_other_digits_is_still_found() -> None:
    text = "order 1234 4111 1111 1111 1111"
    assert [text[one.start : one.end] for one in scan(text, Channel.DATA, None).found] == ["4111 1111 1111 1111"]


@pytest.mark.parametrize(
    "text",
    [
        "Version 3.11.7 of 2024-05-19 10:30, build 20240519.1, 1,200.00 EUR, page 12-34",
        "uuid 123e4567-e89b-12d3-a456-426614174000, sha 9e107d9d372bb6826bd81d3542a419d6",
        "lat 52.520008, lon 13.404954; ISBN 978-3-16-148410-0; 192.168.0.1:8080",
    ],
)
def test_ordinary_numbers_are_nobodys(text: str) -> None:
    assert scan(text, Channel.DATA, None).found == ()
