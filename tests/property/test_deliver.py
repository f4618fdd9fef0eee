"""What is taken out of what an agent is given: all that the ruling names, nothing else, and nothing is lost."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citywatch.core.enforce import holdback as module
from citywatch.core.enforce.deliver import deliver, sift_reply
from citywatch.core.enforce.holdback import Holdback, Ready
from citywatch.core.enforce.parts import told
from citywatch.core.enforce.sift import found_in, leaves_of, sift
from citywatch.core.flow.fields import UNSEEN, Fields
from citywatch.core.label import Label, may_flow
from citywatch.core.manifest import Clearance, Delivery
from citywatch.core.wire.jsonrpc import Response
from tests.property.test_content import PIECES
from tests.property.test_readers import OUTPUTS, VALUES
from tests.simulation.flow_city import TOOLS, FlowCity

RULING = {"secret": Delivery.REDACT, "personal": Delivery.REDACT}
MARK = re.compile(r"\[redacted (?:secret|personal) [a-z0-9-]+\]")
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(st.characters(codec="utf-8"), max_size=8), max_size=6).map("".join)
REPLIES = st.recursive(
    TEXTS | st.integers(-(2**53), 2**53) | st.none() | st.booleans() | st.sampled_from([4111111111111111, 1.5]),
    lambda one: (
        st.lists(one, max_size=3)
        | st.dictionaries(st.sampled_from(["password", "text", "n", PIECES[1]]), one, max_size=3)
    ),
    max_leaves=6,
)


def encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


@settings(max_examples=200)
@given(REPLIES)
def test_what_is_delivered_holds_nothing_that_the_ruling_names(value: Any) -> None:
    sifted = sift(value, RULING)
    if sifted.withheld:
        return
    for leaf in leaves_of(sifted.value):
        assert found_in(leaf.text, RULING) == ()
    assert sift(sifted.value, RULING).value == sifted.value
    if not sifted.found:
        assert sifted.value == value


@given(REPLIES)
def test_no_leaf_is_lost_and_one_in_which_nothing_was_found_is_as_it_was(value: Any) -> None:
    sifted = sift(value, RULING)
    before, after = leaves_of(value), [] if sifted.withheld else leaves_of(sifted.value)
    if sifted.withheld:
        return
    assert len(before) == len(after)
    for one, other in zip(before, after, strict=True):
        assert one.text == other.text or "[redacted " in other.text


@given(REPLIES)
def test_a_ruling_that_names_nothing_changes_nothing(value: Any) -> None:
    assert sift(value, {}).value == value
    assert sift(value, {"secret": Delivery.ALLOW}).found == {}


@given(REPLIES)
def test_the_text_that_repeats_the_fields_says_what_is_left_of_them_or_less(value: Any) -> None:
    result = {"structuredContent": {"result": value}, "content": [{"type": "text", "text": json.dumps(value)}]}
    cleaned = sift_reply(result, RULING)
    if cleaned.withheld or not isinstance(value, dict | list):
        return
    text = json.loads(cleaned.value["content"][0]["text"])
    # A text has escapes that a value has not, so that more of it can look like a secret.
    for said, held in zip(leaves_of(text), leaves_of(told(cleaned.value)), strict=True):
        assert said.text == held.text or "[redacted " in said.text


def streamed(texts: list[str]) -> list[str]:
    held, ready = Holdback(RULING), list[Ready]()
    for number, text in enumerate(texts):
        ready += held.push(number, "m", {"data": text})
    ready += held.end()
    assert [one.token for one in ready] == list(range(len(texts)))
    assert not any(one.withheld for one in ready)
    return [one.value["data"] for one in ready]


@settings(max_examples=150)
@given(TEXTS, st.lists(st.integers(0, 10_000), max_size=6))
def test_a_stream_however_it_is_cut_holds_nothing_of_what_is_seen_of_it_whole(text: str, cuts: list[int]) -> None:
    text = encodable(text)
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    texts = [text[start:end] for start, end in pairwise(places)]
    got = streamed(texts)
    seen = found_in(text, RULING)
    assert seen is not None
    begin = 0
    for before, after in zip(texts, got, strict=True):
        kept = MARK.sub("\0", after)
        for one in seen:  # the twin: the whole text, scanned at once
            part = before[max(one.start - begin, 0) : max(one.end - begin, 0)]
            if len(part) > 3 and before.count(part) == 1:
                assert part not in kept
        for piece in kept.split("\0"):
            assert piece in before
        begin += len(before)


@given(st.lists(st.text("abc xyz,.\n", max_size=30), max_size=30))
def test_a_stream_without_secrets_comes_out_as_it_came(texts: list[str]) -> None:
    assert streamed(texts) == texts


@given(st.lists(st.text(max_size=3), min_size=1, max_size=60), st.integers(1, 5))
def test_no_more_is_held_than_may_be(texts: list[str], most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_HELD", most)
        held, out = Holdback({"link": Delivery.REDACT}), 0
        for number, text in enumerate(texts):
            out += len(held.push(number, "m", {"data": text}))
            assert number + 1 - out <= most


@given(VALUES, OUTPUTS, st.frozensets(st.sampled_from(["hr", "board", "leads"]), min_size=1) | st.none())
def test_an_audience_is_shown_no_leaf_that_it_may_not_see_and_every_other(
    value: Any, outputs: Any, audience: frozenset[str] | None
) -> None:
    fields = Fields(outputs)
    shown = fields.shown(value, audience)
    for leaf in fields.walk(shown.value).leaves:
        assert leaf.value == UNSEEN or may_flow(Label(frozenset(), leaf.readers), audience)
    if all(may_flow(Label(frozenset(), leaf.readers), audience) for leaf in fields.walk(value).leaves):
        assert shown.value == value or shown.hidden


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["text", "AKIAQ4XT7NPLM2SVBZ3K"]),
    lambda one: (
        st.lists(one, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "text", "pay", "name", "data", "blob", "result", "mimeType"]), one)
    ),
    max_leaves=8,
)
MEMBERS = st.sampled_from(["content", "structuredContent", "isError", "_meta", "resultType", "note"])
CITY = FlowCity()


@settings(max_examples=300)
@given(
    st.dictionaries(MEMBERS, ANYTHING) | st.dictionaries(st.just("content"), st.lists(ANYTHING, max_size=3)),
    st.sampled_from(["salaries", "inbox", "find_file", "none"]),
    st.sampled_from([None, ("everybody",), ("hr",)]),
    st.booleans(),
)
def test_a_result_of_any_shape_is_delivered_or_withheld(
    result: dict[str, Any], name: str, audience: tuple[str, ...] | None, failed: bool
) -> None:
    """The shape is checked later, by `settle`; before that nothing may fall over it, and nothing of it may come out."""
    cleared = Clearance(audience=audience, content={"secret": Delivery.REDACT})
    CITY.configured = msgspec.structs.replace(CITY.configured, clearances={"clerk": cleared})
    response = Response(1, None, result, b"") if failed else Response(1, result, None, b"")
    delivered = deliver(CITY.call(name=name), response, CITY.rules(*TOOLS))
    if not delivered.withheld:
        given_to = delivered.response.error if failed else delivered.response.result
        assert "AKIAQ4XT7NPLM2SVBZ3K" not in json.dumps(given_to)
