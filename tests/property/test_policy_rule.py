"""The decision rule, on policies that nobody would write: order, duplicates, and which way a new policy can push."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from citywatch.core.call import Allow, Decision
from citywatch.core.policy.cedar import Source, parse_policies
from citywatch.core.policy.compile import Compiler
from citywatch.core.policy.decide import compile_policies, decide
from citywatch.core.policy.facts import Facts
from citywatch.core.policy.text import expression_text
from citywatch.core.policy.tree import conditions
from tests.differential.policy_author import KNOWN, Author


def decided(texts: list[str], facts: Facts) -> Decision:
    return decide(compile_policies(parse_policies([Source("p", "\n".join(texts))]), KNOWN.copy()), facts)


def drawn(chance: Random, count: int) -> list[str]:
    author = Author(chance)
    pool = [author.of("bool", 2) for _ in range(4)]
    return [author.policy(f"p{number}", pool) for number in range(count)]


@settings(max_examples=60)
@given(st.randoms(use_true_random=False))
def test_neither_order_nor_duplicates_change_a_decision(chance: Random) -> None:
    texts = drawn(chance, 4)
    facts = Author(chance).facts()
    before = decided(texts, facts)
    turned = list(reversed(texts))
    assert decided(turned, facts) == before
    twins = [text.replace('@id("p', '@id("twin') for text in texts]
    after = decided([*turned, *twins], facts)
    assert type(after) is type(before)
    if not isinstance(before, Allow) and not isinstance(after, Allow):
        assert after.reason.code == before.reason.code


@settings(max_examples=60)
@given(st.randoms(use_true_random=False))
def test_no_policy_added_to_a_denial_by_forbid_or_error_allows_and_no_forbid_ever_does(chance: Random) -> None:
    texts = drawn(chance, 4)
    facts = Author(chance).facts()
    before = decided(texts[:3], facts)
    after = decided(texts, facts)
    if isinstance(after, Allow) and not isinstance(before, Allow):
        assert before.reason.code == "no_permit"
        assert after.policies == ("p3",)
        assert texts[3].lstrip().startswith('@id("p3")\npermit') or "permit" in texts[3].split("(principal")[0]


@settings(max_examples=150)
@given(st.randoms(use_true_random=False))
def test_an_expression_written_out_means_the_same(chance: Random) -> None:
    author = Author(chance)
    (policy,) = parse_policies([Source("p", author.policy("p", [author.of("bool", 3)]))])
    assert policy.tree is not None
    for node in conditions(policy.tree):
        text = f"permit (principal, action, resource) when {{ {expression_text(node)} }};"
        (again,) = parse_policies([Source("again", text)])
        assert again.tree is not None
        (clause,) = again.tree.clauses
        assert clause.expr == node, text
        Compiler(KNOWN).expression(clause.expr)
