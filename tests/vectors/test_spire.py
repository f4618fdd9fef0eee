"""What a SPIRE 1.13.3 below a company's authority really sends, read as the gateway reads it."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from spiffe import JwtBundle, TrustDomain, X509Bundle, X509Svid

from citywatch.adapters.memory import MemoryClock, MemoryStore
from citywatch.adapters.tls import GatewayTls, TlsKey
from citywatch.adapters.workload.messages import parse_certificate_reply, parse_token_bundles
from citywatch.core.errors import Code, Refused
from citywatch.core.identity.bundle import parse_bundle, parse_token_keys
from citywatch.core.identity.credential import check_time
from citywatch.core.identity.elsewhere import Believed, Domains, verify_certificate, verify_token
from citywatch.core.signature import format_jwk
from citywatch.service.outside import Outside, OwnPapers
from tests.unit.adapters.test_tls_chains import EMPTY

FILE = Path(__file__).parents[2] / "spec/vectors/spire/below-an-authority.json"
DOMAIN, GATEWAY, CLERK = "t.example", "spiffe://t.example/gateway", "spiffe://t.example/agent/clerk"


@pytest.fixture(scope="module")
def sent() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text())
    return found


class Recorded:
    """The Workload API, as it answered once."""

    name = "unix:///run/spire.sock"

    def __init__(self, sent: dict[str, Any]) -> None:
        self._papers = parse_certificate_reply(bytes.fromhex(sent["FetchX509SVID"]), GATEWAY)
        self._keys = parse_token_bundles(bytes.fromhex(sent["FetchJWTBundles"]))

    async def papers(self) -> AsyncIterator[OwnPapers]:
        yield self._papers
        await asyncio.Event().wait()

    async def token_bundles(self) -> AsyncIterator[Mapping[str, bytes]]:
        yield self._keys
        await asyncio.Event().wait()


async def heard(sent: dict[str, Any]) -> Outside:
    outside = Outside(
        identity=Recorded(sent),
        spiffe_id=GATEWAY,
        domain=DOMAIN,
        store=MemoryStore(),
        clock=MemoryClock(sent["now_ms"]),
        replica="r1",
    )
    task = asyncio.create_task(outside.run())
    await outside.begin()
    while not outside.bundle().keys:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return outside


def shown(sent: dict[str, Any]) -> tuple[bytes, ...]:
    end = "-----END CERTIFICATE-----\n"
    return tuple(ssl.PEM_cert_to_DER_cert(one + end) for one in sent["clerk"].split(end)[:-1])


async def test_the_gateways_papers_are_taken_and_can_be_shown(sent: dict[str, Any]) -> None:
    outside = await heard(sent)
    papers = outside.papers()
    assert papers.spiffe_id == GATEWAY, "of the two that the workload has"
    assert len(papers.chain) == 3
    tls = GatewayTls()
    tls.install(papers.chain, TlsKey(papers.key), outside.bundle())


async def test_its_agents_are_judged_by_what_came_along(sent: dict[str, Any]) -> None:
    """By certificate below two authorities, and by a token whose key SPIRE gives without saying what it is for."""
    outside = await heard(sent)
    domains = Domains(home=EMPTY, others={DOMAIN: Believed(outside.bundle())}, named={CLERK: CLERK})
    for credential in (
        verify_certificate(shown(sent), domains),
        verify_token(sent["token"].encode(), domains, GATEWAY),
    ):
        assert credential.agent == CLERK
        check_time(credential, sent["now_ms"], 2_000)
    with pytest.raises(Refused) as caught:
        verify_token(sent["token"].encode(), domains, "spiffe://else.example/gateway")
    assert caught.value.code is Code.CREDENTIAL_WRONG_AUDIENCE
    for less in (shown(sent)[:1], shown(sent)[:2], shown(sent)[::2]):
        with pytest.raises(Refused) as caught:
            verify_certificate(less, domains)
        assert caught.value.code is Code.CREDENTIAL_UNTRUSTED


def test_its_bundle_is_one_from_its_endpoint_and_from_its_command(sent: dict[str, Any]) -> None:
    """They differ in when to look again, and that is not whom to believe."""
    one, other = (parse_bundle(sent[name].encode(), DOMAIN) for name in ("endpoint", "command"))
    assert (one.certificates, one.keys, one.sequence) == (other.certificates, other.keys, other.sequence)
    assert one.refresh_hint != other.refresh_hint
    assert one.keys == parse_token_keys(
        parse_token_bundles(bytes.fromhex(sent["FetchJWTBundles"]))[f"spiffe://{DOMAIN}"]
    )


def test_another_reader_reads_the_same(sent: dict[str, Any]) -> None:
    papers = parse_certificate_reply(bytes.fromhex(sent["FetchX509SVID"]), GATEWAY)
    svid = X509Svid.parse_raw(b"".join(papers.chain), papers.key)
    assert str(svid.spiffe_id) == GATEWAY
    assert len(svid.cert_chain) == len(papers.chain)
    bundle = X509Bundle.parse_raw(TrustDomain(DOMAIN), b"".join(papers.authorities))
    assert len(bundle.x509_authorities) == len(papers.authorities)
    text = parse_token_bundles(bytes.fromhex(sent["FetchJWTBundles"]))[f"spiffe://{DOMAIN}"]
    theirs, ours = JwtBundle.parse(TrustDomain(DOMAIN), text), parse_token_keys(text)
    assert set(theirs.jwt_authorities) == set(ours)
    for kid, key in theirs.jwt_authorities.items():
        numbers = key.public_numbers()  # type: ignore[union-attr]
        assert format_jwk(ours[kid])["kty"] == "EC"
        assert ours[kid].point == b"\x04" + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")  # type: ignore[union-attr]
