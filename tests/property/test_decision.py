"""House invariant 1: a forbid that matches denies; a policy that errs denies; what no permit allows is denied."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from citywatch.core.call import Allow, Decision, Deny
from citywatch.core.errors import Code
from citywatch.core.policy.cedar import Source, parse_policies
from citywatch.core.policy.decide import compile_policies, decide, decide_reference
from citywatch.core.policy.facts import Facts, entity
from citywatch.core.policy.values import Uid

HOLDS = {"holds": "context.n == 1", "fails": "context.n == 2", "errs": "context.absent == 1"}
AGENT, ACTION, SERVER = entity(Uid("Agent", "a")), entity(Uid("Action", "x")), entity(Uid("Server", "s"))
FACTS = Facts(AGENT, ACTION, SERVER, {"n": 1})
Spoken = tuple[str, str]
policies = st.lists(st.tuples(st.sampled_from(["permit", "forbid"]), st.sampled_from(sorted(HOLDS))), max_size=6)


def decided(spoken: list[Spoken]) -> Decision:
    """What both engines say of policies of these effects whose conditions hold, fail or err."""
    texts = [
        f'@id("p{n}") {effect}(principal, action, resource) when {{ {HOLDS[outcome]} }};'
        for n, (effect, outcome) in enumerate(spoken)
    ]
    ready = compile_policies(
        parse_policies([Source("p.cedar", "\n".join(texts))]), {one.uid: one for one in (AGENT, ACTION, SERVER)}
    )
    assert decide(ready, FACTS) == decide_reference(ready, FACTS)
    return decide(ready, FACTS)


def named(spoken: list[Spoken], *kinds: Spoken) -> tuple[str, ...]:
    return tuple(f"p{n}" for n, one in enumerate(spoken) if one in kinds)


@settings(max_examples=200)
@given(policies)
def test_a_forbid_then_an_error_then_a_permit_decides_and_silence_denies(spoken: list[Spoken]) -> None:
    forbids, permits = named(spoken, ("forbid", "holds")), named(spoken, ("permit", "holds"))
    errors = named(spoken, ("permit", "errs"), ("forbid", "errs"))
    decision = decided(spoken)
    if forbids or errors or not permits:
        assert isinstance(decision, Deny)
        code = Code.FORBIDDEN if forbids else Code.POLICY_ERROR if errors else Code.NO_PERMIT
        assert (decision.reason.code, decision.reason.policies) == (code, forbids or errors)
    else:
        assert decision == Allow(permits)


@settings(max_examples=100)
@given(policies, st.data())
def test_neither_order_nor_duplicates_change_what_is_decided(spoken: list[Spoken], data: st.DataObject) -> None:
    again = data.draw(st.permutations(spoken + spoken[: len(spoken) // 2]))
    one, other = decided(spoken), decided(list(again))
    assert type(one) is type(other)
    if isinstance(one, Deny) and isinstance(other, Deny):
        assert one.reason.code is other.reason.code
