"""What others wrote, so that a person sees it as written by others: agents, servers and strangers chose these words.

Decides how text is shown, never what it says. INVARIANTS: nothing in it that a browser obeys, that turns the direction
of writing, or that cannot be seen is left as it is: each such character stands there by its number; what is cut off is
said to be; a name holds no character that looks like another's without being marked. Jinja escapes what is left.
"""

from __future__ import annotations

import json
import re
import unicodedata
from datetime import UTC, datetime
from typing import Any, Final

from markupsafe import Markup, escape

IN_A_LINE: Final = 160
IN_FULL: Final = 4_000
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_FILLS: Final = frozenset("\u115f\u1160\u3164\uffa0\u2800\u034f\u17b4\u17b5")
"""Letters by their category, and nothing to the eye."""
_QUOTES: Final = frozenset("“”‘’…–—")
"""Punctuation that nobody takes for a letter, nor for a dot."""
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.:/@+-]*")
"""What a name is made of that nobody takes for a sentence; any other is set apart to the eye."""
MOST_MARKS: Final = 4


def said(value: Any, limit: int = IN_A_LINE, *, lines: bool = False) -> Markup:
    """Words of somebody else's, set apart: isolated in their direction, with what cannot be seen written out."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    whole = len(text)
    shown = Markup("").join(_runs(text[:limit], lines=lines))
    more = Markup('<span class="cut">… {} characters in all</span>').format(f"{whole:,}") if whole > limit else ""
    return Markup('<bdi class="said">{}</bdi>{}').format(shown, more)


def called(value: Any, limit: int = 80) -> Markup:
    """A name that somebody else chose: as `said`, and each character beyond ASCII is marked, for it may be a mask.

    What is no plain name (it has a space, say, and reads as words) is set apart as a quotation is.
    """
    text = str(value)
    shown = Markup("").join(
        piece if isinstance(piece, Markup) else _masked(piece) for piece in _pieces(text[:limit], lines=False)
    )
    more = Markup('<span class="cut">…</span>') if len(text) > limit else ""
    look = "named" if _PLAIN.fullmatch(text) and not more else "named strange"
    return Markup('<bdi class="{}">{}</bdi>{}').format(look, shown, more)


def plain(value: Any, limit: int = IN_A_LINE) -> str:
    """The same as text alone, for a title or a script's data."""
    text = str(value)
    cut = "".join(one if _seen(one, lines=False) else f"⟨U+{ord(one):04X}⟩" for one in text[:limit])
    return cut if len(text) <= limit else f"{cut}…"


def when(at: int) -> Markup:
    """An instant, in UTC; the page's script adds how long ago."""
    moment = datetime.fromtimestamp(at / 1000, UTC)
    iso, shown = moment.strftime("%Y-%m-%dT%H:%M:%SZ"), moment.strftime("%Y-%m-%d %H:%M:%S")
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(iso, shown, shown)


def span(ms: float) -> str:
    """How long something took, in one figure: `40 s`, `12 min`, `3 h`, `2 days`."""
    for most, size, unit in ((120_000, 1_000, "s"), (7_200_000, 60_000, "min"), (172_800_000, 3_600_000, "h")):
        if ms < most:
            return f"{ms / size:.0f} {unit}"
    return f"{ms / 86_400_000:.0f} days"


def clock(at: int) -> Markup:
    """An instant of which the day is known."""
    moment = datetime.fromtimestamp(at / 1000, UTC)
    iso, full = moment.strftime("%Y-%m-%dT%H:%M:%SZ"), moment.strftime("%Y-%m-%d %H:%M:%S")
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(iso, full, moment.strftime("%H:%M:%S"))


def _runs(text: str, *, lines: bool) -> list[Markup]:
    return [piece if isinstance(piece, Markup) else escape(piece) for piece in _pieces(text, lines=lines)]


def _pieces(text: str, *, lines: bool) -> list[Markup | str]:
    """Runs of what can be seen, and a mark for each run of what cannot."""
    found: list[Markup | str] = []
    run, hidden = "", list[str]()
    for one in (*text, ""):
        if one and not _seen(one, lines=lines):
            if run:
                found.append(run)
                run = ""
            hidden.append(f"U+{ord(one):04X}")
            continue
        if hidden:
            told = " ".join(hidden[:MOST_MARKS]) + (f" +{len(hidden) - MOST_MARKS}" if len(hidden) > MOST_MARKS else "")
            found.append(Markup('<span class="unseen" title="a character that cannot be seen">{}</span>').format(told))
            hidden = []
        run += one
    return [*found, run] if run else found


def _masked(text: str) -> Markup:
    """Each run beyond ASCII, marked with its first character's name."""
    found, run = Markup(""), ""
    for one in (*text, ""):
        if one and not one.isascii() and one not in _QUOTES:
            run += one
            continue
        if run:
            name = unicodedata.name(run[0], "unnamed").lower()
            found += Markup('<span class="foreign" title="{}">{}</span>').format(name, run)
            run = ""
        found += escape(one)
    return found


def _seen(one: str, *, lines: bool) -> bool:
    if lines and one in "\n\t":
        return True
    if one == " ":
        return True
    return unicodedata.category(one) not in _UNSEEN and one not in _FILLS and not _blank(one)


def _blank(one: str) -> bool:
    """A space of another width, or a mark that selects a variant: it changes how a text looks and is not seen."""
    return unicodedata.category(one) == "Zs" or 0xFE00 <= ord(one) <= 0xFE0F or 0xE0100 <= ord(one) <= 0xE01EF
