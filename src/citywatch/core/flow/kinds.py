"""What a typed token is: a kind, one normal form for all notations, and where it stands.

Decides nothing. INVARIANT: two texts mean the same value of a kind exactly if their normal forms are equal, so that
meeting is an equality of `(kind, value)` and can be looked up in a set.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Kind(StrEnum):
    """What a text can be read as. One stretch of text may have readings of several kinds."""

    NUMBER = "number"  # plain decimal: `1200`, `-0.5`; past 40 digits `15e300`
    MONEY = "money"  # currency and number: `EUR 1200`
    DATE = "date"  # `2024-05-26`; with a time `2024-05-26T17:00`; without a year `--05-26`
    TIME = "time"  # `17:00`, `17:00:30`, with a zone `17:00Z`, `17:00+02:00`
    EMAIL = "email"  # `alice+tag@example.com`
    URL = "url"  # RFC 3986 §6 normal form; without a scheme `//example.com/x`
    HOST = "host"  # lower case, A-labels, dotted IPv4, compressed IPv6
    IBAN = "iban"  # upper case, no spaces, checksum holds
    PATH = "path"  # forward slashes, no `.`, `..` or empty segment
    PHONE = "phone"  # `+49301234567`; without a country the digits alone
    ID = "id"  # as written; UUID and hexadecimal in lower case, ULID in upper case, no `#`
    NAME = "name"  # words in lower case, one space between them


class Token(msgspec.Struct, frozen=True):
    """One reading of the characters from `start` up to `end`."""

    kind: Kind
    value: str
    start: int
    end: int
