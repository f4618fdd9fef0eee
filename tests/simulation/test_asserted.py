"""What a foreign issuer asserts is on record as its word, and policy sees it: it can take away, and never gives."""

from __future__ import annotations

import itertools
import json
from typing import Any

import msgspec
import pytest

from citywatch.adapters.gateway.peers import Asked, said
from citywatch.core import events
from citywatch.core.call import Allow, Effect
from citywatch.core.errors import Malformed, Refused
from citywatch.core.policy.cedar import Source, parse_policies
from citywatch.core.policy.check import check_policies
from citywatch.core.policy.decide import compile_policies, decide, decide_reference
from citywatch.core.policy.facts import Facts, server_entity, tool_action, tool_context, with_asserted
from citywatch.core.wire import a2a, mcp
from citywatch.core.wire.jsonrpc import FROM_AGENT, parse_message
from citywatch.main.replay import rebuild
from citywatch.service.assertions import taken
from tests.simulation.city import LOOK, PAY, City, code_of
from tests.simulation.test_peers import DONE, PeerCity, code
from tests.unit.core.identity.test_foreign import ISSUER, ISSUERS, token

POLICY = """
@id("looking") permit(principal, action in Action::"read", resource);
@id("by-word") permit(principal, action == Action::"bank/pay", resource)
when { context has asserted && context.asserted.subject == "anna@corp.example" };
@id("not-bob") forbid(principal, action, resource)
when { context has asserted && context.asserted.actors.contains("bob") };
"""
NEEDED = """
@id("looking") permit(principal, action in Action::"read", resource);
@id("somebody") forbid(principal, action, resource)
unless { context has asserted && context.asserted.issuer == "https://idp.example"
  && context.asserted.actor == "portal" };
"""


class Counter(City):
    """A city that takes the word of one issuer down."""

    def __init__(self, policy: str = POLICY) -> None:
        super().__init__(policy)
        self.configured = msgspec.structs.replace(self.configured, issuers=ISSUERS)
        self.enforcer.rules = self.rules(PAY, LOOK)

    def shown(self, assertion: Any, tool: str = "look", **arguments: Any) -> tuple[Any, bytes]:
        """A call as it came, and the bytes of the message that it was."""
        meta = {"citywatch/assertion": assertion, "other": 1}
        params = {"name": tool, "arguments": arguments, "_meta": meta}
        raw = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
        message, asserted = taken(self.enforcer, parse_message(raw, FROM_AGENT), self.papers)
        return self.call(name=tool, arguments=arguments, body=message.body, asserted=asserted), raw

    @property
    def papers(self) -> Any:
        return self.credential(digest="ab" * 32)

    def now(self, **claims: Any) -> str:
        seconds = self.clock.now_ms() // 1000
        return token(**{"iat": seconds - 1, "exp": seconds + 60, **claims})


async def test_an_issuer_s_word_is_on_record_as_its_own_and_its_token_is_nowhere() -> None:
    city = await Counter().settle_in()
    assert isinstance(city, Counter)
    text = city.now()
    call, _ = city.shown(text)
    assert code_of(await city.ask(call, city.papers)) is None
    decided = next(one for one in await city.events() if isinstance(one, events.Decided))
    assert decided.asserted == (ISSUER, "anna@corp.example", "portal", "assistant")
    assert (decided.via, decided.grants) == ((), ())
    bodies = [payload.body for index in range(50) if (payload := await city.store.payload(index)) is not None]
    leaves = await city.store.entries(0, 10**6)
    sent = [body for _, body in city.upstream.sent]
    for part in text.split("."):
        assert not any(part.encode() in one for one in (*bodies, *leaves, *sent))
    assert json.loads(sent[0])["params"]["_meta"] == {"other": 1}
    index = next(i for i, leaf in enumerate(leaves) if decided.call.encode() in leaf)
    payload = await city.store.payload(index)
    assert payload is not None
    assert rebuild(decided, payload.body).asserted == call.asserted


async def test_it_takes_away_and_never_gives() -> None:
    city = Counter()
    await city.settle_in()
    call, _ = city.shown(city.now(), "pay", to="ann", amount=1)
    assert code_of(await city.ask(call, city.papers)) == "no_permit", "the permit does not see it"
    call, _ = city.shown(city.now(act={"sub": "bob"}))
    assert code_of(await city.ask(call, city.papers)) == "forbidden"
    call, _ = city.shown(city.now(act={"sub": "carol"}))
    assert code_of(await city.ask(call, city.papers)) is None


async def test_a_forbid_may_demand_that_an_issuer_says_so() -> None:
    city = Counter(NEEDED)
    await city.settle_in()
    assert code_of(await city.ask(city.call(), city.papers)) == "forbidden"
    call, _ = city.shown(city.now())
    assert code_of(await city.ask(call, city.papers)) == "forbidden"
    call, _ = city.shown(city.now(act={"sub": "portal"}))
    assert code_of(await city.ask(call, city.papers)) is None
    call, _ = city.shown(city.now(act={"sub": "portal"}), "pay", to="ann", amount=1)
    assert code_of(await city.ask(call, city.papers)) == "no_permit"


async def test_what_does_not_hold_never_becomes_a_call() -> None:
    city = Counter()
    await city.settle_in()
    for wrong in (city.now(aud="https://other.example"), city.now(iss="https://evil.example"), "x", city.now() + "A"):
        with pytest.raises(Refused):
            city.shown(wrong)
    plain = City()
    raw = {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"_meta": {"citywatch/assertion": city.now()}}}
    message = parse_message(json.dumps(raw).encode(), FROM_AGENT)
    with pytest.raises(Refused, match="no issuer"):
        taken(plain.enforcer, message, city.papers)


def test_an_assertion_is_taken_out_of_a_message_and_nothing_else_is() -> None:
    for params, left in (
        ({"_meta": {"citywatch/assertion": "t"}}, {}),
        ({"_meta": {"citywatch/assertion": "t", "a": 1}, "x": [1]}, {"_meta": {"a": 1}, "x": [1]}),
    ):
        raw = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": params}).encode()
        bare, found = mcp.take_assertion(parse_message(raw, FROM_AGENT))
        assert found == "t"
        assert b"assertion" not in bare.body
        assert json.loads(bare.body)["params"] == left
    untouched = parse_message(b'{"jsonrpc":"2.0","id":1,"method":"ping"}', FROM_AGENT)
    assert mcp.take_assertion(untouched) == (untouched, None)


CONDITIONS = (
    "true",
    "context has asserted",
    'context has asserted && context.asserted.subject == "anna"',
    'context has asserted && context.asserted.actors.contains("bob")',
    "!(context has asserted)",
    'context.asserted.subject == "anna"',
    "context.now > 0",
)


def test_showing_an_assertion_never_allows_what_no_permit_allows_anyway_and_both_engines_agree() -> None:
    """Every pair of a permit and a forbid over these conditions, in both notations, with five assertions and none."""
    city = Counter()
    shown = [None, ("anna", ()), ("anna", ("bob",)), ("eve", ("bob", "carol")), ("eve", ())]
    call = city.call()
    base = facts(city, call)
    tried = allowed = 0
    for permit, forbid in itertools.product(CONDITIONS, CONDITIONS):
        for word in ("when", "unless"):
            text = (
                f'@id("p") permit(principal, action, resource) when {{ {permit} }};\n'
                f'@id("f") forbid(principal, action, resource) {word} {{ {forbid} }};\n'
            )
            policies = compile_policies(parse_policies([Source("t.cedar", text)]), city.enforcer.rules.world.entities)
            permits = compile_policies(
                parse_policies([Source("t.cedar", text.split("\n")[0])]), city.enforcer.rules.world.entities
            )
            without = decide(permits, base)
            for one in shown:
                seen = base if one is None else with_asserted(base, ISSUER, *one)
                found = decide(policies, seen)
                assert type(found) is type(decide_reference(policies, seen)), (text, one)
                tried += 1
                if isinstance(found, Allow):
                    allowed += 1
                    assert isinstance(without, Allow), (text, one)
    assert tried == 490
    assert allowed > 20


def facts(city: Counter, call: Any) -> Facts:
    who = city.enforcer.rules.agent(call.agent, "clerk")
    return Facts(who, tool_action("bank", "look", Effect.READ), server_entity("bank"), tool_context("look", {}, 1))


def test_a_permit_that_asks_for_an_assertion_is_a_mistake_and_a_forbid_that_does_is_none() -> None:
    city = Counter(POLICY)
    found = check_policies(city.policies, city.enforcer.rules.world)
    assert [one.policy for one in found] == ["by-word"]
    assert "which no permit sees" in found[0].message
    unknown = City(POLICY)
    wrong = check_policies(unknown.policies, unknown.rules(PAY, LOOK).world)
    assert {one.policy for one in wrong} == {"by-word", "not-bob"}


# ---- over A2A ----------------------------------------------------------------------------------------------------

TALK = """
@id("talk") permit(principal, action in Action::"send_message", resource is Peer);
@id("by-word") permit(principal, action in Action::"peer_task", resource is Peer)
when { context has asserted && context.asserted.subject == "anna@corp.example" };
@id("not-bob") forbid(principal, action, resource)
when { context has asserted && context.asserted.actors.contains("bob") };
"""


class Speaking(PeerCity):
    """A city whose agents speak to billing, and that takes the word of one issuer down."""

    def __init__(self) -> None:
        super().__init__()
        self.configured = msgspec.structs.replace(self.configured, issuers=ISSUERS)
        self.policies = parse_policies([Source("t.cedar", TALK)])
        self.again()

    def word(self, **claims: Any) -> str:
        seconds = self.clock.now_ms() // 1000
        return token(**{"iat": seconds - 1, "exp": seconds + 60, **claims})

    async def posts(self, assertion: Any, method: str = "SendMessage", **params: Any) -> dict[str, Any]:
        """The clerk's message arrives over HTTP with an assertion in its metadata."""
        params = params or {"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hello"}]}}
        shown = {**params, "metadata": {"citywatch/assertion": assertion, "own": 1}}
        raw = json.dumps({"jsonrpc": "2.0", "id": 9, "method": method, "params": shown}).encode()
        asked = Asked("POST", b"/a2a/billing", b"", [(b"a2a-version", b"1.0")])
        message = asked.read(raw, FROM_AGENT)
        outcome = await said(self.exchange, asked, message, self.credential(digest="ab" * 32))
        found: dict[str, Any] = json.loads(outcome.body)
        return found


async def test_a_message_to_an_agent_carries_an_issuers_word_as_a_call_does() -> None:
    city = Speaking()
    await city.open()
    text = city.word()
    assert code(await city.posts(text)) is None
    decided = next(one for one in await city.events() if isinstance(one, events.Decided))
    assert decided.asserted == (ISSUER, "anna@corp.example", "portal", "assistant")
    bodies = [payload.body for index in range(50) if (payload := await city.store.payload(index)) is not None]
    leaves = await city.store.entries(0, 10**6)
    sent = [body for _, body in city.billing.sent]
    for part in text.split("."):
        assert not any(part.encode() in one for one in (*bodies, *leaves, *sent))
    assert json.loads(sent[0])["params"]["metadata"] == {"own": 1, a2a.SENDER: decided.agent}
    assert json.loads(bodies[0])["params"]["metadata"] == {"own": 1}
    assert rebuild(decided, bodies[0]).asserted is not None


async def test_over_a2a_too_it_takes_away_and_never_gives() -> None:
    city = Speaking()
    await city.open()
    assert code(await city.posts(city.word(act={"sub": "bob"}))) == "forbidden"
    assert code(await city.posts(city.word(act={"sub": "carol"}))) is None
    city.heard = [{"task": DONE}]
    await city.posts(city.word())
    assert code(await city.posts(city.word(), "GetTask", id="t1")) == "no_permit", "the permit does not see it"


async def test_a_message_whose_assertion_does_not_hold_is_not_sent() -> None:
    city = Speaking()
    await city.open()
    for wrong in (city.word(aud="https://other.example"), city.word(iss="https://evil.example"), city.word() + "A"):
        with pytest.raises(Refused) as refusal:
            await city.posts(wrong)
        assert refusal.value.code == "assertion_refused"
    with pytest.raises(Malformed, match="compact token"):
        await city.posts(7)
    assert not city.billing.sent
    inside: dict[str, Any] = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "x"}]}
    inside["metadata"] = {"citywatch/assertion": city.word()}
    with pytest.raises(Malformed, match="written by a gateway"):
        await city.posts(city.word(), message=inside)


def test_an_assertion_is_taken_out_of_a_messages_metadata_and_nothing_else_is() -> None:
    for params, left in (
        ({"metadata": {"citywatch/assertion": "t"}}, {}),
        ({"metadata": {"citywatch/assertion": "t", "a": 1}, "x": [1]}, {"metadata": {"a": 1}, "x": [1]}),
    ):
        raw = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": params}).encode()
        bare, found = a2a.take_assertion(parse_message(raw, FROM_AGENT))
        assert found == "t"
        assert json.loads(bare.body)["params"] == left
    untouched = parse_message(b'{"jsonrpc":"2.0","id":1,"method":"GetTask"}', FROM_AGENT)
    assert a2a.take_assertion(untouched) == (untouched, None)
