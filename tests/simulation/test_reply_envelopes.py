"""Replies in envelopes: what comes back over the border is believed so far, and what we answer says what shaped it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest

from citywatch.adapters.gateway.app import Gateway
from citywatch.adapters.gateway.peers import Asked, said
from citywatch.adapters.memory import MemoryAnswer, MemoryStore
from citywatch.core import events
from citywatch.core.call import Effect
from citywatch.core.enforce.abroad import NOBODY
from citywatch.core.enforce.admit import admit
from citywatch.core.enforce.context import context_key
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.identity.envelope import (
    REPLY_TYPE,
    TYPE,
    Answered,
    ReplyTo,
    VerifiedEnvelope,
    reply_digest,
    request_digest,
    verify_reply,
)
from citywatch.core.label import Label
from citywatch.core.manifest import Ceiling, Clearance, Delivery, Output, Peer, ToolManifest
from citywatch.core.wire import a2a, enveloped, mcp
from citywatch.core.wire.jsonrpc import FROM_AGENT, FROM_SERVER, parse_message
from citywatch.main.replay import rebuild
from citywatch.service.contexts import context_of
from citywatch.service.envelopes import digest_of
from citywatch.service.exchange import Exchange
from citywatch.service.fold import Fold
from citywatch.service.hindsight import agrees, then
from citywatch.service.messages import drop_nonces
from citywatch.service.reply_envelopes import ReplyArrivals, ReplyEnvelopes
from tests.simulation.city import AGENT, DOMAIN, KEY, code_of
from tests.simulation.envelopes import DOMAIN as PARTNER
from tests.simulation.envelopes import ISSUER, KEYS, SENDER, SIGNER, written
from tests.simulation.flow_city import MALLORY, MANIFESTS
from tests.simulation.flow_city import told as answered
from tests.simulation.test_agents_speak import TELLER
from tests.simulation.test_envelopes import GUEST, Border, _payload
from tests.simulation.test_peers import DONE, code, says
from tests.simulation.test_rehearsal import introduced

DEPOT = f"spiffe://{PARTNER}/agent/depot"
OURS = f"spiffe://{DOMAIN}/gateway"
THIRD = "GB29NWBK60161331926819"
ALICES = Label(frozenset(("principal:alice",)), None)
BELIEVED = Ceiling(label=Label(frozenset(), None), speaks_for=frozenset(("alice", "bob")))
Change = Callable[[dict[str, Any]], dict[str, Any]]


class Abroad(Border):
    """A border city whose clerk also speaks to `depot`, behind the partner's gateway, and whose bank may be there too.

    `label` is what the partner's gateway says of each answer (None: nothing), `change` what somebody made of a claim.
    """

    def __init__(self, ceiling: Ceiling | None = BELIEVED, *, far_bank: bool = False) -> None:
        super().__init__(ceiling)
        self.again(peers={**self.configured.peers, "depot": Peer(callers=("clerk",))})
        self.envelopes._receivers = {**self.envelopes._receivers, "depot": DEPOT}
        self.enforcer._federated = True
        answerers = {"depot": DEPOT, **({"bank": ISSUER} if far_bank else {})}
        own = frozenset((OURS,))
        self.exchange = Exchange(
            self.enforcer,
            {**self.exchange.upstreams, "depot": self.billing},
            FROM_SERVER,
            3,
            envelopes=self.envelopes,
            arrivals=self.exchange.arrivals,
            reply_envelopes=ReplyEnvelopes(self.enforcer, SIGNER),
            reply_arrivals=ReplyArrivals(
                self.enforcer, trusted=lambda: {PARTNER: KEYS}, answerers=answerers, own=own, leeway_ms=0
            ),
        )
        self.word: Label | None = ALICES
        self.change: Change = lambda claims: claims
        self.kind = REPLY_TYPE
        self.given: list[str] = []

    async def open(self) -> Abroad:
        await super().open()
        return self

    def _answer(self, body: bytes) -> MemoryAnswer:
        asked = json.loads(body)
        if self.word is None or "SENDER" in asked or not self._is_for_depot(asked):
            return super()._answer(body)
        told = [self.sealed(asked, one, number, spoken=True) for number, one in enumerate(self.heard)]
        raw = [json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": one}).encode() for one in told]
        return MemoryAnswer([(one, None) for one in raw], media=self.media)

    def _is_for_depot(self, asked: Any) -> bool:
        token = asked["params"].get("metadata", {}).get(a2a.ENVELOPE)
        return token is None or json.loads(payload(token))["aud"] == DEPOT

    def sealed(self, asked: Any, result: dict[str, Any], number: int, *, spoken: bool) -> dict[str, Any]:
        """An answer as the partner's gateway sends it."""
        assert self.word is not None
        beside = asked["params"].get("metadata" if spoken else "_meta", {})
        shown = beside.get(a2a.ENVELOPE if spoken else mcp.ENVELOPE)
        now = self.clock.now_ms() // 1000
        self.count += 1
        claims = {
            "iss": ISSUER, "sub": DEPOT if spoken else ISSUER, "aud": OURS, "iat": now, "exp": now + 60,
            "jti": f"r{self.count}", "message": reply_digest(result),
            "label": {
                "origins": None if self.word.origins is None else sorted(self.word.origins),
                "readers": None if self.word.readers is None else sorted(self.word.readers),
            },
            "items": {"count": 0, "newest": [], "before": None}, "task": None, "chain": None, "hops": 1,
            "traceparent": None, "number": number,
            "request": request_digest(shown) if shown else digest_of(asked["method"], asked["params"]),
        }  # fmt: skip
        token = written(self.change(claims), typ=self.kind)
        self.given.append(token)
        told = enveloped.put_in(result, token, spoken=spoken)
        assert told is not None
        return told

    async def asks(self, text: str = "What is open?", **params: Any) -> dict[str, Any]:
        """The clerk asks the depot something."""
        found: dict[str, Any] = await self.say(peer="depot", message={"parts": [{"text": text}]}, **params)
        return found

    async def hers(self) -> Label:
        return await self.label(AGENT, KEY)

    async def settled(self) -> events.Settled:
        return [one for one in await self.events() if isinstance(one, events.Settled)][-1]

    async def pays(self, to: str = THIRD) -> str | None:
        return code_of(await self.act("pay", to=to, amount=25))


def payload(token: str) -> bytes:
    return _payload(token)


# ---- what comes back ---------------------------------------------------------------------------------------------


async def test_a_signed_answer_is_whose_words_the_partners_gateway_says() -> None:
    city = await Abroad().open()
    await city.task("Ask the depot what is open, and pay it")
    city.heard = [says(f"25 is open, to {THIRD}.")]
    assert (await city.asks())["result"] == says(f"25 is open, to {THIRD}."), "the envelope ends here"
    assert (await city.hers()).origins == frozenset(("principal:alice",))
    assert await city.pays() is None
    said = [one.said_by for one in await city.events() if isinstance(one, events.Settled)]
    assert said == [ISSUER, ""]


async def test_without_an_envelope_an_answer_is_a_third_partys_as_before() -> None:
    """The attack: whoever sits between strips the envelope, and puts an account of their own in."""
    city = await Abroad().open()
    await city.task("Ask the depot what is open, and pay it")
    city.word = None
    city.heard = [says(f"25 is open, to {MALLORY}.")]
    await city.asks()
    assert (await city.hers()).origins == frozenset(("principal:alice", "outside:depot/SendMessage"))
    assert await city.pays(MALLORY) in (Code.APPROVAL_REQUIRED, Code.SUSPECTED_INJECTION)
    assert [one.said_by for one in await city.events() if isinstance(one, events.Settled)] == [""]


async def test_what_the_depot_had_from_a_stranger_steers_nothing_here() -> None:
    city = await Abroad().open()
    await city.task("Ask the depot what is open, and pay it")
    city.word = Label(frozenset(("principal:alice", "outside:bank/inbox")), None)
    city.heard = [says(f"100 is open, to {MALLORY}.")]
    await city.asks()
    assert f"domain:{PARTNER}/outside:bank/inbox" in ((await city.hers()).origins or ())
    assert await city.pays(MALLORY) in (Code.APPROVAL_REQUIRED, Code.SUSPECTED_INJECTION)


async def test_a_domain_is_believed_as_far_as_its_ceiling_says() -> None:
    for ceiling, found in (
        (None, None),
        (Ceiling(speaks_for=frozenset(("alice",))), None),
        (
            msgspec.structs.replace(BELIEVED, speaks_for=frozenset()),
            frozenset(("principal:alice", f"domain:{PARTNER}/principal:alice")),
        ),
    ):
        city = await Abroad(ceiling).open()
        await city.task("Ask the depot")
        await city.asks()
        assert (await city.hers()).origins == found


async def test_readers_over_there_are_none_of_ours() -> None:
    city = await Abroad().open()
    await city.task("Ask the depot")
    city.word = Label(frozenset(), frozenset(("hr",)))
    await city.asks()
    assert (await city.hers()).readers == frozenset((f"domain:{PARTNER}/hr",))
    assert await city.tells("I heard that Ann has 90000") == Code.NOT_A_READER
    city = await Abroad().open()
    city.again(clearances={"clerk": Clearance(audience=("staff",))})
    await city.task("Ask the depot")
    city.word = Label(frozenset(), frozenset(("hr",)))
    assert code(await city.asks()) == Code.NOT_A_READER


CHANGED: dict[str, tuple[Change, int]] = {
    "another issuer": (lambda one: one | {"iss": f"spiffe://{PARTNER}/agent/depot"}, 2),
    "an unknown domain": (lambda one: one | {"iss": "spiffe://rival.example/gateway"}, 2),
    "too long a life": (lambda one: one | {"exp": one["iat"] + 61}, 4),
    "too old": (lambda one: one | {"iat": one["iat"] - 120, "exp": one["exp"] - 120}, 4),
    "for another asker": (lambda one: one | {"aud": f"spiffe://{PARTNER}/gateway"}, 5),
    "by another agent": (lambda one: one | {"sub": SENDER}, 6),
    "of another answer": (lambda one: one | {"message": "a" * 64}, 7),
    "to another question": (lambda one: one | {"request": "a" * 64}, 8),
    "in another place": (lambda one: one | {"number": 1}, 8),
    "with a member more": (lambda one: one | {"more": 1}, 1),
}


@pytest.mark.parametrize("name", CHANGED)
async def test_a_bad_envelope_withholds_its_answer(name: str) -> None:
    city = await Abroad().open()
    await city.task("Ask the depot")
    city.change, step = CHANGED[name]
    told = await city.asks()
    assert code(told) == Code.ENVELOPE_REFUSED
    assert f"step {step}:" in json.dumps(told)
    assert (await city.hers()).origins == frozenset(("principal:alice",)), "nothing of it came in"
    assert (await city.settled()).outcome == "failed"


async def test_an_envelope_of_a_question_is_none_of_an_answer() -> None:
    city = await Abroad().open()
    await city.task("Ask the depot")
    city.kind = TYPE
    assert code(await city.asks()) == Code.ENVELOPE_REFUSED


async def test_a_changed_answer_is_not_let_in() -> None:
    """The attack: the account in the answer is another one, in the same envelope."""
    city = await Abroad().open()
    await city.task("Ask the depot what is open, and pay it")
    city.heard = [says(f"25 is open, to {THIRD}.")]
    honest = city._answer

    def changed(body: bytes) -> MemoryAnswer:
        answer = honest(body)
        return MemoryAnswer([(one.replace(THIRD.encode(), MALLORY.encode()), at) for one, at in answer._messages])

    city.billing._answer = changed
    assert code(await city.asks()) == Code.ENVELOPE_REFUSED
    assert (await city.hers()).origins == frozenset(("principal:alice",))
    city.billing._answer = honest
    assert code(await city.asks()) is None
    assert await city.pays() is None


async def test_an_answer_is_an_answer_once_and_to_its_own_question() -> None:
    """The attack: an answer of before is given again, to the same words or, for want of an envelope, of a task."""
    city = await Abroad().open()
    await city.task("Ask the depot")
    city.heard = [{"task": DONE}]
    assert code(await city.asks()) is None
    kept = city.given[-1]
    city.billing._answer = lambda body: again(body, {"task": DONE}, kept)
    assert "step 8:" in json.dumps(await city.asks())

    city.billing._answer = city._answer
    city.heard = [DONE]
    assert code(await city.say("GetTask", peer="depot", id="t1")) is None
    kept = city.given[-1]
    city.billing._answer = lambda body: again(body, DONE, kept)
    assert "step 9:" in json.dumps(await city.say("GetTask", peer="depot", id="t1"))
    city.clock.advance(120_000)
    await drop_nonces(city.store, city.clock.now_ms(), 0)
    assert "step 4:" in json.dumps(await city.say("GetTask", peer="depot", id="t1"))


def tells(text: str, state: str = "WORKING") -> dict[str, Any]:
    message = {"messageId": "r", "role": "ROLE_AGENT", "parts": [{"text": text}]}
    return {
        "statusUpdate": {
            "taskId": "t1",
            "contextId": "c1",
            "status": {"state": f"TASK_STATE_{state}", "message": message},
        }
    }


def again(body: bytes, result: dict[str, Any], token: str) -> MemoryAnswer:
    told = enveloped.put_in(result, token, spoken=True)
    return MemoryAnswer([(json.dumps({"jsonrpc": "2.0", "id": json.loads(body)["id"], "result": told}).encode(), None)])


async def test_a_stream_is_signed_message_by_message_and_none_is_left_out() -> None:
    pieces = [{"task": {**DONE, "status": {"state": "TASK_STATE_WORKING"}}}, tells("one"), tells("two")]
    pieces.append(tells("done", "COMPLETED"))
    city = await Abroad().open()
    await city.task("Ask the depot")
    city.heard, city.media = pieces, "sse"
    told = await city.stream(peer="depot")
    assert [one["result"] for one in told] == pieces
    assert (await city.hers()).origins == frozenset(("principal:alice",))
    assert {one.said_by for one in await city.events() if isinstance(one, events.Settled)} == {ISSUER}

    for order in ((0, 2, 3), (0, 2, 1, 3), (0, 1, 1, 2, 3)):
        city = await Abroad().open()
        await city.task("Ask the depot")
        city.heard, city.media, honest = pieces, "sse", city._answer

        def mixed(body: bytes, honest: Any = honest, order: Any = order) -> MemoryAnswer:
            found = honest(body)._messages
            return MemoryAnswer([found[one] for one in order], media="sse")

        city.billing._answer = mixed
        told = await city.stream(peer="depot")
        assert code(told[-1]) == Code.ENVELOPE_REFUSED
        assert len(told) == 1 + next(at for at, one in enumerate(order) if at != one)


async def test_what_is_held_back_of_a_stream_keeps_its_own_envelope() -> None:
    """Where an agent is not to have everything, messages wait: each is under the label that came with it."""
    city = await Abroad().open()
    city.again(clearances={"clerk": Clearance(content={"secret": Delivery.REDACT})})
    await city.task("Ask the depot")
    city.heard = [{"task": {**DONE, "status": {"state": "TASK_STATE_WORKING"}}}, tells("one")]
    city.heard.append(tells("two", "COMPLETED"))
    city.media = "sse"
    labels = iter(("principal:alice", "outside:bank/inbox", "principal:bob"))

    def each(claims: dict[str, Any]) -> dict[str, Any]:
        return claims | {"label": {"origins": [next(labels)], "readers": None}}

    city.change = each
    assert code((await city.stream(peer="depot"))[-1]) is None
    items = [msgspec.json.decode(row.value) for _, row in await city.store.scan("item")]
    said = [one["label"]["origins"] for one in items if one["source"] == f"agent:{DEPOT}"]
    assert said == [["principal:alice"], [f"domain:{PARTNER}/outside:bank/inbox"], ["principal:bob"]]


async def test_a_peer_of_nobody_s_domain_says_nothing_in_our_names() -> None:
    city = await Abroad().open()
    await city.task("Ask billing")
    for told in ({"citywatch/code": "fine"}, {a2a.ENVELOPE: "a.b.c"}, {a2a.ENVELOPE: 7, "own": 1}):
        about = {**says("noted")["message"], "metadata": told}
        city.heard = [{"message": about}]
        found = (await city.say())["result"]["message"]
        assert found.get("metadata", {}) == ({"own": 1} if "own" in told else {})
    plain = {"message": {**says("noted")["message"], "metadata": {"own": 1}}}
    city.heard = [plain]
    assert (await city.say())["result"] == plain


async def test_a_list_of_tasks_is_a_third_partys_and_shows_no_envelope() -> None:
    city = await Abroad().open()
    await city.task("Ask the depot")
    city.heard = [{"task": DONE}]
    await city.asks()
    city.heard = [DONE]
    told = await city.say("ListTasks", peer="depot")
    assert [one["id"] for one in told["result"]["tasks"]] == ["t1"]
    assert a2a.ENVELOPE not in json.dumps(told)
    assert "outside:depot/ListTasks" in ((await city.hers()).origins or ())


async def test_the_log_folded_knows_whose_words_they_were() -> None:
    city = Abroad()
    await introduced(city)
    await city.open()
    await city.task("Ask the depot")
    city.word = Label(frozenset(("principal:bob", "outside:x")), None)
    await city.asks()
    city.word = None
    await city.asks()
    shadow = MemoryStore()
    fold = Fold(city.store, shadow, city.enforcer.rules, rebuild, lambda _: None)
    assert [one.doubt for one in [one async for one in fold.run()] if one.doubt] == []
    key = context_key(AGENT, KEY)
    here, there = context_of(key, await city.store.load((key,), ())), context_of(key, await shadow.load((key,), ()))
    assert (there.label, there.items) == (here.label, here.items)
    assert f"domain:{PARTNER}/outside:x" in (here.label.origins or ())


# ---- what we answer ----------------------------------------------------------------------------------------------


def verified(result: dict[str, Any], asked: str, number: int = 0, sender: str = TELLER) -> VerifiedEnvelope:
    """What whoever asked makes of an answer of ours."""
    spoken = mcp.ENVELOPE not in result.get("_meta", {})
    bare, token = enveloped.parted(result, spoken=spoken)
    assert token is not None
    expected = Answered(
        message=reply_digest(bare), sender=sender, receivers=frozenset((ISSUER, SENDER)), reply=ReplyTo(asked, number)
    )
    now = json.loads(payload(token))["iat"] * 1000
    return verify_reply(token.encode(), {DOMAIN: KEYS}, expected, now=now, leeway=0)


async def replies(city: Abroad, params: dict[str, Any], method: str = "SendMessage") -> list[dict[str, Any]]:
    """A message of the partner's router arrives, and what goes back."""
    raw = json.dumps({"jsonrpc": "2.0", "id": 9, "method": method, "params": params}).encode()
    asked = Asked("POST", b"/a2a/billing", b"", [(b"a2a-version", b"1.0")])
    papers = city.credential(agent=GUEST, key=SENDER)
    outcome = await said(city.exchange, asked, asked.read(raw, FROM_AGENT), papers)
    if outcome.stream is None:
        return [json.loads(outcome.body)]
    return [json.loads(one.body) async for one in outcome.stream]


async def test_what_our_agent_answers_abroad_says_what_shaped_it() -> None:
    city = await Abroad().open()
    await city.tasks.start("bob", "teller", "Help the partner", "test")
    await city.reads("a stranger's text")
    params = city.enveloped("hello", Label(frozenset(("principal:bob",)), None))
    (told,) = await replies(city, params)
    asked = request_digest(params["metadata"][a2a.ENVELOPE])
    found = verified(told["result"], asked).envelope
    assert found.label.origins == frozenset(("principal:bob", "outside:bank/inbox"))
    assert (found.issuer, found.sender, found.receiver) == (OURS, TELLER, ISSUER)
    assert (found.items.count, len(found.items.newest), found.task) == (3, 3, None)
    for other in (request_digest("x.y.z"), "0" * 64):
        with pytest.raises(Refused, match="step 8"):
            verified(told["result"], other)
    told["result"]["message"]["parts"][0]["text"] += "!"
    with pytest.raises(Refused, match="step 7"):
        verified(told["result"], asked)


async def test_an_answer_without_a_question_in_an_envelope_is_to_that_question() -> None:
    city = await Abroad().open()
    params = {"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hello"}]}}
    (told,) = await replies(city, params)
    found = verified(told["result"], digest_of("SendMessage", params)).envelope
    assert found.receiver == SENDER
    assert found.label.origins is None, "anybody had shaped what the teller was told"


async def test_nobody_of_ours_and_no_refusal_is_answered_in_an_envelope() -> None:
    city = await Abroad().open()
    await city.task("Ask billing")
    assert a2a.ENVELOPE not in json.dumps(await city.say())
    city.answer = lambda body: answered(body, "x")
    assert mcp.ENVELOPE not in json.dumps(await city.ask(city.call(name="inbox", arguments={})))
    await city.tasks.start("alice", "teller", "What do we pay?", "test")
    city.answer = lambda body: answered(body, [{"name": "Ann", "pay": 90000}])
    await city.teller("salaries", team="all")
    (told,) = await replies(city, city.enveloped("What does Ann get?", Label(frozenset(), None)))
    assert code(told) == Code.NOT_A_READER
    assert a2a.ENVELOPE not in json.dumps(told)
    city.heard = [DONE]
    (told,) = await replies(city, {}, "ListTasks")
    assert a2a.ENVELOPE not in json.dumps(told)


async def test_each_message_of_a_stream_goes_abroad_in_an_envelope_of_its_own() -> None:
    city = await Abroad().open()
    city.heard = [{"task": {**DONE, "status": {"state": "TASK_STATE_WORKING"}}}, tells("one")]
    city.heard.append(tells("two", "COMPLETED"))
    city.media = "sse"
    words = {"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hello"}]}}
    params = city.enveloped("hello", BOBS, message=digest_of("SendStreamingMessage", words))
    told = await replies(city, params, "SendStreamingMessage")
    asked = request_digest(params["metadata"][a2a.ENVELOPE])
    assert [verified(one["result"], asked, at).envelope.reply for at, one in enumerate(told)] == [
        ReplyTo(asked, number) for number in range(3)
    ]


# ---- MCP ---------------------------------------------------------------------------------------------------------


class Counter(Abroad):
    """The same; MCP messages arrive over HTTP, from whomever."""

    async def posts(
        self, tool: str, /, envelope: Label | None = None, agent: str = GUEST, key: str = SENDER, **more: Any
    ) -> dict[str, Any]:
        """A foreign agent's call as its gateway sends it on."""
        params: dict[str, Any] = {"name": tool, "arguments": more.pop("arguments", {})}
        claims = more.pop("claims", {})
        meta: dict[str, Any] = more.pop("meta", {})
        if envelope is not None:
            self.count += 1
            now = self.clock.now_ms() // 1000
            said = {
                "iss": ISSUER, "sub": SENDER, "aud": OURS, "iat": now, "exp": now + 60, "jti": f"c{self.count}",
                "message": digest_of("tools/call", params),
                "label": {"origins": None if envelope.origins is None else sorted(envelope.origins), "readers": None},
                "items": {"count": 0, "newest": [], "before": None},
                "task": "theirs", "chain": None, "hops": 0, "traceparent": None,
            } | claims  # fmt: skip
            meta = {**meta, mcp.ENVELOPE: written(said), mcp.TASK: "theirs"}
        shown = {**params, **({"_meta": meta} if meta else {})}
        return await self.post(shown, agent, key)

    async def post(self, params: dict[str, Any], agent: str, key: str) -> dict[str, Any]:
        self.last = params
        raw = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
        gateway = Gateway(
            exchange=self.exchange, door=cast(Any, None), limits=FROM_AGENT, body_time=60, max_in_flight=8,
            routes={}, hosts=frozenset(), closed=lambda: None,
        )  # fmt: skip
        headers = [(b"mcp-protocol-version", b"2025-11-25"), (b"accept", b"application/json, text/event-stream")]
        papers = self.credential(agent=agent, key=key)
        outcome = await gateway._post("bank", headers, parse_message(raw, FROM_AGENT), papers)
        found: dict[str, Any] = json.loads(outcome.body)
        return found


COUNTS = ToolManifest(effect=Effect.READ, output={"$[*]": Output(trusted=True)})
BOBS = Label(frozenset(("principal:bob",)), None)
RESET: dict[str, Any] = {"account": "4711-22"}


async def test_a_foreign_agents_call_counts_as_its_gateway_says() -> None:
    city = await Counter(BELIEVED).open()
    assert isinstance(city, Counter)
    assert code_of(await city.posts("reset_password", arguments=RESET)) == Code.APPROVAL_REQUIRED
    assert code_of(await city.posts("reset_password", BOBS, arguments=RESET)) is None
    tainted = Label(frozenset(("principal:bob", "outside:x")), None)
    assert code_of(await city.posts("reset_password", tainted, arguments=RESET)) == Code.APPROVAL_REQUIRED
    pay = {"to": MALLORY, "amount": 1}
    assert code_of(await city.posts("pay", BOBS, arguments=pay)) == Code.APPROVAL_REQUIRED


async def test_a_call_is_believed_no_further_than_the_ceiling_and_only_tightened_by_what_comes_with_it() -> None:
    for ceiling in (None, Ceiling(speaks_for=frozenset(("bob",)))):
        city = await Counter(ceiling).open()
        assert isinstance(city, Counter)
        assert code_of(await city.posts("reset_password", BOBS, arguments=RESET)) == Code.APPROVAL_REQUIRED
    city = await Counter(BELIEVED).open()
    assert isinstance(city, Counter)
    low = {mcp.LABEL: {"origins": ["outside:page"], "readers": ["hr"]}}
    await city.posts("send", BOBS, arguments={"to": "x", "text": "y"}, meta=low)
    decided = [one for one in await city.events() if isinstance(one, events.Decided)][-1]
    assert decided.code in (Code.NOT_A_READER, Code.APPROVAL_REQUIRED)


async def test_an_envelope_of_a_call_is_for_that_call_once_and_of_whoever_brings_it() -> None:
    city = await Counter(BELIEVED).open()
    assert isinstance(city, Counter)
    assert code_of(await city.posts("reset_password", BOBS, arguments=RESET)) is None
    with pytest.raises(Refused, match="step 8"):
        await city.post(city.last, GUEST, SENDER)
    other = {**city.last, "arguments": {"account": "9"}}
    with pytest.raises(Refused, match="step 7"):
        await city.post(other, GUEST, SENDER)
    for claims, step in (({"aud": "http://bank/mcp"}, 5), ({"sub": DEPOT}, 6), ({"iss": SENDER}, 2)):
        with pytest.raises(Refused, match=f"step {step}"):
            await city.posts("reset_password", BOBS, arguments=RESET, claims=claims)
    with pytest.raises(Malformed, match="written by a gateway"):
        await city.posts("reset_password", BOBS, AGENT, KEY, arguments=RESET)
    city.exchange.arrivals = None
    with pytest.raises(Malformed, match="written by a gateway"):
        await city.posts("reset_password", BOBS, arguments=RESET)


async def test_what_came_with_a_call_goes_no_further_and_its_task_is_none_of_ours() -> None:
    city = await Counter(BELIEVED).open()
    assert isinstance(city, Counter)
    assert code_of(await city.posts("reset_password", BOBS, arguments=RESET, meta={"own": 1})) is None
    sent = json.loads(city.upstream.sent[-1][1])["params"]["_meta"]
    assert json.loads(payload(sent.pop(mcp.ENVELOPE)))["iss"] == OURS, "ours, for a server that takes it"
    assert "own" in sent
    decided = [one for one in await city.events() if isinstance(one, events.Decided)][-1]
    assert decided.task is None
    city = await Counter(BELIEVED).open()
    assert isinstance(city, Counter)
    city.envelopes._receivers = {}
    assert code_of(await city.posts("reset_password", BOBS, arguments=RESET)) is None
    assert mcp.ENVELOPE not in json.loads(city.upstream.sent[-1][1])["params"].get("_meta", {})


async def test_a_call_that_came_in_an_envelope_is_judged_again_as_it_was() -> None:
    city = await Counter(BELIEVED).open()
    assert isinstance(city, Counter)
    await city.posts("reset_password", BOBS, arguments=RESET)
    await city.posts("reset_password", Label(None, None), arguments=RESET)
    count = 0
    for index, event in enumerate(await city.events()):
        if isinstance(event, events.Decided):
            found = await city.store.payload(index)
            assert found is not None
            past = await then(city.store, city.enforcer.rules, index, event, rebuild(event, found.body))
            assert agrees(event, admit(past.call, past.authority, past.known, past.need, event.at))
            count += 1
    assert count == 2


async def test_a_servers_reply_goes_abroad_with_what_shaped_it() -> None:
    city = await Counter(BELIEVED).open()
    assert isinstance(city, Counter)
    city.answer = lambda body: answered(body, "a stranger's mail")
    told = await city.posts("inbox", BOBS)
    asked = request_digest(city.last["_meta"][mcp.ENVELOPE])
    found = verified(told["result"], asked, sender=OURS).envelope
    assert found.label.origins == frozenset(("outside:bank/inbox",))
    assert (found.receiver, found.items.count) == (ISSUER, 0)
    city.answer = lambda body: answered(body, [{"name": "Ann", "pay": 90000}])
    told = await city.posts("salaries", BOBS, arguments={"team": "all"})
    label = verified(told["result"], request_digest(city.last["_meta"][mcp.ENVELOPE]), sender=OURS).envelope.label
    assert label.readers == frozenset(("hr",))


async def test_a_far_servers_reply_is_what_the_manifest_says_and_at_least_what_its_gateway_signs() -> None:
    """The attack: a stranger's words lie in a field over there that the manifest here takes for the server's own."""
    rows = [{"id": "f1", "text": "see f2"}]

    async def reads(label: Label | None, ceiling: Ceiling | None = BELIEVED) -> Abroad:
        city = await Abroad(ceiling, far_bank=True).open()
        city.envelopes._receivers = {**city.envelopes._receivers, "bank": ISSUER}
        servers = {"bank": {**city.configured.servers["bank"]}}
        servers["bank"]["payees"] = msgspec.structs.replace(
            servers["bank"]["payees"], output={"$": Output(trusted=True)}
        )
        city.again(servers=servers)
        await city.task("Delete what is old")
        city.word = label

        def far(body: bytes) -> MemoryAnswer:
            asked = json.loads(body)
            plain = json.loads(answered(body, rows)._messages[0][0])["result"]
            told = plain if city.word is None else city.sealed(asked, plain, 0, spoken=False)
            message = {"jsonrpc": "2.0", "id": asked["id"], "result": told}
            return MemoryAnswer([(json.dumps(message).encode(), None)])

        city.answer = far
        assert code_of(await city.act("payees")) is None
        return city

    clean = await reads(Label(frozenset(("server:files",)), None))
    assert (await clean.hers()).origins == frozenset(("principal:alice", "server:bank"))
    assert (await clean.settled()).said_by == ISSUER
    tainted = await reads(Label(frozenset(("outside:files/mail",)), frozenset(("hr",))))
    assert await tainted.hers() == Label(
        frozenset(("principal:alice", "server:bank", f"domain:{PARTNER}/outside:files/mail")),
        frozenset((f"domain:{PARTNER}/hr",)),
    )
    stripped = await reads(None)
    assert (await stripped.hers()).origins is None
    assert (await stripped.settled()).said_by == NOBODY
    assert (await (await reads(Label(frozenset(), None), None)).hers()).origins is None
    stripped.change = lambda one: one | {"message": "a" * 64}
    stripped.word = ALICES
    assert code_of(await stripped.act("payees")) == Code.ENVELOPE_REFUSED


async def test_a_far_servers_numbers_have_the_label_that_its_gateway_signs() -> None:
    """Whoever chose a number over there shaped what is read here, whoever vouches for it."""
    city = await Abroad(far_bank=True).open()
    await city.task("Look")
    city.word = Label(frozenset(("outside:x",)), None)

    def far(body: bytes) -> MemoryAnswer:
        plain = json.loads(answered(body, [5, 7])._messages[0][0])["result"]
        told = city.sealed(json.loads(body), plain, 0, spoken=False)
        return MemoryAnswer([(json.dumps({"jsonrpc": "2.0", "id": 1, "result": told}).encode(), None)])

    city.answer = far
    city.again(servers={"bank": {**MANIFESTS, "payees": COUNTS}})
    await city.act("payees")
    assert f"domain:{PARTNER}/outside:x" in ((await city.hers()).origins or ())


async def test_a_far_server_that_says_nothing_makes_no_party_known() -> None:
    for label, known in ((Label(frozenset(), None), True), (Label(frozenset(("outside:x",)), None), False)):
        city = await Abroad(far_bank=True).open()
        await city.task("Look")
        city.word = label

        def far(body: bytes, city: Abroad = city) -> MemoryAnswer:
            plain = json.loads(answered(body, [{"name": "Ann", "iban": THIRD}])._messages[0][0])["result"]
            told = city.sealed(json.loads(body), plain, 0, spoken=False)
            return MemoryAnswer([(json.dumps({"jsonrpc": "2.0", "id": 1, "result": told}).encode(), None)])

        city.answer = far
        await city.act("payees")
        assert bool(await city.store.scan("party")) is known


async def test_a_conversation_that_its_sender_named_is_signed_under_the_name_that_goes_out() -> None:
    """The peer has another name for it: an envelope of the agent's own would be of no message that arrives there."""
    city = await Abroad().open()
    await city.task("Ask the depot")
    told = await city.say(peer="depot", message={"contextId": "mine", "parts": [{"text": "hello"}]})
    assert code(told) is None
    sent = json.loads(city.billing.sent[-1][1])["params"]
    assert sent["message"]["contextId"] != "mine"
    assert json.loads(payload(sent["metadata"][a2a.ENVELOPE]))["message"] == digest_of("SendMessage", sent)
    city.exchange.envelopes = None
    again = await city.say(peer="depot", message={"contextId": "mine", "parts": [{"text": "hello"}]})
    assert code(again) is None
    assert (await city.settled()).said_by == ISSUER
