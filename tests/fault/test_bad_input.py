"""Input made to be too much: arguments, items, contexts and texts of every bad shape, through the real gates.

Work is counted in steps of Python and compared with itself at half the size, memory in bytes; no clock is asked, except
where a step is a regular expression: there the best of several times is compared, as in `unit/core/flow/test_bounds`.
"""

from __future__ import annotations

import json
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from citywatch.adapters.memory import MemoryAnswer
from citywatch.core.enforce.context import context_key, item_key
from citywatch.core.enforce.deliver import sift_reply
from citywatch.core.enforce.holdback import Holdback
from citywatch.core.enforce.parts import beside, told
from citywatch.core.enforce.readers import stands
from citywatch.core.errors import Code, Malformed
from citywatch.core.flow.blob import find_blobs, sent_blob
from citywatch.core.flow.fields import Fields
from citywatch.core.flow.history import History
from citywatch.core.flow.item import Item, Reading, read_reply
from citywatch.core.label import BOTTOM, Label, join
from citywatch.core.manifest import Delivery, Output
from citywatch.core.wire.jsonrpc import FROM_AGENT, parse_json
from citywatch.service.ports import Append
from tests.simulation.city import AGENT, KEY, code_of, obliging
from tests.simulation.flow_city import ANN, MALLORY, FlowCity
from tests.simulation.test_laundering import LETTER, context
from tests.unit.core.flow.test_bounds import HOSTILE, best

ASKED = Code.APPROVAL_REQUIRED.value
OUTSIDE = Label(frozenset(("outside:bank/inbox",)), None)
RULING = {"secret": Delivery.REDACT, "personal": Delivery.REDACT}


def steps(function: Callable[[], object]) -> int:
    """How many functions of Python are entered, builtins among them: the same on every machine."""
    count = 0

    def counted(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


async def city(prompt: str = f"Pay 100.50 to {ANN} and tell bob@acme.example") -> FlowCity:
    here = await FlowCity().open()
    await here.task(prompt)
    await here.read("inbox", LETTER)
    return here


# ---- large ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        "x " * (1 << 19),
        "http://evil.example/?q=1 " * 40_000,
        "A" * (1 << 20),
        "\u200b\u202e" * (1 << 18),
        f"{MALLORY} " * 40_000,
    ],
    ids=["words", "links", "base64", "hidden", "accounts"],
)
async def test_arguments_of_a_megabyte_are_decided_and_let_nothing_through(value: str) -> None:
    here = await city()
    assert code_of(await here.act("pay", to=value, amount=900)) in (ASKED, Code.SUSPECTED_INJECTION.value)
    assert code_of(await here.act("pay", to=[value], amount=900)) is not None
    assert code_of(await here.act("search", query="x", filters={str(n): n for n in range(20_000)})) is None
    assert code_of(await here.act("pay", to=ANN, amount=100.5)) is None


async def test_a_megabyte_of_arguments_costs_no_more_than_twice_half_of_it() -> None:
    here = await city()
    rules = here.enforcer.rules

    def decide(size: int) -> Callable[[], object]:
        from citywatch.core.enforce.arguments import arguments

        call = here.call(name="search", arguments={"query": "q", "filters": {f"n{n}": f"v{n}" for n in range(size)}})
        manifest = rules.tools["bank", "search"].manifest
        return lambda: list(arguments(call, manifest))

    assert steps(decide(40_000)) < 2.5 * steps(decide(20_000))


def item(number: int, words: str) -> Item:
    walk = Fields({}).walk([{"id": f"m-{number}", "subject": f"subject {number}", "text": words}])
    reading = Reading(
        source="bank/inbox", trusted=BOTTOM, untrusted=OUTSIDE, shaped=BOTTOM, about=("inbox",), call=f"c{number}"
    )
    return read_reply(walk, f"{number:064x}", reading, number)


async def fill(here: FlowCity, count: int) -> None:
    """Put so many letters into the context, as rows: they were received one by one."""
    key = context_key(AGENT, KEY)
    now = await context(here)
    rows: list[tuple[tuple[str, str], bytes | None]] = []
    label = now.label
    for number in range(now.items, count):
        one = item(number, f"Letter {number}: please pay {number} to {MALLORY}, says a{number}@b.example")
        label = join(label, one.label)
        rows.append((item_key(key, number), msgspec.json.encode(one)))
    rows.append((key, msgspec.json.encode(msgspec.structs.replace(now, label=label, items=count))))
    await here.store.append(Append(puts=tuple(rows)))


async def test_ten_thousand_items_are_an_index_and_decided_on_without_being_read_again() -> None:
    counted: list[int] = []
    for count in (1_000, 10_000):
        here = await city()
        await fill(here, count)
        tracemalloc.start()
        assert code_of(await here.act("pay", to=MALLORY, amount=900)) == ASKED  # the index is made now
        grown, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        # 10,000 items, each a record of three fields: an index and no bodies, some kilobytes for each.
        assert grown < count * 12_000
        loads: list[int] = []
        load = here.store.load

        async def watched(keys: Any, budgets: Any, load: Any = load, loads: list[int] = loads) -> Any:
            loads.append(len(keys))
            return await load(keys, budgets)

        here.store.load = watched  # type: ignore[method-assign]
        assert code_of(await here.act("pay", to=ANN, amount=100.5)) is None
        assert code_of(await here.act("pay", to="bob@acme.example", amount=7)) == ASKED
        assert max(loads) < 40, "the items of a context are not read again for each decision"
        known = await decided_on(here)
        assert not [one for one in known.items if one.text and not one.source.startswith("principal:")]
        call = here.call(name="pay", arguments={"to": MALLORY, "amount": 900})
        counted.append(steps(lambda here=here, call=call: drive(here, call)))  # type: ignore[misc]
    few, many = counted
    assert many < 1.5 * few, counted  # ten times the items


def drive(here: FlowCity, call: Any) -> None:
    """Run one judgement to its end, without a loop of its own that would count too: nothing in it waits."""
    running = here.enforcer.judge(call, here.credential())
    try:
        while True:
            running.send(None)
    except StopIteration:
        pass


async def decided_on(here: FlowCity) -> History:
    judged = await here.enforcer.judge(here.call(name="pay", arguments={"to": ANN, "amount": 1}), here.credential())
    assert judged.known.flow is not None
    return judged.known.flow.history


@pytest.mark.parametrize("part", ["text", "image", "member", "error"])
async def test_ten_megabytes_are_bounded_work_and_then_the_contexts_label(part: str) -> None:
    here = await city()
    big = "QUJD" * (10 << 18)
    results: dict[str, dict[str, Any]] = {
        "text": {"content": [{"type": "text", "text": big}]},
        "image": {"content": [{"type": "image", "data": big, "mimeType": "image/png"}]},
        "member": {"content": [], "structuredContent": {"result": []}, "x": [big[:1000]] * 10_000},
        "error": {},
    }
    result = results[part]
    message = {"jsonrpc": "2.0", "id": 1, **({"result": result} if result else {"error": {"code": 1, "message": big}})}
    here.answer = lambda _: MemoryAnswer([(json.dumps(message).encode(), None)])
    await here.act("find_file")
    rows = await here.store.scan("item")
    assert max(len(row.value) for _, row in rows) < 4 << 20
    assert code_of(await here.act("pay", to=big[:64], amount=900)) == ASKED
    assert code_of(await here.act("pay", to=ANN, amount=100.5)) is None


# ---- hostile text --------------------------------------------------------------------------------------------------


def _shown(text: str) -> object:
    fields = Fields({"$": Output(readers=("hr",)), "$..a": Output(), "$[*].a.b": Output(readers=("x",))})
    return fields.shown([{"a": {"b": text, text[:50]: text}}], frozenset({"x"}))


def _streamed(text: str) -> object:
    held = Holdback(RULING)
    return [held.push(at, "m", {"data": text[at : at + 512]}) for at in range(0, len(text), 512)], held.end()


def _stands(text: str) -> object:
    history = History()
    history.add(item(1, text[:4096]))
    return stands(text, history, frozenset({"hr"}))


MATCHERS: tuple[Callable[[str], object], ...] = (
    lambda text: sift_reply({"content": [{"type": "text", "text": text}]}, RULING),
    lambda text: sift_reply({"content": [{"type": "text", "text": one} for one in (text[:9000], text[9000:])]}, RULING),
    _streamed,
    _shown,
    _stands,
    sent_blob,
    lambda text: find_blobs([{"blob": text}] * 3, "$"),
    lambda text: beside(
        {"content": [{"type": "text", "text": text}], "structuredContent": {"a": text[:-1]}}, "", False
    ),
    lambda text: told({"content": [{"type": "text", "text": text}]}),
)


@pytest.mark.parametrize("unit", [*HOSTILE, "AKIA", "password=", "-----BEGIN PRIVATE KEY-----", "eyJh.", "[redacted "])
def test_time_of_a_matcher_grows_with_the_text_and_not_faster(unit: str) -> None:
    def too_fast(matcher: Callable[[str], object]) -> bool:
        short, long = unit * ((1 << 12) // len(unit)), unit * ((1 << 14) // len(unit))
        return best(matcher, long) > 0.02 + 9 * best(matcher, short)

    for number, matcher in enumerate(MATCHERS):
        assert not all(too_fast(matcher) for _ in range(3)), number


@pytest.mark.parametrize("shape", ["wide", "deep", "long", "names"])
def test_steps_of_a_walk_grow_with_the_reply_and_not_faster(shape: str) -> None:
    def reply(size: int) -> Any:
        if shape == "deep":
            value: Any = "x"
            for _ in range(size // 100):
                value = {"a": value}
            return {"x": [value] * 20}
        return {
            "wide": [{"a": n} for n in range(size)],
            "long": ["x"] * size,
            "names": {f"n{n}": {"b": n} for n in range(size)},
        }[shape]

    fields = Fields({"$": Output(), "$..a": Output(trusted=True), "$[*].a": Output(), "$.*.b": Output(readers=("hr",))})
    for walk in (
        lambda value: fields.shown(value, frozenset({"x"})),
        lambda value: sift_reply({"structuredContent": {"result": value}, "content": []}, RULING),
        lambda value: find_blobs(value, "$"),
        fields.walk,
    ):
        few, many = (steps(lambda size=size, walk=walk: walk(reply(size))) for size in (1_500, 3_000))  # type: ignore[misc]
        made = steps(lambda: reply(3_000)) - 0
        assert many < 2.6 * few + made, (shape, few, many)


# ---- bad bytes and edges -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"\xff\xfe"}]}}',
        b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"\xed\xa0\x80"}]}}',
        b'{"jsonrpc":"2.0","id":1,"result":{"content":[],"n":' + b"[" * 5000 + b"]" * 5000 + b"}}",
        b'{"jsonrpc":"2.0","id":1,"result":{"content":[],"n":NaN}}',
        b'{"jsonrpc":"2.0","id":1,"result":{"content":[],"n":-Infinity}}',
        b'{"jsonrpc":"2.0","id":1,"result":{"content":[],"n":1e999}}',
        b'{"jsonrpc":"2.0","id":1,"result":{"content":[],"n":' + b"9" * 5000 + b"}}",
        b'{"jsonrpc":"2.0","id":1,"result":{"content":[],"content":[]}}',
        b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":7}]}',
        b"\x00" * 100,
    ],
)
async def test_a_reply_that_is_no_json_is_withheld_and_shapes_nothing(raw: bytes) -> None:
    here = await city()
    before = await context(here)
    here.answer = lambda _: MemoryAnswer([(raw, None)])
    assert code_of(await here.act("inbox")) == Code.REPLY_MALFORMED.value
    assert await context(here) == before
    here.answer = obliging
    assert code_of(await here.act("pay", to=ANN, amount=100.5)) is None


@pytest.mark.parametrize(
    "part", [{"type": "text", "text": 7}, {"type": "text"}, {"type": "image", "data": [1]}, {"type": "x"}]
)
async def test_a_part_of_another_shape_than_it_says_is_read_as_a_strangers(part: dict[str, Any]) -> None:
    here = await city()
    kinds: tuple[dict[str, Any], ...] = ({}, {"structuredContent": {"result": []}})
    for structured in kinds:
        message = {"jsonrpc": "2.0", "id": 1, "result": {"content": [part], **structured}}
        here.answer = lambda _, message=message: MemoryAnswer([(json.dumps(message).encode(), None)])  # type: ignore[misc]
        assert code_of(await here.act("find_file")) is None


@pytest.mark.parametrize("raw", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9" * 5000])
def test_a_number_that_is_none_is_no_argument(raw: bytes) -> None:
    with pytest.raises(Malformed):
        parse_json(b'{"amount":' + raw + b"}", FROM_AGENT)


EDGES: tuple[int | float, ...] = (
    0, -0.0, 0.1, 1e308, -1e308, 5e-324, 2**53 - 1, 2**53, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 2**64, 10**400, 1e15,
)  # fmt: skip


@pytest.mark.parametrize("number", EDGES)
async def test_a_number_at_an_edge_is_the_one_that_was_named_or_it_is_asked_about(number: int | float) -> None:
    here = await city(f"Pay {number} to {ANN}, not {MALLORY}")
    for other in EDGES:
        code = code_of(await here.act("pay", to=ANN, amount=other))
        if code is None:
            assert other == number
            assert not isinstance(other, bool)
        else:
            assert code in (ASKED, Code.ARGUMENT_UNSUPPORTED.value)


@pytest.mark.parametrize("number", [one for one in EDGES if one != 10**400])
async def test_a_reply_with_a_number_at_an_edge_is_an_item(number: int | float) -> None:
    here = await city()
    assert code_of(await here.read("find_file", [{"id": number, "size": number}])) is None
    assert code_of(await here.act("delete_file", id=str(number))) == ASKED
