"""Past-time rules over events, compiled to automata: constant time for each event, whatever happened before.

Decides at which events a rule matches, per agent, task, resource or reader. What becomes of a match (a refusal, a
question to a person) is for whoever asks; so is whether a refused call counts as having happened: `judge` returns the
rows as they are *if* the event happens, and nobody has to keep them.

INVARIANTS
1. The same verdict at every event as the formula read over the whole trace (`spec/temporal.py`).
2. Memory is bounded by the rule alone: a time for each operator, and for `count` as many as it counts, at most
   `MAX_TIMES`.
3. Time never counts backwards: an event that says it is earlier than one before it in its trace counts as that late.
4. A window includes its edge: what is exactly `within` old still counts.
5. An attribute that could be anything (an origin nobody knows, an audience of everybody) decides for the match: it fits
   under an even number of `not`, and does not under an odd one.
6. A memory that is over (`is_over`) can be forgotten: no verdict from then on is another for it.
7. What is empty is refused when the rule is compiled: no `and` of nothing, no `or` of nothing, no value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from citywatch.core.canonical import canonical, digest
from citywatch.core.errors import Malformed
from citywatch.core.plan.duration import MAX_DURATION
from citywatch.core.plan.formula import (
    ATTRIBUTES,
    And,
    Count,
    Formula,
    Is,
    Not,
    Once,
    Or,
    Previously,
    Rule,
    Since,
    Then,
)

MAX_TIMES = 256
MAX_NODES = 256
MAX_DEPTH = 32

Cell = tuple[int, ...]
"""What one operator remembers: times, the latest last; for `previously`, whether there is one."""


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """One event as rules see it. `anything` names the attributes that could have any value beside those listed."""

    at: int
    values: Mapping[str, tuple[str, ...]]
    anything: tuple[str, ...] = ()


class Memory(msgspec.Struct, frozen=True):
    """What one trace left behind, for one rule. JSON-codable, of bounded size."""

    at: int
    cells: tuple[Cell, ...]


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that matches at an event, and what follows."""

    rule: str
    then: Then


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """The rules that match, in order and each once, and all rows as they are once the event has happened."""

    matches: tuple[Match, ...]
    rows: Mapping[str, Memory]


Ask = Callable[[Happening, list[bool]], bool]
"""A formula at one event, given the verdicts of the operators within it."""

Operator = Callable[[Happening, list[bool], Cell, int], tuple[bool, Cell]]
"""One operator at one event: its verdict, and what it remembers from now on."""


class Automaton(msgspec.Struct, frozen=True, kw_only=True):
    """A compiled rule. `digest` names its text: a changed rule starts with no memory. It reads these `attributes`."""

    rule: Rule
    digest: str
    operators: tuple[Operator, ...]
    root: Ask
    attributes: frozenset[str]
    spans: tuple[int, ...]
    """For each operator, for how long what it remembers can count after the last time in it."""


def compile_rule(rule: Rule) -> Automaton:
    """Prepare a rule; raises `Malformed` for one that is empty somewhere, too large, or speaks of no attribute."""
    compiler = _Compiler()
    root = compiler.formula(rule.when, True, MAX_DEPTH)
    name = digest(b"citywatch/rule/v1\n" + canonical(msgspec.to_builtins(rule)))
    attributes = frozenset((rule.per.value, *compiler.attributes))
    return Automaton(
        rule=rule,
        digest=name,
        operators=tuple(compiler.operators),
        root=root,
        attributes=attributes,
        spans=tuple(compiler.spans),
    )


def start(automaton: Automaton) -> Memory:
    """The memory of a trace in which nothing happened."""
    return Memory(0, ((),) * len(automaton.operators))


def is_over(automaton: Automaton, memory: Memory, now: int) -> bool:
    """# INVARIANT: 6. Whether nothing that is remembered can count at any event at `now` or later."""
    cells = zip(memory.cells, automaton.spans, strict=True)
    return memory.at <= now and all(not cell or now - cell[-1] > span for cell, span in cells)


def advance(automaton: Automaton, memory: Memory, happening: Happening) -> tuple[bool, Memory]:
    """One event of one trace: whether the rule matches there, and the memory after it."""
    now = max(memory.at, happening.at)  # INVARIANT: 3
    verdicts: list[bool] = []
    cells: list[Cell] = []
    for operator, cell in zip(automaton.operators, memory.cells, strict=True):
        verdict, after = operator(happening, verdicts, cell, now)
        verdicts.append(verdict)
        cells.append(after)
    return automaton.root(happening, verdicts), Memory(now, tuple(cells))


def rows_of(automaton: Automaton, happening: Happening) -> tuple[str, ...]:
    """The keys of the traces that an event belongs to, one for each agent, task, resource or reader it names.

    "Anything" is a trace of its own: what went to everybody is not in the trace of each single reader.
    """
    per = automaton.rule.per.value
    keys = [f"{automaton.digest}\n={value}" for value in dict.fromkeys(happening.values.get(per, ()))]
    return (*keys, f"{automaton.digest}\n*") if per in happening.anything else tuple(keys)


def judge(automata: Iterable[Automaton], rows: Mapping[str, Memory], happening: Happening) -> Judged:
    """All rules at one event. `rows` holds what is stored under the keys of `rows_of`; a trace begins without."""
    matches: list[Match] = []
    after: dict[str, Memory] = {}
    for automaton in automata:
        matched = False
        for key in rows_of(automaton, happening):
            here, after[key] = advance(automaton, rows.get(key) or start(automaton), happening)
            matched = matched or here
        if matched:
            matches.append(Match(rule=automaton.rule.name, then=automaton.rule.then))
    return Judged(matches=tuple(matches), rows=after)


class _Compiler:
    """Operators in the order in which they are asked, the inner before the outer."""

    def __init__(self) -> None:
        self.operators: list[Operator] = []
        self.spans: list[int] = []
        self.nodes = 0
        self.attributes: set[str] = set()

    def formula(self, formula: Formula, favour: bool, depth: int) -> Ask:
        """`favour`: whether the formula holding lets the rule match. # INVARIANT: 5."""
        self.nodes += 1
        if depth == 0 or self.nodes > MAX_NODES:
            raise Malformed(f"more than {MAX_NODES} parts, or nested deeper than {MAX_DEPTH}")
        match formula:
            case Is():
                self.attributes.add(formula.attribute)
                return _is(formula, favour)
            case Not():
                inner = self.formula(formula.of, not favour, depth - 1)
                return lambda happening, verdicts: not inner(happening, verdicts)
            case And() | Or():
                if not formula.of:  # INVARIANT: 7
                    raise Malformed("an `and` or `or` of nothing")
                parts = tuple(self.formula(part, favour, depth - 1) for part in formula.of)
                wanted = isinstance(formula, Or)
                # Operators were asked before, all of them: what is cut short here is no memory
                return lambda happening, verdicts: _first(parts, happening, verdicts, wanted)
            case Since():
                of, begun = self.formula(formula.of, favour, depth - 1), self.formula(formula.start, favour, depth - 1)
                return self.add(_since(of, begun, _window(formula.within)), _window(formula.within))
        inner = self.formula(formula.of, favour, depth - 1)
        match formula:
            case Previously():
                return self.add(_previously(inner), _window(None))
            case Once():
                return self.add(_count(inner, 1, _window(formula.within)), _window(formula.within))
            case Count():
                if not 1 <= formula.times <= MAX_TIMES:
                    raise Malformed(f"`count` compares with 1 to {MAX_TIMES}")
                return self.add(_count(inner, formula.times, _window(formula.within)), _window(formula.within))

    def add(self, operator: Operator, span: int) -> Ask:
        place = len(self.operators)
        self.operators.append(operator)
        self.spans.append(span)
        return lambda happening, verdicts: verdicts[place]


def _window(within: int | None) -> int:
    if within is not None and not 0 < within <= MAX_DURATION:
        raise Malformed("a window is longer than nothing and at most ten years")
    return 2**63 if within is None else within


def _is(formula: Is, favour: bool) -> Ask:
    if formula.attribute not in ATTRIBUTES or not formula.values:
        raise Malformed(f"no attribute, or no value; there are {', '.join(ATTRIBUTES)}")
    attribute = formula.attribute
    exact = frozenset(value for value in formula.values if not value.endswith("*"))
    begins = tuple(value[:-1] for value in formula.values if value.endswith("*"))

    def ask(happening: Happening, verdicts: list[bool]) -> bool:
        if attribute in happening.anything:
            return favour
        for value in happening.values.get(attribute, ()):
            if value in exact or (begins and value.startswith(begins)):
                return True
        return False

    return ask


def _first(parts: tuple[Ask, ...], happening: Happening, verdicts: list[bool], wanted: bool) -> bool:
    """`or` looks for one that holds, `and` for one that does not."""
    for part in parts:
        if part(happening, verdicts) is wanted:
            return wanted
    return not wanted


def _previously(inner: Ask) -> Operator:
    def operator(happening: Happening, verdicts: list[bool], cell: Cell, now: int) -> tuple[bool, Cell]:
        return bool(cell), (1,) if inner(happening, verdicts) else ()

    return operator


def _since(of: Ask, begun: Ask, window: int) -> Operator:
    def operator(happening: Happening, verdicts: list[bool], cell: Cell, now: int) -> tuple[bool, Cell]:
        # The latest beginning is enough: whatever held after an earlier one held after this one
        if begun(happening, verdicts):
            return True, (now,)
        if not cell or not of(happening, verdicts):
            return False, ()
        return now - cell[0] <= window, cell

    return operator


def _count(inner: Ask, times: int, window: int) -> Operator:
    def operator(happening: Happening, verdicts: list[bool], cell: Cell, now: int) -> tuple[bool, Cell]:
        if inner(happening, verdicts):
            cell = (*cell, now)[-times:]  # INVARIANT: 2
        return len(cell) == times and now - cell[0] <= window, cell  # INVARIANT: 4

    return operator
