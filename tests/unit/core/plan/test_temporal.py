"""Temporal rules on the attacks they are for, at the edges of their windows, and where the clock goes back."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from citywatch.core.errors import Malformed
from citywatch.core.plan.formula import And, Count, Formula, Is, Not, Once, Or, Per, Rule, Then
from citywatch.core.plan.notes import BadRules
from citywatch.core.plan.rules import parse_rules
from citywatch.core.plan.temporal import Automaton, Happening, Memory, advance, compile_rule, judge, rows_of, start

TOOL = Is("tool", ("mail/send",))


def compiled(text: str) -> list[Automaton]:
    return [compile_rule(rule) for rule in parse_rules(text)]


def happening(at: int, anything: tuple[str, ...] = (), **values: str | tuple[str, ...]) -> Happening:
    given = {name: (value,) if isinstance(value, str) else value for name, value in values.items()}
    return Happening(at=at, values=given, anything=anything)


def matches(text: str, *happenings: Happening) -> list[bool]:
    """Whether any rule matches, event by event, with rows kept from each to the next."""
    automata, found = compiled(text), []
    rows: dict[str, Memory] = {}
    for one in happenings:
        judged = judge(automata, rows, one)
        rows = {**rows, **judged.rows}
        found.append(bool(judged.matches))
    return found


def test_pieces_that_reach_one_reader_through_many_agents_are_counted_together() -> None:
    rule = 'forbid pooled per reader when count within 1d (origin is "server:crm") >= 3;'
    pieces = [happening(n, agent=f"a{n}", task=f"t{n}", reader="eve", origin="server:crm") for n in range(3)]
    assert matches(rule, *pieces) == [False, False, True]
    others = [happening(n, agent="a", reader=f"r{n}", origin="server:crm") for n in range(3)]
    assert matches(rule, *others) == [False, False, False]
    both = [happening(n, reader=("eve", f"r{n}"), origin="server:crm") for n in range(3)]
    assert matches(rule, *both) == [False, False, True]


def test_one_agents_past_is_not_anothers() -> None:
    rule = 'ask web per agent when tool is "mail/send" and once within 1h origin is "outside:*";'
    read, mail = happening(0, agent="a", origin="outside:web/get"), happening(1, agent="a", tool="mail/send")
    other = happening(1, agent="b", tool="mail/send")
    assert matches(rule, read, other, mail) == [False, False, True]


@pytest.mark.parametrize(("age", "holds"), [(999, True), (1000, True), (1001, False)])
@pytest.mark.parametrize(
    "formula",
    [
        'once within 1s tool is "x"',
        'count within 1s tool is "x" >= 1',
        'effect is "read" since within 1s tool is "x"',
    ],
)
def test_what_is_exactly_as_old_as_the_window_still_counts(formula: str, age: int, holds: bool) -> None:
    events = [happening(500, agent="a", tool="x"), happening(500 + age, agent="a", effect="read")]
    assert matches(f"forbid r per agent when {formula};", *events)[1] is holds


def test_time_never_counts_backwards() -> None:
    rule = 'forbid r per agent when effect is "write" and once within 1s tool is "x";'
    x, write = happening(5000, agent="a", tool="x"), happening(0, agent="a", effect="write")
    assert matches(rule, x, write) == [False, True]
    # A clock that went back cannot age what happened before, nor make what happens now older than it is
    assert matches(rule, x, happening(10, agent="a", tool="x"), happening(6000, agent="a", effect="write"))[2]
    assert not matches(rule, x, happening(10, agent="a", tool="x"), happening(6001, agent="a", effect="write"))[2]


def test_since_ends_with_the_first_event_that_breaks_it() -> None:
    rule = 'forbid r per task when tool is "send" and not (not tool is "logout" since tool is "login");'
    login, send, logout = (happening(0, task="t", tool=tool) for tool in ("login", "send", "logout"))
    assert matches(rule, send, login, send, logout, send) == [True, False, False, False, True]


def test_previously_looks_one_event_back() -> None:
    rule = 'forbid r per task when tool is "b" and previously tool is "a";'
    a, b, c = (happening(0, task="t", tool=tool) for tool in "abc")
    assert matches(rule, b, a, b, a, c, b) == [False, False, True, False, False, False]


def test_what_could_be_anything_decides_for_the_match() -> None:
    unknown = happening(0, anything=("origin",), agent="a", tool="mail/send")
    assert matches('forbid r per agent when origin is "outside:*";', unknown) == [True]
    assert matches('forbid r per agent when not origin is "principal:ann";', unknown) == [True]
    assert matches('forbid r per agent when not (not origin is "outside:x");', unknown) == [True]


def test_an_event_for_everybody_is_a_trace_of_its_own_and_an_event_of_no_reader_of_none() -> None:
    (automaton,) = compiled('forbid r per reader when tool is "x";')
    assert rows_of(automaton, happening(0, reader=("eve", "eve"))) == (f"{automaton.digest}\n=eve",)
    assert rows_of(automaton, happening(0, anything=("reader",))) == (f"{automaton.digest}\n*",)
    assert rows_of(automaton, happening(0, tool="x")) == ()
    assert rows_of(automaton, happening(0, reader="*")) != rows_of(automaton, happening(0, anything=("reader",)))


def test_judging_changes_no_row_by_itself() -> None:
    automata = compiled('forbid r per agent when count tool is "x" >= 2;')
    rows: dict[str, Memory] = {}
    first = judge(automata, rows, happening(0, agent="a", tool="x"))
    assert rows == {}
    assert not judge(automata, rows, happening(0, agent="a", tool="x")).matches
    (match,) = judge(automata, first.rows, happening(0, agent="a", tool="x")).matches
    assert (match.rule, match.then) == ("r", Then.FORBID)


def test_a_changed_rule_starts_with_no_memory() -> None:
    one, two = (compile_rule(Rule(name="r", then=Then.ASK, per=Per.AGENT, when=Once(TOOL, n))) for n in (1, 2))
    event = happening(0, agent="a")
    assert rows_of(one, event) != rows_of(two, event)


def test_memory_is_json_and_small() -> None:
    (automaton,) = compiled('forbid r per agent when count tool is "x" >= 5 and once tool is "y";')
    memory = start(automaton)
    for at in range(1000):
        _, memory = advance(automaton, memory, happening(at, agent="a", tool="x"))
    assert memory == Memory(999, ((995, 996, 997, 998, 999), ()))
    assert msgspec.json.decode(msgspec.json.encode(memory), type=Memory) == memory


@pytest.mark.parametrize(
    "formula",
    [
        And(()),
        Or(()),
        Not(Or(())),
        Is("tool", ()),
        Is("tol", ("x",)),
        Once(TOOL, 0),
        Once(TOOL, -1),
        Count(TOOL, 0),
        Count(TOOL, 257),
        Or((TOOL,) * 300),
    ],
)
def test_an_empty_or_boundless_rule_is_refused(formula: Formula) -> None:
    with pytest.raises(Malformed):
        compile_rule(Rule(name="r", then=Then.FORBID, per=Per.AGENT, when=formula))


def test_a_rule_nested_too_deep_is_refused() -> None:
    formula: Formula = TOOL
    for _ in range(40):
        formula = Not(formula)
    with pytest.raises(Malformed):
        compile_rule(Rule(name="r", then=Then.FORBID, per=Per.AGENT, when=formula))
    assert mistakes(f'forbid r per agent when {"not " * 5000} tool is "x";')


def mistakes(text: str) -> list[tuple[str, str]]:
    with pytest.raises(BadRules) as caught:
        parse_rules(text)
    return [(one.where, one.what) for one in caught.value.mistakes]


def test_each_rule_tells_its_mistake_and_where() -> None:
    found = mistakes(
        'forbid a per agent when tol is "x";\n'
        'forbid b per nobody when tool is "x";\n'
        'allow c per agent when tool is "x";\n'
        'forbid d per agent when once within 1y tool is "x";\n'
        'forbid e per agent when count tool is "x";\n'
        "forbid f per agent when tool is x;\n"
        'forbid g per agent when tool is "x" since tool is "y" since tool is "z";\n'
        'forbid h per agent when tool is "x";\nask h per agent when tool is "x";\n'
        'forbid i per agent when tool in ["x"'
    )
    assert [where for where, _ in found] == [
        "line 1, column 25",
        "line 2, column 14",
        "line 3, column 1",
        "line 4, column 37",
        "line 5, column 42",
        "line 6, column 33",
        "line 7, column 55",
        "line 9, column 1",
        "line 10, column 37",
    ]
    assert "no attribute" in found[0][1]


@pytest.mark.parametrize("text", ["", "# nothing\n", "   "])
def test_a_text_without_a_rule_is_a_mistake(text: str) -> None:
    assert mistakes(text) == [("", "there is no rule")]


def test_operators_bind_as_documented() -> None:
    def read(text: str) -> Any:
        (rule,) = parse_rules(f"forbid r per agent when {text};")
        return rule.when

    a, b, c = 'tool is "a"', 'tool is "b"', 'tool is "c"'
    assert read(f"{a} or {b} and {c}") == read(f"{a} or ({b} and {c})")
    assert read(f"{a} and {b} since {c}") == read(f"{a} and ({b} since {c})")
    assert read(f"not {a} since {b}") == read(f"(not {a}) since {b}")
    assert read(f"once {a} and {b}") == read(f"(once {a}) and {b}")
