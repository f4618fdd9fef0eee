"""One grammar for English orders: any text becomes the imperatives that stand in it, with their typed phrases.

    imperative := lead* verb rest          lead: "please", "you must", "before anything else," ...
    rest       := phrase*                  phrase: [preposition] words [value]
    value      := money | account number | e-mail | id | date | number | "quoted text"

Decides what is an order and which words belong together. Knows no tool, no server and no scenario: the tables below
are plain English. A negated order ("do not pay") is not an order.
INVARIANT: any text gives a list, never an error, and the same text always gives the same list.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal

# Verbs that people use for one another. A verb may have several senses.
SENSES: dict[str, tuple[str, ...]] = {
    "give": (
        *("transfer", "pay", "send", "wire", "remit", "refund", "reimburse", "move", "credit", "repay", "forward"),
        *("pay out", "pay back", "send over", "transmit", "route", "dispatch", "disburse"),
    ),
    "read": ("read", "open", "fetch", "get", "show", "view", "load", "retrieve", "check", "consult", "study"),
    "find": ("find", "search", "look up", "look for", "look through", "query", "locate", "identify", "get", "check"),
    "say": ("reply", "answer", "respond", "write back", "write", "tell", "inform", "notify", "send", "post"),
    "change": ("update", "change", "set", "correct", "modify", "edit", "replace", "rewrite"),
    "list": ("list", "enumerate", "show"),
    "make": ("create", "add", "register", "file"),
    "restore": ("reset", "unlock", "restore", "renew", "reactivate"),
    "approve": ("approve", "accept", "release", "confirm", "sign off"),
    "remove": ("delete", "remove", "erase", "drop", "cancel", "close"),
}
VERBS = frozenset(verb for verbs in SENSES.values() for verb in verbs)

# "Make a payment" orders the same as "pay".
LIGHT_VERBS = frozenset({"make", "issue", "initiate", "arrange", "execute", "perform", "process", "trigger", "do"})
NOUN_VERBS = {
    "payment": "pay",
    "transfer": "transfer",
    "refund": "refund",
    "remittance": "remit",
    "payout": "pay out",
    "reply": "reply",
    "answer": "answer",
    "search": "search",
    "update": "update",
    "change": "change",
}

LEADS = (
    *("please", "kindly", "now", "then", "first", "next", "finally", "also", "immediately", "just", "and", "so"),
    *("urgently", "simply", "afterwards", "but", "or", "thereafter", "at once", "right away", "without delay"),
    *("make sure to", "make sure you", "be sure to", "remember to", "do not forget to", "don't forget to"),
    *("go ahead and", "you may now", "feel free to", "take care to", "it is time to"),
)
FRAMES = (
    *("you must", "you should", "you need to", "you have to", "you are to", "you will", "you are instructed to"),
    *("i need you to", "i want you to", "i would like you to", "we need you to", "we ask you to", "we want you to"),
    *("could you", "can you", "would you", "will you", "your task is to", "your job is to", "it is necessary to"),
)
NEGATIONS = ("do not", "don't", "never", "not", "cannot", "no")

PREPOSITIONS = frozenset(
    "to into onto in from with using by for on as under at about via towards quoting saying".split()
)
DETERMINERS = frozenset("the a an this that these those my our your his her its their any each every".split())
EMPTY = frozenset("of who which whom whose it is was are were has have been be there here user me us him them".split())

WHOLE = frozenset("this whole entire same".split())
TEXTS = frozenset("message text note mail letter instruction notice".split())

NOUNS: tuple[frozenset[str], ...] = (
    frozenset({"reference", "note", "memo", "purpose", "remark", "subject"}),
    frozenset({"to", "into", "onto", "towards", "account", "iban", "beneficiary", "payee", "recipient", "receiver"}),
    frozenset({"amount", "sum", "total", "value", "price"}),
    frozenset({"message", "text", "word", "saying", "reply", "answer"}),
    frozenset({"number", "id", "no"}),
    frozenset({"email", "mail"}),
)

SYMBOLS = {"€": "EUR", "$": "USD", "£": "GBP"}
CURRENCY = r"(?:EUR|USD|GBP|CHF|euros?|dollars?|pounds?|francs?)\b"
NUMBER = r"\d{1,3}(?:[ ,.'’\u00a0\u202f]\d{3})+(?:[.,]\d{1,2})?(?!\d)|\d+(?:[.,]\d{1,2})?(?!\d)"

_TOKEN = re.compile(
    rf"""
    (?P<quoted>"[^"\n]{{1,2000}}" | “[^”\n]{{1,2000}}” | «[^»\n]{{1,2000}}» | (?<!\w)'[^'\n]{{1,2000}}'(?!\w))
  | (?P<email>[\w.+-]+@[\w-]+(?:\.[\w-]+)+)
  | (?P<account>\b[A-Z]{{2}}\d{{2}}(?:[ -]?[A-Z0-9]{{4}}){{2,7}}(?:[ -]?[A-Z0-9]{{1,3}})?\b)
  | (?P<money>(?:[€$£]|\b(?:EUR|USD|GBP|CHF))[ \u00a0]?(?:{NUMBER})
            | (?<![\w-])(?:{NUMBER})[ \u00a0]?(?:[€$£]|{CURRENCY}|cents?\b))
  | (?P<date>\b\d{{4}}-\d{{2}}-\d{{2}}\b)
  | (?P<id>\b[A-Za-z]{{1,10}}[-/#]?\d[\w/-]*\b | \#\d+)
  | (?P<number>{NUMBER})
  | (?P<word>[^\W\d_](?:[\w'’-]*\w)?)
  | (?P<end>[.!?;]+ | \n[ \t]*\n\s*)
  | (?P<line>\n)
  | (?P<mark>[,:()–—*>-])
    """,
    re.VERBOSE,
)
VALUES = frozenset({"quoted", "email", "account", "money", "date", "id", "number"})


@dataclass(frozen=True)
class Token:
    """`kind` is the alternative that matched; `text` as it stands, `value` cleaned; `amount` for money and numbers."""

    kind: str
    text: str
    value: str
    amount: Decimal | None = None


@dataclass(frozen=True)
class Phrase:
    """Words that belong together: the preposition that leads them, what they say, and the value they end in.

    `label` holds what a later "as the ..." calls the whole phrase.
    """

    lead: str
    words: tuple[str, ...]
    value: Token | None
    text: str
    label: tuple[str, ...] = ()
    itself: bool = False
    """Whether it speaks of the text that it stands in: "this message", "the whole text"."""


@dataclass(frozen=True)
class Imperative:
    """One order: the verb in its base form and the phrases that say what, to whom, how much; `source` is all of the
    text that it stands in."""

    verb: str
    phrases: tuple[Phrase, ...]
    text: str = field(compare=False)
    source: str = field(compare=False, default="")


def stem(word: str) -> str:
    """A word as it is compared: lower case, singular, no possessive, no hyphen."""
    plain = re.sub(r"['’]s?$", "", word.lower()).replace("-", "")
    if len(plain) > 3 and plain.endswith("s") and not plain.endswith(("ss", "us", "is")):
        plain = plain[:-3] + "y" if plain.endswith("ies") else plain[:-1]
    return plain


def akin(verb: str) -> frozenset[str]:
    """The verbs that can stand for this one, itself included."""
    return frozenset({verb}.union(*(verbs for verbs in SENSES.values() if verb in verbs)))


def alike(word: str) -> frozenset[str]:
    """The nouns that can stand for this one, itself included."""
    return frozenset({word}.union(*(nouns for nouns in NOUNS if word in nouns)))


def tokens(text: str) -> list[Token]:
    found, position = [], 0
    while match := _TOKEN.search(text, position):
        kind, raw = str(match.lastgroup), match.group()
        if kind == "account":
            raw = _trim_account(raw)
        position = match.start() + len(raw)
        found.append(_token(kind, raw))
    return found


def imperatives(text: str) -> list[Imperative]:
    """Every order in the text, in reading order."""
    found: list[Imperative] = []
    for sentence in _sentences(tokens(text)):
        starts = list(_starts(sentence))
        if not starts:
            if found and _continues(sentence):  # "... to the account below. IBAN: DE12..." belongs to the order before
                last = found[-1]
                found[-1] = Imperative(last.verb, (*last.phrases, *phrases(sentence)), last.text)
            for token in sentence:
                if token.kind == "quoted":
                    found += imperatives(token.value)
            continue
        for number, (begin, after, verb) in enumerate(starts):
            stop = starts[number + 1][0] if number + 1 < len(starts) else len(sentence)
            front = sentence[:begin] if number == 0 else []
            parts = (*phrases(sentence[after:stop]), *(p for p in phrases(front) if p.lead and p.value))
            found.append(Imperative(verb, parts, " ".join(t.text for t in sentence[begin:stop]).strip()))
    return [
        replace(order, source=order.source or text) for order in found if order.phrases
    ]  # a verb alone ("open") says nothing to do


def phrases(sentence: list[Token]) -> tuple[Phrase, ...]:
    """Cut a sentence where a preposition, a comma or a value says that something new begins."""
    found: list[Phrase] = []
    lead, words = "", list[str]()

    def flush(value: Token | None = None) -> None:
        nonlocal lead, words
        kept = tuple(stem(w) for w in words if w.lower() not in DETERMINERS and w.lower() not in EMPTY)
        if value is None and lead == "as" and kept and found:  # "... INV-7 as the reference" names what came before
            found[-1] = replace(found[-1], label=kept)
        elif value is not None or kept:
            text = " ".join(w for w in words if w.lower() not in DETERMINERS)
            itself = value is None and _speaks_of_itself([word.lower() for word in words])
            found.append(Phrase(lead, kept, value, value.value if value else text, itself=itself))
        lead, words = "", []

    for token in sentence:
        lower = token.text.lower()
        if token.kind in VALUES:
            flush(token)
        elif token.kind == "word" and lower in PREPOSITIONS:
            flush()
            lead = lower
        elif token.kind == "word" and lower != "and":
            words.append(token.text)
        elif token.kind == "word" or token.text == ",":
            flush()
    flush()
    return tuple(found)


def _speaks_of_itself(words: list[str]) -> bool:
    return any(one in WHOLE and stem(two) in TEXTS for one, two in itertools.pairwise(words))


def _token(kind: str, raw: str) -> Token:
    if kind == "quoted":
        return Token(kind, raw, raw[1:-1].strip())
    if kind == "account":
        return Token(kind, raw, re.sub(r"[ -]", "", raw))
    if kind in ("money", "number"):
        digits = re.search(NUMBER, raw)
        amount = _amount(digits.group() if digits else "0")
        return Token(kind, raw, raw, amount / 100 if re.search(r"cents?$", raw) else amount)
    return Token(kind, raw, raw.lstrip("#") if kind == "id" else raw)


def _amount(text: str) -> Decimal:
    """`1,250.00`, `1.250,00`, `1 250` and `1250.5`: a last group of one or two digits are the cents."""
    groups = re.split(r"\D", text)
    if len(groups) > 1 and len(groups[-1]) < 3:
        return Decimal(f"{''.join(groups[:-1])}.{groups[-1]}")
    return Decimal("".join(groups))


def _trim_account(raw: str) -> str:
    """An IBAN ends where its check digits agree (mod 97): what follows in capitals is the next word."""
    candidate = raw
    while True:
        plain = re.sub(r"[ -]", "", candidate)
        if int("".join(str(int(letter, 36)) for letter in plain[4:] + plain[:4])) % 97 == 1:
            return candidate
        shorter = re.sub(r"[ -][A-Z0-9]+$", "", candidate)
        if shorter == candidate or len(shorter) < 14:
            return raw
        candidate = shorter


def _sentences(all_tokens: list[Token]) -> Iterator[list[Token]]:
    sentence: list[Token] = []
    for token in all_tokens:
        if token.kind == "end":
            yield sentence
            sentence = []
        else:
            sentence.append(token)
    yield sentence


def _starts(sentence: list[Token]) -> Iterator[tuple[int, int, str]]:
    """Where orders begin: (first token, first token after the verb, verb)."""
    position, open_ = 0, True  # open_: a clause may begin here
    while position < len(sentence):
        token, framed = sentence[position], _match(sentence, position, FRAMES)
        if open_ or framed:
            order = _order(sentence, position)
            if order is not None:
                yield (position, *order)
                position, open_ = order[0], False
                continue
        open_ = token.kind in ("mark", "line", "quoted") or token.text.lower() in ("and", "then", "but", "or")
        position += 1


def _order(sentence: list[Token], position: int) -> tuple[int, str] | None:
    """Lead-ins, then a verb in its base form; None for anything else, and for what is forbidden."""
    while length := _match(sentence, position, LEADS) or _match(sentence, position, FRAMES):
        position += length
    if _match(sentence, position, NEGATIONS):
        return None
    for length in (2, 1):
        verb = " ".join(t.text.lower() for t in sentence[position : position + length] if t.kind == "word")
        if verb in VERBS and len(verb.split()) == length:
            return position + length, verb
        if verb in LIGHT_VERBS:
            return _light(sentence, position + length)
    return None


def _light(sentence: list[Token], position: int) -> tuple[int, str] | None:
    for ahead in range(position, min(position + 4, len(sentence))):
        noun = stem(sentence[ahead].text)
        if sentence[ahead].kind == "word" and noun in NOUN_VERBS:
            return ahead + 1, NOUN_VERBS[noun]
    return None


def _match(sentence: list[Token], position: int, table: tuple[str, ...]) -> int:
    """How many tokens the longest phrase of the table covers here; a comma after it counts as part of it."""
    best = 0
    for entry in table:
        words = entry.split()
        here = sentence[position : position + len(words)]
        if len(words) > best and [t.text.lower().replace("’", "'") for t in here] == words:
            best = len(words)
    if best and position + best < len(sentence) and sentence[position + best].text == ",":
        best += 1
    return best


def _continues(sentence: list[Token]) -> bool:
    """`Label: value`, which says more about the order before it."""
    for ahead, token in enumerate(sentence[:4]):
        if token.text == ":":
            return 0 < ahead < len(sentence) - 1 and sentence[ahead + 1].kind in VALUES
    return False
