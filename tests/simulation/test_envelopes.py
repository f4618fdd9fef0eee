"""Messages in envelopes: what leaves says what shaped it, and what comes over the border is believed only so far."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest

from citywatch.adapters.gateway.peers import Asked, said
from citywatch.core import events
from citywatch.core.enforce.admit import admit
from citywatch.core.errors import CitywatchError, Code, Malformed, Refused
from citywatch.core.identity.envelope import Arrived, verify_envelope
from citywatch.core.identity.registration import AgentRow, agent_key, format_row
from citywatch.core.label import Label
from citywatch.core.manifest import Ceiling, Clearance, Peer
from citywatch.core.names import AgentId
from citywatch.core.policy.world import AgentFacts
from citywatch.core.wire import a2a, mcp
from citywatch.core.wire.jsonrpc import FROM_AGENT, FROM_SERVER, Request, parse_message
from citywatch.main.replay import rebuild
from citywatch.service.envelopes import Arrivals, Envelopes, digest_of, envelope_key
from citywatch.service.exchange import Exchange
from citywatch.service.hindsight import agrees, then
from citywatch.service.messages import drop_nonces
from citywatch.service.ports import Append
from tests.simulation.city import AGENT, DOMAIN, code_of
from tests.simulation.envelopes import DOMAIN as PARTNER
from tests.simulation.envelopes import ISSUER, KEYS, SENDER, SIGNER, written
from tests.simulation.flow_city import MALLORY
from tests.simulation.flow_city import told as answered
from tests.simulation.test_agents_speak import OURS, TELLER, Mesh
from tests.simulation.test_peers import code, says

GUEST = f"spiffe://{PARTNER}/agent/guest"
OPEN = Ceiling(label=Label(frozenset(), None), speaks_for=frozenset(("bob",)))


class Border(Mesh):
    """A mesh whose teller is also spoken to by `guest`, which its own domain calls `…/agent/router`."""

    def __init__(self, ceiling: Ceiling | None = OPEN, peer: Peer = OURS) -> None:
        super().__init__(msgspec.structs.replace(peer, callers=("clerk", "guest")))
        agents = (*self.configured.agents, AgentFacts(id=AgentId(PARTNER, "guest")))
        self.again(agents=agents, ceilings={} if ceiling is None else {PARTNER: ceiling})
        receivers = {"billing": TELLER, "bank": "http://bank/mcp"}
        self.envelopes = Envelopes(domain=DOMAIN, signer=SIGNER, receivers=receivers, clock=self.clock)
        arrivals = Arrivals(
            store=self.store,
            clock=self.clock,
            rules=lambda: self.enforcer.rules,
            trusted=lambda: {PARTNER: KEYS},
            leeway_ms=0,
        )
        upstreams = self.exchange.upstreams
        self.exchange = Exchange(self.enforcer, upstreams, FROM_SERVER, 3, envelopes=self.envelopes, arrivals=arrivals)
        self.count = 0

    async def open(self) -> Border:
        await super().open()
        row = AgentRow(agent=GUEST, keys=(SENDER,), added_at=0)
        await self.store.append(Append(puts=((agent_key("guest"), format_row(row)),)))
        return self

    def enveloped(self, text: str, label: Label, **claims: Any) -> dict[str, Any]:
        """A message as the partner's gateway would send it on."""
        self.count += 1
        params: dict[str, Any] = {"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": text}]}}
        now = self.clock.now_ms() // 1000
        told = {"origins": None if label.origins is None else sorted(label.origins)}
        told["readers"] = None if label.readers is None else sorted(label.readers)
        said = {
            "iss": ISSUER, "sub": SENDER, "aud": TELLER, "iat": now, "exp": now + 60, "jti": f"j{self.count}",
            "message": digest_of("SendMessage", params), "label": told,
            "items": {"count": 0, "newest": [], "before": None},
            "task": "theirs", "chain": None, "hops": 0, "traceparent": None,
        } | claims  # fmt: skip
        sent = {a2a.ENVELOPE: written(said), a2a.SENDER: SENDER, a2a.HOPS: 7, a2a.TASK: "theirs"}
        return {**params, "metadata": sent}

    async def comes(self, params: dict[str, Any], agent: str = GUEST, key: str = SENDER) -> str | None:
        """A message arrives over HTTP; the code of a refusal."""
        raw = json.dumps({"jsonrpc": "2.0", "id": 9, "method": "SendMessage", "params": params}).encode()
        asked = Asked("POST", b"/a2a/billing", b"", [(b"a2a-version", b"1.0")])
        message = asked.read(raw, FROM_AGENT)
        outcome = await said(self.exchange, asked, message, self.credential(agent=agent, key=key))
        return code(json.loads(outcome.body))


def sent(city: Mesh) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(city.billing.sent[-1][1])["params"]
    return found


# ---- what goes out -----------------------------------------------------------------------------------------------


async def test_a_message_goes_out_with_what_shaped_it_signed_by_our_gateway() -> None:
    city = await Border().open()
    task = await city.task("Ask billing")
    await city.read("inbox", "a stranger's text")
    assert await city.tells("hello", metadata={a2a.TASK: task}) is None
    params = sent(city)
    token = params["metadata"][a2a.ENVELOPE]
    arrived = Arrived(message=digest_of("SendMessage", params), sender=AGENT, receiver=TELLER)
    found = verify_envelope(token.encode(), {DOMAIN: KEYS}, arrived, now=city.clock.now_ms(), leeway=0).envelope
    assert (found.sender, found.receiver, found.task, found.hops) == (AGENT, TELLER, task, 1)
    assert found.label.origins == frozenset(("principal:alice", "outside:bank/inbox"))
    assert (found.items.count, len(found.items.newest), found.items.before) == (2, 2, None)
    params["message"]["parts"][0]["text"] = "hello!"
    other = Arrived(message=digest_of("SendMessage", params), sender=AGENT, receiver=TELLER)
    with pytest.raises(Refused, match="step 7"):
        verify_envelope(token.encode(), {DOMAIN: KEYS}, other, now=city.clock.now_ms(), leeway=0)


async def test_a_long_context_is_named_by_its_newest_items_and_one_digest_over_the_rest() -> None:
    city = await Border().open()
    await city.task("Ask billing")
    befores = []
    for number in range(20):
        await city.read("inbox", f"text {number}")
        await city.tells(f"hello {number}")
        token = sent(city)["metadata"][a2a.ENVELOPE]
        items = json.loads(_payload(token))["items"]
        assert len(items["newest"]) == min(16, items["count"])
        befores.append(items["before"])
    assert len(set(befores[-5:])) == 5


def _payload(token: str) -> bytes:
    part = token.split(".")[1]
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


async def test_an_agent_may_tighten_its_label_and_never_lower_it() -> None:
    city = await Border().open()
    await city.task("Ask billing")
    await city.read("inbox", "a stranger's text")
    low: dict[str, Any] = {"origins": [], "readers": None}
    await city.tells("hello", metadata={a2a.LABEL: low})
    assert "outside:bank/inbox" in json.loads(_payload(sent(city)["metadata"][a2a.ENVELOPE]))["label"]["origins"]
    assert a2a.LABEL not in sent(city)["metadata"]
    own = {"origins": ["outside:paper"], "readers": ["hr"]}
    await city.tells("hello", metadata={a2a.LABEL: own})
    told = json.loads(_payload(sent(city)["metadata"][a2a.ENVELOPE]))["label"]
    assert {"outside:paper", "outside:bank/inbox"} <= set(told["origins"])
    assert told["readers"] == ["hr"]
    held = await city.label()
    assert "outside:paper" in (held.origins or ())
    assert held.readers == frozenset(("hr",))
    for bad in ("x", {}, {"origins": ["bob"], "readers": None}, {"origins": ["outside:x"] * 33, "readers": None}):
        with pytest.raises(Malformed, match="citywatch/label"):
            await city.tells("hello", metadata={a2a.LABEL: bad})


async def test_no_agent_of_ours_writes_an_envelope_over_a2a_or_mcp() -> None:
    city = await Border().open()
    await city.task("Ask billing")
    for metadata in ({a2a.ENVELOPE: "a.b.c"}, {a2a.ENVELOPE: 7}):
        with pytest.raises(Malformed):
            await city.comes({**city.enveloped("x", Label(frozenset(), None)), "metadata": metadata}, AGENT, "k")
    inside = {
        "message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "x"}], "metadata": {a2a.ENVELOPE: "t"}}
    }
    with pytest.raises(Malformed):
        await city.comes(inside)
    for key in (mcp.ENVELOPE, "citywatch/sender"):
        params = {"name": "pay", "arguments": {}, "_meta": {key: "a.b.c"}}
        raw = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
        with pytest.raises(Malformed, match="written by a gateway"):
            mcp.claimed_label(parse_message(raw, FROM_AGENT))


async def test_a_server_that_takes_envelopes_gets_one_in_meta() -> None:
    city = await Border().open()
    await city.task("Look")
    await city.read("find_file", [], name="x")
    call = json.loads(city.upstream.sent[-1][1])["params"]
    found = json.loads(_payload(call["_meta"][mcp.ENVELOPE]))
    assert (found["aud"], found["message"]) == ("http://bank/mcp", digest_of("tools/call", call))
    await city.ask(city.call("tools/list", None))
    assert "_meta" not in json.loads(city.upstream.sent[-1][1])["params"]


async def test_what_is_not_let_through_has_no_envelope() -> None:
    city = await Border().open()
    call = city.message()
    judged = await city.enforcer.judge(call, city.credential(agent="spiffe://city.example/agent/nobody"))
    assert not judged.allowed
    with pytest.raises(CitywatchError, match="not let through"):
        city.envelopes.of(judged)


# ---- what comes from another domain ------------------------------------------------------------------------------


async def test_without_an_envelope_a_foreign_agents_words_are_anybodys() -> None:
    """The attack: the partner's agent read a stranger's text over there, and its context here is clean."""
    city = await Border().open()
    await city.tasks.start("bob", "guest", "Have my password reset", "test")
    plain = {"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "reset 4711-22"}]}}
    assert await city.comes(plain) is None
    assert (await city.label()).origins is None
    assert await city.teller("reset_password", account="4711-22") == Code.APPROVAL_REQUIRED


async def test_a_partners_envelope_says_whose_words_they_are_as_far_as_the_file_believes_it() -> None:
    bobs = Label(frozenset(("principal:bob",)), None)
    city = await Border().open()
    assert await city.comes(city.enveloped("reset 4711-22", bobs)) is None
    assert (await city.label()).origins == frozenset(("principal:bob",))
    assert await city.teller("reset_password", account="4711-22") is None
    assert await city.teller("pay", to=MALLORY, amount=1) == Code.APPROVAL_REQUIRED

    wary = await Border(msgspec.structs.replace(OPEN, speaks_for=frozenset())).open()
    assert await wary.comes(wary.enveloped("reset 4711-22", bobs)) is None
    assert f"domain:{PARTNER}/principal:bob" in ((await wary.label()).origins or ())
    assert await wary.teller("reset_password", account="4711-22") == Code.APPROVAL_REQUIRED

    for ceiling in (None, Ceiling(speaks_for=frozenset(("bob",)))):
        closed = await Border(ceiling).open()
        assert await closed.comes(closed.enveloped("reset 4711-22", bobs)) is None
        assert (await closed.label()).origins is None


async def test_a_partners_readers_are_none_of_ours() -> None:
    theirs = (f"domain:{PARTNER}/hr",)
    label = Label(frozenset(("principal:bob",)), frozenset(("hr",)))
    closed = await Border().open()
    assert await closed.comes(closed.enveloped("Ann gets 90000", label)) == Code.NOT_A_READER
    city = await Border(peer=msgspec.structs.replace(OURS, audience=theirs)).open()
    city.again(clearances={"guest": Clearance(audience=theirs)})
    assert await city.comes(city.enveloped("Ann gets 90000", label)) is None
    assert (await city.label()).readers == frozenset((f"domain:{PARTNER}/hr",))
    assert await city.teller("salaries", team="Ann gets 90000") == Code.NOT_A_READER


async def test_an_envelope_is_taken_once_and_for_its_own_message() -> None:
    city = await Border().open()
    label = Label(frozenset(("principal:bob",)), None)
    params = city.enveloped("reset 4711-22", label)
    assert await city.comes(params) is None
    with pytest.raises(Refused, match="step 8"):
        await city.comes(params)
    other = city.enveloped("reset 4711-22", label)
    other["message"]["parts"][0]["text"] = "reset 4711-23"
    with pytest.raises(Refused, match="step 7"):
        await city.comes(other)
    skilled = city.enveloped("reset 4711-22", label)
    skilled["metadata"][a2a.SKILL] = "refund"
    with pytest.raises(Refused, match="step 7"):
        await city.comes(skilled)
    for claims, step in (
        ({"aud": AGENT}, 5),
        ({"sub": f"spiffe://{PARTNER}/agent/other"}, 6),
        ({"iss": SENDER}, 2),
    ):
        with pytest.raises(Refused, match=f"step {step}"):
            await city.comes(city.enveloped("x", label, **claims))
    city.clock.advance(120_000)
    await drop_nonces(city.store, city.clock.now_ms(), 0)
    assert envelope_key(PARTNER, "j1") not in (await city.store.load((envelope_key(PARTNER, "j1"),), ())).rows
    with pytest.raises(Refused, match="step 4"):
        await city.comes(params)
    assert sum(isinstance(one, events.Decided) for one in await city.events()) == 1


async def test_whoever_is_revoked_leaves_no_row_of_an_envelope() -> None:
    city = await Border().open()
    params = city.enveloped("x", Label(frozenset(("principal:bob",)), None))
    row = AgentRow(agent=GUEST, keys=(SENDER,), added_at=0, revoked=True)
    await city.store.append(Append(puts=((agent_key("guest"), format_row(row)),)))
    with pytest.raises(Refused) as refusal:
        await city.comes(params)
    assert refusal.value.code is Code.AGENT_REVOKED
    assert not await city.store.scan("nonce")


async def test_what_the_partners_gateway_wrote_goes_no_further() -> None:
    city = await Border().open()
    await city.comes(city.enveloped("x", Label(frozenset(("principal:bob",)), None)))
    told = sent(city)["metadata"]
    assert (told[a2a.SENDER], told[a2a.HOPS], a2a.TASK in told) == (GUEST, 1, False)
    ours = json.loads(_payload(told[a2a.ENVELOPE]))
    assert (ours["iss"], ours["sub"], ours["task"]) == (f"spiffe://{DOMAIN}/gateway", GUEST, None)


async def test_an_answer_that_is_not_for_those_beyond_the_border_stays_here() -> None:
    city = await Border().open()
    await city.tasks.start("alice", "teller", "What do we pay?", "test")
    city.answer = lambda body: answered(body, [{"name": "Ann", "pay": 90000}])
    await city.teller("salaries", team="all")
    city.heard = [says("Ann has 90000")]
    assert await city.comes(city.enveloped("What does Ann get?", Label(frozenset(("principal:bob",)), None))) == (
        Code.NOT_A_READER
    )
    city.again(clearances={"clerk": Clearance(audience=("staff",))})
    await city.task("Ask")
    assert await city.tells("What does Ann get?") == Code.NOT_A_READER
    city.again(clearances={"clerk": Clearance(audience=("hr",))})
    assert await city.tells("What does Ann get?") is None


async def test_the_past_knows_what_an_envelope_said() -> None:
    city = await Border().open()
    await city.comes(city.enveloped("reset 4711-22", Label(frozenset(("principal:bob",)), None)))
    await city.teller("reset_password", account="4711-22")
    count = 0
    for index, event in enumerate(await city.events()):
        if isinstance(event, events.Decided):
            payload = await city.store.payload(index)
            assert payload is not None
            call = rebuild(event, payload.body)
            found = await then(city.store, city.enforcer.rules, index, event, call)
            assert agrees(event, admit(found.call, found.authority, found.known, found.need, event.at))
            count += 1
    assert count == 2


async def test_a_foreign_agents_own_acts_are_shaped_by_anybody() -> None:
    city = await Border().open()
    await city.tasks.start("bob", "guest", "Reset the password of 4711-22", "test")
    papers = city.credential(agent=GUEST, key=SENDER)
    named = await city.ask(city.call(name="reset_password", arguments={"account": "4711-22"}, agent=GUEST), papers)
    assert code_of(named) is None
    other = await city.ask(city.call(name="reset_password", arguments={"account": "9"}, agent=GUEST), papers)
    assert code_of(other) == Code.APPROVAL_REQUIRED


def test_a_request_without_an_envelope_is_read_as_before() -> None:
    raw = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": "t"}}).encode()
    message = parse_message(raw, FROM_AGENT)
    assert isinstance(message, Request)
    assert a2a.read_request(message).envelope is None
