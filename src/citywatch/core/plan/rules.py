"""Temporal rules as people write them: text ⇄ `Rule`.

    forbid NAME per reader when count within 1d (origin is "server:crm") >= 20;

Decides what is a well-formed rule, and tells one mistake for each rule that has one, with its line and column; the
syntax stands in `docs/reference/temporal-rules.md`. `not`, `previously`, `once` and `count` bind tightest, then
`since`, then `and`, then `or`.

INVARIANTS: every text gives rules or `BadRules`, in bounded work; `parse_rules(format_rules(rules)) ==
rules`; two rules of one name, an unknown word and a text without a rule are mistakes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple, TypeVar

from citywatch.core.errors import Malformed
from citywatch.core.plan.duration import format_duration, parse_duration
from citywatch.core.plan.formula import (
    ATTRIBUTES,
    And,
    Count,
    Formula,
    Is,
    Not,
    Once,
    Or,
    Per,
    Previously,
    Rule,
    Since,
    Then,
)
from citywatch.core.plan.notes import BadRules, Mistake, shown
from citywatch.core.plan.temporal import MAX_DEPTH, compile_rule

MAX_TEXT = 256 * 1024
MAX_RULES = 256
MAX_VALUES = 256
CONTEXTUAL = frozenset(("origin", "task", "principal", "spread"))
"""Attributes that only a context tells."""

_TOKEN = re.compile(
    r"(?P<space>[ \t\r\n]+|#[^\n]*)|(?P<word>[A-Za-z][A-Za-z0-9_-]*)|(?P<number>[0-9]{1,9}[a-z]{0,2})"
    r'|(?P<text>"(?:[^"\\\x00-\x1f]|\\.){0,512}")|(?P<mark>>=|[()\[\],;])|(?P<other>.)',
    re.DOTALL,
)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}\Z")

T = TypeVar("T", bound=StrEnum)


class _Token(NamedTuple):
    kind: str
    text: str
    line: int
    column: int


class _Wrong(Malformed):
    """One mistake, at one token; the next rule begins after the next `;`."""

    def __init__(self, token: _Token, wanted: str) -> None:
        super().__init__(wanted)
        self.mistake = Mistake(f"line {token.line}, column {token.column}", wanted)


def parse_rules(text: str) -> tuple[Rule, ...]:
    """Read a file of rules; raises `BadRules`, which holds a mistake for each rule that has one."""
    if len(text) > MAX_TEXT:
        raise BadRules((Mistake("", f"longer than {MAX_TEXT} characters"),))
    reader = _Reader(_tokens(text))
    rules: dict[str, Rule] = {}
    mistakes: list[Mistake] = []
    while reader.token.kind != "end" and len(mistakes) < 50:
        begun = reader.token
        try:
            rule = reader.rule()
            if rule.name in rules or len(rules) >= MAX_RULES:
                raise Malformed(f"{shown(rule.name)} stands twice, or there are more than {MAX_RULES} rules")
            compile_rule(rule)
            if at_a_call(rule.when) is False:
                raise Malformed(f"{shown(rule.name)} can match at no call, and only calls are judged")
            rules[rule.name] = rule
        except _Wrong as wrong:
            mistakes.append(wrong.mistake)
            reader.skip()
        except Malformed as error:
            mistakes.append(Mistake(f"line {begun.line}, column {begun.column}", str(error)))
    if not rules and not mistakes:
        mistakes.append(Mistake("", "there is no rule"))
    if mistakes:
        raise BadRules(tuple(mistakes))
    return tuple(rules.values())


def at_a_call(formula: Formula) -> bool | None:
    """Whether a formula holds at every call, or at none; None if that is not to be seen in its text.

    What a reply brings is remembered; a rule that speaks of nothing else would refuse nothing, in silence.
    """
    match formula:
        case Is("event"):
            return any(
                value == "call" or (value.endswith("*") and "call".startswith(value[:-1])) for value in formula.values
            )
        case Not():
            inner = at_a_call(formula.of)
            return None if inner is None else not inner
        case And() | Or():
            decided = isinstance(formula, Or)
            parts = [at_a_call(part) for part in formula.of]
            return decided if decided in parts else None if None in parts else not decided
    return None


def needs_contexts(rule: Rule) -> bool:
    """Whether a rule means nothing where no contexts are kept: it asks a person, or speaks of origins or tasks."""
    return rule.then is Then.ASK or rule.per is Per.TASK or bool(_attributes(rule.when) & CONTEXTUAL)


def _attributes(formula: Formula) -> frozenset[str]:
    match formula:
        case Is():
            return frozenset((formula.attribute,))
        case And() | Or():
            return frozenset().union(*(_attributes(part) for part in formula.of))
        case Since():
            return _attributes(formula.of) | _attributes(formula.start)
    return _attributes(formula.of)


def format_rules(rules: Iterable[Rule]) -> str:
    """The inverse of `parse_rules`, a rule on each line."""
    return "".join(
        f"{rule.then.value} {rule.name} per {rule.per.value} when {format_formula(rule.when)};\n" for rule in rules
    )


def format_formula(formula: Formula) -> str:
    """A formula as it is written, with no more parentheses than its reader needs."""
    match formula:
        case Is():
            values = [json.dumps(value, ensure_ascii=False) for value in formula.values]
            return f"{formula.attribute} " + (f"is {values[0]}" if len(values) == 1 else f"in [{', '.join(values)}]")
        case And():
            return " and ".join(_inner(part, And, Or) for part in formula.of)
        case Or():
            return " or ".join(_inner(part, Or) for part in formula.of)
        case Since():
            return f"{_tight(formula.of)} since{_within(formula.within)} {_tight(formula.start)}"
        case Not():
            return f"not {_tight(formula.of)}"
        case Previously():
            return f"previously {_tight(formula.of)}"
        case Once():
            return f"once{_within(formula.within)} {_tight(formula.of)}"
        case Count():
            return f"count{_within(formula.within)} {_tight(formula.of)} >= {formula.times}"


def _within(length: int | None) -> str:
    return "" if length is None else f" within {format_duration(length)}"


def _tight(formula: Formula) -> str:
    return _inner(formula, And, Or, Since)


def _inner(formula: Formula, *loose: type[Formula]) -> str:
    text = format_formula(formula)
    return f"({text})" if isinstance(formula, loose) else text


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    line, begun = 1, 0
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or "other"
        if kind != "space":
            found.append(_Token(kind, match[0], line, match.start() - begun + 1))
        lines = match[0].count("\n")
        if lines:
            line, begun = line + lines, match.start() + match[0].rindex("\n") + 1
    found.append(_Token("end", "", line, len(text) - begun + 1))
    return found


class _Reader:
    """One token ahead, by the grammar's own shape."""

    def __init__(self, tokens: list[_Token]) -> None:
        self.tokens = tokens
        self.place = 0

    @property
    def token(self) -> _Token:
        return self.tokens[self.place]

    def next(self) -> _Token:
        token = self.token
        self.place = min(self.place + 1, len(self.tokens) - 1)
        return token

    def skip(self) -> None:
        while self.token.kind != "end" and self.next().text != ";":
            pass

    def took(self, text: str) -> bool:
        if self.token.text == text:
            self.next()
            return True
        return False

    def need(self, text: str) -> None:
        if not self.took(text):
            raise _Wrong(self.token, f"`{text}` is missing before {self._here()}")

    def _here(self) -> str:
        return shown(self.token.text) if self.token.kind != "end" else "the end"

    def rule(self) -> Rule:
        then = self.one_of(Then)
        if not _NAME.match(self.token.text):
            raise _Wrong(self.token, f"{self._here()} is no name of a rule")
        name = self.next().text
        self.need("per")
        per = self.one_of(Per)
        self.need("when")
        when = self.either(MAX_DEPTH)
        self.need(";")
        return Rule(name=name, then=then, per=per, when=when)

    def one_of(self, words: type[T]) -> T:
        for word in words:
            if self.took(word.value):
                return word
        raise _Wrong(self.token, f"{self._here()} is none of {', '.join(word.value for word in words)}")

    def either(self, depth: int) -> Formula:
        parts = [self.all(depth)]
        while self.took("or"):
            parts.append(self.all(depth))
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def all(self, depth: int) -> Formula:
        parts = [self.chain(depth)]
        while self.took("and"):
            parts.append(self.chain(depth))
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def chain(self, depth: int) -> Formula:
        of = self.unary(depth)
        if not self.took("since"):
            return of
        within = self.window()
        return Since(of, self.unary(depth), within)

    def unary(self, depth: int) -> Formula:
        if depth == 0:
            raise _Wrong(self.token, f"nested deeper than {MAX_DEPTH}")
        if self.took("not"):
            return Not(self.unary(depth - 1))
        if self.took("previously"):
            return Previously(self.unary(depth - 1))
        if self.took("once"):
            within = self.window()
            return Once(self.unary(depth - 1), within)
        if self.took("count"):
            within = self.window()
            of = self.unary(depth - 1)
            self.need(">=")
            return Count(of, self.number(), within)
        if self.took("("):
            inner = self.either(depth - 1)
            self.need(")")
            return inner
        return self.atom()

    def window(self) -> int | None:
        if not self.took("within"):
            return None
        try:
            length = parse_duration(self.token.text)
        except Malformed as error:
            raise _Wrong(self.token, str(error)) from None
        self.next()
        return length

    def number(self) -> int:
        token = self.next()
        if token.kind != "number" or not token.text.isdecimal():
            raise _Wrong(token, f"{shown(token.text)} is not a number")
        return int(token.text)

    def atom(self) -> Formula:
        if self.token.text not in ATTRIBUTES:
            raise _Wrong(self.token, f"{self._here()} is no attribute; there are {', '.join(ATTRIBUTES)}")
        attribute = self.next().text
        if self.took("is"):
            return Is(attribute, (self.value(),))
        self.need("in")
        self.need("[")
        values = [self.value()]
        while self.took(",") and len(values) < MAX_VALUES:
            values.append(self.value())
        self.need("]")
        return Is(attribute, tuple(values))

    def value(self) -> str:
        token = self.next()
        try:
            if token.kind != "text":
                raise ValueError
            text = json.loads(token.text)
            return str(text)
        except ValueError:
            raise _Wrong(token, f"{shown(token.text)} is no text in double quotes") from None
