"""Typed questions about a text that a model was not shown, and which answers may come out.

Decides what may be asked, whether what a reader said is an answer, and which values a text holds for those who ask
without a reader. Does not read: the reader is a model without tools (`service.ports.Reader`), and it may have been
talked into anything by the text.

INVARIANTS
1. What comes out to be *seen* is a number, a date, a yes or a no, or one of the few words that the asker wrote: none of
   them can carry an instruction.
2. Whatever else comes out (an address, an id, a phrase) is for a handle, and is never seen.
3. A number, a date, an id and a phrase stand in the text, whole; a reader cannot make one up.
4. An answer is in our words: the normal form of what was read, never the reader's spelling of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

import msgspec

from citywatch.core.errors import Malformed
from citywatch.core.flow.derive import as_number
from citywatch.core.flow.fold import fold
from citywatch.core.flow.index import index_text, met
from citywatch.core.flow.mentions import find_phrase
from citywatch.core.flow.tokens import Kind, Token, exact_tokens, find_tokens

MAX_WORDS: Final = 500
MAX_OPTIONS: Final = 16
MAX_OPTION: Final = 64
MAX_PHRASE: Final = 256
MAX_LISTED: Final = 64
IDS: Final = frozenset((Kind.EMAIL, Kind.URL, Kind.HOST, Kind.IBAN, Kind.PHONE, Kind.PATH, Kind.ID))


class Type(StrEnum):
    """As what an answer is read."""

    YES_NO = "yes_no"
    ONE_OF = "one_of"
    NUMBER = "number"
    DATE = "date"
    ID = "id"  # an address, an account, a link, a number of a case: given as a handle
    PHRASE = "phrase"  # words that stand in the text: given as a handle


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a text."""

    type: Type
    words: str
    options: tuple[str, ...] = ()


class Answer(msgspec.Struct, frozen=True):
    """What may come out: `seen` (a number, a date, a yes or no, an option) or, for a handle, `hidden`."""

    seen: str | int | float | bool | None = None
    hidden: str | None = None


def parse_question(arguments: Mapping[str, Any]) -> Question:
    """Read `type`, `question` and `options`; raise `Malformed` with a line that its asker may see."""
    word, words, options = arguments.get("type"), arguments.get("question"), arguments.get("options", [])
    if word not in tuple(Type):
        raise Malformed(f"`type` is none of {', '.join(Type)}")
    if not isinstance(words, str) or not words.strip() or len(words) > MAX_WORDS:
        raise Malformed(f"`question` has 1 to {MAX_WORDS} characters")
    fits = isinstance(options, list) and all(isinstance(one, str) and 0 < len(one) <= MAX_OPTION for one in options)
    if not fits or len(options) > MAX_OPTIONS or len(set(options)) != len(options):
        raise Malformed(f"`options` are at most {MAX_OPTIONS} different words of at most {MAX_OPTION} characters")
    if (word == Type.ONE_OF) != (len(options) > 1):
        raise Malformed("`options` are two or more for `one_of`, and none for any other type")
    return Question(type=Type(word), words=words, options=tuple(options))


def check_answer(question: Question, text: str, said: str) -> Answer | None:
    """What comes out of what the reader said; None if it is no answer of that type that the text holds."""
    said = said.strip()
    match question.type:
        case Type.YES_NO:
            return Answer(seen=said.lower() == "yes") if said.lower() in ("yes", "no") else None
        case Type.ONE_OF:
            return Answer(seen=said) if said in question.options else None
        case Type.NUMBER:
            return _typed(said, text, frozenset((Kind.NUMBER, Kind.MONEY)))
        case Type.DATE:
            return _typed(said, text, frozenset((Kind.DATE, Kind.TIME)))
        case Type.ID:
            return Answer(hidden=said) if _stands(said, text, IDS) is not None else None
        case Type.PHRASE:
            whole = 0 < len(said) <= MAX_PHRASE and find_phrase(fold(said), fold(text)) >= 0
            return Answer(hidden=said) if whole else None


def list_values(text: str, kind: Kind) -> tuple[Answer, ...]:
    """Every value of a kind that stands whole in a text, each once, in its order; nobody has to understand it."""
    found: dict[str, Answer] = {}
    for token in find_tokens(text, names=False):
        if token.kind is kind and len(found) < MAX_LISTED and token.value not in found:
            shown = _shown(token)
            found[token.value] = Answer(hidden=text[token.start : token.end]) if shown is None else Answer(seen=shown)
    return tuple(found.values())


def _typed(said: str, text: str, kinds: frozenset[Kind]) -> Answer | None:
    token = _stands(said, text, kinds)
    return None if token is None else Answer(seen=_shown(token))


def _stands(said: str, text: str, kinds: frozenset[Kind]) -> Token | None:
    """# INVARIANT: 3. The one reading of what was said, if the text holds it whole; of two readings none."""
    readings = [one for one in exact_tokens(said) if one.kind in kinds]
    if not readings or any(one.kind is readings[0].kind for one in readings[1:]):
        return None
    held = met(said, index_text(text))
    return readings[0] if any(one.kind in kinds for one in held) else None


def _shown(token: Token) -> str | int | float | None:
    """# INVARIANT: 4. The normal form of a number or a date; None for what is not to be seen."""
    if token.kind in (Kind.DATE, Kind.TIME):
        return token.value
    if token.kind not in (Kind.NUMBER, Kind.MONEY):
        return None
    number = as_number(token.value.rpartition(" ")[2])
    if number is None:
        return None
    return int(number) if number == number.to_integral_value() else float(Decimal(number))
