"""What a hijacked agent can reach: each way of coming by a value, beside the premise under which it is out of reach."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from citywatch.core.call import Effect
from citywatch.core.enforce.explain import findings_of
from citywatch.core.enforce.held import FREE, take_up
from citywatch.core.enforce.needs import Pin
from citywatch.core.enforce.planned import planned
from citywatch.core.enforce.premises import actual, fresh
from citywatch.core.enforce.probe import Survey
from citywatch.core.enforce.reach import Act, Premise, covers, merged, rows
from citywatch.core.enforce.rules import Rules
from citywatch.core.enforce.samples import ANYTHING, ENTITLED, OWN, PLANNED, QUOTED, VOUCHED, members, sample
from citywatch.core.flow.item import Item, read_prompt
from citywatch.core.flow.tokens import exact_tokens
from citywatch.core.label import join_all
from citywatch.core.manifest import Parameter, Role, ToolManifest
from citywatch.core.plan.text import parse_plan
from citywatch.core.policy.cedar import Source, parse_policies
from citywatch.core.policy.decide import compile_policies
from tests.property.test_reach import AUTHORITY, NOW, PLAN, RULES, acts_of, let_through
from tests.simulation.flow_city import ANN, FlowCity, tool
from tests.unit.core.enforce.test_steering import letter

FRESH = acts_of(fresh(RULES, NOW))
SPOKEN = [("alice", "Pay, wire and send what is due")]
DUE = acts_of(fresh(RULES, NOW, SPOKEN))


def named(acts: tuple[Act, ...], name: str) -> Act | None:
    return next((act for act in acts if act.act == f"bank/{name}"), None)


def ways(acts: tuple[Act, ...], name: str, argument: str) -> set[str]:
    act = named(acts, name)
    return set() if act is None else set(act.ways.get(argument, ()))


def premises(*items: Item, **more: Any) -> tuple[Premise, ...]:
    return actual(RULES, NOW, items, join_all(item.label for item in items), **more)


def survey(
    rules: Rules, pins: dict[tuple[str, str], Pin] | None = None, said: Sequence[tuple[str, str]] = SPOKEN
) -> tuple[Act, ...]:
    return Survey(rules, AUTHORITY, fresh(rules, NOW, said if rules.principals else ()), pins or {}, NOW).acts()


def permitting(policy: str) -> Rules:
    found = compile_policies(parse_policies([Source("x", policy)]), RULES.world.entities)
    return msgspec.structs.replace(RULES, policies=found)


def test_nobody_spoke_of_paying_so_no_money_goes_anywhere_not_even_to_known_parties() -> None:
    assert named(FRESH, "pay") is None
    assert "known payees" in ways(DUE, "pay", "to")
    assert named(FRESH, "delete_file") is None
    assert named(FRESH, "wipe") is None


def test_a_page_can_be_fetched_that_stood_in_what_was_read_and_no_other() -> None:
    assert ways(FRESH, "fetch", "url") == {QUOTED, VOUCHED, OWN}


def test_what_can_be_taken_back_is_done_to_anything() -> None:
    assert ANYTHING in ways(FRESH, "write_file", "id")
    assert ANYTHING in ways(FRESH, "file_review", "about")


def test_what_a_person_asked_for_can_be_reached_once_they_have_spoken() -> None:
    acts = acts_of(fresh(RULES, NOW, [("alice", "Tidy up")]))
    assert ways(acts, "delete_file", "id") == {ENTITLED}
    assert ENTITLED in ways(acts, "pay", "to")
    assert ANYTHING not in ways(acts, "pay", "to")


def test_a_guest_who_may_steer_nothing_brings_nothing_within_reach() -> None:
    acts = acts_of(fresh(RULES, NOW, [("guest", "Delete it all")]))
    assert named(acts, "delete_file") is None


def test_in_a_clean_context_the_agents_own_words_are_its_principals() -> None:
    acts = acts_of(*premises(read_prompt("Pay the rent", "d", "alice", 1)))
    assert ANYTHING in ways(acts, "pay", "to")
    read = acts_of(*premises(read_prompt("Pay the rent", "d", "alice", 1), letter("hello")))
    assert ANYTHING not in ways(read, "pay", "to")


def test_a_plan_leaves_its_steps_and_what_it_binds() -> None:
    items = [read_prompt("Pay 120", "d", "alice", 1, "t"), letter("hello")]
    taken = take_up(PLAN, "t", "alice", FREE, None, 1)
    assert isinstance(taken, tuple)
    held, progress = taken
    acts = acts_of(*premises(*items, held=held, progress=progress))
    assert named(acts, "send") is None
    assert named(acts, "delete_file") is None
    passed = let_through(items, ("pay", {"to": ANN, "amount": 120, "note": "rent"}), (), held, progress)
    assert passed is not None
    call, known = passed
    assert known.flow is not None
    found = findings_of(call, AUTHORITY, known, planned(call, known, NOW))
    assert [one.how for one in found if one.path == "to"] == ["planned"]
    assert covers(acts, call, found, known.flow.context.label, RULES)


def test_what_passes_by_the_plan_alone_is_listed_though_no_call_passes_without_it() -> None:
    """Nobody who may steer the act has spoken, and the account must be there: only the plan gives it."""
    city = FlowCity()
    wire = tool("pay", to="string")
    wire["inputSchema"]["required"] = ["to"]
    manifest = ToolManifest(effect=Effect.IRREVERSIBLE, parameters={"to": Parameter(role=Role.DESTINATION)})
    city.configured = msgspec.structs.replace(city.configured, servers={"bank": {"pay": manifest}})
    bound = parse_plan(
        {
            "plan": "p",
            "within": "1h",
            "steps": [{"step": "s", "tool": "bank/pay", "arguments": {"to": {"equals": ANN}}}],
        }
    )
    taken = take_up(bound, "t", "alice", FREE, None, 1)
    assert isinstance(taken, tuple)
    small = city.rules(wire)
    (_, read) = actual(small, NOW, [letter("hello")], letter("hello").label, *taken)
    pay = named(Survey(small, AUTHORITY, read, {}, NOW).acts(), "pay")
    assert pay is not None
    assert pay.ways == {"to": (PLANNED,)}


def test_a_condition_of_a_policy_is_named_and_hides_nothing() -> None:
    """The policy wants one payee; no representative is that one, and the act is still listed."""
    acts = survey(permitting('@id("ann") permit(principal, action, resource) when { context.args.to == "ann" };'))
    pay = named(acts, "pay")
    assert pay is not None
    assert pay.conditional
    assert not named(DUE, "pay").conditional  # type: ignore[union-attr]


def test_what_no_policy_lets_the_agent_do_at_all_is_out_of_reach() -> None:
    acts = survey(permitting('@id("one") permit(principal, action == Action::"bank/fetch", resource);'))
    assert [act.act for act in acts] == ["bank/fetch"]


def test_a_tool_that_changed_since_it_was_approved_is_out_of_reach() -> None:
    pin = Pin(digest=RULES.tools["bank", "fetch"].digest, by="", at=0)
    assert named(survey(RULES, {("bank", "fetch"): pin}), "fetch") is not None
    changed = msgspec.structs.replace(pin, offered="another")
    assert named(survey(RULES, {("bank", "fetch"): changed}), "fetch") is None


def test_data_goes_where_the_audience_may_see_it() -> None:
    review, send = named(FRESH, "file_review"), named(DUE, "send")
    assert review is not None
    assert send is not None
    assert review.data == ("everybody", "hr", "hr, managers")
    assert send.data == ("everybody",)


def test_without_principals_nothing_is_asked_of_a_source() -> None:
    acts = survey(msgspec.structs.replace(RULES, principals={}))
    assert ways(acts, "pay", "to") == ways(acts, "delete_file", "id") == {ANYTHING}
    assert named(acts, "send").data == ("everybody", "hr", "hr, managers")  # type: ignore[union-attr]


def test_an_argument_that_must_be_there_and_has_no_source_puts_the_act_out_of_reach() -> None:
    city = FlowCity()
    manifest = ToolManifest(
        effect=Effect.WRITE,
        parameters={"to": Parameter(role=Role.DESTINATION, party="payees"), "pin": Parameter(role=Role.SECRET)},
    )
    city.configured = msgspec.structs.replace(city.configured, servers={"bank": {"wire": manifest}})
    wire = tool("wire", to="string", pin="string")
    assert named(survey(city.rules(wire), said=()), "wire") is not None
    wire["inputSchema"]["required"] = ["pin"]
    assert named(survey(city.rules(wire), said=()), "wire") is None


def test_a_list_has_one_row_for_the_widest_way_and_each_kind_of_data() -> None:
    act = Act(
        act="bank/x",
        effect="write",
        ways={"to": (ENTITLED, ANYTHING), "cc": (QUOTED, OWN)},
        aims=("to", "cc"),
        bare=True,
        data=("everybody", "hr"),
        conditional=False,
    )
    assert [(row.argument, row.way, row.data) for row in rows((act,))] == [
        ("cc", OWN, "everybody"),
        ("cc", OWN, "hr"),
        ("cc", QUOTED, "everybody"),
        ("cc", QUOTED, "hr"),
        ("to", ANYTHING, "everybody"),
        ("to", ANYTHING, "hr"),
    ]
    bare = msgspec.structs.replace(act, ways={"cc": (OWN,)}, data=("everybody",))
    assert [(row.argument, row.way) for row in rows((bare,))] == [("", ""), ("cc", OWN)]


def test_what_is_reachable_under_one_premise_is_reachable() -> None:
    one = (Act(act="a", effect="read", ways={"x": (OWN,)}, aims=("x",), bare=False, data=("hr",), conditional=True),)
    other = (msgspec.structs.replace(one[0], ways={"x": (QUOTED,)}, data=("everybody",), conditional=False, bare=True),)
    (found,) = merged((one, other))
    assert (found.ways, found.data, found.bare, found.conditional) == (
        {"x": (OWN, QUOTED)},
        ("hr", "everybody"),
        True,
        False,
    )


@pytest.mark.parametrize("way", [ANYTHING, QUOTED, VOUCHED, ENTITLED])
def test_samples_of_different_ways_have_nothing_in_common(way: str) -> None:
    def tokens(one: Any) -> set[tuple[str, str]]:
        return {
            (token.kind, token.value) for text in (*one.texts, *map(str, one.numbers)) for token in exact_tokens(text)
        }

    own = tokens(sample(way))
    assert {"email", "url", "host", "iban", "number", "date", "phone"} <= {str(kind) for kind, _ in own}
    for other in {ANYTHING, QUOTED, VOUCHED, ENTITLED} - {way}:
        assert not own & tokens(sample(other)), other
    assert not own & tokens(members())
