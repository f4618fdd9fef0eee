"""SPIFFE IDs of any workload: the grammar of the specification, read strictly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spiffe import SpiffeId as Theirs
from spiffe.errors import PySpiffeError

from citywatch.core.errors import Malformed
from citywatch.core.names import parse_agent_id, parse_spiffe_id


@pytest.mark.parametrize("text", ["spiffe://a.example/x", "spiffe://a.example/ns/prod/sa/r-1_.z", "spiffe://a/b/c/d"])
def test_a_workload_s_name_is_read_and_written(text: str) -> None:
    found = parse_spiffe_id(text)
    assert str(found) == text
    assert str(Theirs(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "spiffe://a.example",
        "spiffe://a.example/",
        "spiffe://a.example//x",
        "spiffe://a.example/x/",
        "spiffe://a.example/./x",
        "spiffe://a.example/../x",
        "spiffe://A.example/x",
        "spiffe://a.example:443/x",
        "spiffe://u@a.example/x",
        "spiffe://a.example/x?y",
        "spiffe://a.example/x#y",
        "spiffe://a.example/%61",
        "spiffe:///x",
        "https://a.example/x",
        "SPIFFE://a.example/x",
        "spiffe://a.example/é",
        "spiffe://a.example/" + "x" * 2048,
        "",
    ],
)
def test_what_is_no_workload_s_name_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        parse_spiffe_id(text)


@given(st.text(alphabet="spife:/.a-Z%?@ \n", max_size=40).map(lambda tail: "spiffe://" + tail))
def test_whatever_is_read_is_what_was_written_and_what_the_official_library_reads(text: str) -> None:
    try:
        found = parse_spiffe_id(text)
    except Malformed:
        return
    assert str(found) == text
    try:
        assert str(Theirs(text)) == text
    except PySpiffeError as failure:
        raise AssertionError(f"{text!r} is read here and not there") from failure


def test_each_agent_s_name_is_one() -> None:
    agent = parse_agent_id("spiffe://a.example/agent/b")
    assert str(parse_spiffe_id(str(agent))) == str(agent)
