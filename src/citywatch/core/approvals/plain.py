"""Other people's text as something to be looked at: what nobody sees is taken out and named, what is too long cut.

Decides which characters reach a person's eyes; nothing is changed in what is executed. INVARIANTS
1. What comes out has no control character, none that changes the direction or hides, no line or paragraph separator but
   "\n", no private, unassigned or half character: whatever draws it draws all of it, in order, in its place.
2. What was taken out is named; a text from which nothing was is shown as it is.
3. `prose` has no character that Markdown, HTML or a terminal could take for markup; a value keeps them, for without
   them it would be another value.
4. Work is bounded by the limit, however long the text is.
"""

from __future__ import annotations

import unicodedata
from typing import Final

import msgspec

MAX_NAMED: Final = 8
_MARKUP: Final = frozenset("<>&`*_~|\\[](){}#=^")
_JOINER, _EMOJI_LOOK = "\u200d", "\ufe0f"
_HIDDEN: Final = frozenset(
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180e\u180f\u2800\u3164\uffa0\ufff9\ufffa\ufffb"
)
"""Letters, marks and fillers by their category that are drawn as nothing."""
_VARIATIONS: Final = (("\ufe00", "\ufe0f"), ("\U000e0100", "\U000e01ef"))
_UNQUOTED: Final = {ord(one): "'" for one in '“”„‟«»‹›│"＂`<>&'}
_REFUSED: Final = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))


class Plain(msgspec.Struct, frozen=True):
    """`text` can be drawn. `removed` names the characters that were taken out, `cut` counts those beyond the limit."""

    text: str
    removed: tuple[str, ...] = ()
    cut: int = 0

    @property
    def faithful(self) -> bool:
        """Whether this is all there was."""
        return not self.removed and not self.cut


def plain(text: str, limit: int) -> Plain:
    """A value as it stands, without what cannot be drawn."""
    kept: list[str] = []
    gone: dict[str, int] = {}
    for at, char in enumerate(text[:limit]):
        if is_drawn(char) or _is_of_emoji(text, at):
            kept.append(char)
        elif char == "\t":
            kept.append("    ")
        elif char == "\r" and text[at + 1 : at + 2] == "\n":
            continue
        else:
            gone[char] = gone.get(char, 0) + 1
    return Plain("".join(kept), _named(gone), max(0, len(text) - limit))


def prose(text: str, limit: int) -> Plain:
    """The same of a text that is only quoted: markup is blank."""
    found = plain(text, limit)
    return Plain("".join(" " if char in _MARKUP else char for char in found.text), found.removed, found.cut)


def word(text: str, limit: int = 80) -> str:
    """A name that a server or an agent chose, on one line."""
    found = plain(text, limit)
    return " ".join(found.text.split()) + ("…" if found.cut else "")


def named(text: str, limit: int = 80) -> str:
    """The same inside a sentence of ours: between quotation marks that it cannot close."""
    return f"“{word(text, limit).translate(_UNQUOTED) or '-'}”"


def is_drawn(char: str) -> bool:
    """Whether a person who looks sees this character, where it stands. # INVARIANT: 1."""
    if " " <= char <= "~" or char == "\n":
        return True
    if char in _HIDDEN or any(first <= char <= last for first, last in _VARIATIONS):
        return False
    return unicodedata.category(char) not in _REFUSED


def _is_of_emoji(text: str, at: int) -> bool:
    """A joiner or a selector between two pictures is part of how they are drawn; two in a row carry bytes."""
    char, before = text[at], text[at - 1 : at] if at else ""
    if char == _EMOJI_LOOK:
        return _is_picture(before)
    if char != _JOINER or not _is_picture(text[at + 1 : at + 2]):
        return False
    return _is_picture(before) or (before == _EMOJI_LOOK and at > 1 and _is_picture(text[at - 2]))


def _is_picture(char: str) -> bool:
    return char != "" and unicodedata.category(char) in ("So", "Sk") and char > "\u2000"


def _named(gone: dict[str, int]) -> tuple[str, ...]:
    """# INVARIANT: 2."""
    told = [f"U+{ord(char):04X}{f' × {count}' if count > 1 else ''}" for char, count in list(gone.items())[:MAX_NAMED]]
    return (*told, *((f"and {len(gone) - MAX_NAMED} others",) if len(gone) > MAX_NAMED else ()))
