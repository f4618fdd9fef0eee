"""National ids whose rules are public: shape, date and check digits.

Decides shape and arithmetic; a number that passes by chance (one in ten to one in ninety-seven of its shape) scores
lower than one whose shape is its own. Kinds without any check (US, UK) need their separators or letters. SPEC: the
issuers' published rules; each has a specimen of theirs among the tests.
"""

from __future__ import annotations

from collections.abc import Callable

from citywatch.core.content.checksums import ean13, luhn, mod11_2, mod11_10, verhoeff, weighted
from citywatch.core.content.patterns import pattern
from citywatch.core.content.signals import Kind
from citywatch.core.content.tape import BEHIND, Detector, Found

_SPANISH = "TRWAGMYFPDXBNJZSQVHLCKE"
_FINNISH = "0123456789ABCDEFHJKLMNPRSTUVWXY"
_ODD = dict(
    zip("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", (
        1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21,
        2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23,
    ), strict=True)
)  # fmt: skip


def _date(month: str, day: str) -> bool:
    return 1 <= int(month) <= 12 and 1 <= int(day) <= 31


def spanish(text: str) -> bool:
    """DNI and NIE: a letter for the remainder by 23."""
    number = "012"["XYZ".index(text[0])] + text[1:-1] if text[0] in "XYZ" else text[:-1]
    return _SPANISH[int(number) % 23] == text[-1]


def italian(text: str) -> bool:
    """Codice fiscale: odd places by a table, even ones by their rank, the last letter for the sum by 26."""
    even = sum(int(one) if one.isdigit() else ord(one) - 65 for one in text[1:15:2])
    return chr(65 + (sum(_ODD[one] for one in text[0:15:2]) + even) % 26) == text[15]


def brazilian(digits: str) -> bool:
    """CPF: two check digits by 11."""
    if len(set(digits)) == 1:
        return False
    first = weighted(digits[:9], range(10, 1, -1)) * 10 % 11 % 10
    second = weighted(digits[:10], range(11, 1, -1)) * 10 % 11 % 10
    return digits[9:] == f"{first}{second}"


def polish(digits: str) -> bool:
    """PESEL: a date with its century in the month, and a check digit by 10."""
    month = int(digits[2:4]) % 20
    return _date(str(month), digits[4:6]) and weighted(digits, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10 == 0


def belgian(digits: str) -> bool:
    """Rijksregisternummer: 97 less the remainder, with a 2 in front for those born from 2000 on."""
    return int(digits[9:]) in (97 - int(digits[:9]) % 97, 97 - int("2" + digits[:9]) % 97)


def french(text: str) -> bool:
    """NIR: 97 less the remainder; Corsica's departments count as 19 and 18."""
    number = text[:-2].replace("2A", "19").replace("2B", "18")
    return int(text[-2:]) == 97 - int(number) % 97


def german(digits: str) -> bool:
    """Steuer-ID: of its first ten digits exactly one comes twice or three times, and ISO 7064 MOD 11,10."""
    counts = sorted(digits[:10].count(one) for one in set(digits[:10]))
    return digits[0] != "0" and counts[-1] in (2, 3) and counts[-2:-1] == [1] and mod11_10(digits)


def swedish(digits: str) -> bool:
    """Personnummer: a date, and Luhn. A co-ordination number has 60 added to its day."""
    return _date(digits[2:4], str(int(digits[4:6]) % 60)) and luhn(digits)


def norwegian(digits: str) -> bool:
    """Fødselsnummer: a date and two check digits by 11."""
    return (
        _date(digits[2:4], str(int(digits[:2]) % 40))
        and weighted(digits, (3, 7, 6, 1, 8, 9, 4, 5, 2, 1)) % 11 == 0
        and weighted(digits, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0
    )


def finnish(text: str) -> bool:
    """Henkilötunnus: a letter for date and number by 31."""
    return _date(text[2:4], text[:2]) and _FINNISH[int(text[:6] + text[7:10]) % 31] == text[10]


def british_health(digits: str) -> bool:
    """NHS number: 11 less the remainder, 11 as 0, 10 never."""
    return len(set(digits)) > 2 and (11 - weighted(digits[:9], range(10, 1, -1)) % 11) % 11 == int(digits[9])


def chinese(text: str) -> bool:
    """Resident identity: a date and ISO 7064 MOD 11-2."""
    return text[6:8] in ("19", "20") and _date(text[10:12], text[12:14]) and mod11_2(text)


def american(digits: str) -> bool:
    """Social security number: areas, groups and serials that are never issued. It has no check digit."""
    return digits[:3] not in ("000", "666") and digits[0] != "9" and digits[3:5] != "00" and digits[5:] != "0000"


def _judge(rule: Callable[[str], bool], score: float) -> Callable[[bytes, int, int], Found | None]:
    def judge(near: bytes, start: int, stop: int) -> Found | None:
        text = near[start:stop].translate(None, b" .-/").decode("latin-1").upper()
        return (start, stop, score) if rule(text) else None

    return judge


def _finn(near: bytes, start: int, stop: int) -> Found | None:
    return (start, stop, 0.9) if finnish(near[start:stop].decode("latin-1")) else None


_SHAPES: tuple[tuple[str, str, Callable[[str], bool], float], ...] = (
    ("id-es", r"\b(?:[0-9]{8}|[XYZ][0-9]{7})-?[A-Z]\b", spanish, 0.9),
    ("id-it", r"\b[A-Z]{6}[0-9]{2}[A-EHLMPRST][0-9]{2}[A-Z][0-9]{3}[A-Z]\b", italian, 1.0),
    ("id-br", r"\b[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}\b", brazilian, 0.95),
    ("id-pl", r"\b[0-9]{11}\b", polish, 0.6),
    ("id-be", r"\b[0-9]{2}\.[0-9]{2}\.[0-9]{2}-[0-9]{3}\.[0-9]{2}\b", belgian, 0.95),
    (
        "id-fr",
        r"\b[12] ?[0-9]{2} ?(?:0[1-9]|1[0-2]) ?(?:[0-9]{2}|2[AB]) ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}\b",
        french,
        0.95,
    ),
    ("id-de", r"\b[1-9][0-9] ?[0-9]{3} ?[0-9]{3} ?[0-9]{3}\b", german, 0.6),
    ("id-se", r"\b(?:19|20)?[0-9]{6}[-+][0-9]{4}\b", lambda text: swedish(text.replace("+", "")[-10:]), 0.8),
    ("id-no", r"\b[0-9]{6} ?[0-9]{5}\b", norwegian, 0.7),
    ("id-ch", r"\b756\.[0-9]{4}\.[0-9]{4}\.[0-9]{2}\b", ean13, 0.95),
    ("id-in", r"\b[2-9][0-9]{3}[ -][0-9]{4}[ -][0-9]{4}\b", verhoeff, 0.8),
    ("id-cn", r"\b[1-9][0-9]{16}[0-9Xx]\b", chinese, 0.95),
    ("id-gb-health", r"\b[0-9]{3}[ -][0-9]{3}[ -][0-9]{4}\b", british_health, 0.5),
    ("id-us", r"\b[0-9]{3}-[0-9]{2}-[0-9]{4}\b", american, 0.7),
    (
        "id-gb-insurance",
        r"\b[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]\b",
        lambda text: text[:2] not in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ"),
        0.7,
    ),
)

NATIONAL = (
    *(
        Detector(Kind.PERSONAL, name, pattern(shape), _judge(rule, score), BEHIND)
        for name, shape, rule, score in _SHAPES
    ),
    Detector(Kind.PERSONAL, "id-fi", pattern(r"\b[0-9]{6}[-+A-FU-Y][0-9]{3}[0-9A-Y]\b"), _finn, BEHIND),
)
