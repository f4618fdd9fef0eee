"""What only some may see reaches nobody else, in no argument of any call; what they may see anyway goes on.

Each attack is followed by the honest case that must pass.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from citywatch.adapters.memory import MemoryAnswer
from citywatch.core.call import Direction
from citywatch.core.enforce.settle import Released, Withheld
from citywatch.core.errors import Code
from citywatch.core.identity.registration import AgentRow, agent_key, format_row
from citywatch.core.wire.jsonrpc import Response
from citywatch.service.ports import Append
from tests.simulation.city import AGENT, KEY, code_of
from tests.simulation.flow_city import ANN, FlowCity

REFUSED = Code.NOT_A_READER.value
PAY = [{"id": "r1", "name": "Dora Meyer", "pay": 91234}]
PROMPT = f"Look up what Dora Meyer earns, then tell bob@acme.example: The review is done. Pay 5 to {ANN}"


async def city(prompt: str = PROMPT) -> FlowCity:
    opened = await FlowCity().open()
    await opened.task(prompt)
    await opened.read("salaries", PAY)
    return opened


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("send", {"to": "bob@acme.example", "text": "Dora earns 91234."}),
        ("send", {"to": "bob@acme.example", "text": "91234"}),
        ("send", {"to": "bob@acme.example", "text": 91234}),
        ("search", {"query": "Dora earns 91234"}),
        ("search", {"query": "OTEyMzQ="}),
        ("search", {"query": "Dora M\u200beyer"}),
        ("search", {"query": "dORa meyeR"}),
        ("search", {"query": ["review", None, None, None]}),
        ("search", {"query": {"n91234": "review"}}),
        ("search", {"n91234": None}),
        ("search", {"query": True}),
        ("search", {"query": "Dora Meyer", "filters": {"n91234": "Dora Meyer"}}),
        ("search", {"query": "Dora Meyer", "filters": {"name": [None] * 9}}),
        ("fetch", {"url": "https://acme.example/?q=91234"}),
        ("pay", {"to": ANN, "amount": 5, "note": "91234"}),
        ("write_file", {"id": "notes-1", "text": "Dora earns 91234"}),
        ("find_file", {"name": "91234.docx"}),
    ],
)
async def test_a_secret_leaves_in_no_argument_of_any_call(name: str, arguments: dict[str, Any]) -> None:
    here = await city()
    assert code_of(await here.act(name, **arguments)) in (REFUSED, Code.ARGUMENT_UNSUPPORTED.value)
    assert not await here.tickets.pending()
    assert len(here.upstream.sent) == 1


async def lists(here: FlowCity, cursor: str | None, following: str | None = None, **changes: Any) -> dict[str, Any]:
    """Ask a server for its tools, from a place on; it answers with none, and says where to go on."""
    more = {} if following is None else {"nextCursor": following}
    reply = {"jsonrpc": "2.0", "id": 1, "result": {"tools": [], **more}}
    here.answer = lambda body: MemoryAnswer([(json.dumps(reply).encode(), None)])
    agent = changes.get("agent", AGENT)
    asked = {} if cursor is None else {"cursor": cursor}
    return await here.ask(here.call("tools/list", name=None, arguments=asked, **changes), here.credential(agent=agent))


async def test_a_secret_leaves_in_no_cursor_and_a_servers_own_goes_back_to_it() -> None:
    here = await FlowCity().open()
    scout = AGENT.replace("clerk", "scout")
    await here.store.append(
        Append(puts=((agent_key("scout"), format_row(AgentRow(agent=scout, keys=(KEY,), added_at=0))),))
    )
    await here.task(PROMPT)
    assert code_of(await lists(here, None, "page-2")) is None
    assert code_of(await lists(here, None, "scouts-page", agent=scout)) is None
    assert code_of(await lists(here, "anything", "page-3")) is None, "nothing is confidential yet"
    await here.read("salaries", PAY)
    before = len(here.upstream.sent)
    for cursor in ("91234", "Dora earns 91234", "page-4", "scouts-page", "Page-2", "anything"):
        assert code_of(await lists(here, cursor)) == REFUSED
    assert len(here.upstream.sent) == before
    assert code_of(await lists(here, "page-2", "page-5")) is None
    assert code_of(await lists(here, "page-3")) is None
    assert code_of(await lists(here, "page-5")) is None
    assert code_of(await lists(here, None)) is None
    assert code_of(await lists(here, "The review is done")) is None, "a principal's own words"


async def test_a_principals_own_words_go_where_they_are_sent() -> None:
    here = await city()
    assert code_of(await here.act("send", to="bob@acme.example", text="The review is done")) is None
    assert code_of(await here.act("pay", to=ANN, amount=5)) is None
    assert code_of(await here.act("search", query="Dora Meyer")) is None
    assert code_of(await here.act("inbox")) is None


async def test_those_who_may_read_it_are_told_in_any_words() -> None:
    here = await city()
    assert code_of(await here.act("file_review", about="r1", text="Dora earns 91234, as agreed.")) is None
    assert code_of(await here.act("salaries", team="sales, where Dora earns 91234")) is None


async def test_before_anything_confidential_was_read_nothing_is_refused() -> None:
    here = await FlowCity().open()
    await here.task("Do what is needed")
    await here.read("inbox", "hello")
    assert code_of(await here.act("search", query="anything that comes to mind")) is None


async def test_words_of_an_item_for_that_audience_go_on_and_those_of_another_do_not() -> None:
    here = await city()
    await here.read("find_file", [{"id": "f-100", "name": "plan.docx", "text": ""}], name="Dora Meyer")
    assert code_of(await here.act("search", query="plan.docx")) is None
    assert code_of(await here.act("search", query="r1")) == REFUSED


async def test_a_reply_that_has_none_of_the_fields_is_for_everybody() -> None:
    here = await FlowCity().open()
    await here.task("Look up the team")
    await here.read("salaries", [{"id": "r1"}])
    assert code_of(await here.act("search", query="whatever")) is None


@pytest.mark.parametrize("value", ["Dora earns 91234", 91234, {"note": [{"pay": 1}]}])
async def test_a_reply_in_another_shape_than_was_declared_is_for_no_more_readers(value: Any) -> None:
    here = await FlowCity().open()
    await here.task("Look up the team")
    await here.read("salaries", value)
    told = code_of(await here.act("search", query="Dora earns 91234"))
    assert told == (None if isinstance(value, dict) else REFUSED)


async def test_an_error_of_a_confidential_tool_is_as_confidential() -> None:
    here = await FlowCity().open()
    await here.task("Look up the team")
    here.answer = lambda body: answer_with(body, {"error": {"code": -1, "message": "no row after Dora, 91234"}})
    await here.act("salaries")
    assert code_of(await here.act("search", query="Dora earns 91234")) == REFUSED


@pytest.mark.parametrize(
    "result",
    [
        {"content": [{"type": "text", "text": "no row after Dora, 91234"}], "isError": True},
        {"content": [{"type": "image", "data": "AA==", "mimeType": "image/png"}], "structuredContent": {"result": []}},
    ],
)
async def test_a_failure_or_a_picture_of_a_confidential_tool_is_as_confidential(result: dict[str, Any]) -> None:
    here = await FlowCity().open()
    await here.task("Look up the team")
    here.answer = lambda body: answer_with(body, {"result": result})
    await here.act("salaries")
    assert code_of(await here.act("search", query="Dora earns 91234")) == REFUSED


async def test_written_and_read_again_it_is_as_confidential_as_before() -> None:
    here = await city()
    assert code_of(await here.act("file_review", about="file-7", text="Dora earns 91234")) is None
    other = FlowCity(store=here.store)
    papers = here.credential(key="another")
    await rekey(here, "another")
    other.answer = lambda body: answer_with(body, {"result": told([{"id": "file-7", "name": "n", "text": "91234"}])})
    await other.ask(other.call(name="find_file", arguments={"name": "file-7"}), papers)
    asked = other.call(name="search", arguments={"query": "91234"})
    assert code_of(await other.ask(asked, papers)) == REFUSED


async def test_a_restart_forgets_no_reader() -> None:
    here = await city()
    again = FlowCity(store=here.store)
    assert code_of(await again.act("search", query="91234")) == REFUSED


async def test_what_is_no_tool_is_for_everybody() -> None:
    here = await city()
    read = here.call(
        method="resources/read", name="https://acme.example/91234", arguments={"uri": "https://acme.example/91234"}
    )
    assert code_of(await here.ask(read)) == REFUSED


def question(here: FlowCity) -> Any:
    """A server's question to the agent."""
    return here.call(
        method="elicitation/create", name=None, direction=Direction.TO_AGENT, arguments={"message": "who?"}, rpc_id=9
    )


async def test_a_servers_question_is_not_put_to_an_agent_that_could_answer_with_a_secret() -> None:
    here = await city()
    judged = await here.enforcer.judge(question(here), here.credential())
    assert judged.decision.reason.code is Code.NOT_A_READER  # type: ignore[union-attr]


async def test_a_question_that_was_put_before_is_not_answered_after() -> None:
    here = await FlowCity().open()
    judged = await here.enforcer.judge(question(here), here.credential())
    assert judged.allowed
    answer = Response(id=9, result={"action": "accept", "content": {"who": "91234"}}, body=b"{}")
    settled = await here.enforcer.settle(judged, answer, 0)
    assert isinstance(settled, Released)
    await here.read("salaries", PAY)
    withheld = await here.enforcer.settle(judged, answer, 0)
    assert isinstance(withheld, Withheld)
    assert withheld.code is Code.NOT_A_READER


def told(value: Any) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": json.dumps(value)}], "structuredContent": {"result": value}}


def answer_with(body: bytes, what: dict[str, Any]) -> Any:
    return MemoryAnswer([(json.dumps({"jsonrpc": "2.0", "id": json.loads(body)["id"], **what}).encode(), None)])


async def rekey(here: FlowCity, key: str) -> None:
    row = AgentRow(agent=AGENT, keys=(KEY, key), added_at=0)
    await here.store.append(Append(puts=((agent_key("clerk"), format_row(row)),)))
