"""Reach, as sentences: whatever the gates let a hijacked agent do was listed as reachable beforehand."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from citywatch.core.call import Allow, Call, Direction
from citywatch.core.enforce.admit import admit
from citywatch.core.enforce.context import Context, Flow, party_forms
from citywatch.core.enforce.explain import findings_of
from citywatch.core.enforce.held import FREE, Holding, take_up
from citywatch.core.enforce.needs import Known, Needs, Pin
from citywatch.core.enforce.planned import planned
from citywatch.core.enforce.premises import WORDLESS, actual, fresh
from citywatch.core.enforce.probe import Survey
from citywatch.core.enforce.reach import Act, Premise, covers, merged
from citywatch.core.enforce.rules import Rules
from citywatch.core.enforce.verify import Authority
from citywatch.core.flow.history import History
from citywatch.core.flow.item import Item, read_prompt
from citywatch.core.label import join_all
from citywatch.core.manifest import Output, Parameter, Principal, Role, ToolManifest
from citywatch.core.plan.contract import Progress
from citywatch.core.plan.narrow import NotAdopted
from citywatch.core.plan.text import parse_plan
from tests.property.test_flow import CALLS, PROMPTS, RECORDS, STRANGERS, VOUCHED, WORDS
from tests.simulation.city import AGENT, KEY
from tests.simulation.flow_city import ANN, TOOLS, FlowCity, tool
from tests.unit.core.enforce.test_steering import MANIFESTS, letter

NOW = 10
UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)  # each example asks the gates a thousand times
OWN = "alice@home.example"
MORE = {
    "meet": ToolManifest(
        parameters={"who": Parameter(role=Role.DESTINATION), "when": Parameter(role=Role.TIME)},
    ),
    "tell": ToolManifest(audience=("hr",), parameters={"text": Parameter(role=Role.CONTENT)}),
}


def rules() -> Rules:
    city = FlowCity()
    declared = {**city.configured.servers["bank"], **MANIFESTS, **MORE}
    city.configured = msgspec.structs.replace(
        city.configured,
        servers={"bank": declared},
        principals={**city.configured.principals, "alice": Principal(name="alice", may=("bank/*",), own=(OWN,))},
    )
    meet = tool("meet", when="string", kind="string")
    meet["inputSchema"]["properties"]["who"] = {
        "type": "array",
        "items": {"type": "object", "properties": {"mail": {"type": "string"}}, "additionalProperties": False},
    }
    meet["inputSchema"]["required"] = ["when"]
    meet["inputSchema"]["properties"]["kind"] = {"type": "string", "enum": ["short", "long"]}
    return city.rules(*TOOLS, tool("run", query="string"), tool("wipe"), meet, tool("tell", text="string"))


RULES = rules()
AUTHORITY = Authority(agent=AGENT, name="clerk", key=KEY, entity=RULES.agent(AGENT, "clerk"))
SECRETS = st.builds(
    lambda value: letter(value, outputs={"$": Output(trusted=True, readers=("hr",))}),
    RECORDS,
)
ADDRESSES = st.sampled_from(["https://a.example/x", "www.bob.example"])
ACTS: st.SearchStrategy[tuple[str, dict[str, Any]]] = st.one_of(
    CALLS,
    st.tuples(st.just("pay"), st.fixed_dictionaries({"to": WORDS | st.just(OWN)}, optional={"note": WORDS})),
    st.tuples(
        st.just("fetch"), st.fixed_dictionaries({"url": st.sampled_from(["https://a.example/x", "www.bob.example"])})
    ),
    st.tuples(st.just("run"), st.fixed_dictionaries({"query": WORDS})),
    st.tuples(st.just("search"), st.fixed_dictionaries({"query": WORDS}, optional={"filters": st.just({"a": "b"})})),
    st.tuples(st.just("tell"), st.fixed_dictionaries({"text": WORDS})),
    st.tuples(
        st.just("meet"),
        st.fixed_dictionaries(
            {"when": WORDS}, optional={"who": st.lists(st.fixed_dictionaries({"mail": WORDS})), "kind": st.just("long")}
        ),
    ),
)
LINKS = st.builds(lambda url: letter(f"see {url}"), ADDRESSES)


def acts_of(*premises: Premise) -> tuple[Act, ...]:
    return merged(Survey(RULES, AUTHORITY, premise, {}, NOW).acts() for premise in premises)


def let_through(
    items: list[Item],
    call: tuple[str, dict[str, Any]],
    parties: tuple[str, ...],
    held: Holding = FREE,
    progress: Progress | None = None,
) -> tuple[Call, Known] | None:
    """The call with what it was judged on, if it is let through."""
    history = History()
    for item in items:
        history.add(item)
    made = Call(
        id="c",
        direction=Direction.TO_SERVER,
        agent=AGENT,
        server="bank",
        method="tools/call",
        name=call[0],
        arguments=call[1],
        body=b"",
        revision="2025-11-25",
    )
    flow = Flow(
        context=Context(label=join_all(item.label for item in items), items=len(items)),
        history=history,
        parties=frozenset(parties),
        held=held,
        progress=progress,
    )
    approved = RULES.tools[("bank", call[0])]
    known = Known(
        rules=RULES,
        agent=None,
        session=None,
        pin=Pin(digest=approved.digest, by="", at=0),
        lost=None,
        invited=None,
        taken=False,
        used={},
        reads=(),
        flow=flow,
    )
    decision = admit(made, AUTHORITY, known, Needs((), (), None, None), NOW)
    return (made, known) if isinstance(decision, Allow) else None


def covered(acts: tuple[Act, ...], passed: tuple[Call, Known]) -> bool:
    call, known = passed
    assert known.flow is not None
    found = findings_of(call, AUTHORITY, known, planned(call, known, NOW))
    return covers(acts, call, found, known.flow.context.label, RULES)


FRESH = acts_of(fresh(RULES, NOW))


@settings(max_examples=500, deadline=None)
@given(
    st.lists(STRANGERS | LINKS, min_size=1, max_size=3), st.lists(VOUCHED | SECRETS, max_size=2), ACTS, st.booleans()
)
def test_what_a_hijacked_agent_that_nobody_told_anything_gets_through_is_reachable(
    strange: list[Item], vouched: list[Item], call: tuple[str, dict[str, Any]], known: bool
) -> None:
    items = [read_prompt(WORDLESS, "", name, 1) for name in RULES.principals] + vouched + strange
    label = join_all(item.label for item in items)
    parties = (*party_forms("payees", ANN), *party_forms("contacts", "bob@x.example")) if known else ()
    passed = let_through(items, call, parties)
    hijacked = any(origin.startswith("outside:") for origin in label.origins or ("outside:",))
    assert passed is None or not hijacked or covered(FRESH, passed)


@settings(max_examples=20, deadline=None, phases=UNSHRUNK)
@given(
    PROMPTS,
    st.lists(VOUCHED | SECRETS, max_size=2),
    st.lists(STRANGERS | LINKS, max_size=2),
    st.lists(ACTS, min_size=1, max_size=8),
    st.booleans(),
)
def test_what_an_agent_gets_through_in_its_context_is_reachable_from_it(
    prompts: list[str],
    vouched: list[Item],
    strange: list[Item],
    calls: list[tuple[str, dict[str, Any]]],
    known: bool,
) -> None:
    """Whatever people said, in a context that is clean as well as in one that is not."""
    items = [*(read_prompt(prompt, "d", "alice", 1) for prompt in prompts), *vouched, *strange]
    acts = acts_of(*actual(RULES, NOW, items, join_all(item.label for item in items)))
    parties = (*party_forms("payees", ANN), *party_forms("contacts", "bob@x.example")) if known else ()
    for call in calls:
        passed = let_through(items, call, parties)
        assert passed is None or covered(acts, passed), call


PLAN = parse_plan(
    {
        "plan": "pay",
        "within": "1h",
        "steps": [
            {"step": "look", "tool": "bank/find_file", "arguments": {"*": "free"}},
            {
                "step": "pay",
                "tool": "bank/pay",
                "arguments": {"to": {"equals": ANN}, "amount": {"from": "prompt"}, "note": "free"},
            },
        ],
    }
)


@settings(max_examples=10, deadline=None, phases=UNSHRUNK)
@given(PROMPTS, st.lists(STRANGERS | LINKS, min_size=1, max_size=2), st.lists(ACTS, min_size=1, max_size=8))
def test_what_passes_under_a_plan_is_reachable_under_it(
    prompts: list[str], strange: list[Item], calls: list[tuple[str, dict[str, Any]]]
) -> None:
    items = [*(read_prompt(prompt, "d", "alice", 1, "t") for prompt in prompts), *strange]
    taken = take_up(PLAN, "t", "alice", FREE, None, 1)
    assert not isinstance(taken, NotAdopted)
    held, progress = taken
    acts = acts_of(*actual(RULES, NOW, items, join_all(item.label for item in items), held, progress))
    assert "bank/send" not in {act.act for act in acts}, "it is no step, so nobody reaches it unasked"
    for call in calls:
        passed = let_through(items, call, (), held, progress)
        assert passed is None or covered(acts, passed), call


def test_the_gates_do_let_such_calls_through() -> None:
    """The sentences above say nothing if nothing passes."""
    stranger = letter("see https://a.example/x")
    said = read_prompt(f"Pay 100.50 to {ANN}", "d", "alice", 1)
    for items, call in (
        ([stranger], ("fetch", {"url": "https://a.example/x"})),
        ([said, stranger], ("pay", {"to": ANN, "amount": 100.5})),
        ([stranger], ("write_file", {"id": "x", "text": "y"})),
    ):
        assert let_through(items, call, ()) is not None
    due = read_prompt("Pay the plumber", "d", "alice", 1)
    assert let_through([due, stranger], ("pay", {"to": ANN}), party_forms("payees", ANN)) is not None
    assert let_through([due, stranger], ("pay", {"to": ANN}), ()) is None
    assert let_through([stranger], ("pay", {"to": ANN}), party_forms("payees", ANN)) is None
