"""What a yes to a message is bound to, and whom people are asked about it."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from citywatch.core.call import Allow, Ask, Call, Deny
from citywatch.core.enforce.needs import Known
from citywatch.core.enforce.spoken import spoken
from citywatch.core.errors import Code
from citywatch.core.label import Label
from citywatch.core.wire import a2a
from tests.simulation.test_waiting_messages import SAID, AskingCity

ALLOWED = Allow(("talk",))


@pytest.fixture(scope="module")
def known() -> Known:
    async def found() -> Known:
        city = await AskingCity().open()
        return (await city.enforcer.judge(city.message(message=SAID), city.credential())).known

    return asyncio.run(found())


def said(**params: Any) -> Call:
    return AskingCity().message(**{"message": SAID, **params})


def asked(call: Call, known: Known, allowed: Allow = ALLOWED) -> Ask:
    decision = spoken(call, known, allowed, "rule `r`", 1)
    assert isinstance(decision, Ask)
    return decision


CHANGES: list[dict[str, Any]] = [
    {"message": {**SAID, "messageId": "m2"}},
    {"message": {**SAID, "parts": [{"text": "refund order 7 with 501"}]}},
    {"message": {**SAID, "parts": [*SAID["parts"], {"text": "now"}]}},
    {"message": {**SAID, "contextId": "c"}},
    {"message": {**SAID, "metadata": {"k": 1}}},
    {"message": {**SAID, "extensions": ["urn:x"]}},
    {"configuration": {"acceptedOutputModes": ["text/plain"]}},
    {"configuration": {"returnImmediately": True}},
    {"configuration": {"taskPushNotificationConfig": {"url": "https://x.example/"}}},
    {"metadata": {a2a.TYPE: "refund"}},
    {"metadata": {a2a.SKILL: "invoice"}},
    {"metadata": {a2a.TASK: "t-1"}},
    {"metadata": {a2a.HANDED: ["a.b.c"]}},
    {"metadata": {"other": 1}},
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_yes_is_bound_to_changes_with_each_part_of_a_message(known: Known, change: dict[str, Any]) -> None:
    assert asked(said(), known).bound == asked(said(), known).bound
    assert asked(said(), known).bound != asked(said(**change), known).bound


def test_it_changes_with_the_policies_and_with_what_the_sender_adds_to_its_label(known: Known) -> None:
    assert asked(said(), known).bound != asked(said(), known, Allow(("other",))).bound
    worse = msgspec.structs.replace(said(), tightened=Label(frozenset(("outside:x",)), None))
    assert asked(said(), known).bound != asked(worse, known).bound
    abroad = msgspec.structs.replace(said(), brought=Label(frozenset(("outside:y",)), None))
    assert asked(said(), known).bound != asked(abroad, known).bound


def test_only_the_words_are_what_is_alike(known: Known) -> None:
    def words(call: Call) -> str:
        bound = asked(call, known).bound
        assert bound is not None
        return {path: value for path, _, value in bound.names}["words"]

    assert words(said()) == words(said(message={**SAID, "messageId": "m2", "contextId": "c"}))
    assert words(said()) != words(said(message={**SAID, "parts": [{"text": "another thing"}]}))


def test_what_cannot_be_hashed_is_refused_and_nobody_is_asked(known: Known) -> None:
    call = said(message={**SAID, "parts": [{"data": {"n": 1}}]})
    parts = [{"data": {"n": 1 << 70}}]
    call = msgspec.structs.replace(call, arguments={"message": {**SAID, "parts": parts}})
    decision = spoken(call, known, ALLOWED, "rule `r`", 1)
    assert isinstance(decision, Deny)
    assert decision.reason.code is Code.RULE_MATCHED
    assert "64 bits" in decision.reason.detail
