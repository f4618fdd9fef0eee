"""One yes to several: only what is alike in all but the resource, only a few, nothing risky."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from citywatch.core.approvals.batch import MAX_BATCH, batch_digest, batch_dwell_ms, check_batch
from citywatch.core.approvals.reading import dwell_ms
from citywatch.core.call import Effect
from citywatch.core.errors import Malformed
from tests.unit.core.approvals.asking import ask

LIKE = [ask(f"t{number}") for number in range(MAX_BATCH)]


def test_what_differs_in_the_resource_alone_is_answered_at_once() -> None:
    check_batch(LIKE)
    check_batch(LIKE[:2])


@pytest.mark.parametrize(
    "other",
    [
        {"agent": "x"},
        {"root": "x"},
        {"act": "crm/close"},
        {"template": "x"},
        {"effect": Effect.IRREVERSIBLE},
        {"task": "x"},
        {"impact": 9},
    ],
    ids=lambda one: next(iter(one)),
)
def test_what_differs_in_more_is_not(other: dict[str, Any]) -> None:
    """INVARIANT: 1."""
    with pytest.raises(Malformed, match="differ in what they act on alone"):
        check_batch([*LIKE[:3], ask("odd", **other)])


def test_nothing_risky_hides_in_a_set_not_even_among_its_like() -> None:
    """INVARIANT: 2."""
    with pytest.raises(Malformed, match="answer it alone"):
        check_batch([ask(f"t{number}", effect=Effect.IRREVERSIBLE, untrusted=1) for number in range(3)])


@pytest.mark.parametrize("some", [[], LIKE[:1], [*LIKE, ask("more")], [LIKE[0], LIKE[0]]])
def test_a_set_has_a_few_each_once(some: list[object]) -> None:
    with pytest.raises(Malformed, match="2 to 10"):
        check_batch(some)  # type: ignore[arg-type]


def test_what_is_signed_depends_on_which_tickets_and_on_nothing_else() -> None:
    """INVARIANT: 3."""
    digests = [f"{number:064x}" for number in range(5)]
    shuffled = list(digests)
    Random(1).shuffle(shuffled)
    assert batch_digest(digests) == batch_digest(shuffled)
    assert len({batch_digest(digests[:size]) for size in range(1, 6)}) == 5
    for bad in ([], [digests[0], digests[0]], ["short"]):
        with pytest.raises(Malformed, match="each once"):
            batch_digest(bad)


def test_reading_a_set_takes_as_long_as_reading_each() -> None:
    """INVARIANT: 4."""
    some = [ask(f"t{number}", words=20, values=3) for number in range(4)]
    assert batch_dwell_ms(some) == 4 * dwell_ms(20, 3)
