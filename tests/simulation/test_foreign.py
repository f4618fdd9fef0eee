"""An agent of another trust domain in our city: one context whatever its keys; chains end at the key that it proves."""

from __future__ import annotations

import msgspec
import pytest

from bench.grants import party
from citywatch.core import events
from citywatch.core.call import Allow
from citywatch.core.delegation.caveats import ANYTHING
from citywatch.core.delegation.handing import Holder, next_grant
from citywatch.core.enforce.admit import admit
from citywatch.core.errors import Malformed
from citywatch.core.identity.credential import Credential, Kind
from citywatch.core.log.entry import decode_event
from citywatch.core.names import AgentId
from citywatch.core.policy.world import AgentFacts
from citywatch.main.replay import rebuild
from citywatch.service.admin import Admin
from citywatch.service.grants import sign_grant
from citywatch.service.hindsight import then
from tests.simulation.city import DOMAIN, code_of
from tests.simulation.test_chains import KEYS, LIST, NOTE, ORDERS, SPEAKER, Town

PARTNER = AgentId("partner.example", "courier")
CALLED = "spiffe://partner.example/ns/prod/sa/courier"
KEYS["courier"] = party(str(PARTNER))
KEYS["courier, later"] = party(str(PARTNER))
KEYS["stranger"] = party(str(PARTNER))


class Border(Town):
    """A town with a courier from over the border, whose own authority gives it keys as it likes."""

    def __init__(self, *bound: str) -> None:
        super().__init__(*bound)
        own = tuple(self.configured.agents)
        self.configured = msgspec.structs.replace(
            self.configured, agents=(*own, AgentFacts(id=PARTNER, roles=("worker",)))
        )
        self.enforcer.rules = self.rules(LIST, NOTE)
        self.admin = Admin(store=self.store, clock=self.clock, replica="r1", domain=DOMAIN)

    async def opened(self) -> Border:
        await self.begin()
        await self.admin.recognise(PARTNER, CALLED, "operator")
        return self

    def papers(self, name: str, key: str | None = None) -> Credential:
        if not name.startswith("courier"):
            return super().papers(name, key)
        proved = "" if key == "bearer" else KEYS[key or name].thumb
        shown = self.credential(agent=str(PARTNER), key=CALLED)
        return msgspec.structs.replace(shown, proved=proved, kind=Kind.X509 if proved else Kind.JWT)


async def test_a_courier_acts_as_policy_says_of_its_domain() -> None:
    town = await Border().opened()
    free = town.asking("courier", [], of="orders", task=None)
    assert code_of(await town.ask(free, town.papers("courier"))) is None
    told = [decode_event(leaf) for leaf in await town.store.entries(0, 100)]
    (decided,) = [one for one in told if isinstance(one, events.Decided) and one.agent == str(PARTNER)]
    assert (decided.key, decided.proved) == (CALLED, KEYS["courier"].thumb)


async def test_a_grant_over_the_border_holds_for_the_key_that_it_names_alone() -> None:
    town = await Border("courier").opened()
    chain = town.hand(town.root, "courier", ORDERS)
    assert await town.does("courier", chain, of="orders") is None
    assert await town.does("courier", chain, of="salaries") == "beyond_grant"
    assert await town.does("courier", chain, key="courier, later", of="orders") == "chain_not_held"
    assert await town.does("courier", chain, key="bearer", of="orders") == "chain_not_held"
    assert await town.does("courier", [], of="orders") == "task_not_held"


async def test_a_link_to_a_name_instead_of_a_key_cannot_be_written() -> None:
    """The row knows the courier by a name: a grant to that name would be anybody's of its domain."""
    town = await Border("courier").opened()
    with pytest.raises(Malformed, match="delegate_thumb"):
        sign_grant(next_grant(town.root, Holder(str(PARTNER), CALLED), ANYTHING), KEYS["router"].signer)


async def test_a_courier_hands_on_and_its_revocation_takes_all_beneath_it() -> None:
    town = await Border().opened()
    chain = town.hand(town.root, "courier")
    further = town.hand(chain, "clerk", ORDERS, by="courier")
    assert await town.does("clerk", further, of="orders") is None
    await town.admin.revoke_key("courier", KEYS["courier"].thumb, "lost", "operator")
    assert await town.does("clerk", further, of="orders") == "chain_revoked"
    assert await town.does("courier", chain, of="orders") == "key_revoked"
    again = town.hand(town.root, "courier, later")
    assert await town.does("courier, later", again, of="orders") is None
    await town.admin.revoke_agent("courier", "turned", "operator")
    assert await town.does("courier, later", again, of="orders") == "agent_revoked"


async def test_a_chain_that_begins_over_the_border_is_refused() -> None:
    town = await Border().opened()
    speaker = party("principal:anna")
    assert speaker.thumb != SPEAKER.thumb
    rooted = town.root[0]
    town.grants._signer = speaker.signer
    theirs = [await town.grants.root(town.task, ORDERS, 60_000, 3, "anna")]
    assert rooted != theirs[0]
    assert await town.does("router", theirs, of="orders") == "chain_untrusted"
    assert await town.does("courier", town.hand(theirs, "courier"), of="orders") == "chain_untrusted"


async def test_new_keys_clean_no_context() -> None:
    """Its authority can give it a key for each request: what it has read would be forgotten each time."""
    town = await Border().opened()
    before = [key for key, _ in await town.store.scan("context")]
    for key in ("courier", "courier, later"):
        call = town.asking("courier", [], of="orders", task=None)
        assert code_of(await town.ask(call, town.papers("courier", key))) is None
    contexts = [key for key, _ in await town.store.scan("context") if key not in before]
    assert len([one for one in contexts if CALLED in one]) == 1
    assert not any(KEYS[key].thumb in one for one in contexts for key in ("courier", "courier, later"))


async def test_its_calls_are_decided_again_as_they_were() -> None:
    town = await Border("courier").opened()
    chain = town.hand(town.root, "courier", ORDERS)
    for of in ("orders", "salaries"):
        await town.does("courier", chain, of=of)
    judged = []
    for index, leaf in enumerate(await town.store.entries(0, 100)):
        one, payload = decode_event(leaf), await town.store.payload(index)
        if isinstance(one, events.Decided) and payload is not None:
            past = await then(town.store, town.enforcer.rules, index, one, rebuild(one, payload.body))
            found = admit(past.call, past.authority, past.known, past.need, one.at)
            judged.append((one.code, None if isinstance(found, Allow) else found.reason.code.value))
    assert judged == [(None, None), ("beyond_grant", "beyond_grant")]
