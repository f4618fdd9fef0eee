"""Check digits: does a number keep the rule of its kind? One in ten passes by chance, so a shape counts too.

Decides arithmetic alone; shapes are the detectors' (`personal`, `national`). All take ASCII digits (and letters where
the kind has them) without separators, of the right length. SPEC: ISO/IEC 7812-1 (Luhn), ISO 13616 (IBAN),
ISO 7064 (mod 11-2, mod 11,10, mod 97-10), Verhoeff (1969).
"""

from __future__ import annotations

from collections.abc import Sequence

_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
_DIHEDRAL = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
_PERMUTED = (
    "0123456789", "1576283094", "5803796142", "8916043527",
    "9453126870", "4286573901", "2793806415", "7046913258",
)  # fmt: skip


def luhn(digits: str) -> bool:
    """Payment cards, and several national ids."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        total += _DOUBLED[int(digit)] if place % 2 else int(digit)
    return total % 10 == 0


def mod97(text: str) -> bool:
    """An IBAN: the first four characters to the end, letters as 10 to 35, and the remainder is 1."""
    return int("".join(str(int(one, 36)) for one in text[4:] + text[:4])) % 97 == 1


def weighted(digits: str, weights: Sequence[int]) -> int:
    """The sum of digits times weights."""
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False))


def mod11_2(text: str) -> bool:
    """ISO 7064 MOD 11-2: the last character may be `X`, which is ten."""
    rest = 0
    for digit in text[:-1]:
        rest = (rest + int(digit)) * 2 % 11
    return (12 - rest) % 11 == (10 if text[-1] in "Xx" else int(text[-1]))


def mod11_10(digits: str) -> bool:
    """ISO 7064 MOD 11,10."""
    product = 10
    for digit in digits[:-1]:
        product = ((int(digit) + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == int(digits[-1])


def verhoeff(digits: str) -> bool:
    """Finds every wrong digit and every swap of neighbours."""
    state = 0
    for place, digit in enumerate(reversed(digits)):
        state = int(_DIHEDRAL[state][int(_PERMUTED[place % 8][int(digit)])])
    return state == 0


def ean13(digits: str) -> bool:
    """EAN-13, as in Swiss AHV numbers."""
    return sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(digits)) % 10 == 0
