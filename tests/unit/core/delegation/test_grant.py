"""What is a grant, and what each bad one is told."""

from __future__ import annotations

import json
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from bench.grants import Author
from citywatch.core.canonical import canonical
from citywatch.core.delegation.caveats import Caveats, normal_choice
from citywatch.core.delegation.grant import DOMAIN, format_grant, parse_grant, parse_link, signing_input
from citywatch.core.delegation.wording import MAX_CALLS, MAX_NAMES, MAX_OPTIONS
from citywatch.core.errors import Malformed
from citywatch.core.limit import Dates, Equal, Numbers, OneOf

AGENT = "spiffe://acme.example/agent/"
GRANT: dict[str, Any] = {
    "v": 1,
    "chain_id": "c" * 22,
    "depth": 2,
    "parent": 0,
    "delegator": "principal:anna",
    "delegator_thumb": "A" * 43,
    "delegate": f"{AGENT}router",
    "delegate_thumb": "B" * 43,
    "caveats": {
        "audience": ["acme.example"],
        "tools": ["bank/pay", "crm/*"],
        "skills": ["crm/look_up"],
        "arguments": {
            "bank/pay": {
                "to": {"one_of": ["anna", "bob"]},
                "amount": {"at_least": "1.00 EUR", "at_most": "500.00 EUR"},
                "day": {"not_before": "2026-11-25"},
                "urgent": {"equals": False},
            }
        },
        "calls": 5,
        "readers": ["anna@acme.example"],
        "origins": ["principal:anna", "server:*"],
    },
    "task": "t-1",
    "not_after": 1_800_000_000_000,
    "human_root": "principal:anna",
}


def grant(**changes: Any) -> bytes:
    return canonical({**GRANT, **changes})


def with_caveats(**changes: Any) -> bytes:
    return grant(caveats=changes)


def test_the_bytes_of_a_grant_are_pinned() -> None:
    assert grant() == (
        b'{"caveats":{"arguments":{"bank/pay":{"amount":{"at_least":"1.00 EUR","at_most":"500.00 EUR"},"day":'
        b'{"not_before":"2026-11-25"},"to":{"one_of":["anna","bob"]},"urgent":{"equals":false}}},"audience":'
        b'["acme.example"],"calls":5,"origins":["principal:anna","server:*"],"readers":["anna@acme.example"],"skills":'
        b'["crm/look_up"],"tools":["bank/pay","crm/*"]},"chain_id":"cccccccccccccccccccccc","delegate":'
        b'"spiffe://acme.example/agent/router","delegate_thumb":"BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB",'
        b'"delegator":"principal:anna","delegator_thumb":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","depth":2,'
        b'"human_root":"principal:anna","not_after":1800000000000,"parent":0,"task":"t-1","v":1}'
    )
    assert format_grant(parse_grant(grant())) == grant()
    assert signing_input(grant()) == DOMAIN + grant() == b"citywatch/grant/v1\n" + grant()


def test_a_grant_is_read_by_its_types() -> None:
    found = parse_grant(grant())
    assert (found.parent, found.depth, found.not_after) == (None, 2, 1_800_000_000_000)
    assert found.caveats == Caveats(
        audience=frozenset({"acme.example"}),
        tools=frozenset({"bank/pay", "crm/*"}),
        skills=frozenset({"crm/look_up"}),
        arguments={
            "bank/pay": {
                "to": OneOf(("anna", "bob")),
                "amount": Numbers(Decimal(1), Decimal(500), "EUR"),
                "day": Dates("2026-11-25", None),
                "urgent": Equal(False),
            }
        },
        calls=5,
        readers=frozenset({"anna@acme.example"}),
        origins=frozenset({"principal:anna", "server:*"}),
        not_after=1_800_000_000_000,
        depth=2,
    )


def test_what_another_pattern_stands_for_is_not_said_twice() -> None:
    found = parse_grant(with_caveats(tools=["crm/get", "crm/*", "bank/pay", "bank/pay"])).caveats
    assert found.tools == frozenset({"crm/*", "bank/pay"})
    assert parse_grant(with_caveats(tools=["*", "crm/*"])).caveats.tools == frozenset({"*"})


def test_options_that_are_the_same_are_one_and_those_that_only_python_takes_for_it_are_two() -> None:
    assert normal_choice([1, True, 1.0, "1", 0, False, "a", "a"]).values == (0, 1, "1", "a", False, True)


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"", "not JSON"),
        (b"[]", "not the members of version 1"),
        (b'{"v":1}', "missing required field"),
        (grant(v=0), "Invalid enum value 0"),
        (grant(v=2), "Invalid enum value 2"),
        (grant(more=1), "unknown field `more`"),
        (grant(depth="2"), "Expected `int`"),
        (grant(depth=True), "Expected `int`"),
        (grant(depth=-1), "`depth` is between 0 and 16"),
        (grant(depth=17), "`depth` is between 0 and 16"),
        (grant(not_after=-1), "`not_after` is between"),
        (grant(parent=1), "`parent` is the hash of a grant, or 0"),
        (grant(parent="a" * 63), "`parent` is the hash of a grant, or 0"),
        (grant(parent="A" * 64), "`parent` is the hash of a grant, or 0"),
        (grant(chain_id="short"), "`chain_id` is not one"),
        (grant(task="a b"), "`task` is not one"),
        (grant(human_root="anna"), "`human_root` is not one"),
        (grant(delegator_thumb="A" * 42), "`delegator_thumb` is not one"),
        (grant(delegate_thumb="A" * 44), "`delegate_thumb` is not one"),
        (grant(delegator=f"{AGENT}router"), "`delegator` is not one"),
        (grant(parent="a" * 64), "is not a SPIFFE ID"),
        (grant(delegate="principal:anna"), "is not a SPIFFE ID"),
        (grant(caveats=[]), "Expected `object`"),
        (grant().replace(b'"v":1', b'"v": 1'), "not in canonical form"),
        (grant().replace(b'"v":1', b'"v":1,"v":1'), "not in canonical form"),
        (grant().replace(b'"depth":2', b'"depth":2.0'), "canonical form|Expected `int`"),
        (grant().replace(b'"t-1"', b'"\\u0074-1"'), "not in canonical form"),
        (b"\xff" + grant(), "not JSON"),
    ],
)
def test_a_bad_grant_is_told_what_is_wrong(payload: bytes, said: str) -> None:
    with pytest.raises(Malformed, match=said):
        parse_grant(payload)


def argument(limit: Any) -> dict[str, Any]:
    return {"arguments": {"bank/pay": {"x": limit}}}


@pytest.mark.parametrize(
    ("caveats", "said"),
    [
        ({"unless": []}, "does not know: `unless`"),
        ({"a`b": 1}, "does not know: one that cannot be shown"),
        ({"tools": "bank/pay"}, "`tools` is no list"),
        ({"tools": None}, "`tools` is no list"),
        ({"tools": ["bank"]}, "`tools` holds what is no name there"),
        ({"tools": ["bank/p*"]}, "`tools` holds what is no name there"),
        ({"tools": ["*/pay"]}, "`tools` holds what is no name there"),
        ({"tools": [7]}, "`tools` holds what is no name there"),
        ({"tools": [f"bank/t{n}" for n in range(MAX_NAMES + 1)]}, "at most 128 names"),
        ({"origins": ["*"]}, "`origins` holds what is no name there"),
        ({"origins": ["nobody:x"]}, "`origins` holds what is no name there"),
        ({"origins": ["server:a*"]}, "`origins` holds what is no name there"),
        ({"audience": ["ACME"]}, "is not a trust domain"),
        ({"readers": ["a b"]}, "`readers` holds what is no name there"),
        ({"calls": True}, "`calls` is a number of calls"),
        ({"calls": -1}, "`calls` is a number of calls"),
        ({"calls": MAX_CALLS + 1}, "`calls` is a number of calls"),
        ({"arguments": {}}, "`arguments` maps one to 128 tools"),
        ({"arguments": {"bank/*": {"x": {"equals": 1}}}}, "is no tool"),
        ({"arguments": {"bank/pay": {}}}, "maps one to 128 arguments to limits"),
        (argument({}), "is no limit"),
        (argument("free"), "is no limit"),
        (argument({"equals": None}), "is no limit"),
        (argument({"equals": 1, "one_of": [1]}), "is no limit"),
        (argument({"at_most": "1", "not_after": "2026-11-25"}), "is no limit"),
        (argument({"matches": "a.*"}), "is no limit"),
        (argument({"one_of": "ab"}), "is no choice"),
        (argument({"one_of": [[1]]}), "an option that is no text"),
        (argument({"one_of": [None]}), "an option that is no text"),
        (argument({"one_of": [*range(MAX_OPTIONS + 1)]}), "is no choice of at most 128"),
        (argument({"at_most": "1,5"}), "is no range of amounts"),
        (argument({"at_most": True}), "is no range of amounts"),
        (argument({"at_most": None}), "is no range of amounts"),
        (argument({"at_least": "2", "at_most": "1"}), "is no range of amounts"),
        (argument({"at_least": "1", "at_most": None}), "is no range of amounts"),
        (argument({"not_before": "2026-11-25", "not_after": None}), "is no range of days"),
        (argument({"at_least": "1 USD", "at_most": "2 EUR"}), "is no range of amounts"),
        (argument({"not_before": "2026-02-30"}), "is no range of days"),
        (argument({"not_before": "2026-11-25T10:00Z"}), "is no range of days"),
        (argument({"not_before": "2026-11-26", "not_after": "2026-11-25"}), "is no range of days"),
    ],
)
def test_a_bad_caveat_is_told_what_is_wrong(caveats: dict[str, Any], said: str) -> None:
    with pytest.raises(Malformed, match=said) as malformed:
        parse_grant(grant(caveats=caveats))
    assert "\n" not in str(malformed.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "three parts"),
        ("a.b", "three parts"),
        ("a.b.c.d", "three parts"),
        ("é.b.c", "ASCII"),
        ("a=.b.c", "base64url"),
        ("....", "three parts"),
    ],
)
def test_a_text_that_is_no_link_is_told_so(text: str, said: str) -> None:
    with pytest.raises(Malformed, match=said):
        parse_link(text)


def test_a_key_is_of_a_kind_that_we_know_and_strict() -> None:
    grant, _, signature = Author(Random(0)).honest().texts[0].split(".")
    for key, said in (
        ("AA", "65 bytes"),
        ("A" * 43, "small order"),
        ("B" + "A" * 86, "not on the curve"),
        ("A" * 87, "uncompressed point"),
    ):
        with pytest.raises(Malformed, match=said):
            parse_link(f"{grant}.{key}.{signature}")
    with pytest.raises(Malformed, match="64 bytes"):
        parse_link(f"{grant}.{'A' * 43}.AAAA")


def test_an_integer_that_jcs_cannot_write_is_in_no_grant() -> None:
    text = json.dumps({**GRANT, "not_after": 2**53 + 1}, sort_keys=True, separators=(",", ":"))
    with pytest.raises(Malformed, match="canonical form"):
        parse_grant(text.encode())
