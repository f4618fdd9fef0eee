"""An order and the tools on offer become one tool call, or none: verb to tool, phrases to parameters, shapes to values.

Decides which call an imperative asks for, from names, descriptions and JSON schemas alone. Knows no particular tool.
A parameter is filled by what the order says (a value of its shape, a label, a preposition of its name) or by a thing
that it refers to ("the date of the invoice") and that was read before.
A parameter called `instruction` takes the order itself, in its own words, with what it speaks of.
INVARIANT: a call is given only if every required parameter is filled with a value that its schema admits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from examples.support_desk.language import Imperative, Phrase, Token, akin, alike, stem

Json = dict[str, Any]
INSTRUCTION = "instruction"


@dataclass(frozen=True)
class Parameter:
    name: str
    words: frozenset[str]
    hints: frozenset[str]
    schema: Mapping[str, Any]
    required: bool

    @property
    def shaped(self) -> bool:
        """Whether the schema says more than "any text"."""
        return any(key in self.schema for key in ("pattern", "format", "enum")) or self.schema.get("type") != "string"


@dataclass(frozen=True)
class Tool:
    """A tool as offered: `name` as it is called, the words of name and description, its parameters."""

    name: str
    words: frozenset[str]
    description: frozenset[str]
    parameters: tuple[Parameter, ...]


@dataclass(frozen=True)
class Fact:
    """A value read before, with the words of its field and of the record it stood in."""

    field: frozenset[str]
    record: frozenset[str]
    value: object


def words(text: str) -> frozenset[str]:
    """`send_note`, `userId` and `the user's file` as comparable words."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|[_.\-/]", " ", text)
    return frozenset(stem(word) for word in re.findall(r"[A-Za-z][A-Za-z'’]*", spaced))


def parse_tool(function: Mapping[str, Any]) -> Tool:
    """A tool from the form in which chat endpoints are told of it: `{name, description, parameters}`."""
    schema = function.get("parameters") or {}
    required = set(schema.get("required") or ())
    parameters = [
        Parameter(name, words(name), words(str(given.get("description", ""))), _plain(given), name in required)
        for name, given in (schema.get("properties") or {}).items()
    ]
    name = str(function["name"])
    return Tool(name, words(name), words(str(function.get("description") or "")), tuple(parameters))


def facts_of(value: object, record: frozenset[str], name: str = "") -> list[Fact]:
    """Every leaf of a JSON value as a fact, in reading order."""
    if isinstance(value, dict):
        return [fact for key, inner in value.items() for fact in facts_of(inner, record, str(key))]
    if isinstance(value, list):
        return [fact for inner in value for fact in facts_of(inner, record, name)]
    return [Fact(words(name), record, value)] if value is not None else []


def find_call(order: Imperative, tools: Sequence[Tool], facts: Sequence[Fact]) -> tuple[str, Json] | None:
    """The tool and arguments that the order asks for; None if no tool offered can do it with what is known."""
    best: tuple[int, str, Json] | None = None
    said = frozenset(word for phrase in order.phrases for word in (*phrase.words, *phrase.label))
    for tool in tools:
        verb = _verb_score(order.verb, tool)
        filled = _fill(order, tool, facts) if verb else None
        if filled is None:
            continue
        arguments, strength = filled
        score = 10 * verb + 6 * len(said & tool.words) + len(said & tool.description) + strength
        if best is None or score > best[0]:
            best = (score, tool.name, arguments)
    return None if best is None else (best[1], best[2])


def _verb_score(verb: str, tool: Tool) -> int:
    head = stem(verb.split()[0])
    synonyms = {stem(word) for word in akin(verb) if " " not in word}
    if head in tool.words:
        return 4
    if synonyms & tool.words:
        return 3
    if verb in tool.description or synonyms & tool.description:
        return 1
    return 0


def _fill(order: Imperative, tool: Tool, facts: Sequence[Fact]) -> tuple[Json, int] | None:
    """Pair phrases with parameters, strongest pair first; each is used once."""
    pairs: list[tuple[int, int, int, object]] = []
    for column, parameter in enumerate(tool.parameters):
        if parameter.name == INSTRUCTION:
            pairs.append((0, -len(order.phrases), -column, instruction(order, facts)))
            continue
        for row, phrase in enumerate(order.phrases):
            offer = _itself(order, phrase, parameter) if phrase.itself else _offer(phrase, parameter, facts)
            if offer is not None:
                pairs.append((offer[0], -row, -column, offer[1]))
    arguments: Json = {}
    used: set[int] = set()
    strength = 0
    for score, row, column, value in sorted(pairs, key=lambda pair: pair[:3], reverse=True):
        name = tool.parameters[-column].name
        if name not in arguments and row not in used:
            arguments[name] = value
            used.add(row)
            strength += score
    if any(p.required and p.name not in arguments for p in tool.parameters):
        return None
    return {p.name: arguments[p.name] for p in tool.parameters if p.name in arguments}, strength


def instruction(order: Imperative, facts: Sequence[Fact]) -> str:
    """An order as it is passed on: all of the text, if it speaks of that; else its words, with the records that these
    speak of."""
    if any(phrase.itself for phrase in order.phrases):
        return order.source
    said = frozenset(word for phrase in order.phrases if phrase.value is None for word in phrase.words)
    about = [fact for fact in facts if fact.record & said]
    lines = [f"{' '.join(sorted(fact.field))}: {fact.value}" for fact in about if str(fact.value) not in order.text]
    return "\n".join((f"{order.text}.", *dict.fromkeys(lines)))


def _itself(order: Imperative, phrase: Phrase, parameter: Parameter) -> tuple[int, object] | None:
    if parameter.shaped or _admit(parameter.schema, order.source, None) is None:
        return None
    named = any(alike(word) & frozenset(phrase.words) for word in parameter.words)
    return (4 + named, order.source)


def _offer(phrase: Phrase, parameter: Parameter, facts: Sequence[Fact]) -> tuple[int, object] | None:
    """How well this phrase fills this parameter, and with what; None if it cannot."""
    label = frozenset({phrase.lead, *phrase.words, *phrase.label})
    named = 5 if any(alike(word) & label for word in parameter.words) else 0
    hinted = 1 if parameter.hints & label else 0
    if phrase.value is not None:
        value = _admit(parameter.schema, phrase.value.value, phrase.value)
        if value is None:
            return None
        shape = 4 if parameter.shaped else 1 if phrase.value.kind in ("quoted", "id") else 0
        return (named + hinted + shape, value) if named + shape else None
    return _refer(phrase, parameter, facts, named) or _free(phrase, parameter, named)


def _refer(phrase: Phrase, parameter: Parameter, facts: Sequence[Fact], named: int) -> tuple[int, object] | None:
    """A thing spoken of and read before: "the date of the invoice"."""
    said = frozenset(phrase.words)
    best: tuple[int, object] | None = None
    for fact in facts:
        own = len(said & fact.field)
        around = len(said & fact.record)
        if not own and not (around and parameter.shaped and parameter.words & fact.field):
            continue
        value = _admit(parameter.schema, str(fact.value), None)
        if value is None or len(str(value)) > 200:
            continue
        score = named + 3 * own + around + len(parameter.words & fact.field)
        if best is None or score > best[0]:  # of equals the one read first, so that later texts change nothing
            best = (score, value)
    return best


def _free(phrase: Phrase, parameter: Parameter, named: int) -> tuple[int, object] | None:
    """Words as they stand, for a parameter that takes any text."""
    if parameter.shaped or not (named or phrase.lead in ("for", "about", "on")):
        return None
    value = _admit(parameter.schema, phrase.text, None)
    return None if value is None else (named + 1, value)


def _admit(schema: Mapping[str, Any], text: str, token: Token | None) -> object | None:
    """The text as a value that the schema admits, in whichever of its usual spellings; None if there is none."""
    amount = token.amount if token is not None else None
    kind = schema.get("type")
    if kind == "integer":
        if amount is not None and amount == amount.to_integral_value():
            return int(amount)
        return int(text) if re.fullmatch(r"-?\d{1,15}", text) else None
    if kind == "number":
        return float(amount) if amount is not None else float(text) if re.fullmatch(r"-?\d+(\.\d+)?", text) else None
    if kind == "boolean":
        return {"true": True, "false": False, "yes": True, "no": False}.get(text.lower())
    if kind not in ("string", None):
        return None
    spellings = [text] if amount is None else [f"{amount:.2f}", f"{amount:f}", str(int(amount * 100)), text]
    return next((spelling for spelling in spellings if _is_text_of(schema, spelling)), None)


def _is_text_of(schema: Mapping[str, Any], text: str) -> bool:
    if "enum" in schema and text not in schema["enum"]:
        return False
    if "pattern" in schema and not re.search(schema["pattern"], text):
        return False
    if schema.get("format") == "email" and not re.fullmatch(r"[^@\s]+@[^@\s]+", text):
        return False
    return int(schema.get("minLength", 0)) <= len(text) <= int(schema.get("maxLength", 1 << 20))


def _plain(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """An optional parameter's schema without its null; a constant as a choice of one."""
    for branch in schema.get("anyOf", ()):
        if branch.get("type") != "null":
            return {**schema, **branch}
    return {**schema, "enum": [schema["const"]]} if "const" in schema else schema


def parse_json(text: str) -> object | None:
    """The text as JSON if it is an object or a list, else None."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        value: object = json.loads(text)
    except ValueError:
        return None
    return value
