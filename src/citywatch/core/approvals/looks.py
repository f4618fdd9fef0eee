"""What is odd about how a name looks: letters of other alphabets, punycode, a likeness to a name that is known.

Decides nothing about whether it is the right one: advice for the eye. SPEC: UTS #39 (in the small: the letters that are
drawn as Latin ones), RFC 3492. INVARIANT: a name of plain ASCII that is like no other has no note.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from citywatch.core.approvals.plain import named

_HOST: Final = re.compile(r"(?:[a-z][a-z0-9+.-]*://)?(?:[^/@\s]*@)?([^/:?#\s]+)", re.IGNORECASE)
_LIKE: Final = str.maketrans(
    "аеорсухіјѕһԁԛԝвкмнтьΑΒΕΖΗΙΚΜΝΟΡΤΥΧαορνιτκгɡıł0135|!",
    "aeopcyxijshdqwbkmhtbabezhikmnoptyxaopvitkrgil" + "olesli",
)
"""Letters that are drawn like a Latin one, and digits that are taken for one."""
_PAIRS: Final = (("rn", "m"), ("vv", "w"), ("cl", "d"))
MAX_NEAR: Final = 256
MAX_LOOKED: Final = 256


def looks(value: str, near: Iterable[str] = ()) -> tuple[str, ...]:
    """What somebody should know who takes this for a name they know; `near` are names that they know."""
    shown = value[:MAX_LOOKED]
    notes: list[str] = []
    scripts = _scripts(shown)
    if len(scripts) > 1 or (
        scripts and scripts != {"LATIN"} and any(char.isascii() and char.isalpha() for char in shown)
    ):
        notes.append(f"mixes alphabets: {', '.join(sorted(one.lower() for one in scripts))}")
    match = _HOST.match(shown)
    host = "" if match is None else match[1]
    if "." in host:
        notes += _punycode(host)
    own = skeleton(shown)
    for one in list(near)[:MAX_NEAR]:
        if one.casefold() != shown.casefold() and skeleton(one) == own:
            notes.append(f"looks like {named(one)}, and is not it")
            break
    return tuple(notes)


def skeleton(text: str) -> str:
    """What a text looks like at a glance: two that look alike have the same."""
    folded = unicodedata.normalize("NFKC", text).translate(_LIKE).casefold().translate(_LIKE)
    for two, one in _PAIRS:
        folded = folded.replace(two, one)
    return folded


def _scripts(text: str) -> set[str]:
    """The alphabets of its letters, by the first word of their names."""
    return {unicodedata.name(char, "UNKNOWN").split(" ")[0] for char in text if char.isalpha()}


def _punycode(host: str) -> list[str]:
    notes = []
    if not host.isascii():
        try:
            notes.append(f"is {named(host.encode('idna').decode(), 120)} to a computer")
        except UnicodeError:
            notes.append("is no host name that a computer knows")
    for label in host.split("."):
        if label.lower().startswith("xn--"):
            try:
                meant = label[4:].encode("ascii").decode("punycode")
            except UnicodeError:
                notes.append(f"{named(label, 60)} is no name that can be written")
                continue
            notes.append(
                f"{named(label, 60)} is written {named(meant, 60)}, in {', '.join(sorted(_scripts(meant))).lower()}"
            )
    return notes
