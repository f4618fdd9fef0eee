"""Names that machines give: IBAN, phone number, path, opaque identifier, each to one normal form.

Decides the normal form of one stretch of text, and how far an IBAN or a phone number reaches over spaces. INVARIANTS:
an IBAN has its country's length and a checksum that holds, or is none; an opaque identifier keeps its case unless its
kind says that case means nothing; work is linear.
"""

from __future__ import annotations

import re

_IBAN_LENGTHS = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 "
    "ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 "
    "LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 "
    "QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30"
)
IBAN_LENGTHS = {entry[:2]: int(entry[2:]) for entry in _IBAN_LENGTHS.split()}
_GROUPED = re.compile(r"[A-Za-z]{2}[0-9]{2}(?:[ -]?[A-Za-z0-9]){11,40}+")
_PHONE = re.compile(r"(?:\+|\(\+)?[0-9](?:[ .\-/()]{0,3}[0-9])*+\)?")
_ID = re.compile(r"#?\w(?:[.:-]?\w)*+\Z")
_DIGIT = re.compile("[0-9]")
_UUID = re.compile(r"(?:urn:uuid:)?([0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})\Z", re.IGNORECASE)
_HEX = re.compile(r"(?:0x)?(?=[0-9]*[a-fA-F])[0-9a-fA-F]{8,}\Z", re.IGNORECASE)
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}\Z", re.IGNORECASE)
_UNTIDY = re.compile(r"\\|//|/\Z|(?:\A|/)\.{1,2}(?:/|\Z)|\A[A-Za-z]:")
_LETTERS = str.maketrans({chr(code): str(code - 55) for code in range(ord("A"), ord("Z") + 1)})
_DRIVE = re.compile(r"[A-Za-z]:/")


def read_iban(text: str, start: int) -> tuple[str, int] | None:
    """The IBAN that begins at `start`, over single spaces or dashes, and where it ends; None if none does."""
    length = IBAN_LENGTHS.get(text[start : start + 2].upper())
    if length is None or not (found := _GROUPED.match(text, start, start + 2 * length)):
        return None
    if (iban := found[0][:length]).isalnum():  # nothing between its groups
        return (iban.upper(), start + length) if len(iban) == length and is_iban(iban.upper()) else None
    kept: list[str] = []
    for place, char in enumerate(found[0], start):
        if char not in " -":
            kept.append(char.upper())
            if len(kept) == length:
                iban = "".join(kept)
                return (iban, place + 1) if is_iban(iban) else None
    return None


def is_iban(iban: str) -> bool:
    """Does the checksum hold of these capitals and digits?

    SPEC: ISO 13616: the first four characters last, letters as numbers, the remainder by 97 is one.
    """
    return int((iban[4:] + iban[:4]).translate(_LETTERS)) % 97 == 1


def read_phone(text: str, start: int) -> tuple[str, int] | None:
    """The phone number that begins at `start` (a `+`, a bracket or a digit), and where it ends.

    With `+` or `00` it is international, 7 to 15 digits. Without, the digits alone, and only if it is written like a
    phone number: three groups or more, or brackets.
    """
    opened = text.startswith("(", start) and not text.startswith("(+", start)
    found = _PHONE.match(text, start + opened, start + 48)
    if not found or (opened and ")" not in found[0]):
        return None
    end = found.end() - (found[0].endswith(")") and "(" not in found[0] and not opened)
    written = found[0].replace("(0)", "")
    digits = "".join(filter(str.isdigit, written))
    foreign = "+" in written[:2]
    if not foreign and digits.startswith("00"):
        digits, foreign = digits[2:], True
    if not 7 <= len(digits) <= 15:
        return None
    if foreign:
        return "+" + digits, end
    groups = re.findall("[0-9]+", written)
    dressed = opened or "(" in written or (len(groups) >= 3 and " " not in written)
    return (digits, end) if dressed and len(groups[-1]) >= 2 else None


def normal_path(text: str) -> str | None:
    """A path with forward slashes and neither empty, `.` nor `..` segments; None for a text that is no path."""
    if not _UNTIDY.search(text):
        return text
    path = text.replace("\\", "/")
    if _DRIVE.match(path):
        path = path[0].lower() + path[1:]
    rooted = path.startswith("/")
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == ".." and kept and kept[-1] != "..":
            kept.pop()
        elif segment == ".." and rooted:
            continue
        elif segment not in ("", "."):
            kept.append(segment)
    joined = "/".join(kept)
    return f"/{joined}" if rooted else joined or None


def normal_id(text: str) -> str | None:
    """An opaque identifier: letters, digits, `_`, inner dots, colons and dashes, with a digit; None if it is none."""
    if not _DIGIT.search(text) or not _ID.match(text):
        return None
    text = text.removeprefix("#")
    if found := _UUID.match(text):
        return found[1].lower()
    if _ULID.match(text):
        return text.upper()
    return text.lower() if _HEX.match(text) else text
