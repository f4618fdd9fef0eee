"""Where an operator lets something go: an address as it is, or a pattern that stands for no more than it says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citywatch.core.errors import Malformed
from citywatch.core.wire.destination import destination_of, numbered, parse_destination

HOOKS = ("https://one.example/a", "https://below.example/in/*", "https://*.many.example/*", "http://127.0.0.1:*/*")


@pytest.mark.parametrize(
    "address",
    [
        "https://one.example/a",
        "https://below.example/in/",
        "https://below.example:443/in/a/b?c=d",
        "https://a.many.example/x",
        "https://a.b.many.example/x",
        "http://127.0.0.1:8123/hook",
        "http://127.0.0.1/",
    ],
)
def test_what_an_entry_says_is_allowed(address: str) -> None:
    assert destination_of(HOOKS, address) is not None


@pytest.mark.parametrize(
    "address",
    [
        "https://one.example/a/",
        "https://one.example/",
        "http://one.example/a",
        "https://below.example/",
        "https://below.example/in",
        "https://below.example:8443/in/a",
        "https://below.example/in/../out",
        "https://below.example/in/%2e%2e/out",
        "https://below.example/in/a%2fb",
        "https://below.example/in/..;/out",
        "https://below.example/in/..;a=b/out",
        "https://below.example/in/;/out",
        "https://below.example/in/%252e%252e/out",
        "https://below.example/in/%zz",
        "https://below.example/in/a%00",
        "https://a.many.example?@evil.example/",
        "https://below.example/in//a",
        "https://below.example/in/a#b",
        "https://below.example/in/a\\b",
        "https://many.example/x",
        "https://notmany.example/x",
        "https://a.many.example.evil.example/x",
        "https://a@evil.example/.many.example/x",
        "https://evil.example?.many.example/x",
        "https://A.many.example/x",
        "https://a.many.example./x",
        "http://127.0.0.2:8123/hook",
        "http://127.0.0.1:0/hook",
        "http://127.0.0.1:99999/hook",
        "http://localhost:8123/hook",
        "https://127.0.0.1:8123/hook",
        "http://127.0.0.1:8123@evil.example/",
        "gopher://127.0.0.1:1/",
        "",
    ],
)
def test_what_it_does_not_say_is_not(address: str) -> None:
    assert destination_of(HOOKS, address) is None


@pytest.mark.parametrize(
    "entry",
    [
        "https://*/*",
        "https://*.example/*",
        "https://*.10.0.0.1/*",
        "https://a.*.example/*",
        "https://a.example/*/b",
        "https://*.hooks.example",
        "https://a.example:*",
        "https://a.example/../*",
        "https://a.example/%2e/*",
        "*://a.example/*",
        "https://[::1]*/",
        "*",
    ],
)
def test_a_star_stands_nowhere_else(entry: str) -> None:
    with pytest.raises(Malformed):
        parse_destination(entry)


def test_only_a_number_names_a_machine() -> None:
    entries = (*HOOKS, "http://localhost:*/*", "https://[::1]:*/*")
    assert {entry: parse_destination(entry).public_only for entry in entries} == {
        "https://one.example/a": False,
        "https://below.example/in/*": True,
        "https://*.many.example/*": True,
        "http://127.0.0.1:*/*": False,
        "http://localhost:*/*": False,
        "https://[::1]:*/*": False,
    }


def test_localhost_is_this_machine_and_no_other_name_is() -> None:
    assert numbered("http://localhost:9/a") == "http://127.0.0.1:9/a"
    assert numbered("http://localhost") == "http://127.0.0.1"
    assert numbered("http://localhost.evil.example/a") == "http://localhost.evil.example/a"
    assert numbered("https://a.example/localhost") == "https://a.example/localhost"


@given(st.text(), st.text())
def test_any_text_is_read_or_malformed(entry: str, address: str) -> None:
    try:
        found = destination_of([entry], address)
    except Malformed:
        return
    assert found is None or entry == address or "*" in entry
