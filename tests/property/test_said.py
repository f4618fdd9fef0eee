"""What an agent says to another is never labelled below what the agent has read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from citywatch.core.enforce.context import Context
from citywatch.core.enforce.said import said_by
from citywatch.core.label import is_above, join
from tests.property.test_labels import LABELS

AGENT = "spiffe://city.example/agent/clerk"
CONTEXTS = st.lists(st.builds(lambda label, before: Context(label=label, before=before), LABELS, LABELS), max_size=4)


@given(CONTEXTS)
def test_what_is_said_is_above_every_context_that_it_comes_out_of(contexts: list[Context]) -> None:
    said = said_by(AGENT, contexts)
    assert all(is_above(said, join(one.label, one.before)) for one in contexts)


@given(CONTEXTS, CONTEXTS)
def test_another_process_only_adds_to_what_is_said(some: list[Context], more: list[Context]) -> None:
    """But that its own name goes, once a person speaks for one of them."""
    both = said_by(AGENT, [*some, *more]).origins
    alone = said_by(AGENT, some).origins
    assert both is None or (alone is not None and alone - {f"agent:{AGENT}"} <= both)
