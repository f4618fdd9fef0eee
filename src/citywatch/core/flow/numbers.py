"""Which numbers a text can be read as: separators, groups, exponents, suffixes, currencies.

Decides the readings of one stretch of text that is a number as a whole; finds nothing in a longer one. INVARIANTS: a
normal form is exact (no float is ever made); a text that two conventions read differently (`1.200`, `1,200`) has both
readings; work is linear in the digits, which are never turned into an integer.
"""

from __future__ import annotations

import re

MAX_DIGITS = 40
"""Numbers longer than this are written with an exponent."""
CODES = frozenset(
    "AED ARS AUD BDT BGN BHD BRL CAD CHF CLP CNY COP CZK DKK EGP EUR GBP HKD HUF IDR ILS INR ISK JPY KES KRW KWD MAD "
    "MXN MYR NGN NOK NZD PEN PHP PKR PLN QAR RON RUB SAR SEK SGD THB TRY TWD UAH USD UYU VND ZAR "
    "BTC ETH USDC USDT".split()
)
SYMBOLS = {"$": "USD", "US$": "USD", "€": "EUR", "£": "GBP", "¥": "JPY", "₹": "INR", "₩": "KRW", "₽": "RUB", "₺": "TRY"}
WORDS = {
    "dollar": "USD",
    "dollars": "USD",
    "euro": "EUR",
    "euros": "EUR",
    "pound": "GBP",
    "pounds": "GBP",
    "yen": "JPY",
}
"""What stands for a currency. `$` is read as US dollars: the number meets whatever was meant."""
SCALES = {"k": 3, "K": 3, "M": 6, "mn": 6, "bn": 9}

_CURRENCY = r"[A-Z]{3,4}|US\$|[$€£¥₹₩₽₺]"
NUMBER = re.compile(
    rf"(?P<sign>[-+])?(?P<before>{_CURRENCY})?(?P<inner>[-+])?"
    r"(?P<digits>[0-9][0-9.,'_]*+|\.[0-9]++)"
    rf"(?:[eE](?P<exponent>[-+]?[0-9]{{1,6}})|(?P<scale>k|K|M|mn|bn))?(?P<after>{_CURRENCY}|%)?"
)
"""One number without spaces, with its currency. Used with `fullmatch`: what is longer is not this number."""
_WHOLE = re.compile(
    r"(?P<plain>[0-9]++)(?:(?P<mark>[.,])(?P<part>[0-9]++))?\Z"
    r"|(?P<points>[1-9][0-9]{0,2}(?:\.[0-9]{3})++)(?:,(?P<after_points>[0-9]++))?\Z"
    r"|(?P<commas>[1-9][0-9]{0,2}(?:,[0-9]{3})++)(?:\.(?P<after_commas>[0-9]++))?\Z"
    r"|(?P<lakhs>[1-9][0-9]?(?:,[0-9]{2}(?=,))++,[0-9]{3})(?:\.(?P<after_lakhs>[0-9]++))?\Z"
    r"|(?P<ticks>[1-9][0-9]{0,2}(?:['_ ][0-9]{3})++)(?:[.,](?P<after_ticks>[0-9]++))?\Z"
)
_GROUPING = str.maketrans("", "", ".,'_ ")


def readings(digits: str) -> tuple[tuple[str, str], ...]:
    """Every way to read unsigned digits with separators, as (whole part, part after the point)."""
    if digits.startswith("."):
        return (("0", digits[1:]),) if digits[1:].isdecimal() else ()
    found = _WHOLE.match(digits)
    if not found:
        return ()
    if (plain := found["plain"]) is not None:
        part = found["part"] or ""
        decimal = (plain, part)
        if len(part) == 3 and len(plain) <= 3 and plain[0] != "0":
            if found["mark"] == "," and part == "000":
                return ((plain + part, ""),)  # nobody writes one as `1,000`, and it would be a whole `1`
            return decimal, (plain + part, "")
        return (decimal,)
    for groups in ("points", "commas", "lakhs", "ticks"):
        if (whole := found[groups]) is not None:
            return ((whole.translate(_GROUPING), found[f"after_{groups}"] or ""),)
    return ()


def normal_number(whole: str, part: str, exponent: int, negative: bool) -> str:
    """The one way to write a number: no leading or trailing zero, no `-0`, an exponent past `MAX_DIGITS`."""
    if not exponent and whole[0] != "0" and (not part or part[-1] != "0") and len(whole) + len(part) <= MAX_DIGITS:
        return ("-" if negative else "") + (f"{whole}.{part}" if part else whole)
    digits = whole + part
    point = len(whole) + exponent
    stripped = digits.lstrip("0")
    point -= len(digits) - len(stripped)
    stripped = stripped.rstrip("0")
    if not stripped:
        return "0"
    sign = "-" if negative else ""
    length = max(len(stripped), point, len(stripped) - point)
    if length > MAX_DIGITS:
        return f"{sign}{stripped}e{point - len(stripped)}"
    if point <= 0:
        return f"{sign}0.{'0' * -point}{stripped}"
    if point >= len(stripped):
        return sign + stripped + "0" * (point - len(stripped))
    return f"{sign}{stripped[:point]}.{stripped[point:]}"


def attached(mark: str) -> str | None:
    """The code of a currency that is written without a space: a code or a symbol, never a word (`EURO5` is a name)."""
    return mark if mark in CODES else SYMBOLS.get(mark)


def currency(text: str) -> str | None:
    """The code of a currency given as a code, a symbol or an English word."""
    return attached(text) or WORDS.get(text.lower())


def read_number(found: re.Match[str]) -> tuple[tuple[str, ...], str | None]:
    """The normal forms of a match of `NUMBER`, and its currency; no forms if it is no number after all."""
    before, after = found["before"], found["after"]
    code: str | None = None
    for mark in (before, after):
        if mark and mark != "%" and (code is not None or (code := attached(mark)) is None):
            return (), None
    sign, inner = found["sign"], found["inner"]
    if inner and (sign or not before):
        return (), None
    shift = int(found["exponent"] or 0) + SCALES.get(found["scale"] or "", 0)
    negative = "-" in (sign, inner)
    return tuple(normal_number(*read, shift, negative) for read in readings(found["digits"])), code
