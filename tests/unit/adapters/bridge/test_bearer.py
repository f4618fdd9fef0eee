"""The agent's papers are fetched by proof, kept while they are good, and believed only if they are ours."""

from __future__ import annotations

import asyncio
from typing import cast

import msgspec
import pytest

from citywatch.adapters.bridge.bearer import PAUSE_MS, Bearer
from citywatch.adapters.bridge.client import GatewayClient
from citywatch.core.errors import CitywatchError, Code, Malformed, Refused, Unavailable
from citywatch.core.http_signature import Head
from citywatch.core.identity.bundle import TrustBundle
from citywatch.core.identity.jwt import verify_jwt_svid
from citywatch.core.identity.message import TOKEN_HEADER, check_body, verify_message
from citywatch.core.identity.papers import format_papers, parse_papers
from citywatch.core.identity.wit import verify_wit_svid
from citywatch.core.identity.x509 import verify_x509_svid
from citywatch.core.names import AgentId
from citywatch.core.signature import thumbprint
from citywatch.core.wire import mcp
from citywatch.service.authority import bundle_of, p256
from tests.identity_city import BILLING, DOMAIN, GATEWAY, HOUR, City, signer

TOKEN_LIFE = HOUR // 4


class Counter:
    """A gateway's renewal counter, without the HTTP around it."""

    def __init__(self, city: City) -> None:
        self.city = city
        self.asked = 0
        self.forgotten = 0
        self.secure = True
        self.fails: Exception | None = None
        self.says: bytes | None = None

    async def request(self, method: bytes, path: bytes, headers: object, body: bytes) -> Counter:
        assert (method, path) == (b"POST", b"/citywatch/renew")
        self.asked += 1
        await asyncio.sleep(0)
        if self.fails is not None:
            raise self.fails
        try:
            self.status, self._answer = 200, self.says or await self.city.issuer.renew(body)
        except Refused as refused:
            self.status, self._answer = mcp.status_of(refused.code), mcp.turned_away(None, refused.code)
        return self

    async def read(self, limit: int) -> bytes:
        return self._answer

    def forget(self) -> None:
        self.forgotten += 1


class Scene:
    def __init__(self) -> None:
        self.city, self.key = City(), signer()
        self.counter = Counter(self.city)
        self.remembered: list[TrustBundle] = []
        self.renewed = 0
        self.bearer = Bearer(
            self.city.issuer.introduction(BILLING),
            self.key,
            cast(GatewayClient, self.counter),
            clock=self.city.clock,
            chance=self.city.chance,
            remember=self.remembered.append,
            renewed=self.renew,
        )

    def renew(self) -> None:
        self.renewed += 1

    def use(self, *, secure: bool) -> int:
        """Speak over TLS or not; return how long the papers live that are shown there."""
        self.counter.secure = secure
        return HOUR if secure else TOKEN_LIFE

    async def register(self) -> Scene:
        await self.city.admin.add_agent("billing", self.key.public, "alice")
        return self


@pytest.fixture
async def scene() -> Scene:
    return await Scene().register()


@pytest.mark.parametrize("secure", [False, True])
async def test_papers_are_fetched_and_kept_until_half_their_life_is_over(scene: Scene, secure: bool) -> None:
    life = scene.use(secure=secure)
    first = await scene.bearer.token()
    assert verify_jwt_svid(first, scene.city.bundle, GATEWAY).agent == str(BILLING)
    scene.city.clock.advance(life // 2 - 1)
    assert await scene.bearer.token() == first
    assert scene.counter.asked == 1
    scene.city.clock.advance(1)
    assert await scene.bearer.token() != first
    assert scene.counter.asked == 2
    assert scene.renewed == (2 if secure else 0)


@pytest.mark.parametrize("secure", [False, True])
async def test_a_message_is_signed_with_the_papers_key(scene: Scene, secure: bool) -> None:
    scene.use(secure=secure)
    with pytest.raises(Refused):
        scene.bearer.sign(b"POST", b"/mcp/bank", b"gw.example", [], b"{}")
    await scene.bearer.token()
    sent = [(b"mcp-session-id", b"s")]
    added = scene.bearer.sign(b"POST", b"/mcp/bank", b"gw.example", sent, b"{}")
    headers = [(b"host", b"gw.example"), *sent, *added]
    bound = verify_wit_svid(dict(added)[TOKEN_HEADER], scene.city.bundle)
    head = Head(method="POST", target=b"/mcp/bank", secure=secure, headers=headers)
    proof = verify_message(head, bound, now=scene.city.clock.now_ms(), leeway=0)
    assert check_body(proof, b"{}").key == thumbprint(p256(scene.key.public))
    again = dict(scene.bearer.sign(b"POST", b"/mcp/bank", b"gw.example", sent, b"{}"))
    assert again[b"signature-input"] != dict(added)[b"signature-input"]  # another nonce


async def test_another_agents_bound_token_is_not_taken(scene: Scene) -> None:
    good = parse_papers(await scene.city.issuer.renew(scene.city.proof(scene.key)), DOMAIN)
    now = scene.city.clock.now_ms()
    stranger = scene.city.authority.issue_wit(BILLING, p256(signer().public), now=now, ttl=HOUR).value.decode()
    scene.counter.says = format_papers(msgspec.structs.replace(good, bound=stranger))
    with pytest.raises(Malformed):
        await scene.bearer.token()


async def test_the_certificate_is_shown_over_tls_alone_and_only_while_it_lasts(scene: Scene) -> None:
    assert scene.bearer.certificate is None
    await scene.bearer.token()
    first = scene.bearer.certificate
    assert first is not None
    assert verify_x509_svid([first], scene.city.bundle).agent == str(BILLING)
    scene.city.clock.advance(HOUR // 2)
    await scene.bearer.token()
    assert scene.bearer.certificate not in (None, first)
    scene.city.clock.advance(HOUR)
    assert scene.bearer.certificate is None
    scene.use(secure=False)
    await scene.bearer.token()
    assert scene.bearer.certificate is None


async def test_a_certificate_for_another_key_is_refused(scene: Scene) -> None:
    """Nobody could use it; but what is sent instead of ours says that something is wrong."""
    papers = parse_papers(await scene.city.issuer.renew(scene.city.proof(scene.key)), DOMAIN)
    other = scene.city.authority.issue_x509(BILLING, p256(signer().public), now=scene.city.clock.now_ms(), ttl=HOUR)
    scene.counter.says = format_papers(msgspec.structs.replace(papers, certificate=other.value))
    with pytest.raises(Malformed, match="another agent"):
        await scene.bearer.token()


async def test_many_that_ask_at_once_cause_one_renewal(scene: Scene) -> None:
    tokens = await asyncio.gather(*(scene.bearer.token() for _ in range(20)))
    assert len(set(tokens)) == 1
    assert scene.counter.asked == 1


@pytest.mark.parametrize("secure", [False, True])
async def test_while_papers_are_good_a_gateway_that_is_away_does_no_harm(scene: Scene, secure: bool) -> None:
    life = scene.use(secure=secure)
    first = await scene.bearer.token()
    scene.counter.fails = Unavailable(Code.UPSTREAM_UNAVAILABLE, "away")
    scene.city.clock.advance(life - 1)
    assert await scene.bearer.token() == first
    scene.city.clock.advance(1)
    with pytest.raises(Unavailable):
        await scene.bearer.token()
    scene.counter.fails = None
    scene.city.clock.advance(PAUSE_MS)
    assert await scene.bearer.token() != first


async def test_a_gateway_that_is_away_is_not_asked_by_every_request(scene: Scene) -> None:
    scene.counter.fails = Unavailable(Code.UPSTREAM_UNAVAILABLE, "away")
    for _ in range(10):
        with pytest.raises(Unavailable):
            await scene.bearer.token()
    assert scene.counter.asked == 1
    scene.city.clock.advance(PAUSE_MS)
    with pytest.raises(Unavailable):
        await scene.bearer.token()
    assert scene.counter.asked == 2


async def test_a_refusal_keeps_its_code(scene: Scene) -> None:
    await scene.city.admin.revoke_agent("billing", "stolen", "alice")
    with pytest.raises(Refused) as caught:
        await scene.bearer.token()
    assert caught.value.code is Code.AGENT_REVOKED


async def test_a_token_that_was_refused_is_replaced_once(scene: Scene) -> None:
    first = await scene.bearer.token()
    others = await asyncio.gather(*(scene.bearer.replace(first) for _ in range(10)))
    assert len({first, *others}) == 2
    assert scene.counter.asked == 2


async def test_papers_of_another_agent_are_refused(scene: Scene) -> None:
    other = AgentId(DOMAIN, "other")
    papers = parse_papers(await scene.city.issuer.renew(scene.city.proof(scene.key)), DOMAIN)
    token = scene.city.authority.issue_jwt(other, "A" * 43, GATEWAY, now=scene.city.clock.now_ms(), ttl=HOUR)
    scene.counter.says = format_papers(msgspec.structs.replace(papers, token=token.value.decode()))
    with pytest.raises(Malformed, match="another agent"):
        await scene.bearer.token()


@pytest.mark.parametrize("secure", [False, True])
async def test_papers_of_another_authority_are_refused_unless_the_gateway_proved_itself(
    scene: Scene, secure: bool
) -> None:
    """Over plain HTTP anybody on the machine may have answered; over TLS it was the gateway, with new keys."""
    other = City()
    papers = parse_papers(await scene.city.issuer.renew(scene.city.proof(scene.key)), DOMAIN)
    key, now = p256(scene.key.public), other.clock.now_ms()
    token = other.authority.issue_jwt(BILLING, thumbprint(key), GATEWAY, now=now, ttl=HOUR)
    leaf = other.authority.issue_x509(BILLING, key, now=now, ttl=HOUR)
    newer = msgspec.structs.replace(other.bundle, sequence=2)
    scene.counter.says = format_papers(
        msgspec.structs.replace(papers, certificate=leaf.value, token=token.value.decode(), bundle=newer)
    )
    scene.counter.secure = secure
    if secure:
        assert await scene.bearer.token() == token.value.decode()
        assert (scene.bearer.bundle, scene.remembered, scene.counter.forgotten) == (newer, [newer], 1)
    else:
        with pytest.raises(Refused) as caught:
            await scene.bearer.token()
        assert caught.value.code is Code.CREDENTIAL_UNTRUSTED
        assert scene.remembered == []


@pytest.mark.parametrize("sequence", [1, 0])
async def test_an_older_bundle_is_not_taken_over(scene: Scene, sequence: int) -> None:
    before = scene.bearer.bundle
    scene.city.bundle = msgspec.structs.replace(scene.city.bundle, sequence=sequence)
    await scene.bearer.token()
    assert scene.bearer.bundle is before
    assert scene.remembered == []


async def test_over_plain_http_a_rotation_is_followed_and_nothing_kept_of_it(scene: Scene) -> None:
    city, certificates, tokens = scene.city, signer(), signer()
    scene.counter.secure = False
    await scene.bearer.token()
    following = city.found(2, certificates, tokens)
    city.bundle = bundle_of(DOMAIN, [city.generation, following], sequence=2, refresh_hint=300)
    city.clock.advance(TOKEN_LIFE // 2)
    await scene.bearer.token()
    city.authority = city.authority_of(following, certificates, tokens)
    city.clock.advance(TOKEN_LIFE // 2)
    token = await scene.bearer.token()
    assert verify_jwt_svid(token, bundle_of(DOMAIN, [following], sequence=3, refresh_hint=300), GATEWAY)
    assert scene.remembered == []


@pytest.mark.parametrize("says", [b"", b"{}", b"[]", b"\xff", b'{"token": 1}', b"<html>"])
async def test_other_answers_are_no_papers(scene: Scene, says: bytes) -> None:
    scene.counter.says = says or b" "
    with pytest.raises(CitywatchError):
        await scene.bearer.token()


async def test_each_proof_has_a_nonce_of_its_own(scene: Scene) -> None:
    """The gateway accepts a proof once: two in one second must differ."""
    first = await scene.bearer.token()
    second = await scene.bearer.replace(first)
    third = await scene.bearer.replace(second)
    assert len({first, second, third}) == 3
