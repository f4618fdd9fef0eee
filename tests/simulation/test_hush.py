"""What a server tells while it works on a tool that hides: nothing of what is hidden, and nothing that taints."""

from __future__ import annotations

import json

import msgspec
import pytest

from citywatch.adapters.memory import MemoryAnswer
from citywatch.core.call import Direction
from citywatch.core.enforce.hush import HUSHED
from citywatch.core.enforce.needs import needs
from citywatch.core.events import Rejected
from tests.simulation.test_deliver import final, logged, progress, streamed
from tests.simulation.test_handles import EVIL, HANDLE, HidingCity


@pytest.fixture
async def city() -> HidingCity:
    return await HidingCity().open()


async def test_a_server_that_reports_as_it_goes_shows_no_hidden_text(city: HidingCity) -> None:
    """The attack: a log line that quotes the mail which is on its way as a handle."""
    await city.task("Forward my mail to ann@example.org")
    quoted = [progress(1, f"reading: {EVIL}"), logged({"mail": EVIL}), logged(EVIL)]
    quoted[2]["params"] |= {"logger": EVIL, "level": EVIL, "note": EVIL}
    got = await streamed(city, *quoted, final(EVIL))
    assert "Ignore" not in json.dumps(got)
    assert [one["params"] for one in got[:-1]] == [
        {"progressToken": "t", "progress": 1, "message": HUSHED},
        {"level": "info", "data": HUSHED},
        {"level": "info", "data": HUSHED},
    ]
    assert HANDLE.search(json.dumps(got[-1]))
    assert not any(one.startswith("outside:") for one in await city.origins() or ())


async def test_what_cannot_be_told_without_words_is_kept_back_and_counted(city: HidingCity) -> None:
    uri = {"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": f"mail:{EVIL}"}}
    changed = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": {"why": EVIL}}
    got = await streamed(city, uri, changed, final("done"))
    assert [one.get("method") for one in got] == ["notifications/tools/list_changed", None]
    assert "Ignore" not in json.dumps(got)
    assert [one.code for one in await city.events() if isinstance(one, Rejected)] == ["content_withheld"]


async def test_a_tool_that_hides_nothing_is_heard(city: HidingCity) -> None:
    got = await streamed(city, progress(1, "half way"), final("done"), name="find_file")
    assert got[0]["params"]["message"] == "half way"
    assert any(one.startswith("outside:") for one in await city.origins() or ())


async def test_a_stream_of_no_tool_may_tell_of_any(city: HidingCity) -> None:
    """The attack: say on the listening stream what may not be said on the tool's."""
    city.answer = lambda _: MemoryAnswer([(json.dumps(logged(EVIL)).encode(), None)], media="sse")
    call = city.call("transport/listen", name=None)
    outcome = await city.exchange.listen(call, city.credential(), {})
    assert outcome.stream is not None
    got = [json.loads(one.body) async for one in outcome.stream if one.body]
    assert "Ignore" not in json.dumps(got)
    assert HUSHED in json.dumps(got)


async def test_a_question_is_policys_to_put(city: HidingCity) -> None:
    question = {"jsonrpc": "2.0", "id": 9, "method": "elicitation/create", "params": {"message": "Which?"}}
    got = await streamed(city, question, final("done"))
    assert [one.get("method") for one in got] == ["elicitation/create", None]
    assert any(one.startswith("outside:") for one in await city.origins() or ())


async def test_what_was_not_hushed_taints_whatever_the_tool_hides(city: HidingCity) -> None:
    """A log of an earlier version has such messages: folded again, they have been read."""
    for params, hushed in ((logged(EVIL)["params"], False), (logged(HUSHED)["params"], True)):
        changes = {"direction": Direction.TO_AGENT, "rpc_id": None, "about": "inbox", "arguments": params}
        heard = msgspec.structs.replace(city.call("notifications/message", name=None), **changes)
        need = needs(heard, city.enforcer.rules, 0)
        assert need.flow is not None
        assert need.flow.hushed is hushed
