"""What several properties draw: values of each kind, each with some of the ways to write it."""

from __future__ import annotations

import string
from datetime import date

from hypothesis import strategies as st

MONTHS = "January February March April May June July August September October November December".split()
LABEL = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8)
TOPS = st.sampled_from(["com", "org", "example", "co.uk", "museum"])
HOSTS = st.builds(lambda labels, top: ".".join([*labels, top]), st.lists(LABEL, min_size=1, max_size=3), TOPS).filter(
    lambda host: not host[0].isdigit()
)
LOCALS = st.builds("{}{}".format, st.sampled_from(string.ascii_lowercase), st.text("abcxyz019._+-", max_size=8)).map(
    lambda local: local.rstrip(".")
)
SEGMENT = st.text(string.ascii_letters + "019_-", min_size=1, max_size=6)
AROUND = st.sampled_from(
    [("", ""), ("see ", " now"), ("(", ")"), ('"', '"'), ("it is: ", "."), ("\n", "\n"), ("what of ", "?"), ("“", "”"),
     ("both, ", ", and"), ("<", ">"), ("[", "]"), ("'", "'"), ("a ", "\u00a0b"), ("key=", ""), ("**", "**")]
)  # fmt: skip
"""What can stand around a value without becoming part of it."""


def grouped(whole: str, mark: str) -> str:
    head = len(whole) % 3 or 3
    return mark.join([whole[:head], *(whole[n : n + 3] for n in range(head, len(whole), 3))])


def number_notations(value: int, cents: int) -> list[str]:
    """Ways to write `value.cents`; only those that nobody could read as another number too are certain."""
    whole, part = str(value), f"{cents:02}"
    ways = [f"{whole}.{part}", f"{whole},{part}", f"0{whole}.{part}0", f"{whole}{part}e-2", f"{whole}.{part}E0"]
    if len(whole) > 3:
        ways += [f"{grouped(whole, a)}{b}{part}" for a, b in (",.", ".,", "'.", "',", "_.")]
    wide = str.maketrans(string.digits, "".join(chr(0xFF10 + n) for n in range(10)))
    ways += [ways[0].translate(wide), ways[0].replace(".", "．").translate(wide)]
    if cents == 0:
        ways += [whole, f"{whole}e0", f"{whole}.0"]
        if value % 1000 == 0:
            ways += [f"{value // 1000}k", f"{value // 1000}.0K", f"{value // 1000}e3"]
    return ways


def date_notations(day: date) -> list[str]:
    name, nth = MONTHS[day.month - 1], {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10, "th")
    return [
        day.isoformat(), f"{day:%Y/%m/%d}", f"{day.day}/{day.month}/{day.year}", f"{day.month}/{day.day}/{day.year}",
        f"{day.day} {name} {day.year}", f"{name} {day.day}, {day.year}", f"{name[:3]} {day.day}{nth} {day.year}",
        f"{day.day}{nth} of {name} {day.year}", f"{day.day}-{name[:3]}-{day.year}", f"{day:%d.%m.%Y}",
    ]  # fmt: skip


def iban(country: str, account: str) -> str:
    """A valid IBAN: the two check digits are what is missing to 98."""
    rest = int("".join(str(int(char, 36)) for char in account + country + "00")) % 97
    return f"{country}{98 - rest:02}{account}"


IBANS = st.one_of(
    st.integers(0, 10**18 - 1).map(lambda n: iban("DE", f"{n:018}")),
    st.integers(0, 10**14 - 1).map(lambda n: iban("GB", f"NWBK{n:014}")),
    st.integers(0, 10**11 - 1).map(lambda n: iban("NO", f"{n:011}")),
)
DATES = st.dates(date(1950, 1, 1), date(2150, 12, 31))
EMAILS = st.builds("{}@{}".format, LOCALS, HOSTS)
URLS = st.builds(
    lambda scheme, host, path, query: f"{scheme}://{host}/{'/'.join(path)}{query}",
    st.sampled_from(["http", "https"]), HOSTS, st.lists(SEGMENT, max_size=3), st.sampled_from(["", "?a=1", "?q=x&p=2"]),
)  # fmt: skip
PATHS = st.builds("{}{}/{}".format, st.sampled_from(["/", "", "~/"]), SEGMENT, SEGMENT).filter(
    lambda path: any(map(str.isalnum, path))  # `/-/-` names nothing
)
PHONES = st.integers(10**9, 10**12).map(lambda n: f"+49{n}")
IDS = st.builds("{}-{}".format, st.sampled_from(["TX", "inv", "a_b"]), st.integers(0, 10**6)) | st.uuids().map(str)
VALUES = st.one_of(
    st.integers(-(10**7), 10**7).map(str), DATES.map(date.isoformat), EMAILS, URLS, HOSTS, IBANS, PATHS, PHONES, IDS
)
"""A value of any kind, in its plainest notation, without spaces."""
ANY_TEXT = st.text(st.characters(exclude_categories=[]), max_size=80) | st.text(
    "0123456789.,:;/\\@#$%&*+-=_~'\"()[]<>{}| aAeEkKmMpPtTzZ\u200b\u0301\ud800\u00a0\uff11\n", max_size=60
)
