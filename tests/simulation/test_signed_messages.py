"""Requests that prove their key by themselves, at the gateway: whoever relays them can only pass them on."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from citywatch.adapters.gateway.app import Gateway
from citywatch.adapters.gateway.door import Door
from citywatch.adapters.gateway.protocol import Peer
from citywatch.core import events
from citywatch.core.http_signature import Head
from citywatch.core.identity.elsewhere import Domains
from citywatch.core.identity.message import TOKEN_HEADER
from citywatch.core.identity.x509 import gateway_id
from citywatch.core.names import AgentId
from citywatch.core.wire.jsonrpc import FROM_AGENT
from citywatch.service.authority import Authority, bundle_of, found_generation, p256
from citywatch.service.messages import Messages
from citywatch.service.signing import sign_message
from tests.identity_city import HOUR, YEAR, signer
from tests.signed import Sent
from tests.simulation.city import DOMAIN, LEGACY, code_of
from tests.simulation.test_chains import KEYS, ORDERS, Town

GATEWAY = gateway_id(DOMAIN)


class Open:
    """A town behind its gateway: an authority for WIT-SVIDs, and requests that agents sign."""

    def __init__(self, town: Town) -> None:
        self.town = town
        certificates, tokens = signer(), signer()
        now = town.clock.now_ms()
        generation = found_generation(DOMAIN, 1, certificates, tokens, now=now, ttl=YEAR, chance=town.chance)
        self.authority = Authority(DOMAIN, generation, certificates=certificates, tokens=tokens, chance=town.chance)
        self.bundle = bundle_of(DOMAIN, [generation], sequence=1, refresh_hint=1)
        self.gateway = self.replica()

    def replica(self) -> Gateway:
        return Gateway(
            exchange=self.town.exchange,
            door=Door(lambda: Domains(home=self.bundle), GATEWAY, Messages(self.town.store, self.town.clock, 0)),
            limits=FROM_AGENT,
            body_time=60,
            max_in_flight=8,
            routes={},
            hosts=frozenset({"localhost"}),
            closed=lambda: None,
        )

    def wit(self, name: str, key: str | None = None) -> bytes:
        agent, public = AgentId(DOMAIN, name), p256(KEYS[key or name].signer.public)
        return self.authority.issue_wit(agent, public, now=self.town.clock.now_ms(), ttl=HOUR).value

    def sends(self, name: str, chain: list[str], key: str | None = None, token: bytes | None = None) -> Sent:
        body = self.town.asking(name, chain, of="orders").body
        names = [(b"mcp-protocol-version", LEGACY.encode())]
        head = Head(method="POST", target=b"/mcp/bank", secure=False, headers=[(b"host", b"localhost"), *names])
        now, nonce = self.town.clock.now_ms(), self.town.chance.call_id()
        party = KEYS[key or name].signer
        added = sign_message(head, body, token or self.wit(name, key), party, now=now, nonce=nonce)
        return Sent(msgspec.structs.replace(head, headers=[*head.headers, *added]), body)

    async def does(self, sent: Sent, gateway: Gateway | None = None) -> str | None:
        """What the agent is told: None if it got a result, else the code."""
        told: dict[str, Any] = {"body": b""}
        coming = [{"type": "http.request", "body": sent.body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            return coming.pop(0)

        async def send(event: Any) -> None:
            told["body"] += event.get("body", b"")

        path, _, query = sent.head.target.partition(b"?")
        scope = {
            "type": "http",
            "method": sent.head.method,
            "path": path.decode(),
            "raw_path": path,
            "query_string": query,
            "scheme": "http",
            "headers": list(sent.head.headers),
            "state": {"peer": Peer("127.0.0.1:9")},
        }
        await (gateway or self.gateway)(scope, receive, send)
        return code_of(json.loads(told["body"]))


@pytest.fixture
async def town() -> Open:
    return Open(await Town("clerk").begin())


async def test_a_signed_message_proves_the_key_that_a_chain_was_given_to(town: Open) -> None:
    chain = town.town.hand(town.town.root, "clerk", ORDERS)
    assert await town.does(town.sends("router", town.town.root)) is None
    assert await town.does(town.sends("clerk", chain)) is None
    assert await town.does(town.sends("clerk", [])) == "task_not_held"


async def test_a_chain_is_not_held_by_another_key_however_it_signs(town: Open) -> None:
    """The attack: a relay saw the clerk's chain and its token, and has a key and a token of its own."""
    chain = town.town.hand(town.town.root, "clerk", ORDERS)
    assert await town.does(town.sends("thief", chain)) == "chain_not_held"
    stolen = town.sends("clerk", chain, key="thief", token=town.wit("clerk"))
    assert await town.does(stolen) == "credential_untrusted"


async def test_a_token_alone_proves_nobody(town: Open) -> None:
    """The attack: the token was read on the way, and shown by itself, as what it is or as a bearer token."""
    honest = town.sends("router", town.town.root)
    assert await town.does(honest.without(b"signature")) == "credential_malformed"
    bare = honest.without(b"signature").without(b"signature-input").without(b"content-digest")
    assert await town.does(bare) == "credential_malformed"
    assert await town.does(honest) is None  # remembered from now on
    token = dict(honest.head.headers)[TOKEN_HEADER]
    for scheme in (b"Bearer ", b"bearer "):
        shown = bare.without(TOKEN_HEADER).add(b"authorization", scheme + token)
        assert await town.does(shown) == "credential_malformed"
    assert await town.does(bare.without(TOKEN_HEADER)) == "credential_missing"


async def test_a_message_that_is_sent_again_does_nothing_at_any_replica(town: Open) -> None:
    sent, before = town.sends("router", town.town.root), len(town.town.upstream.sent)
    assert await town.does(sent) is None
    assert len(town.town.upstream.sent) == before + 1
    assert await town.does(sent) == "credential_expired"
    assert await town.does(sent, town.replica()) == "credential_expired"
    assert len(town.town.upstream.sent) == before + 1
    rejected = [event for event in await town.town.events() if isinstance(event, events.Rejected)]
    assert {(event.code, event.detail) for event in rejected} == {("credential_expired", "the message was sent before")}


async def test_a_relay_can_only_pass_a_message_on(town: Open) -> None:
    sent = town.sends("router", town.town.root)
    swapped = Sent(sent.head, sent.body.replace(b"orders", b"salary"))
    assert await town.does(swapped) == "credential_untrusted"
    assert await town.does(sent.change(target=b"/mcp/other")) == "credential_untrusted"
    assert await town.does(sent.add(b"mcp-session-id", b"another")) == "credential_malformed"
    town.town.clock.advance(61_000)
    assert await town.does(sent) == "credential_expired"


async def test_a_revoked_key_proves_nothing_though_its_token_lives(town: Open) -> None:
    assert await town.does(town.sends("router", town.town.root)) is None
    assert await town.does(town.sends("router", town.town.root, key="second")) == "key_not_registered"


async def test_what_is_shown_together_names_one_agent(town: Open) -> None:
    """The attack: an agent signs as itself and shows another's bearer token, to be taken for whichever suits."""
    now = town.town.clock.now_ms()
    bearer = town.authority.issue_jwt(AgentId(DOMAIN, "clerk"), KEYS["clerk"].thumb, GATEWAY, now=now, ttl=HOUR)
    head = Head(
        method="POST",
        target=b"/mcp/bank",
        secure=False,
        headers=[(b"host", b"localhost"), (b"authorization", b"Bearer " + bearer.value)],
    )
    body = town.town.asking("router", town.town.root, of="orders").body
    router = KEYS["router"].signer
    added = sign_message(head, body, town.wit("router"), router, now=now, nonce="n" * 16)
    both = Sent(msgspec.structs.replace(head, headers=[*head.headers, *added]), body)
    assert await town.does(both) == "credential_malformed"


async def test_keys_that_sign_no_longer_are_forgotten(town: Open) -> None:
    assert await town.does(town.sends("router", town.town.root)) is None
    late = town.sends("router", town.town.root)
    town.bundle = msgspec.structs.replace(town.bundle, bound={})
    town.gateway.door.forget()
    assert await town.does(late) == "credential_untrusted"
