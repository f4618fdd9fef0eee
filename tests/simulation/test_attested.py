"""What a builder attests of what an agent runs decides: changed, ended, withdrawn or disbelieved, it is absent."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from citywatch.adapters.keys import KeySigner
from citywatch.core import events
from citywatch.core.enforce.admit import admit
from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from citywatch.core.identity.attestation import Attestation, Said
from citywatch.core.identity.registration import agent_key, format_row, parse_agent_row
from citywatch.core.names import AgentId
from citywatch.core.signature import Ed25519Key, parse_spki, thumbprint
from citywatch.main.replay import rebuild
from citywatch.service.admin import Admin
from citywatch.service.hindsight import agrees, then
from citywatch.service.ports import Append
from citywatch.service.vouching import Statement, Vouching, attest, issuer_of
from tests.identity_city import signer
from tests.simulation.city import AGENT, DOMAIN, City, code_of

HOUR = 3_600_000
CI, OTHER = KeySigner(Ed25519PrivateKey.generate()), signer()
PROMPT, LOCK = "a" * 64, "b" * 64
POLICY = """
@id("attested") permit(principal is Agent, action in Action::"read", resource)
when {
  principal has attested && principal.attested.by == "ci" && principal.attested.builder == "runner-7" &&
  principal.attested.kind == "urn:citywatch:attestation:agent:v1" &&
  principal.attested.subjects.contains("sha256:LOCK") &&
  principal has credential && principal.credential has prompt &&
  principal.attested.subjects.contains(principal.credential.prompt)
};
""".replace("LOCK", LOCK)
BARE = '@id("reading") permit(principal is Agent, action in Action::"read", resource);'


def ed25519(one: KeySigner) -> Ed25519Key:
    key = parse_spki(one.public)
    assert isinstance(key, Ed25519Key)
    return key


def thumb(one: KeySigner) -> str:
    return thumbprint(parse_spki(one.public))


class Town(City):
    """A city where `ci` attests, and whose clerk has a credential that names its prompt."""

    def __init__(self, policy: str = POLICY, *, demanded: bool = False) -> None:
        super().__init__(policy)
        self.vouching = Vouching(store=self.store, clock=self.clock, replica="r1", domain=DOMAIN)
        self.admin = Admin(store=self.store, clock=self.clock, replica="r1", domain=DOMAIN)
        self.believe({"ci": thumb(CI)}, demanded=demanded)

    def believe(self, attestors: dict[str, str], *, demanded: bool = False) -> None:
        """What the file says from now on, as a gateway reads it when it starts."""
        self.enforcer.rules = msgspec.structs.replace(
            self.enforcer.rules, attestors=attestors, attested_by={"clerk": "ci"} if demanded else {}
        )

    async def ready(self) -> Town:
        await self.settle_in()
        said = Statement(owner="Accounts", prompt=f"sha256:{PROMPT}")
        await self.vouching.issue("clerk", said, KeySigner(Ed25519PrivateKey.generate()), 24 * HOUR, "operator")
        return self

    def said(self, **changed: object) -> Said:
        now = self.clock.now_ms()
        files = (("prompt", PROMPT), ("lockfile", LOCK))
        whole = Said(
            agent=AgentId(DOMAIN, "clerk"), builder="runner-7", program="", files=files, built_at=now, until=now
        )
        return msgspec.structs.replace(whole, until=now + HOUR, **changed)

    async def hold(self, by: KeySigner = CI, attestor: str = "ci", **changed: Any) -> Attestation:
        envelope = attest(self.said(**changed), by)
        return await self.vouching.hold_attestation("clerk", envelope, attestor, parse_spki(by.public), "operator")

    async def looks(self) -> str | None:
        return code_of(await self.ask(self.call()))


async def test_without_an_attestation_nothing_is_permitted_and_with_one_it_is() -> None:
    town = await Town().ready()
    assert await town.looks() == "no_permit"
    await town.hold()
    assert await town.looks() is None


@pytest.mark.parametrize(
    "change",
    [
        {"builder": "runner-8"},
        {"files": (("prompt", PROMPT),)},
        {"files": (("prompt", "c" * 64), ("lockfile", LOCK))},
        {"files": (("prompt", PROMPT), ("lockfile", "c" * 64))},
        {"program": LOCK, "files": (("prompt", PROMPT),)},
    ],
)
async def test_what_changed_or_is_absent_turns_a_permitted_call_into_deny(change: dict[str, Any]) -> None:
    town = await Town().ready()
    await town.hold()
    assert await town.looks() is None
    await town.hold(**change)
    assert await town.looks() == "no_permit"


async def test_one_that_ended_or_was_withdrawn_is_absent() -> None:
    town = await Town().ready()
    await town.hold()
    assert await town.looks() is None
    await town.vouching.withdraw_attestation("clerk", "operator")
    assert await town.looks() == "no_permit"
    await town.hold()
    town.clock.advance(HOUR - 1)
    assert await town.looks() is None
    town.clock.advance(1)
    assert await town.looks() == "no_permit"


@pytest.mark.parametrize("attestors", [{}, {"ci": thumb(OTHER)}, {"other": thumb(CI)}])
async def test_the_word_of_an_attestor_who_is_not_named_any_more_is_absent(attestors: dict[str, str]) -> None:
    town = await Town().ready()
    await town.hold()
    assert await town.looks() is None
    town.believe(attestors)
    assert await town.looks() == "no_permit"
    town.believe({"ci": thumb(CI)})
    assert await town.looks() is None


async def test_an_agent_that_needs_it_does_nothing_without_it_whatever_policies_say() -> None:
    town = await Town(BARE, demanded=True).ready()
    assert await town.looks() == "not_attested"
    await town.hold()
    assert await town.looks() is None
    await town.hold(OTHER, "auditor")
    assert await town.looks() == "not_attested", "another attestor's word is none of ci's"
    town.believe({"ci": thumb(CI), "auditor": thumb(OTHER)}, demanded=True)
    assert await town.looks() == "not_attested"
    await town.hold()
    town.clock.advance(HOUR)
    assert await town.looks() == "not_attested"
    town.believe({"ci": thumb(CI)})
    assert await town.looks() is None, "who need not be attested goes on"


async def test_nothing_is_held_that_does_not_verify_of_strangers_or_of_the_revoked() -> None:
    town = await Town().ready()
    envelope, key = attest(town.said(), CI), parse_spki(CI.public)
    with pytest.raises(Malformed):
        await town.vouching.hold_attestation("clerk", envelope, "ci", parse_spki(OTHER.public), "operator")
    with pytest.raises(Malformed, match="not about"):
        await town.vouching.hold_attestation("nobody", envelope, "ci", key, "operator")
    about = attest(town.said(agent=AgentId(DOMAIN, "nobody")), CI)
    with pytest.raises(Refused) as stranger:
        await town.vouching.hold_attestation("nobody", about, "ci", key, "operator")
    assert stranger.value.code is Code.AGENT_UNKNOWN
    await town.admin.revoke_agent("clerk", "gone", "operator")
    with pytest.raises(Refused) as gone:
        await town.hold()
    assert gone.value.code is Code.AGENT_REVOKED


async def test_a_name_that_comes_back_comes_without_its_attestation() -> None:
    town = await Town().ready()
    await town.hold()
    await town.admin.revoke_agent("clerk", "gone", "operator")
    row = await town.admin.add_agent("clerk", signer().public, "operator")
    assert row.attestation is None
    assert row.vouched_at == town.clock.now_ms()


async def test_what_is_held_is_an_entry_with_the_whole_envelope_and_survives_a_loss_of_power() -> None:
    town = await Town().ready()
    held = await town.hold()
    stored = (await town.store.after_power_loss().load([agent_key("clerk")], [])).rows[agent_key("clerk")]
    assert parse_agent_row(stored.value).attestation == held
    await town.vouching.withdraw_attestation("clerk", "operator")
    entered = [event for event in await town.events() if isinstance(event, events.AgentAttested)]
    assert [(event.agent, event.attestor, bool(event.envelope), bool(event.key)) for event in entered] == [
        (AGENT, "ci", True, True),
        (AGENT, "", False, False),
    ]


async def test_a_decision_is_judged_again_with_the_attestation_of_then() -> None:
    town = await Town().ready()
    await town.hold()
    assert await town.looks() is None
    log = await town.events()
    index, decided = next((i, one) for i, one in enumerate(log) if isinstance(one, events.Decided))
    payload = await town.store.payload(index)
    assert payload is not None
    call = rebuild(decided, payload.body)
    found = await then(town.store, town.enforcer.rules, index, decided, call)
    assert found.missing == ()
    assert agrees(decided, admit(found.call, found.authority, found.known, found.need, decided.at))
    town.clock.advance(1)
    await town.vouching.withdraw_attestation("clerk", "operator")
    later = await then(town.store, town.enforcer.rules, index, decided, call)
    assert later.missing == ("what was vouched for of the agent then is not kept",)


# -- an issuer of credentials that nobody believes any more ------------------------------------------------------------

OWNED = """
@id("owned") permit(principal is Agent, action in Action::"read", resource)
when { principal has credential && principal.credential.issuer == "https://auditor.example" };
"""


async def foreign(issuer: KeySigner) -> bytes:
    """A credential of the clerk that an auditor signed: ours, made in a city of the auditor's name."""
    elsewhere = Town(OWNED)
    await elsewhere.settle_in()
    return await elsewhere.vouching.issue("clerk", Statement(owner="A"), issuer, 24 * HOUR, "auditor")


async def test_a_credential_of_an_issuer_who_is_not_believed_any_more_is_absent() -> None:
    issuer, other = KeySigner(Ed25519PrivateKey.generate()), KeySigner(Ed25519PrivateKey.generate())
    town = Town(
        '@id("o") permit(principal is Agent, action in Action::"read", resource) when { principal has credential };'
    )
    await town.settle_in()
    document, key, stranger = await foreign(issuer), ed25519(issuer), ed25519(other)
    await town.vouching.hold("clerk", document, issuer_of(DOMAIN), key, "operator")
    assert await town.looks() is None
    assert await town.vouching.distrust(stranger, "operator", "not theirs") == ()
    assert await town.looks() is None, "another issuer's end is not this one's"
    assert await town.vouching.distrust(key, "operator", "key lost") == ("clerk",)
    assert await town.looks() == "no_permit"
    with pytest.raises(Refused) as again:
        await town.vouching.hold("clerk", document, issuer_of(DOMAIN), key, "operator")
    assert again.value.code is Code.CREDENTIAL_UNTRUSTED
    assert await town.vouching.distrust(key, "operator", "said again") == ()
    told = [type(one) for one in await town.events() if isinstance(one, events.IssuerDistrusted | events.AgentVouched)]
    assert told == [
        events.AgentVouched, events.IssuerDistrusted, events.IssuerDistrusted, events.AgentVouched,
    ]  # fmt: skip


async def test_an_issuer_is_distrusted_in_one_transaction_for_all_agents() -> None:
    """The fault: the command is ended in the middle, and half of the agents go on under the word of a lost key."""
    issuer = KeySigner(Ed25519PrivateKey.generate())
    town, key, others = Town(OWNED), ed25519(issuer), [f"agent-{number}" for number in range(40)]
    await town.settle_in()
    await town.vouching.hold("clerk", await foreign(issuer), issuer_of(DOMAIN), key, "operator")
    clerk = parse_agent_row((await town.store.load([agent_key("clerk")], [])).rows[agent_key("clerk")].value)
    for name in others:
        row = msgspec.structs.replace(clerk, agent=f"spiffe://{DOMAIN}/agent/{name}")
        await town.store.append(Append(puts=((agent_key(name), format_row(row)),)))
    append, appends = town.store.append, 0

    async def counted(put: Append) -> Any:
        nonlocal appends
        appends += 1
        return await append(put)

    town.store.append = counted  # type: ignore[method-assign,assignment]
    assert set(await town.vouching.distrust(key, "operator", "lost")) == {"clerk", *others}
    assert appends == 1
    rows = [parse_agent_row(row.value) for _, row in await town.store.scan("agent")]
    assert not any(row.claims for row in rows)


async def test_a_credential_that_is_held_while_all_agents_are_gone_over_is_taken_back_too() -> None:
    issuer = KeySigner(Ed25519PrivateKey.generate())
    town, key = Town(OWNED), ed25519(issuer)
    await town.settle_in()
    document, scan, waits = await foreign(issuer), town.store.scan, [True]

    async def held_just_after(kind: str) -> Any:
        found = await scan(kind)
        if waits.pop():
            waits.append(False)
            await town.vouching.hold("clerk", document, issuer_of(DOMAIN), key, "operator")
        waits.append(False)
        return found

    town.store.scan = held_just_after  # type: ignore[method-assign]
    assert await town.vouching.distrust(key, "operator", "lost") == ("clerk",)


async def test_a_row_from_before_keys_were_kept_loses_a_foreign_credential_and_keeps_ours() -> None:
    issuer = KeySigner(Ed25519PrivateKey.generate())
    town = await Town().ready()
    where = agent_key("clerk")

    async def rewrite(**changed: str) -> None:
        stored = (await town.store.load([where], [])).rows[where]
        row = parse_agent_row(stored.value)
        assert row.claims is not None
        old = msgspec.structs.replace(row, claims=msgspec.structs.replace(row.claims, **changed))
        await town.store.append(Append(puts=((where, format_row(old)),)))

    await rewrite(key="")
    assert await town.vouching.distrust(ed25519(issuer), "operator", "lost") == ()
    await rewrite(key="", issuer="https://auditor.example")
    assert await town.vouching.distrust(ed25519(issuer), "operator", "lost") == ("clerk",)


async def test_a_credential_that_is_brought_in_the_same_moment_does_not_outlive_its_issuer() -> None:
    issuer = KeySigner(Ed25519PrivateKey.generate())
    town = Town(OWNED)
    await town.settle_in()
    document, key = await foreign(issuer), ed25519(issuer)
    append, waits = town.store.append, [True]

    async def disbelieved_just_before(put: Append) -> Any:
        if waits.pop():
            waits.append(False)
            await town.vouching.distrust(key, "operator", "lost")
        waits.append(False)
        return await append(put)

    town.store.append = disbelieved_just_before  # type: ignore[method-assign,assignment]
    with pytest.raises(Unavailable):
        await town.vouching.hold("clerk", document, issuer_of(DOMAIN), key, "operator")
    stored = (await town.store.load([agent_key("clerk")], [])).rows[agent_key("clerk")]
    assert parse_agent_row(stored.value).claims is None
