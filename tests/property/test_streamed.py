"""A stream of pieces is looked through as if it had come whole, however it is cut and whatever stands between."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from citywatch.core.enforce.deliver import sift_reply
from citywatch.core.enforce.sift import leaves_of
from citywatch.core.enforce.streamed import Streamed, spoken
from citywatch.core.errors import Malformed, Refused
from citywatch.core.manifest import Delivery
from citywatch.core.wire import a2a
from citywatch.core.wire.jsonrpc import Response

KEY = "AKIAQ4XT7NPLM2SVBZ3K"
RULING = {"secret": Delivery.REDACT}


def piece(text: str, artifact: str = "a", **more: Any) -> Response:
    """One piece, with members around its text that a peer may put there."""
    inner = {
        "artifactId": artifact,
        "name": "n",
        **more,
        "parts": [{"metadata": {"text": "no"}, "text": text}],
        "z": "y",
    }
    return Response(1, {"artifactUpdate": {"taskId": "t", "append": True, "artifact": inner, "text": "between"}})


def status(state: str, text: str = "") -> Response:
    message = {"messageId": "m", "parts": [{"text": text}]}
    return Response(
        1, {"statusUpdate": {"taskId": "t", "status": {"state": f"TASK_STATE_{state}", "message": message}}}
    )


def passed(said: list[Response], ruling: Any = RULING) -> list[dict[str, Any]]:
    """What an agent gets of a stream, in its order."""
    stream = Streamed(ruling)
    out = [one for response in said for one in stream.take(response)] + stream.end()
    assert [one.response for one in out] == said
    return [sift_reply(one.response.result or {}, ruling, one.known).value for one in out]


def text_of(results: list[dict[str, Any]], artifact: str) -> str:
    updates = [one["artifactUpdate"]["artifact"] for one in results if "artifactUpdate" in one]
    return "".join(one["parts"][0]["text"] for one in updates if one["artifactId"] == artifact)


def cut(text: str, at: list[int]) -> list[str]:
    places = [0, *sorted(one % (len(text) + 1) for one in at), len(text)]
    return [text[begin:end] for begin, end in pairwise(places)]


@given(st.lists(st.integers(0, 200), max_size=6), st.lists(st.integers(0, 3), min_size=8, max_size=8))
def test_a_secret_in_pieces_is_taken_out_wherever_it_is_cut(at: list[int], between: list[int]) -> None:
    pieces = cut(f"The key is {KEY} and so on, as you know.", at)
    said: list[Response] = []
    for number, one in enumerate(pieces):
        said += [piece("other words ", "b"), status("WORKING", "on it ")][: between[number % 8]]
        said.append(piece(one))
    said.append(status("COMPLETED"))
    got = passed(said)
    assert KEY not in text_of(got, "a")
    assert text_of(got, "a").startswith("The key is ")
    assert text_of(got, "a").endswith(" and so on, as you know.")
    whole = sift_reply({"artifactUpdate": {"artifact": {"parts": [{"text": "".join(pieces)}]}}}, RULING)
    assert whole.redacted


@given(
    st.text(st.characters(codec="ascii", categories=["Ll", "Zs"]), max_size=80),
    st.lists(st.integers(0, 99), max_size=5),
)
def test_what_holds_nothing_passes_as_it_came(text: str, at: list[int]) -> None:
    said = [piece(one) for one in cut(text, at)] + [status("COMPLETED", "done")]
    assert passed(said) == [one.result for one in said]
    assert passed(said, {}) == [one.result for one in said]


def test_without_a_ruling_nothing_waits() -> None:
    stream = Streamed({})
    for one in (piece("a"), status("WORKING")):
        assert [out.response for out in stream.take(one)] == [one]
    assert stream.end() == []


@pytest.mark.parametrize("state", ["INPUT_REQUIRED", "AUTH_REQUIRED", "COMPLETED"])
def test_where_a_task_waits_or_is_over_nothing_is_held(state: str) -> None:
    stream = Streamed(RULING)
    assert stream.take(piece("AKIA")) == []
    assert len(stream.take(status(state))) == 2


def test_what_cannot_be_read_as_one_is_not_passed_on() -> None:
    task = {
        "id": "t",
        "status": {"state": "TASK_STATE_WORKING"},
        "artifacts": [{"artifactId": "a", "parts": [{"text": "x"}]}],
    }
    stream = Streamed(RULING)
    stream.take(Response(1, {"task": task}))
    stream.take(piece("goes on", "b"))
    with pytest.raises(Refused):
        stream.take(piece("goes on", "a"))
    raw = {"artifactId": "c", "parts": [{"raw": "QUtJQQ=="}]}
    Streamed(RULING).take(Response(1, {"artifactUpdate": {"taskId": "t", "artifact": raw}}))
    with pytest.raises(Refused):
        Streamed(RULING).take(Response(1, {"artifactUpdate": {"taskId": "t", "append": True, "artifact": raw}}))
    Streamed({}).take(Response(1, {"artifactUpdate": {"taskId": "t", "append": True, "artifact": raw}}))


NAMES = st.sampled_from(["task", "artifacts", "parts", "text", "data", "status", "message", "*", "x"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["task", "message", "statusUpdate", "artifactUpdate"]), VALUES, max_size=2))
def test_texts_are_numbered_as_the_leaves_are_whatever_they_stand_in(result: dict[str, Any]) -> None:
    leaves = leaves_of(result)
    for number, text in spoken(result):
        assert leaves[number].is_text
        assert leaves[number].text == text
    try:
        a2a.check_reply("SubscribeToTask", Response(1, result))
    except Malformed:
        return
    Streamed(RULING).take(Response(1, result))
