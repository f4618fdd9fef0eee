"""Our own vectors, for others to implement envelopes by; each names its verdict, so that adding one adds no code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from citywatch.core.errors import Refused
from citywatch.core.identity.bundle import ENVELOPE
from citywatch.core.identity.envelope import (
    Answered,
    Arrived,
    ReplyTo,
    message_digest,
    read_envelope,
    reply_digest,
    verify_envelope,
    verify_reply,
)
from citywatch.core.signature import P256Key, parse_jwk
from citywatch.core.wire import enveloped
from spec import envelope as law

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "spec/vectors/envelopes.json").read_text("utf-8"))
CASES = VECTORS["envelopes"]


def trusted() -> dict[str, dict[str, P256Key]]:
    found: dict[str, dict[str, P256Key]] = {}
    for domain, keys in VECTORS["keys"].items():
        for kid, jwk in keys.items():
            key = parse_jwk(jwk, use=ENVELOPE)
            assert isinstance(key, P256Key)
            found.setdefault(domain, {})[kid] = key
    return found


def step(case: dict[str, Any]) -> int | None:
    """The step that an envelope fails; None if it may be believed."""
    arrived = Arrived(**case["arrived"])
    try:
        found = verify_envelope(case["token"].encode(), trusted(), arrived, now=case["now"], leeway=VECTORS["leeway"])
    except Refused as refusal:
        return int(refusal.detail.removeprefix("step ").partition(":")[0])
    assert found.envelope == read_envelope(case["token"].encode())
    return None


@pytest.mark.parametrize("case", CASES, ids=[one["name"] for one in CASES])
def test_each_envelope_has_the_verdict_that_its_vector_names(case: dict[str, Any]) -> None:
    assert step(case) == case["verdict"], case["why"]
    assert law.judge(case["token"], VECTORS["keys"], case["arrived"], case["now"], VECTORS["leeway"]) == case["verdict"]


def test_every_step_is_failed_by_some_vector_and_some_are_good() -> None:
    assert {one["verdict"] for one in CASES} == {None, 1, 2, 3, 4, 5, 6, 7}


@pytest.mark.parametrize("message", VECTORS["messages"])
def test_each_message_has_the_digest_that_its_vector_names(message: dict[str, Any]) -> None:
    said = [message[name] for name in ("method", "params", "skill", "type")]
    assert message_digest(*said) == message["digest"] == law.message_digest(*said)


def reply_step(case: dict[str, Any]) -> int | None:
    """The step that the envelope of a reply fails; None if it may be believed."""
    told = case["answered"]
    answered = Answered(
        message=told["message"],
        sender=told["sender"],
        receivers=frozenset(told["receivers"]),
        reply=ReplyTo(told["request"], told["number"]),
    )
    token = case["token"].encode()
    try:
        found = verify_reply(token, trusted(), answered, now=case["now"], leeway=VECTORS["leeway"])
    except Refused as refusal:
        return int(refusal.detail.removeprefix("step ").partition(":")[0])
    assert found.envelope == read_envelope(token, reply=True)
    return None


@pytest.mark.parametrize("case", VECTORS["replies"], ids=lambda one: one["name"])
def test_each_envelope_of_a_reply_has_the_verdict_that_its_vector_names(case: dict[str, Any]) -> None:
    assert reply_step(case) == case["verdict"], case["why"]
    found = law.judge_reply(case["token"], VECTORS["keys"], case["answered"], case["now"], VECTORS["leeway"])
    assert found == case["verdict"]


def test_every_step_of_a_reply_is_failed_by_some_vector_and_some_are_good() -> None:
    assert {one["verdict"] for one in VECTORS["replies"]} == {None, 1, 2, 3, 4, 5, 6, 7, 8}


@pytest.mark.parametrize("told", VECTORS["results"])
def test_each_reply_has_the_digest_that_its_vector_names(told: dict[str, Any]) -> None:
    bare, _ = enveloped.parted(told["result"], spoken=told["spoken"])
    assert reply_digest(bare) == told["digest"] == law.reply_digest(told["result"], told["spoken"])
