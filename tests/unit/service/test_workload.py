"""Papers for a program: only while it is what was measured, only on record, and void when its run is over."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from citywatch.adapters.keys import KeySigner
from citywatch.core.enforce.context import Context, context_key, home_of
from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from citywatch.core.events import CredentialIssued, KeyReplaced, ProgramMeasured, ProgramStarted
from citywatch.core.identity.attestation import Said
from citywatch.core.identity.elsewhere import Believed, Domains
from citywatch.core.identity.jwt import verify_jwt_svid
from citywatch.core.identity.registration import agent_key, format_row, parse_agent_row
from citywatch.core.identity.workload import Measured, check_measured, measured_digest, parse_workload, workload_key
from citywatch.core.identity.x509 import verify_x509_svid
from citywatch.core.label import BOTTOM, Label
from citywatch.core.signature import parse_spki, thumbprint
from citywatch.service.authority import Authority, p256
from citywatch.service.freshness import Freshness
from citywatch.service.issuer import Lifetimes
from citywatch.service.ports import Append
from citywatch.service.vouching import Vouching, attest
from citywatch.service.workload import ACCOUNTS, Run, Workloads
from tests.identity_city import BILLING, DOMAIN, GATEWAY, HOUR, LEEWAY, City, signer
from tests.unit.core.identity.test_elsewhere import Neighbour


def program(files: Mapping[str, str] | None = None, **changed: tuple[str, ...] | str) -> Measured:
    fields = {"command": ("/usr/bin/python3", "agent.py"), "folder": "/srv", "variables": (), "also": ()}
    return Measured(**{**fields, **changed}, files=files or {"/srv/agent.py": "a" * 64})  # type: ignore[arg-type]


class World(City):
    """A city with the agent billing, and the program that its files are just now."""

    def __init__(self) -> None:
        super().__init__()
        self.there = program()
        self.attested_by: str | None = None
        self.attestors: dict[str, str] = {}
        self.workloads = Workloads(
            store=self.store,
            clock=self.clock,
            replica="r1",
            authority=lambda: self.issuing(),
            domains=lambda: Domains(home=self.bundle, others=self.others),
            lifetimes=lambda name: Lifetimes(HOUR, HOUR // 4),
            leeway_ms=LEEWAY,
            attested_by=lambda name: self.attested_by,
            attestors=self.attestors,
        )
        self.others: dict[str, Believed] = {}
        self.down = False
        self.number = 1

    def issuing(self) -> Authority:
        if self.down:
            raise Unavailable(Code.STORE_UNAVAILABLE, "the keys are away")
        return self.authority

    async def measure(self) -> Measured:
        return self.there

    async def look(self) -> int:
        return self.number

    async def ready(self) -> World:
        self.key = signer()
        await self.admin.add_agent("billing", self.key.public, "alice")
        await self.workloads.register("billing", self.there, "alice", lambda *_: True)
        return self

    async def begin(self) -> Run:
        self.own = p256(signer().public)
        return await self.workloads.begin("billing", self.own, self.measure, "alice")

    async def keys(self) -> tuple[str, ...]:
        rows = (await self.store.load([agent_key("billing")], [])).rows
        return parse_agent_row(rows[agent_key("billing")].value).keys


async def code_of(coroutine: object) -> Code:
    with pytest.raises(Refused) as caught:
        await coroutine  # type: ignore[misc]
    return caught.value.code


async def test_a_measured_program_gets_papers_for_its_own_key() -> None:
    city = await World().ready()
    run = await city.begin()
    certificate, token = await run.certificate(), await run.token(GATEWAY)
    shown = verify_x509_svid([certificate.value], city.bundle)
    assert (shown.agent, shown.key) == (str(BILLING), thumbprint(city.own))
    assert verify_jwt_svid(token.value, city.bundle, GATEWAY).key == thumbprint(city.own)
    assert await city.keys() == (thumbprint(city.own),)
    city.store = city.store.after_power_loss()
    kinds = [type(event) for event in await city.events()]
    assert kinds[-5:] == [ProgramMeasured, KeyReplaced, ProgramStarted, CredentialIssued, CredentialIssued]


@pytest.mark.parametrize(
    "changed",
    [
        program({"/srv/agent.py": "b" * 64}),
        program({"/srv/agent.py": "a" * 64, "/srv/helper.py": "c" * 64}),
        program({"/srv/other.py": "a" * 64}),
        program(command=("/usr/bin/python3", "agent.py", "--debug")),
        program(folder="/tmp"),
        program(variables=("PYTHONPATH",)),
        program(also=("/srv/more",)),
    ],
)
async def test_a_program_that_changed_gets_no_papers(changed: Measured) -> None:
    city = await World().ready()
    run = await city.begin()
    city.there = changed
    assert await code_of(city.begin()) is Code.WORKLOAD_CHANGED
    assert await code_of(run.certificate()) is Code.WORKLOAD_CHANGED
    assert await code_of(run.token(GATEWAY)) is Code.WORKLOAD_CHANGED
    await city.workloads.register("billing", changed, "alice", lambda *_: True)
    assert (await city.begin()).agent == BILLING


async def attest_program(city: World, by: KeySigner, measured: Measured) -> None:
    now = city.clock.now_ms()
    said = Said(
        agent=BILLING, builder="ci", program=measured_digest(measured), files=(), built_at=now, until=now + HOUR
    )
    vouching = Vouching(store=city.store, clock=city.clock, replica="r1", domain=DOMAIN)
    await vouching.hold_attestation("billing", attest(said, by), "ci", parse_spki(by.public), "alice")


async def test_an_agent_that_needs_an_attestor_s_word_gets_papers_only_for_the_program_that_was_attested() -> None:
    ci, changed = signer(), program({"/srv/agent.py": "b" * 64})
    city = await World().ready()
    city.attested_by, city.attestors["ci"] = "ci", thumbprint(parse_spki(ci.public))
    assert await code_of(city.begin()) is Code.NOT_ATTESTED
    await attest_program(city, ci, city.there)
    run = await city.begin()
    assert (await run.certificate()).not_after > city.clock.now_ms()
    city.there = changed
    assert await code_of(city.workloads.register("billing", changed, "alice", lambda *_: True)) is Code.NOT_ATTESTED
    city.there = program()
    await attest_program(city, ci, changed)  # it is not what runs
    assert await code_of(run.certificate()) is Code.NOT_ATTESTED
    assert await code_of(run.token(GATEWAY)) is Code.NOT_ATTESTED
    await attest_program(city, ci, program())
    assert (await run.token(GATEWAY)).not_after > city.clock.now_ms()
    city.clock.advance(HOUR)
    assert await code_of(run.certificate()) is Code.NOT_ATTESTED, "what was attested has ended"
    await attest_program(city, ci, program())
    city.attestors.clear()
    assert await code_of(run.certificate()) is Code.NOT_ATTESTED, "nobody believes it any more"


async def test_what_has_begun_does_not_renew_elsewhere_under_a_key_that_outlives_it() -> None:
    # the attack: the program has its key from its socket, and asks the gateway for papers for one of its own choice
    city = await World().ready()
    own, chosen = signer(), signer()
    run = await city.workloads.begin("billing", p256(own.public), city.measure, "alice")
    for following in (None, chosen):
        proof = city.proof(own, nonce=f"{following is None!s:>20}", following=following)
        assert await code_of(city.issuer.renew(proof)) is Code.WORKLOAD_CHANGED
    assert await city.keys() == (thumbprint(p256(own.public)),)
    await run.end(p256(signer().public))
    assert await code_of(city.issuer.renew(city.proof(own, nonce="e" * 20))) is Code.KEY_NOT_REGISTERED


async def test_who_was_never_measured_or_is_revoked_does_not_begin() -> None:
    city = World()
    assert await code_of(city.begin()) is Code.AGENT_UNKNOWN
    await city.admin.add_agent("billing", signer().public, "alice")
    assert await code_of(city.begin()) is Code.WORKLOAD_CHANGED
    await city.workloads.register("billing", city.there, "alice", lambda *_: True)
    await city.admin.revoke_agent("billing", "stolen", "alice")
    assert await code_of(city.begin()) is Code.AGENT_REVOKED
    with pytest.raises(Malformed):
        measured_digest(program(command=()))
    with pytest.raises(Malformed):
        measured_digest(Measured(command=("a",), folder="/", variables=(), also=(), files={}))


async def test_each_agent_has_an_account_of_its_own_for_good() -> None:
    city = await World().ready()
    await city.admin.add_agent("other", signer().public, "alice")
    taken = ACCOUNTS[1]
    first, _ = await city.workloads.register("billing", city.there, "alice", lambda uid, _: uid != taken)
    second, _ = await city.workloads.register("other", city.there, "alice", lambda uid, _: uid != taken)
    assert (first.uid, second.uid) == (ACCOUNTS[0], ACCOUNTS[2])
    rows = (await city.store.load([workload_key("billing")], [])).rows
    assert parse_workload(rows[workload_key("billing")].value) == first
    check_measured(first, city.there)


async def test_the_end_of_a_run_voids_its_papers() -> None:
    city = await World().ready()
    run = await city.begin()
    token = await run.token(GATEWAY)
    nobody = p256(signer().public)
    await run.end(nobody)
    assert await city.keys() == (thumbprint(nobody),)
    assert await code_of(run.token(GATEWAY)) is Code.KEY_NOT_REGISTERED
    assert await code_of(run.validate(token.value.decode(), GATEWAY)) is Code.KEY_NOT_REGISTERED
    await run.end(p256(signer().public))
    assert await city.keys() == (thumbprint(nobody),), "what is over does not end what came after it"


async def test_the_next_run_voids_the_one_before_and_has_received_what_it_has() -> None:
    city = await World().ready()
    run = await city.begin()
    own = thumbprint(city.own)
    before = context_key(str(BILLING), own)
    dirty = Context(label=Label(origins=frozenset({"tool:x"}), readers=BOTTOM.readers), items=1)
    await city.store.append(Append(puts=((before, msgspec.json.encode(dirty)),)))
    await city.begin()
    after = context_key(str(BILLING), thumbprint(city.own))
    row = (await city.store.load([after], [])).rows[after]
    context = msgspec.json.decode(row.value, type=Context)
    assert context.label == dirty.label
    assert home_of(after, context) == home_of(before, dirty)
    assert await code_of(run.certificate()) is Code.KEY_NOT_REGISTERED


@pytest.mark.parametrize("head_start", range(5))
async def test_a_revocation_in_the_same_moment_leaves_no_paper_behind_it(head_start: int) -> None:
    city = await World().ready()
    run = await city.begin()

    async def later() -> None:
        for _ in range(head_start):
            await asyncio.sleep(0)
        await city.admin.revoke_agent("billing", "stolen", "alice")

    await asyncio.gather(later(), run.certificate(), return_exceptions=True)
    assert type((await city.events())[-1]).__name__ == "AgentRevoked"


async def test_a_token_is_for_one_audience_and_is_validated_for_it_now() -> None:
    city = await World().ready()
    run = await city.begin()
    token = (await run.token("https://mail.example")).value.decode()
    assert (await run.validate(token, "https://mail.example")).agent == str(BILLING)
    assert await code_of(run.validate(token, GATEWAY)) is Code.CREDENTIAL_WRONG_AUDIENCE
    city.clock.advance(HOUR // 4 + LEEWAY)
    assert await code_of(run.validate(token, "https://mail.example")) is Code.CREDENTIAL_EXPIRED
    with pytest.raises(Malformed):
        await run.token("")


async def test_papers_are_renewed_at_half_of_their_life_and_when_the_clock_was_put_back() -> None:
    city = await World().ready()
    fresh = Freshness(await city.begin(), city.look)
    with pytest.raises(Unavailable):
        fresh.shown()
    await fresh.look()
    first = fresh.shown()
    city.clock.advance(HOUR // 2 - 2_000)
    await fresh.look()
    assert fresh.shown() is first
    city.clock.advance(2_000)
    await fresh.look()
    second = fresh.shown()
    assert second.certificate.not_after > first.certificate.not_after
    city.clock.advance(-HOUR)
    await fresh.look()
    assert fresh.shown().certificate.not_after < second.certificate.not_after
    city.clock.advance(40 * HOUR)
    await fresh.look()
    assert fresh.shown().certificate.not_after == city.clock.now_ms() + HOUR


async def test_while_the_authority_is_down_live_papers_go_on_until_they_expire() -> None:
    city = await World().ready()
    run = await city.begin()
    fresh = Freshness(run, city.look)
    await fresh.look()
    first, issued = fresh.shown(), len(await city.events())
    city.down = True
    city.clock.advance(HOUR - 1_000)
    await fresh.look()
    assert fresh.shown() is first
    assert isinstance(fresh.failed, Unavailable)
    with pytest.raises(Unavailable):
        await run.token(GATEWAY)
    city.clock.advance(1_000)
    await fresh.look()
    with pytest.raises(Unavailable):
        fresh.shown()
    assert len(await city.events()) == issued
    city.down = False
    await fresh.look()
    assert fresh.failed is None
    assert fresh.shown().certificate.not_after > city.clock.now_ms()


async def test_streams_see_each_change_and_end_with_the_reason() -> None:
    city = await World().ready()
    fresh = Freshness(await city.begin(), city.look)
    await fresh.look()
    stream = fresh.follow()
    first = await anext(stream)
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    await fresh.look()
    await asyncio.sleep(0)
    assert not waiting.done(), "nothing changed"
    city.bundle = msgspec.structs.replace(city.bundle, sequence=2)
    await fresh.look()
    second = await waiting
    assert (second.bundle.sequence, second.certificate) == (2, first.certificate)
    city.number = 2
    await fresh.look()
    assert (await anext(stream)).certificate != first.certificate
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    await city.admin.revoke_agent("billing", "stolen", "alice")
    await fresh.look()
    assert await code_of(waiting) is Code.AGENT_REVOKED
    with pytest.raises(Refused):
        fresh.shown()


async def test_a_changed_program_is_over_from_the_next_look_on() -> None:
    city = await World().ready()
    fresh = Freshness(await city.begin(), city.look)
    await fresh.look()
    city.there = program({"/srv/agent.py": "b" * 64})
    await fresh.look()
    city.there = program()
    await fresh.look()
    with pytest.raises(Refused) as caught:
        fresh.shown()
    assert caught.value.code is Code.WORKLOAD_CHANGED, "and putting the file back brings nothing back"


async def test_what_changed_since_it_was_read_issues_nothing() -> None:
    city = await World().ready()
    run = await city.begin()
    issued = len(await city.events())

    async def measure() -> Measured:  # the revocation comes when everything has been looked at
        await city.admin.revoke_agent("billing", "stolen", "alice")
        return city.there

    run._measure = measure
    with pytest.raises(Unavailable):
        await run.certificate()
    assert [type(event).__name__ for event in (await city.events())[issued:]] == ["AgentRevoked"]


@pytest.mark.parametrize("standing", ["halted", "quarantined"])
async def test_who_is_stopped_gets_nothing_and_the_end_of_its_run_counts_all_the_same(standing: str) -> None:
    city = await World().ready()
    run = await city.begin()
    row = parse_agent_row((await city.store.load([agent_key("billing")], [])).rows[agent_key("billing")].value)
    stopped = msgspec.structs.replace(row, **{standing: True})
    await city.store.append(Append(puts=((agent_key("billing"), format_row(stopped)),)))
    with pytest.raises(Refused) as caught:
        await run.certificate()
    assert caught.value.code is stopped.refusal
    await run.end(p256(signer().public))
    assert thumbprint(city.own) not in await city.keys(), "and when it may go on, the papers of that run do not"


async def test_other_domains_bundles_are_shown_and_each_change_of_them() -> None:
    city = await World().ready()
    fresh = Freshness(await city.begin(), city.look)
    await fresh.look()
    stream = fresh.follow()
    assert (await anext(stream)).others == {}
    partner = Neighbour("partner.example", "partner authority").bundle
    city.others = {"partner.example": Believed(partner)}
    await fresh.look()
    second = await anext(stream)
    assert second.others == {"partner.example": partner}
    city.others = {}
    await fresh.look()
    third = await anext(stream)
    assert (third.others, third.certificate) == ({}, second.certificate)


async def test_a_token_of_another_domain_is_validated_by_that_domain_s_bundle_alone() -> None:
    city = await World().ready()
    run = await city.begin()
    partner, rival = Neighbour("partner.example", "partner authority"), Neighbour("rival.example", "rival authority")
    city.others = {one.domain: Believed(one.bundle) for one in (partner, rival)}
    name, mail = "spiffe://partner.example/ns/x/whoever", "https://mail.example"
    times: dict[str, Any] = {"iat": city.clock.now_ms() // 1000, "exp": city.clock.now_ms() // 1000 + 60, "aud": mail}
    assert (await run.validate(partner.token(name, **times).decode(), mail)).agent == name
    assert await code_of(run.validate(rival.token(name, **times).decode(), mail)) is Code.CREDENTIAL_UNTRUSTED
    forged = rival.token(str(BILLING), **times, citywatch_key="A" * 43).decode()
    assert await code_of(run.validate(forged, mail)) is Code.CREDENTIAL_UNTRUSTED


async def test_an_account_that_is_no_longer_ours_is_exchanged_when_the_program_is_measured() -> None:
    """Another state folder of the machine has it by now."""
    city = await World().ready()
    first, _ = await city.workloads.register("billing", city.there, "alice", lambda *_: True)
    second, _ = await city.workloads.register("billing", city.there, "alice", lambda uid, _: uid != first.uid)
    assert second.uid != first.uid
    third, _ = await city.workloads.register("billing", city.there, "alice", lambda *_: True)
    assert third.uid == second.uid
