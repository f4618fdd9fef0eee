"""What an issuer says of an agent decides: a claim that changed or is absent turns a permitted call into Deny."""

from __future__ import annotations

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from citywatch.adapters.keys import KeySigner
from citywatch.core import events
from citywatch.core.enforce.admit import admit
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.identity.registration import agent_key, parse_agent_row
from citywatch.core.policy.check import check_policies
from citywatch.core.signature import Ed25519Key, parse_spki
from citywatch.main.replay import rebuild
from citywatch.service.admin import Admin
from citywatch.service.hindsight import agrees, then
from citywatch.service.vouching import Statement, Vouching, issuer_of
from tests.identity_city import signer
from tests.simulation.city import AGENT, DOMAIN, City, code_of

DAY = 86_400_000
SIGNER = KeySigner(Ed25519PrivateKey.generate())
SAID = Statement(owner="Accounts", model="m-1", configuration="sha256:c", prompt="sha256:p", capabilities=("look",))
POLICY = """
@id("vouched") permit(principal is Agent, action in Action::"read", resource)
when {
  principal has credential && principal.credential.issuer == "spiffe://city.example/authority" &&
  principal.credential.owner == "Accounts" &&
  principal.credential has model && principal.credential.model == "m-1" &&
  principal.credential has configuration && principal.credential.configuration == "sha256:c" &&
  principal.credential has prompt && principal.credential.prompt == "sha256:p" &&
  principal.credential.capabilities.contains(context.name)
};
"""


class Town(City):
    def __init__(self, policy: str = POLICY) -> None:
        super().__init__(policy)
        self.vouching = Vouching(store=self.store, clock=self.clock, replica="r1", domain=DOMAIN)

    async def vouch(self, said: Statement = SAID) -> bytes:
        return await self.vouching.issue("clerk", said, SIGNER, DAY, "operator")

    async def looks(self) -> str | None:
        return code_of(await self.ask(self.call()))


@pytest.fixture
async def town() -> Town:
    town = Town()
    await town.settle_in()
    return town


async def test_without_a_credential_nothing_is_permitted_and_with_one_it_is(town: Town) -> None:
    assert await town.looks() == "no_permit"
    await town.vouch()
    assert await town.looks() is None


@pytest.mark.parametrize(
    "change",
    [
        {"owner": "Mallory"},
        {"model": "m-2"},
        {"model": ""},
        {"configuration": "sha256:d"},
        {"configuration": ""},
        {"prompt": "sha256:q"},
        {"prompt": ""},
        {"capabilities": ("pay",)},
        {"capabilities": ()},
    ],
)
async def test_a_claim_that_changed_or_is_absent_turns_a_permitted_call_into_deny(
    town: Town, change: dict[str, object]
) -> None:
    await town.vouch()
    assert await town.looks() is None
    await town.vouch(msgspec.structs.replace(SAID, **change))
    assert await town.looks() == "no_permit"


async def test_a_credential_that_ended_or_was_withdrawn_is_absent(town: Town) -> None:
    await town.vouch()
    assert await town.looks() is None
    await town.vouching.withdraw("clerk", "operator")
    assert await town.looks() == "no_permit"
    await town.vouch()
    town.clock.advance(DAY - 1)
    assert await town.looks() is None
    town.clock.advance(1)
    assert await town.looks() == "no_permit"


async def test_a_policy_that_needs_a_claim_without_asking_for_it_fails_closed() -> None:
    town = Town(
        '@id("rash") permit(principal is Agent, action, resource) when { principal.credential.model == "m-1" };'
    )
    await town.settle_in()
    assert await town.looks() == "policy_error"
    assert check_policies(town.policies, town.enforcer.rules.world)
    await town.vouch()
    assert await town.looks() is None


async def test_another_issuers_word_counts_only_where_it_is_named(town: Town) -> None:
    other = KeySigner(Ed25519PrivateKey.generate())
    document = await town.vouching.issue("clerk", SAID, other, DAY, "operator")
    assert await town.looks() is None  # the operator let that key speak for the authority
    with pytest.raises(Malformed):
        await town.vouching.hold("clerk", document, issuer_of(DOMAIN), key_of(SIGNER), "operator")
    with pytest.raises(Malformed):
        await town.vouching.hold("clerk", document, "https://other.example", key_of(other), "operator")


def key_of(signer: KeySigner) -> Ed25519Key:
    key = parse_spki(signer.public)
    assert isinstance(key, Ed25519Key)
    return key


async def test_nothing_is_held_of_strangers_and_of_the_revoked(town: Town) -> None:
    with pytest.raises(Refused) as stranger:
        await town.vouching.issue("nobody", SAID, SIGNER, DAY, "operator")
    assert stranger.value.code is Code.AGENT_UNKNOWN
    admin = Admin(store=town.store, clock=town.clock, replica="r1", domain=DOMAIN)
    await admin.revoke_agent("clerk", "gone", "operator")
    with pytest.raises(Refused) as gone:
        await town.vouch()
    assert gone.value.code is Code.AGENT_REVOKED


async def test_a_name_that_comes_back_comes_without_its_credential(town: Town) -> None:
    await town.vouch()
    admin = Admin(store=town.store, clock=town.clock, replica="r1", domain=DOMAIN)
    await admin.revoke_agent("clerk", "gone", "operator")
    row = await admin.add_agent("clerk", signer().public, "operator")
    assert row.claims is None
    assert row.vouched_at == town.clock.now_ms()


async def test_what_is_held_is_an_entry_with_the_whole_credential(town: Town) -> None:
    document = await town.vouch()
    await town.vouching.withdraw("clerk", "operator")
    entered = [event for event in await town.events() if isinstance(event, events.AgentVouched)]
    assert [event.document for event in entered] == [document.decode(), ""]
    assert {event.agent for event in entered} == {AGENT}
    stored = (await town.store.after_power_loss().load([agent_key("clerk")], [])).rows[agent_key("clerk")]
    assert parse_agent_row(stored.value).claims is None


async def test_a_decision_is_judged_again_with_the_credential_of_then(town: Town) -> None:
    await town.vouch()
    assert await town.looks() is None
    log = await town.events()
    index = next(i for i, event in enumerate(log) if isinstance(event, events.Decided))
    decided = log[index]
    assert isinstance(decided, events.Decided)
    body = (await town.store.payload(index)).body  # type: ignore[union-attr]
    call = rebuild(decided, body)
    found = await then(town.store, town.enforcer.rules, index, decided, call)
    assert found.missing == ()
    assert agrees(decided, admit(found.call, found.authority, found.known, found.need, decided.at))
    town.clock.advance(1)
    await town.vouching.withdraw("clerk", "operator")
    later = await then(town.store, town.enforcer.rules, index, decided, call)
    assert later.missing == ("what was vouched for of the agent then is not kept",)
