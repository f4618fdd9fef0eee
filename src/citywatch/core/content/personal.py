"""Personal data: e-mail addresses, phone numbers, IBANs and payment cards.

Decides that a text holds something of that shape, with the check digits right where the kind has any; not whose it is,
nor whether a reader may have it (labels say that). National ids are in `national`. SPEC: RFC 5321 §4.5.3.1 (lengths),
ITU-T E.164 (phone), ISO 13616 (IBAN), ISO/IEC 7812-1 (cards).
"""

from __future__ import annotations

from citywatch.core.content.checksums import luhn, mod97
from citywatch.core.content.national import NATIONAL
from citywatch.core.content.patterns import pattern
from citywatch.core.content.signals import Kind
from citywatch.core.content.tape import BEHIND, Detector, Found

_LOCAL = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._%+-"
_DOMAIN = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-"
_COUNTRIES = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 "
    "ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 "
    "LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 "
    "QA29 RO24 RS22 SA24 SC31 SE24 SI19 SK24 SM27 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20"
)
IBAN_LENGTHS = {one[:2]: int(one[2:]) for one in _COUNTRIES.split()}
_CARDS = ("4", "51", "52", "53", "54", "55", "2", "34", "37", "36", "38", "30", "35", "60", "62", "64", "65")
_LENGTHS = frozenset({13, 14, 15, 16, 19})
_SEPARATORS = b" -"


def email(near: bytes, start: int, stop: int) -> Found | None:
    """An address around this `@`."""
    before = near[max(0, start - 64) : start]
    local = before[len(before.rstrip(_LOCAL)) :].lstrip(b".%+-")
    after = near[start + 1 : start + 254]
    domain = after[: len(after) - len(after.lstrip(_DOMAIN))].rstrip(b".-")
    labels = domain.split(b".")
    if not local or len(labels) < 2 or not labels[-1].isalpha() or not 2 <= len(labels[-1]) <= 24 or b"" in labels:
        return None
    return start - len(local), start + 1 + len(domain), 0.95


def phone(near: bytes, start: int, stop: int) -> Found | None:
    """Seven to fifteen digits behind a `+`, or a North American number in its usual dress."""
    digits = near[start:stop].translate(None, b" ().-/\xa0")
    international = digits.startswith(b"+")
    count = len(digits) - international
    if not (8 <= count <= 15 if international else count == 10) or len(set(digits)) < 4:
        return None
    return start, stop, 0.8 if international else 0.6


def iban(near: bytes, start: int, stop: int) -> Found | None:
    """As many characters as its country's have, and the remainder is 1."""
    length = IBAN_LENGTHS.get(near[start : start + 2].decode("latin-1"))
    if length is None:
        return None
    end, text = start, b""
    while len(text) < length and end < stop:
        step = near[end : end + 1]
        text += step if step != b" " else b""
        end += 1
    follows = near[end : end + 1]
    if len(text) < length or (follows.isalnum() and near[end - 1 : end] != b" "):
        return None
    return (start, end, 1.0) if mod97(text.decode("latin-1")) else None


def card(near: bytes, start: int, stop: int) -> Found | None:
    """Digits that keep Luhn's rule and begin as an issuer's do, in one run or in groups."""
    digits = near[start:stop].translate(None, _SEPARATORS).decode("latin-1")
    if len(digits) not in _LENGTHS or not digits.startswith(_CARDS) or len(set(digits)) < 2:
        return None
    return (start, stop, 0.95) if luhn(digits) else None


PERSONAL = (
    Detector(Kind.PERSONAL, "email", pattern(r"@[A-Za-z0-9]"), email, 256, _DOMAIN),
    Detector(
        Kind.PERSONAL,
        "phone",
        pattern(
            r"\+[0-9](?:[ ().\-/\xa0]{0,2}[0-9]){6,16}\b|\([2-9][0-9]{2}\) ?[0-9]{3}[-. ][0-9]{4}\b"
            r"|\b[2-9][0-9]{2}([-.])[2-9][0-9]{2}[-.][0-9]{4}\b"
        ),
        phone,
        BEHIND,
    ),
    Detector(Kind.PERSONAL, "iban", pattern(r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,30}"), iban, BEHIND),
    Detector(
        Kind.PERSONAL,
        "payment-card",
        pattern(
            r"\b(?:[0-9]{13,19}|[0-9]{4}(?:[ -][0-9]{4}){2,3}(?:[ -][0-9]{1,4})?|[0-9]{4}[ -][0-9]{6}[ -][0-9]{4,5})\b"
        ),
        card,
        BEHIND,
    ),
    *NATIONAL,
)
