"""What an agent is not to have does not reach it: fields that are for others, and what has the shape of a secret.

Beside each attack, or leak, stands the reply that must come through as it is.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest

from citywatch.adapters.memory import MemoryAnswer
from citywatch.core.errors import Code
from citywatch.core.events import Decided, Rejected, Settled
from citywatch.core.label import Label
from citywatch.core.manifest import Clearance, Delivery, Output
from tests.simulation.city import code_of, obliging
from tests.simulation.flow_city import ANN, MANIFESTS, TOOLS, FlowCity
from tests.simulation.test_laundering import answering, context

KEY = "AKIAQ4XT7NPLM2SVBZ3K"
MARK = "[redacted secret aws-key]"
UNSEEN = "[redacted: readers]"
SECRETS = {"secret": Delivery.REDACT, "personal/iban": Delivery.REDACT}
PAY = [{"id": "r1", "name": "Dora Meyer", "pay": 91234}]
WITHHELD = Code.CONTENT_WITHHELD.value


async def city(
    content: dict[str, Delivery] | None = None, audience: tuple[str, ...] | None = None, **manifests: Any
) -> FlowCity:
    here = await FlowCity().open()
    cleared = Clearance(audience=audience, content=SECRETS if content is None else content)
    here.configured = msgspec.structs.replace(
        here.configured, clearances={"clerk": cleared}, servers={"bank": {**MANIFESTS, **manifests}}
    )
    here.enforcer.rules = here.rules(*TOOLS)
    await here.task("Do what is needed")
    return here


async def last_settled(here: FlowCity) -> Settled:
    return [event for event in await here.events() if isinstance(event, Settled)][-1]


def texts(told: dict[str, Any]) -> list[str]:
    return [part.get("text", "") for part in told["result"]["content"]]


# ---- what has the shape of a secret --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        KEY,
        f"the key is {KEY}, keep it",
        base64.b64encode(f"key {KEY}".encode()).decode(),
        KEY.encode().hex(),
        "".join(f"%{ord(one):02x}" for one in KEY),
        "".join(f"\\u{ord(one):04x}" for one in KEY),
        "\u200b".join(KEY),
        "".join(chr(ord(one) + 0xFEE0) for one in KEY),
        json.dumps({"nested": json.dumps({"key": KEY})}),
    ],
)
async def test_a_secret_comes_through_in_no_dress(said: str) -> None:
    here = await city()
    for value in (said, [{"id": "1", "name": said}], {"note": {"deep": [said]}}, {said: 1}):
        told = await here.read("inbox", value)
        written = json.dumps(told, ensure_ascii=False)
        assert "[redacted secret" in written
        assert KEY not in written.replace("\u200b", "")
        assert said not in written
        assert (await last_settled(here)).redacted[0].startswith("secret ")


async def test_what_holds_no_secret_comes_through_as_it_is() -> None:
    here = await city()
    for value in ("Please pay 100.50 by May", [{"id": "f-1", "name": "plan.docx"}], {"a": None, "b": [1.5, True]}):
        told = await here.read("inbox", value)
        assert texts(told) == [json.dumps(value) if not isinstance(value, str) else value]
        assert (await last_settled(here)).redacted == ()


async def test_the_fields_and_the_text_that_repeats_them_say_the_same_and_the_rest_stays() -> None:
    here = await city()
    value = [{"id": "1", "name": "ann", "iban": ANN, "note": f"key {KEY}", "size": 7}]
    told = await here.read("inbox", value)
    left = [{"id": "1", "name": "ann", "iban": "[redacted personal iban]", "note": f"key {MARK}", "size": 7}]
    assert told["result"]["structuredContent"] == {"result": left}
    assert [json.loads(text) for text in texts(told)] == [left]
    assert (await last_settled(here)).redacted == ("personal iban 2", "secret aws-key 2")


async def test_a_secret_that_is_cut_between_two_texts_is_seen() -> None:
    here = await city()
    here.answer = answering({"content": [{"type": "text", "text": KEY[:9]}, {"type": "text", "text": KEY[9:] + " x"}]})
    told = await here.act("inbox")
    assert texts(told) == [MARK, f"{MARK} x"]


async def test_a_file_that_is_text_is_looked_through() -> None:
    here = await city()
    raw = base64.b64encode(f"aws = {KEY}\n".encode()).decode()
    resource = {"uri": "file://env", "blob": raw, "mimeType": "text/plain"}
    here.answer = answering({"content": [{"type": "resource", "resource": resource}]})
    told = await here.act("inbox")
    blob = told["result"]["content"][0]["resource"]["blob"]
    assert base64.b64decode(blob).decode() == f"aws = {MARK}\n"


async def test_an_error_says_no_secret_either() -> None:
    here = await city()
    error = {"code": -1, "message": f"login with {KEY} failed", "data": {"password": "tr0ub4dor&3"}}
    here.answer = lambda body: MemoryAnswer([(json.dumps({"jsonrpc": "2.0", "id": 1, "error": error}).encode(), None)])
    told = await here.act("inbox")
    assert told["error"] == {
        "code": -1, "message": f"login with {MARK} failed", "data": {"password": "[redacted secret assigned]"}
    }  # fmt: skip


async def test_what_the_file_says_to_withhold_is_withheld_and_nothing_of_it_was_read() -> None:
    here = await city({"secret": Delivery.REDACT, "personal/iban": Delivery.WITHHOLD})
    told = await here.read("inbox", f"pay {ANN}")
    assert code_of(told) == WITHHELD
    assert ANN not in json.dumps(told)
    settled = await last_settled(here)
    assert (settled.outcome, settled.code, settled.detail) == ("withheld", WITHHELD, "personal iban")
    assert (await context(here)).items == 1  # the task
    assert code_of(await here.read("inbox", f"the key is {KEY}")) is None


async def test_what_could_not_be_looked_through_is_withheld() -> None:
    here = await city({"personal/email": Delivery.REDACT})
    assert code_of(await here.read("inbox", " ".join(f"a{n}@b.example" for n in range(2_000)))) == WITHHELD
    assert code_of(await here.read("inbox", " ".join(f"a{n}@b.example" for n in range(200)))) is None


async def test_an_agent_that_may_have_it_gets_it() -> None:
    here = await city({"secret": Delivery.REDACT, "personal/iban": Delivery.ALLOW})
    assert texts(await here.read("inbox", f"pay {ANN} with {KEY}")) == [f"pay {ANN} with {MARK}"]
    here = await city({})
    assert texts(await here.read("inbox", f"pay {ANN} with {KEY}")) == [f"pay {ANN} with {KEY}"]


async def test_what_was_not_given_is_not_in_the_context_and_the_log_keeps_what_came() -> None:
    here = await city()
    await here.read("inbox", f"pay {ANN}")
    rows = b"".join(row.value for _, row in await here.store.scan("item"))
    assert ANN.lower().encode() not in rows.lower()
    events = await here.events()
    index = max(at for at, event in enumerate(events) if isinstance(event, Settled))
    payload = await here.store.payload(index)
    assert payload is not None
    assert ANN.encode() in payload.body


async def test_where_it_is_only_observed_all_comes_through_and_the_entry_says_what_would_not_have() -> None:
    for content, code in ((SECRETS, None), ({"secret": Delivery.WITHHOLD}, WITHHELD)):
        here = await city(content)
        here.enforcer.rules = msgspec.structs.replace(here.enforcer.rules, observe=True)
        assert texts(await here.read("inbox", f"the key is {KEY}")) == [f"the key is {KEY}"]
        settled = await last_settled(here)
        assert (settled.outcome, settled.code, settled.redacted) == ("released", code, ())
        assert settled.detail.startswith("observed: secret aws-key")


# ---- fields that are for others ------------------------------------------------------------------------------------


async def test_a_field_is_kept_from_an_agent_whose_audience_may_not_see_it() -> None:
    here = await city({}, ("everybody",))
    told = await here.read("salaries", PAY)
    left = [{"id": "r1", "name": UNSEEN, "pay": UNSEEN}]
    assert told["result"]["structuredContent"] == {"result": left}
    assert [json.loads(text) for text in texts(told)] == [left]
    assert (await last_settled(here)).redacted == ("readers 2",)
    # It was not given the secret, so it has none to keep.
    assert (await context(here)).label.readers is None
    assert code_of(await here.act("search", query="anything")) is None


async def test_an_agent_of_that_audience_gets_the_fields_and_keeps_them() -> None:
    for audience in (("hr",), None):
        here = await city({}, audience)
        told = await here.read("salaries", PAY)
        assert told["result"]["structuredContent"] == {"result": PAY}
        assert (await context(here)).label.readers == frozenset(("hr",))
    here = await city({}, ("managers",))
    told = await here.read("salaries", PAY)
    assert told["result"]["structuredContent"] == {"result": [{"id": "r1", "name": "Dora Meyer", "pay": UNSEEN}]}


@pytest.mark.parametrize(
    "result",
    [
        {"content": [{"type": "text", "text": "Dora earns 91234"}]},
        {"content": [{"type": "text", "text": "Dora earns 91234"}], "isError": True},
        {"content": [{"type": "text", "text": "Dora earns 91234"}], "structuredContent": {"result": []}},
        {"content": [{"type": "image", "data": "OTEyMzQ=", "mimeType": "image/png"}], "structuredContent": {"a": 1}},
        {"content": [], "structuredContent": {"result": []}, "note": "Dora earns 91234"},
        {"content": [], "structuredContent": {"result": []}, "_meta": {"note": "Dora earns 91234"}},
        {"content": [], "structuredContent": {"result": {"Dora earns 91234": {"pay": 1}}}},
        {"content": [{"type": "text", "text": json.dumps([{"pay": 91234}])}]},
        {"content": [{"type": "text", "text": json.dumps({"pay": 91234})}]},
    ],
)
async def test_nothing_that_could_say_it_comes_through(result: dict[str, Any]) -> None:
    closed = msgspec.structs.replace(
        MANIFESTS["salaries"], output={"$": Output(trusted=True, readers=("hr",)), "$[*].id": Output(trusted=True)}
    )
    here = await city({}, ("everybody",), salaries=closed)
    here.answer = answering(result)
    told = await here.act("salaries")
    written = json.dumps(told)
    assert "91234" not in written
    assert "OTEyMzQ" not in written
    assert (await context(here)).label.readers is None


async def test_an_error_of_a_confidential_tool_is_kept_back() -> None:
    here = await city({}, ("everybody",))
    error = {"code": 91234, "message": "no row after Dora", "data": [91234]}
    here.answer = lambda body: MemoryAnswer([(json.dumps({"jsonrpc": "2.0", "id": 1, "error": error}).encode(), None)])
    told = await here.act("salaries")
    assert told["error"] == {"code": -32000, "message": UNSEEN}
    assert (await context(here)).label == Label(frozenset(("principal:alice", "outside:bank/salaries")), None)


async def test_a_field_that_withholds_withholds_all_of_the_reply() -> None:
    pay = {**MANIFESTS["salaries"].output, "$[*].pay": Output(readers=("hr",), deliver=Delivery.WITHHOLD)}
    closed = msgspec.structs.replace(MANIFESTS["salaries"], output=pay)
    here = await city({}, ("managers",), salaries=closed)
    assert code_of(await here.read("salaries", PAY)) == WITHHELD
    assert code_of(await here.read("salaries", [{"id": "r1", "name": "Dora"}])) is None


# ---- streams -------------------------------------------------------------------------------------------------------


def progress(number: int, message: str | None = None) -> dict[str, Any]:
    said = {} if message is None else {"message": message}
    return {
        "jsonrpc": "2.0",
        "method": "notifications/progress",
        "params": {"progressToken": "t", "progress": number, **said},
    }


def logged(data: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": data}}


def final(text: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": text}]}}


async def streamed(here: FlowCity, *messages: Any, name: str = "inbox", **settings: Any) -> list[dict[str, Any]]:
    sent = [(b"" if one is None else json.dumps(one).encode(), None) for one in messages]
    here.answer = lambda _: MemoryAnswer(sent, media="sse", **settings)
    outcome = await here.exchange.request(here.call(name=name), here.credential(), {})
    assert outcome.stream is not None
    return [json.loads(one.body) async for one in outcome.stream if one.body]


async def test_a_secret_that_is_cut_between_two_messages_is_seen() -> None:
    here = await city()
    got = await streamed(here, progress(1, f"using {KEY[:9]}"), progress(2, f"{KEY[9:]} now"), final("done"))
    assert [one["params"]["message"] for one in got[:-1]] == [f"using {MARK}", f"{MARK} now"]
    assert texts(got[-1]) == ["done"]
    redacted = [one.redacted for one in await here.events() if isinstance(one, Decided) and one.redacted]
    assert redacted == [("secret aws-key 1",)] * 2


async def test_a_secret_that_is_cut_between_many_messages_with_others_between_them_is_seen() -> None:
    here = await city()
    pieces = [
        piece for at in range(0, len(KEY), 3) for piece in (logged(KEY[at : at + 3]), progress(at + 1, f"step {at}"))
    ]
    got = await streamed(here, *pieces, final("done"))
    said = "".join(one["params"]["data"] for one in got[:-1] if one["method"] == "notifications/message")
    assert not set(KEY) & set(said.replace(MARK, ""))
    assert len(got) == len(pieces) + 1


async def test_a_secret_that_ends_in_the_reply_is_seen() -> None:
    here = await city()
    got = await streamed(here, logged({"note": f"key {KEY[:9]}"}), final(f"{KEY[9:]} it is"))
    assert got[0]["params"]["data"] == {"note": f"key {MARK}"}
    assert texts(got[-1]) == [f"{MARK} it is"]


async def test_what_is_held_back_comes_out_in_its_order_and_as_it_was() -> None:
    here = await city()
    messages = [progress(n, f"step {n} of 40") if n % 3 else logged(["line", n]) for n in range(1, 41)]
    assert await streamed(here, *messages, final("done")) == [*messages, final("done")]
    here = await city()
    got = await streamed(here, *messages)  # the server breaks off
    assert got == messages


async def test_a_question_does_not_wait_and_what_comes_behind_it_is_read_behind_what_was_before() -> None:
    here = await city()
    question = {"jsonrpc": "2.0", "id": 9, "method": "elicitation/create", "params": {"message": "Which?"}}
    got = await streamed(here, logged(f"key {KEY[:9]}"), question, logged(f"{KEY[9:]} x"), final("done"))
    assert [one.get("method") for one in got] == [
        "notifications/message", "elicitation/create", "notifications/message", None
    ]  # fmt: skip
    assert got[2]["params"]["data"] == f"{MARK} x"


async def test_a_secret_that_is_cut_in_two_right_before_a_question_is_seen() -> None:
    """The attack: a question does not wait, and what is held goes on with it before its end is known to be one."""
    here = await city()
    question = {"jsonrpc": "2.0", "id": 9, "method": "elicitation/create", "params": {"message": "Which?"}}
    got = await streamed(here, logged(f"key {KEY[:9]}"), logged(KEY[9:]), question, final("done"))
    assert KEY[:9] not in str(got)
    assert KEY[9:] not in str(got)


async def test_a_message_that_is_to_be_withheld_is_counted_and_its_question_answered() -> None:
    here = await city({"secret": Delivery.WITHHOLD})
    question = {"jsonrpc": "2.0", "id": 9, "method": "elicitation/create", "params": {"message": f"{KEY}?"}}
    got = await streamed(here, progress(1, f"with {KEY}"), question, progress(2, "on"), final("done"))
    assert got == [progress(2, "on"), final("done")]
    assert [one.code for one in await here.events() if isinstance(one, Rejected)] == [WITHHELD, WITHHELD]
    refused = json.loads(here.upstream.sent[-1][1])
    assert refused["id"] == 9
    assert "error" in refused


async def test_without_a_ruling_nothing_waits() -> None:
    here = await city({})
    seen: list[bytes] = []
    sent = [(json.dumps(one).encode(), None) for one in (progress(1, "a"), final("done"))]
    here.answer = lambda _: MemoryAnswer(sent, media="sse")
    outcome = await here.exchange.request(here.call(name="inbox"), here.credential(), {})
    assert outcome.stream is not None
    seen.append((await anext(outcome.stream)).body)
    assert b"progress" in seen[0]
    await outcome.stream.aclose()


async def test_what_a_server_tells_of_a_confidential_call_is_kept_back() -> None:
    here = await city({}, ("everybody",))
    got = await streamed(here, progress(1, "Dora, 91234"), logged({"row": 91234}), final("[]"), name="salaries")
    assert [one["params"] for one in got[:-1]] == [
        {"progressToken": "t", "progress": 1, "message": UNSEEN}, {"level": "info", "data": UNSEEN}
    ]  # fmt: skip


async def test_what_a_server_tells_of_a_confidential_call_is_as_confidential() -> None:
    """The stream breaks off, so that no reply ever raised the label."""
    for name, code in (("salaries", Code.NOT_A_READER.value), ("inbox", None)):
        here = await city({})
        got = await streamed(here, progress(1, "Dora earns 91234"), name=name)
        assert got[0]["params"]["message"] == "Dora earns 91234"
        here.answer = obliging
        assert code_of(await here.act("search", query="Dora earns 91234")) == code
