"""Every operator on every pair of representative values: the compiler gives cedarpy's value, or errs where it errs.

Exhaustive, not random: each name in the closed sets of `cedarpy.pst`, on values of every type, at the edges of 64 bits.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import product
from typing import Any, get_args

import cedarpy
import pytest
from cedarpy import pst
from hypothesis import given, settings
from hypothesis import strategies as st

from citywatch.core.policy.compile import Compiler
from citywatch.core.policy.extensions import DAY_MS
from citywatch.core.policy.facts import Entity, Facts, entity
from citywatch.core.policy.reference import native_entities, to_json
from citywatch.core.policy.values import (
    MAX_LONG,
    MIN_LONG,
    CedarSet,
    Datetime,
    Decimal,
    Duration,
    EvaluationError,
    Ip,
    Uid,
)

STAFF, ANN, LEDGER, PAY = Uid("Role", "staff"), Uid("Agent", "ann"), Uid("Server", "ledger"), Uid("Action", "pay")
KNOWN: dict[Uid, Entity] = {
    STAFF: entity(STAFF),
    ANN: entity(ANN, {"name": "ann", "level": 3}, (STAFF,)),
    LEDGER: entity(LEDGER, {"name": "ledger"}),
    PAY: entity(PAY, None, (Uid("Action", "write"),)),
    Uid("Action", "write"): entity(Uid("Action", "write")),
}
VALUES: tuple[Any, ...] = (
    *(True, False, 0, 1, -1, 7, 10_000, 2**32, MAX_LONG, MIN_LONG, MIN_LONG + 1),
    *("", "a", "level", "1.0", "10.0.0.1", "2026-11-22", "1d", "\U0001f600"),
    *(ANN, STAFF, LEDGER, PAY, Uid("Action", "write"), Uid("Agent", "nobody"), Uid("Role", "ann")),
    *(
        CedarSet(items)
        for items in ([], [1], [True], [1, True], ["a"], [STAFF], [STAFF, "a"], [STAFF, ANN], [[1]][0:0])
    ),
    *(CedarSet([CedarSet([1, 2])]), CedarSet([{"a": 1}]), CedarSet([{"a": True}]), CedarSet([Decimal(10_000)])),
    *({}, {"a": 1}, {"a": True}, {"level": {"a": CedarSet([])}}),
    *(Decimal(units) for units in (0, 1, -1, 10_000, MAX_LONG, MIN_LONG)),
    *(Datetime(ms) for ms in (0, -1, 1, DAY_MS, -DAY_MS, DAY_MS + 5, MAX_LONG, MIN_LONG)),
    *(Duration(ms) for ms in (0, -1, 999, -1001, 60_000, 3_600_000, DAY_MS, MAX_LONG, MIN_LONG)),
    *(Ip(4, 127 << 24 | 1, 32), Ip(4, 127 << 24, 8), Ip(4, 126 << 24, 7), Ip(4, 10 << 24, 8), Ip(4, 0, 0)),
    *(Ip(4, 224 << 24, 4), Ip(4, 224 << 24, 3), Ip(6, 1, 128), Ip(6, 1, 127), Ip(6, 255 << 120, 8), Ip(6, 0, 0)),
)
ONE_OF_EACH = {type(value): value for value in VALUES}
PAIRS = [
    (left, right)
    for left, right in product(VALUES, VALUES)
    if type(left) is type(right) or left is ONE_OF_EACH[type(left)] or right is ONE_OF_EACH[type(right)]
]
CONTEXT = pst.Var("context")
LEFT, RIGHT = pst.GetAttr(CONTEXT, "left"), pst.GetAttr(CONTEXT, "right")


def agree(expression: Any, contexts: Iterable[dict[str, Any]]) -> tuple[int, int]:
    """Hold the compiled expression against cedarpy in each context; how often it had a value, how often it erred."""
    compiled = Compiler(KNOWN).expression(expression)
    test = pst.BinaryOp("eq", expression, pst.GetAttr(CONTEXT, "expected"))
    template = pst.Template(
        "p", "permit", pst.ScopeAny(), pst.ScopeAny(), pst.ScopeAny(), (pst.When(test),), pst.FrozenMap()
    )
    native = cedarpy.PolicySet.from_pst(pst.PolicySet(pst.FrozenMap(), pst.FrozenMap({"p": template}), ()))
    expected: list[Any] = []
    requests = []
    for context in contexts:
        try:
            value = compiled(Facts(KNOWN[ANN], KNOWN[PAY], KNOWN[LEDGER], context))
        except EvaluationError as error:
            value = error
        expected.append(value)
        told = {**context, "expected": True if isinstance(value, EvaluationError) else value}
        names = {"principal": ANN._asdict(), "action": PAY._asdict(), "resource": LEDGER._asdict()}
        requests.append({**names, "context": json.dumps(to_json(told))})
    answers = cedarpy.is_authorized_batch(requests, native, native_entities(KNOWN).handle)
    for value, request, answer in zip(expected, requests, answers, strict=True):
        said = (answer.decision.value, answer.diagnostics.errors)
        if isinstance(value, EvaluationError):
            assert answer.decision.value == "Deny", (request, str(value), said)
            assert answer.diagnostics.errors, (request, str(value), said)
        else:
            assert said == ("Allow", []), (request, value, said)
    erred = sum(isinstance(value, EvaluationError) for value in expected)
    return len(expected) - erred, erred


@pytest.mark.parametrize("op", get_args(pst.BinaryOpName))
def test_a_binary_operator_is_cedars(op: pst.BinaryOpName) -> None:
    pairs = ({"left": left, "right": right} for left, right in PAIRS)
    values, errors = agree(pst.BinaryOp(op, LEFT, RIGHT), pairs)
    assert errors or op in ("eq", "not_eq")
    assert values or op == "get_tag"


@pytest.mark.parametrize("op", get_args(pst.UnaryOpName))
def test_a_unary_operator_is_cedars(op: pst.UnaryOpName) -> None:
    values, errors = agree(pst.UnaryOp(op, LEFT), ({"left": value} for value in VALUES))
    assert values
    assert errors


def test_the_other_constructs_are_cedars() -> None:
    singles = [{"left": value} for value in VALUES]
    kind = pst.EntityType("Agent")
    staff = pst.EntityLit(pst.EntityUid(pst.EntityType("Role"), "staff"))
    for expression in (
        pst.GetAttr(LEFT, "level"),
        pst.HasAttr(LEFT, ("level",)),
        pst.HasAttr(LEFT, ("level", "a")),
        pst.Is(LEFT, kind, None),
        pst.Is(LEFT, kind, staff),
        pst.Is(LEFT, kind, LEFT),
        pst.Like(LEFT, (pst.Wildcard(), pst.Char("e"), pst.Wildcard())),
        pst.IfThenElse(LEFT, pst.LongLit(1), pst.StringLit("no")),
        pst.IfThenElse(pst.HasAttr(CONTEXT, ("left",)), LEFT, RIGHT),
        pst.Set((LEFT, LEFT, pst.LongLit(1))),
        pst.Record(pst.FrozenMap({"x": LEFT, "y": pst.BoolLit(True)})),
        pst.GetAttr(pst.Record(pst.FrozenMap({"x": LEFT})), "x"),
        *(pst.BinaryOp("eq", pst.Var(name), LEFT) for name in get_args(pst.VarName)),
        *(pst.GetAttr(pst.Var(name), "name") for name in get_args(pst.VarName)),
        *(pst.HasAttr(pst.Var(name), ("level",)) for name in get_args(pst.VarName)),
    ):
        agree(expression, singles)


ALPHABET = "0123456789abcdef.:/-+TZdhms% \u0663"
NEAR = {
    "decimal": st.from_regex(r"-?[0-9]{0,22}\.?[0-9]{0,6}", fullmatch=True),
    "duration": st.from_regex(
        r"-?([0-9]{0,20}d)?([0-9]{0,4}h)?([0-9]{0,4}m)?([0-9]{0,4}s)?([0-9]{0,20}ms)?", fullmatch=True
    ),
    "datetime": st.from_regex(
        r"[0-9]{4}-[01][0-9]-[0-3][0-9](T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]{3})?(Z|[+-][0-2][0-9][0-6][0-9])?)?",
        fullmatch=True,
    ),
    "ip": st.one_of(
        st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){3}(/[0-9]{1,3})?", fullmatch=True),
        st.from_regex(r"[0-9a-fA-F]{0,4}(::?[0-9a-fA-F]{0,5}){1,8}(/[0-9]{1,3})?", fullmatch=True),
        st.ip_addresses().map(str),
    ),
}


EDGES = (
    "922337203685477.5807",
    "-922337203685477.5808",
    "922337203685477.5808",
    "-0.5",
    "-0.0",
    "1." + "0" * 4,
    "9223372036854775807ms",
    "-9223372036854775808ms",
    "9223372036854775808ms",
    "-",
    "1ms1s",
    "0" * 60 + "1d",
    "0000-01-01",
    "0000-01-01T00:00:00+2359",
    "9999-12-31T23:59:59.999-2359",
    "2000-02-29",
    "1900-02-29",
    "1:2:3:4:5:6:7::",
    "1:2:3:4::5:6:7:8",
    "::",
    "::ffff:1.2.3.4",
    "1::/0128",
    "01.2.3.4",
    "1.2.3.4/033",
    "1.1.1.1/",
    "2024-01-01T00:00:00",
    "2024-01-01T24:00:00Z",
    "9" * 5000 + ".0",
    "9" * 5000 + "d",
    "1.2.3.4\n",
    "1.0\n",
)


@pytest.mark.parametrize("function", sorted(NEAR))
def test_a_text_is_a_value_exactly_if_cedar_takes_it(function: pst.UnaryOpName) -> None:
    seen: set[str] = set()

    @settings(max_examples=400)
    @given(NEAR[function] | st.text(ALPHABET, max_size=45))
    def collect(text: str) -> None:
        seen.add(text)

    collect()
    values, errors = agree(pst.UnaryOp(function, LEFT), ({"left": text} for text in (*sorted(seen), *EDGES)))
    assert values
    assert errors
