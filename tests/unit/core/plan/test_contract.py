"""Plans on the case that they are for: an invoice is read and paid, and whoever wrote the invoice wants more."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from citywatch.core.canonical import canonical
from citywatch.core.errors import Malformed
from citywatch.core.limit import OneOf, same
from citywatch.core.plan.constraint import Bound, Free, How, Record
from citywatch.core.plan.contract import (
    MAX_BESIDE,
    CallFacts,
    Held,
    InPlan,
    Kind,
    OutOfPlan,
    Plan,
    Progress,
    Step,
    Trace,
    Why,
    begin,
    beside,
    forbids,
    plan_digest,
    signing_bytes,
    step,
)
from citywatch.core.plan.narrow import NotAdopted, adopt
from citywatch.core.plan.text import format_plan, parse_plan

NOON = 1_795_608_000_000
HOUR = 3_600_000
IBAN = "DE89370400440532013000"
ATTACKER = "US133000000121212121212"

TEXT: dict[str, Any] = {
    "plan": "pay-the-invoice",
    "within": "1h",
    "steps": [
        {
            "step": "read",
            "tool": "files/read_file",
            "calls": 2,
            "arguments": {"path": {"equals": "invoices/2026-11.json"}},
        },
        {
            "step": "pay",
            "tool": "bank/send_money",
            "after": ["read"],
            "arguments": {
                "recipient": {"from": {"step": "read", "field": "$.payee"}},
                "amount": {"from": [{"step": "read", "field": "$.total"}, "prompt"], "at_most": 500},
                "date": {"not_before": "2026-11-25", "not_after": "2026-11-30", "optional": True},
                "subject": "free",
            },
        },
        {"step": "tell", "tool": "mail/send", "follows": ["pay"], "arguments": {"to": {"one_of": ["a@x", "b@x"]}}},
    ],
    "forbidden": [["bank/*", "files/*"]],
}


def held(text: dict[str, Any] = TEXT, **changes: Any) -> Held:
    adopted = adopt(parse_plan({**text, **changes}), Kind.SIGNED, clean=False, parent=None)
    assert isinstance(adopted, Held)
    return adopted


def call(tool: str, arguments: dict[str, Any], traces: dict[str, Trace] | None = None, **facts: Any) -> CallFacts:
    found = {(name,): (trace,) for name, trace in (traces or {}).items()}
    return CallFacts(**{"id": tool, "at": NOON, "tool": tool, "arguments": arguments, "traces": found, **facts})


READ = call("files/read_file", {"path": "invoices/2026-11.json"}, id="c1")
FROM_INVOICE = {"recipient": Trace("c1", ("payee", "iban")), "amount": Trace("c1", ("total",))}
PAYMENT = {"recipient": IBAN, "amount": 120.5, "subject": "November"}
PAY = call("bank/send_money", PAYMENT, FROM_INVOICE, id="c2")
TELL = call("mail/send", {"to": ["a@x", "b@x"]}, id="c3")


def pay(arguments: dict[str, Any] | None = None, traces: dict[str, Trace] | None = None) -> CallFacts:
    return call("bank/send_money", PAYMENT | (arguments or {}), FROM_INVOICE | (traces or {}), id="c2")


def made(*calls: CallFacts, plan: Held | None = None) -> Progress:
    progress = begin(NOON)
    for one in calls:
        verdict = step(plan or held(), progress, one)
        assert isinstance(verdict, InPlan), verdict
        progress = verdict.progress
    return progress


def why(plan: Held, progress: Progress, facts: CallFacts) -> tuple[Why, tuple[str | int, ...]]:
    verdict = step(plan, progress, facts)
    assert isinstance(verdict, OutOfPlan), verdict
    return verdict.why, verdict.argument


def test_the_honest_task_goes_through_and_says_what_the_plan_bound() -> None:
    verdict = step(held(), made(READ), PAY)
    assert isinstance(verdict, InPlan)
    assert verdict.step == "pay"
    assert verdict.bound() == (Bound(("recipient",), How.SOURCE), Bound(("amount",), How.SOURCE))
    assert made(READ, PAY, TELL).steps == ("read", "pay", "tell")


def test_a_recipient_that_the_named_source_did_not_name_is_out_of_the_plan() -> None:
    progress = made(READ)
    for trace in (
        Trace("c1", ("notes",)),  # another field of the same reply
        Trace("c0", ("payee",)),  # another call's reply
        Trace(None),  # the prompt, which this argument does not take from
        Trace("c1", ()),  # somewhere in the text
    ):
        assert why(held(), progress, pay({"recipient": ATTACKER}, {"recipient": trace})) == (
            Why.ARGUMENT,
            ("recipient",),
        )
    assert why(held(), progress, call("bank/send_money", PAYMENT)) == (Why.ARGUMENT, ("recipient",))


def test_a_whole_reply_as_source_is_still_that_replys() -> None:
    plan = held(steps=[TEXT["steps"][0], {**TEXT["steps"][1], "arguments": {"to": {"from": {"step": "read"}}}}])
    progress = made(READ, plan=plan)
    assert isinstance(step(plan, progress, call("bank/send_money", {"to": IBAN}, {"to": Trace("c1")})), InPlan)
    for place in (Trace("c0"), Trace("c2", ("payee",)), Trace(None)):
        assert why(plan, progress, call("bank/send_money", {"to": IBAN}, {"to": place}))[0] == Why.ARGUMENT


def test_every_leaf_of_a_list_must_come_from_the_source() -> None:
    both = {"recipient": [IBAN, ATTACKER]}
    facts = pay(both)
    one = {**facts.traces, ("recipient", 0): (Trace("c1", ("payee",)),)}
    assert why(held(), made(READ), msgspec.structs.replace(facts, traces=one))[1] == ("recipient",)
    two = {**one, ("recipient", 1): (Trace("c1", ("payee",)),)}
    assert isinstance(step(held(), made(READ), msgspec.structs.replace(facts, traces=two)), InPlan)


def test_an_amount_must_keep_its_range_and_its_source_and_may_come_from_the_prompt() -> None:
    assert why(held(), made(READ), pay({"amount": 500.01})) == (Why.ARGUMENT, ("amount",))
    unclear: Any
    for unclear in ("5e2", "1,200", "0x10", "010", "500 EUR", True, float("nan"), [], {}, 10**40):
        assert why(held(), made(READ), pay({"amount": unclear})) == (Why.ARGUMENT, ("amount",))
    assert isinstance(step(held(), made(READ), pay({"amount": 500}, {"amount": Trace(None)})), InPlan)


def test_days_are_compared_as_they_are_written() -> None:
    for kept in ("2026-11-25", "2026-11-30T23:59:59Z", "2026-11-30 09:00", None):
        assert isinstance(step(held(), made(READ), pay({"date": kept})), InPlan), kept
    for out in ("2026-11-24", "2026-12-01", "2026-11-31", "2026-11-30T24:00", "30.11.2026", "2026-11-30x", 20261130):
        assert why(held(), made(READ), pay({"date": out})) == (Why.ARGUMENT, ("date",)), out


def test_what_is_not_listed_or_missing_is_out_of_the_plan() -> None:
    assert why(held(), made(READ), pay({"bcc": None})) == (Why.ARGUMENT, ("bcc",))
    assert why(held(), made(READ), pay({"amount": None})) == (Why.ARGUMENT, ("amount",))
    assert why(held(), made(READ, PAY), call("mail/send", {"to": {"a@x": 1}})) == (Why.ARGUMENT, ("to",))
    assert why(held(), begin(NOON), call("bank/close_account", {})) == (Why.NO_STEP, ())


def test_order_edges_budgets_and_forbidden_sequences_hold() -> None:
    assert why(held(), begin(NOON), pay({}, {"recipient": Trace(None)}))[0] == Why.ARGUMENT
    free = held(steps=[TEXT["steps"][0], {**TEXT["steps"][1], "arguments": {"*": "free"}}, TEXT["steps"][2]])
    assert why(free, begin(NOON), PAY)[0] == Why.ORDER
    assert why(held(), made(READ), TELL)[0] == Why.EDGE
    assert why(held(), made(READ, READ), READ)[0] == Why.STEP_SPENT
    assert why(held(), made(READ, PAY), READ)[0] == Why.FORBIDDEN
    assert why(held(calls=1), made(READ, plan=held(calls=1)), PAY)[0] == Why.SPENT


def test_a_plan_ends_on_the_dot_and_a_clock_that_goes_back_does_not_revive_it() -> None:
    plan = held(within="1h", expires="2026-11-25T12:30:00Z")
    last = msgspec.structs.replace(READ, at=NOON + HOUR // 2 - 1)
    assert isinstance(step(plan, begin(NOON), last), InPlan)
    assert why(plan, begin(NOON), msgspec.structs.replace(READ, at=NOON + HOUR // 2))[0] == Why.EXPIRED
    assert why(held(), begin(NOON), msgspec.structs.replace(READ, at=NOON + HOUR))[0] == Why.EXPIRED
    late = Progress(begun=NOON, at=NOON + HOUR)
    assert why(held(), late, READ)[0] == Why.EXPIRED


def test_a_refused_call_leaves_the_progress_as_it_was() -> None:
    progress = made(READ)
    before = msgspec.json.encode(progress)
    assert isinstance(step(held(), progress, pay({"amount": 9000})), OutOfPlan)
    assert msgspec.json.encode(progress) == before
    assert isinstance(step(held(), progress, PAY), InPlan)


def test_an_empty_plan_and_empty_conditions_permit_nothing() -> None:
    anything = Record({}, open=True)
    for steps in (
        (),
        (Step(name="a", tool="s/t", arguments=anything, after=()),),
        (Step(name="a", tool="s/t", arguments=anything, follows=()),),
        (Step(name="a", tool="s/t", arguments=anything, calls=0),),
    ):
        plan = Held(plan=Plan(name="p", steps=steps, calls=9), kind=Kind.TEMPLATE, digest="")
        assert isinstance(step(plan, begin(0), call("s/t", {})), OutOfPlan)
    forbidden = Plan(name="p", steps=(Step(name="a", tool="s/t", arguments=anything),), calls=1, forbidden=((),))
    assert isinstance(step(Held(plan=forbidden, kind=Kind.SIGNED, digest=""), begin(0), call("s/t", {})), OutOfPlan)


@pytest.mark.parametrize("constraints", [(), (OneOf(()),), (Free(), OneOf(()))])
def test_an_argument_of_no_constraint_or_no_option_admits_nothing(constraints: Any) -> None:
    record = msgspec.convert({"fields": {"x": {"constraints": msgspec.to_builtins(constraints)}}}, Record)
    plan = Plan(name="p", steps=(Step(name="a", tool="s/t", arguments=record),), calls=1)
    assert isinstance(step(Held(plan=plan, kind=Kind.SIGNED, digest=""), begin(0), call("s/t", {"x": 1})), OutOfPlan)


def test_members_of_an_object_are_held_one_by_one() -> None:
    event = {"fields": {"with": {"equals": ["a@x"]}, "title": "free"}}
    plan = held(steps=[{"step": "meet", "tool": "calendar/add", "arguments": {"event": event}}])
    verdict = step(plan, begin(NOON), call("calendar/add", {"event": {"with": ["a@x"], "title": "x"}}))
    assert isinstance(verdict, InPlan)
    assert verdict.bound() == (Bound(("event", "with"), How.VALUE),)
    added = call("calendar/add", {"event": {"with": ["a@x", "eve@x"], "title": "x"}})
    assert why(plan, begin(NOON), added) == (Why.ARGUMENT, ("event", "with"))


def test_a_bound_value_is_the_same_json_value_and_no_look_alike() -> None:
    plan = held(steps=[{"step": "a", "tool": "s/t", "arguments": {"x": {"equals": 1}}}])
    assert isinstance(step(plan, begin(NOON), call("s/t", {"x": 1.0})), InPlan)
    for other in (True, "1", [1], 1.5, float("inf"), 2**70):
        assert why(plan, begin(NOON), call("s/t", {"x": other})) == (Why.ARGUMENT, ("x",))


def test_progress_and_held_plans_survive_the_store() -> None:
    plan, progress = held(), made(READ, PAY)
    assert msgspec.json.decode(msgspec.json.encode(progress), type=Progress) == progress
    assert msgspec.json.decode(msgspec.json.encode(plan), type=Held) == plan


def test_a_tainted_agent_writes_no_plan_not_even_a_narrower_one() -> None:
    """It would bind the free recipient to the attacker's, and the plan would vouch for it."""
    wide = {**TEXT, "steps": [{**TEXT["steps"][1], "after": None, "arguments": {"*": "free"}}]}
    parent = held(wide)
    tight = parse_plan(
        {
            **wide,
            "parent": parent.digest,
            "steps": [{**wide["steps"][0], "arguments": {"recipient": {"equals": ATTACKER}}}],
        }
    )
    refused = adopt(tight, Kind.WRITTEN, clean=False, parent=parent)
    assert isinstance(refused, NotAdopted)
    assert len(refused.reasons) == 1
    assert isinstance(adopt(tight, Kind.WRITTEN, clean=True, parent=parent), Held)
    assert isinstance(adopt(tight, Kind.SIGNED, clean=False, parent=parent), Held)


def test_a_child_names_its_parent_and_an_orphan_names_none() -> None:
    parent = held()
    orphan, child = parse_plan(TEXT), parse_plan({**TEXT, "parent": parent.digest})
    assert isinstance(adopt(orphan, Kind.SIGNED, clean=True, parent=parent), NotAdopted)
    assert isinstance(adopt(child, Kind.SIGNED, clean=True, parent=None), NotAdopted)
    adopted = adopt(child, Kind.SIGNED, clean=True, parent=parent)
    assert isinstance(adopted, Held)
    assert isinstance(adopt(child, Kind.SIGNED, clean=True, parent=adopted), NotAdopted)
    wider = parse_plan({**TEXT, "parent": parent.digest, "calls": 9})
    assert isinstance(adopt(wider, Kind.SIGNED, clean=True, parent=parent), NotAdopted)


def test_what_is_signed_is_all_of_the_plan_for_one_place_and_task() -> None:
    plan = parse_plan(TEXT)
    one = signing_bytes(plan, audience="acme.example", task="t", nonce="n")
    others = [
        signing_bytes(plan, audience="other.example", task="t", nonce="n"),
        signing_bytes(plan, audience="acme.example", task="u", nonce="n"),
        signing_bytes(plan, audience="acme.example", task="t", nonce="m"),
        *(signing_bytes(parse_plan(text), audience="acme.example", task="t", nonce="n") for text in changed()),
    ]
    assert len({one, *others}) == len(others) + 1
    assert plan_digest(parse_plan(format_plan(plan))) == plan_digest(plan)
    assert len({plan_digest(parse_plan(text)) for text in (TEXT, *changed())}) == len(changed()) + 1


def changed() -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = TEXT["steps"]
    return [
        {**TEXT, "steps": [*reversed(steps)]},
        {**TEXT, "steps": [steps[0], steps[1], {**steps[2], "arguments": {"to": "free"}}]},
        {**TEXT, "within": "2h"},
        {**TEXT, "forbidden": []},
        {**TEXT, "calls": 3},
    ]


def test_calls_beside_the_plan_count_in_order_and_past_the_bound_refuse() -> None:
    plan = held(forbidden=[["web/*", "files/*", "mail/send"]])
    assert beside(plan, begin(NOON), "crm/look") == begin(NOON)  # no sequence names it
    before = made(READ, plan=plan)
    late = beside(plan, before, "web/fetch")
    assert not forbids(plan, late, "mail/send")  # the file was read before the page
    verdict = step(plan, late, msgspec.structs.replace(READ, id="c9"))
    assert isinstance(verdict, InPlan)
    assert forbids(plan, verdict.progress, "mail/send")
    assert not forbids(plan, verdict.progress, "bank/send_money")
    again = late
    for _ in range(20):
        again = beside(plan, again, "web/fetch")
    assert len(again.beside) == 8  # no sequence is longer
    full = begin(NOON)
    for number in range(MAX_BESIDE + 9):
        full = beside(plan, full, f"web/{number % 2}")
    assert len(full.beside) == MAX_BESIDE
    assert forbids(plan, full, "mail/send")
    assert not forbids(plan, full, "bank/send_money")


@given(st.floats(), st.floats() | st.just(0.0))
@example(0.0, -0.0)
@example(1e300, 1e300)
@example(inf, inf)
@example(nan, nan)
def test_two_numbers_are_the_same_exactly_if_they_are_written_the_same(one: float, two: float) -> None:
    for first, second in ((one, two), (one, one)):
        try:
            written = canonical(first) == canonical(second)
        except Malformed:
            written = False
        assert same(first, second) is written
