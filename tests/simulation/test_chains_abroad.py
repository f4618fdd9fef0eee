"""A chain that another domain rooted: believed by that domain's bundle alone, within what the file leaves it."""

from __future__ import annotations

import json
from typing import Any, Self

import msgspec
import pytest

from bench.grants import Party, party
from citywatch.adapters.memory import MemoryStore
from citywatch.core import events
from citywatch.core.call import Allow, Call, Effect
from citywatch.core.delegation.caveats import ANYTHING, Caveats
from citywatch.core.delegation.frontier import Frontier
from citywatch.core.delegation.grant import parse_link
from citywatch.core.delegation.handing import Holder, next_grant, root_grant
from citywatch.core.enforce.admit import admit
from citywatch.core.enforce.chains import bundle_key
from citywatch.core.enforce.held import TaskRow, task_key
from citywatch.core.errors import Malformed
from citywatch.core.identity.bundle import TrustBundle, format_bundle
from citywatch.core.identity.credential import Credential
from citywatch.core.identity.registration import AgentRow, agent_key, format_row
from citywatch.core.limit import Equal, OneOf
from citywatch.core.log.entry import decode_event
from citywatch.core.manifest import Ceiling, Principal, ToolManifest
from citywatch.core.names import AgentId
from citywatch.core.policy.world import AgentFacts
from citywatch.core.signature import P256Key, parse_spki
from citywatch.main.replay import rebuild
from citywatch.service.federation import BundleRow
from citywatch.service.grants import Grants, sign_grant
from citywatch.service.hindsight import then
from citywatch.service.ports import Append
from citywatch.service.rehearsal import Rehearsal
from citywatch.service.tasks import Tasks
from citywatch.service.unknowns import Status
from tests.simulation.city import DOMAIN, City, code_of
from tests.simulation.flow_city import tool

PARTNER, RIVAL = "partner.example", "rival.example"
MINUTE = 60_000
PEOPLE = {
    "router": party(f"spiffe://{PARTNER}/agent/router"),
    "planner": party(f"spiffe://{PARTNER}/agent/planner"),
    "clerk": party(f"spiffe://{DOMAIN}/agent/clerk"),
    "spy": party(f"spiffe://{RIVAL}/agent/spy"),
    "anna": party("principal:anna"),
    "rival": party("principal:anna"),
    "mallory": party("principal:anna"),
    "ours": party("principal:anna"),
}
HERE = {"router": f"spiffe://{PARTNER}/agent/partner_router", "spy": f"spiffe://{RIVAL}/agent/rival_spy"}
"""What the file calls them here."""
LIST, NOTE, PAY = tool("list", of="string"), tool("note", text="string"), tool("pay", to="string")
POLICY = '@id("all") permit(principal, action, resource is Server);'
LEFT = Caveats(tools=frozenset({"bank/list", "bank/pay"}), skills=frozenset())


def frontier(domain: str, **changes: Any) -> Frontier:
    agents = {PEOPLE[name].name: ours for name, ours in HERE.items() if domain in ours}
    plain = Frontier(
        principals=frozenset({"principal:anna"}), ceiling=LEFT, longest=10 * MINUTE, calls=20, max_age=60 * MINUTE,
        agents=agents,
    )  # fmt: skip
    return msgspec.structs.replace(plain, **changes)


class Border(City):
    """Our gateway, a partner whose chains count up to a ceiling, and a rival whose papers are believed as well."""

    def __init__(self, frontiers: dict[str, Frontier] | None = None, store: MemoryStore | None = None) -> None:
        super().__init__(POLICY, store=store)
        self.configured = msgspec.structs.replace(
            self.configured,
            agents=tuple(
                AgentFacts(id=AgentId(one.split("/")[2], one.rpartition("/")[2]), roles=("payer",))
                for one in (PEOPLE["clerk"].name, *HERE.values())
            ),
            servers={
                "bank": {
                    "list": ToolManifest(effect=Effect.READ),
                    "note": ToolManifest(effect=Effect.WRITE),
                    "pay": ToolManifest(effect=Effect.IRREVERSIBLE),
                }
            },
            budgets={},
            principals={"anna": Principal(name="anna", may=("*",)), "bob": Principal(name="bob", may=("*",))},
            roots=frozenset({PEOPLE["ours"].thumb}),
            ceilings={PARTNER: Ceiling(speaks_for=frozenset({"anna"})), RIVAL: Ceiling()},
            frontiers={PARTNER: frontier(PARTNER)} if frontiers is None else frontiers,
        )
        self.enforcer.rules = self.rules(LIST, NOTE, PAY)
        self.tasks = Tasks(
            store=self.store, clock=self.clock, chance=self.chance, replica="r1", rules=self.enforcer.rules
        )
        self.grants = Grants(
            store=self.store, clock=self.clock, chance=self.chance, replica="r1", domain=DOMAIN,
            signer=PEOPLE["ours"].signer,
        )  # fmt: skip

    async def open(self) -> Self:
        await self.settle_in(LIST, NOTE, PAY)
        rows = [AgentRow(agent=ours, keys=(PEOPLE[name].name,), added_at=0) for name, ours in HERE.items()]
        rows.append(AgentRow(agent=PEOPLE["clerk"].name, keys=(PEOPLE["clerk"].thumb,), added_at=0))
        puts = tuple((agent_key(row.agent.rpartition("/")[2]), format_row(row)) for row in rows)
        await self.store.append(Append(puts=puts))
        await self.believe(PARTNER, PEOPLE["anna"])
        await self.believe(RIVAL, PEOPLE["rival"])
        return self

    async def believe(self, domain: str, *signers: Party) -> None:
        keys: dict[str, P256Key] = {}
        for one in signers:
            key = parse_spki(one.signer.public)
            assert isinstance(key, P256Key)
            keys[one.thumb] = key
        bundle = TrustBundle(domain=domain, certificates=(), keys={}, sequence=1, refresh_hint=300, principals=keys)
        row = BundleRow(domain=domain, text=format_bundle(bundle).decode(), seen=self.clock.now_ms(), by="test")
        await self.store.append(Append(puts=((bundle_key(domain), msgspec.json.encode(row)),)))

    def root(self, to: str = "router", by: str = "anna", person: str = "principal:anna", **changes: Any) -> list[str]:
        """A grant that the partner's gateway signed in Anna's name."""
        stated: dict[str, Any] = {
            "audience": frozenset({DOMAIN, PARTNER}), "not_after": self.clock.now_ms() + 5 * MINUTE, "depth": 4,
            **changes,
        }  # fmt: skip
        task, chain = stated.pop("task", "their-task"), stated.pop("chain", "their-chain-0001")
        holder = Holder(PEOPLE[to].name, PEOPLE[to].thumb)
        grant = root_grant(chain, task, person, PEOPLE[by].thumb, holder, Caveats(**stated))
        return [sign_grant(grant, PEOPLE[by].signer)]

    def hand(self, chain: list[str], to: str, by: str, left: Caveats = ANYTHING) -> list[str]:
        holder = Holder(PEOPLE[to].name, PEOPLE[to].thumb)
        return [*chain, sign_grant(next_grant(chain, holder, left), PEOPLE[by].signer)]

    def papers(self, name: str, key: str | None = None) -> Credential:
        proved = PEOPLE[key or name].thumb
        if name == "clerk":
            return self.credential(agent=PEOPLE[name].name, key=proved)
        return self.credential(agent=HERE[name], key=PEOPLE[name].name, proved=proved)

    def asking(self, name: str, chain: list[str], of: str, task: str | None, given: dict[str, Any]) -> Call:
        meta: dict[str, Any] = {**({"citywatch/task": task} if task else {}), "citywatch/chain": chain}
        params = {"name": of, "arguments": given, "_meta": meta if chain else {"citywatch/task": task}}
        return self.call(
            name=of,
            arguments=given,
            agent=self.papers(name).agent,
            body=json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode(),
            chain=tuple(chain),
            task=task,
        )

    async def does(
        self, name: str, chain: list[str], of: str = "list", /, task: str | None = "their-task", **given: Any
    ) -> str | None:
        key = given.pop("key", None)
        return code_of(await self.ask(self.asking(name, chain, of, task, given or {"of": "x"}), self.papers(name, key)))

    async def decided(self) -> list[events.Decided]:
        return [one for one in await self.events() if isinstance(one, events.Decided)]


async def test_the_partners_agent_acts_under_the_partners_grant_up_to_the_ceiling() -> None:
    town = await Border().open()
    assert await town.does("router", town.root()) is None
    assert await town.does("router", town.root(), "note", text="x") == "beyond_grant"
    last = (await town.decided())[0]
    assert last.rooted == PARTNER
    assert last.via == ("principal:anna", PEOPLE["router"].name)
    assert last.agent == HERE["router"]


async def test_an_agent_of_ours_acts_for_their_principal_through_agents_that_only_they_know() -> None:
    """For whom, through whom: a planner that no file of ours names handed it to our clerk, whose key proves it."""
    town = await Border().open()
    chain = town.hand(town.hand(town.root(), "planner", "router"), "clerk", "planner", Caveats(calls=1))
    assert await town.does("clerk", chain) is None
    assert await town.does("clerk", chain) == "budget_spent"
    assert (await town.decided())[0].via[1:] == tuple(PEOPLE[name].name for name in ("router", "planner", "clerk"))
    assert await town.does("router", chain) == "chain_not_held"


async def test_without_a_ceiling_in_the_file_it_is_refused_as_ever() -> None:
    town = await Border({}).open()
    assert await town.does("router", town.root()) == "task_not_held"
    assert not await town.decided()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"by": "mallory"}, "chain_untrusted"),  # a key that no bundle has
        ({"by": "rival"}, "chain_untrusted"),  # a good key of another domain, that speaks for its own Anna
        ({"by": "ours"}, "task_not_held"),  # ours speaks for tasks that began here
        ({"person": "principal:bob"}, "chain_untrusted"),  # the file lets them speak for Anna alone
        ({"audience": frozenset({PARTNER})}, "chain_wrong_audience"),
        ({"audience": frozenset({PARTNER, RIVAL})}, "chain_wrong_audience"),
        ({"not_after": 1}, "chain_expired"),
        ({"to": "spy"}, "chain_untrusted"),  # it begins in a domain that did not sign it
    ],
)
async def test_what_the_partner_did_not_sign_for_us_is_refused(changes: dict[str, Any], code: str) -> None:
    town = await Border({PARTNER: frontier(PARTNER), RIVAL: frontier(RIVAL)}).open()
    who = changes.get("to", "router")
    assert await town.does(who, town.root(**changes)) == code
    assert await town.does("router", town.root()) is None


async def test_a_rivals_frontier_does_not_open_the_partners() -> None:
    """Each domain's roots are judged by its own bundle: whoever is believed for its own cannot root another's."""
    town = await Border({PARTNER: frontier(PARTNER), RIVAL: frontier(RIVAL)}).open()
    assert await town.does("spy", town.root(to="spy", by="rival", task="r", chain="rivals-chain-001"), task="r") is None
    assert await town.does("router", town.root(by="rival")) == "chain_untrusted"
    assert await town.does("spy", town.root(to="spy", by="anna")) == "chain_untrusted"


async def test_a_chain_that_goes_on_into_a_third_domain_is_refused() -> None:
    """Nobody here knows that agent by the name it has in the chain, and the partner does not answer for it."""
    town = await Border({PARTNER: frontier(PARTNER), RIVAL: frontier(RIVAL)}).open()
    assert await town.does("spy", town.hand(town.root(), "spy", "router")) == "chain_revoked"
    through = town.hand(town.hand(town.root(), "spy", "router"), "clerk", "spy")
    assert await town.does("clerk", through) == "chain_revoked"


async def test_nobody_can_tell_us_what_they_took_back_so_no_chain_of_theirs_holds_for_long() -> None:
    town = await Border().open()
    far = town.root(not_after=town.clock.now_ms() + 10 * MINUTE + 1)
    assert await town.does("router", far) == "chain_untrusted"
    town.clock.advance(1)
    assert await town.does("router", far) is None
    town.clock.advance(10 * MINUTE)
    assert await town.does("router", far) == "chain_expired"


async def test_a_bundle_that_is_too_old_or_has_other_keys_by_now_proves_no_root() -> None:
    town = await Border({PARTNER: frontier(PARTNER, max_age=MINUTE)}).open()
    assert await town.does("router", town.root()) is None
    town.clock.advance(MINUTE)
    assert await town.does("router", town.root()) == "chain_untrusted"
    await town.believe(PARTNER, PEOPLE["anna"])
    assert await town.does("router", town.root()) is None
    await town.believe(PARTNER, PEOPLE["mallory"])
    assert await town.does("router", town.root()) == "chain_untrusted"
    await town.believe(PARTNER)
    assert await town.does("router", town.root()) == "chain_untrusted"


async def test_a_link_that_widens_or_is_spliced_in_is_refused_here_too() -> None:
    town = await Border().open()
    narrow = town.root(calls=2)
    with pytest.raises(Malformed):
        town.hand(narrow, "clerk", "router", Caveats(calls=3))
    spliced = [narrow[0], town.hand(town.root(chain="their-chain-0002"), "clerk", "router")[1]]
    assert await town.does("clerk", spliced) == "chain_broken"
    assert await town.does("router", town.root(), key="planner") == "chain_not_held"


@pytest.mark.parametrize("what", ["domain", "root", "grant", "chain", "principal", "alias"])
async def test_what_is_withdrawn_here_is_void_at_once(what: str) -> None:
    town = await Border().open()
    chain = town.hand(town.root(), "clerk", "router")
    assert await town.does("clerk", chain) is None
    if what == "alias":
        row = AgentRow(agent=HERE["router"], keys=(PEOPLE["router"].name,), added_at=0, revoked=True)
        await town.store.append(Append(puts=((agent_key("partner_router"), format_row(row)),)))
    else:
        name = {
            "domain": f"domain:{PARTNER}",
            "root": f"root:{PEOPLE['anna'].thumb}",
            "grant": f"grant:{parse_link(chain[0]).hash}",
            "chain": "chain:their-chain-0001",
            "principal": "principal:anna",
        }[what]
        await town.grants.withdraw(name, "operator", "turned")
    assert await town.does("clerk", chain) == "chain_revoked"


async def test_what_is_withdrawn_while_a_server_works_takes_its_reply_back() -> None:
    town = await Border().open()
    send = town.upstream.send

    async def late(*given: Any, **more: Any) -> Any:
        await town.grants.withdraw(f"domain:{PARTNER}", "operator", "turned")
        return await send(*given, **more)

    town.upstream.send = late  # type: ignore[method-assign]
    assert await town.does("router", town.root()) == "chain_revoked"


async def test_a_task_of_theirs_is_on_file_here_and_can_be_ended_and_stopped() -> None:
    town = await Border().open()
    assert await town.does("router", town.root(), "note", text="x") == "beyond_grant"  # a refusal keeps it too
    stored = (await town.store.load((task_key("their-task"),), ())).rows[task_key("their-task")]
    row = msgspec.json.decode(stored.value, type=TaskRow)
    assert (row.home, row.principal, row.agent) == (PARTNER, "anna", PEOPLE["router"].name)
    assert await town.does("router", town.root()) is None
    halted = msgspec.structs.replace(row, halted=True)
    await town.store.append(Append(puts=((task_key("their-task"), msgspec.json.encode(halted)),)))
    assert await town.does("router", town.root()) == "halted"
    await town.store.append(Append(puts=((task_key("their-task"), msgspec.json.encode(row)),)))
    await town.tasks.end("their-task", "operator", "enough")
    assert await town.does("router", town.root()) == "task_not_held"


async def test_all_chains_of_one_task_of_theirs_share_what_the_file_leaves_it() -> None:
    """Whoever roots a second chain for the same task has no second budget."""
    town = await Border({PARTNER: frontier(PARTNER, calls=3)}).open()
    assert await town.does("router", town.root()) is None
    assert await town.does("router", town.root(chain="their-chain-0002")) is None
    assert await town.does("clerk", town.hand(town.root(), "clerk", "router")) is None
    assert await town.does("clerk", town.hand(town.root(), "clerk", "router")) == "budget_spent"
    assert await town.does("router", town.root(chain="their-chain-0003")) == "budget_spent"


async def test_a_chain_that_does_not_hold_takes_neither_the_name_of_their_task_nor_its_calls() -> None:
    """The attack: whoever heard of a task makes up a root for it, or shows a link of another, before they come."""
    town = await Border({PARTNER: frontier(PARTNER, calls=1)}).open()
    forged = town.root(by="mallory", person="principal:bob")
    stolen = town.hand(town.root(), "clerk", "router", Caveats(calls=1))
    for _ in range(3):
        assert await town.does("router", forged) == "chain_untrusted"
        assert await town.does("router", stolen) == "chain_not_held"
    assert task_key("their-task") not in (await town.store.load((task_key("their-task"),), ())).rows
    assert await town.does("clerk", stolen) is None


async def test_a_chain_of_theirs_does_not_get_into_a_task_of_ours() -> None:
    """The attack: a partner calls its task as one of ours is called, whose person said more to the agent."""
    town = await Border().open()
    ours = await town.tasks.start("bob", "clerk", "Pay all that is due", "test")
    chain = town.hand(town.root(task=ours), "clerk", "router")
    assert await town.does("clerk", chain, task=ours) == "task_not_held"
    assert await town.does("clerk", [], task=ours) is None


async def test_a_task_of_theirs_is_nothing_without_their_chain() -> None:
    """Here the alias of the agent reads like the name that its own domain gave it, and the row names that one."""
    town = await Border().open()
    row = TaskRow(agent=HERE["router"], principal="anna", started=1, home=PARTNER)
    await town.store.append(Append(puts=((task_key("their-task"), msgspec.json.encode(row)),)))
    assert await town.does("router", []) == "task_not_held"
    with pytest.raises(Malformed, match="no task"):
        await town.grants.root("their-task", ANYTHING, MINUTE, 1, "anna")


async def test_one_task_of_theirs_is_one_persons_and_one_agents() -> None:
    town = await Border({PARTNER: frontier(PARTNER, principals=frozenset({"principal:anna", "principal:bob"}))}).open()
    assert await town.does("router", town.root()) is None
    assert await town.does("router", town.root(person="principal:bob")) == "chain_revoked"


async def test_what_their_grant_binds_narrows_and_entitles_to_nothing() -> None:
    town = await Border().open()
    chain = town.root(arguments={"bank/pay": {"to": Equal("mallory")}})
    assert await town.does("router", chain, "pay", to="bob") == "beyond_grant"
    assert await town.does("router", chain, "pay", to="mallory") == "approval_required"


async def test_the_ceiling_binds_arguments_as_well() -> None:
    within = msgspec.structs.replace(LEFT, arguments={"bank/list": {"of": OneOf(("orders",))}})
    town = await Border({PARTNER: frontier(PARTNER, ceiling=within)}).open()
    assert await town.does("router", town.root(), of="salaries") == "beyond_grant"
    assert await town.does("router", town.root(), of="orders") is None


async def test_the_call_names_the_task() -> None:
    town = await Border().open()
    assert await town.does("router", town.root(), task=None) == "chain_wrong_task"
    assert await town.does("router", town.root(), task="another") == "chain_wrong_task"


async def test_grants_of_ours_over_the_border_are_judged_as_before() -> None:
    town = await Border().open()
    town.enforcer.rules = msgspec.structs.replace(town.enforcer.rules, roots=frozenset({PEOPLE["ours"].thumb}))
    task = await town.tasks.start("anna", "clerk", "Look", "test")
    chain = [await town.grants.root(task, ANYTHING, MINUTE, 2, "anna")]
    holder = Holder(HERE["router"], PEOPLE["router"].thumb)  # as it is called here
    chain.append(sign_grant(next_grant(chain, holder, ANYTHING), PEOPLE["clerk"].signer))
    assert await town.does("router", chain, "note", task=task, text="x") == "approval_required"
    assert (await town.decided())[-1].rooted == ""
    assert await town.does("router", chain, task=task) is None


async def test_an_entry_under_their_chain_is_judged_the_same_again() -> None:
    town = await Border().open()
    chain = town.hand(town.root(), "clerk", "router")
    for name, given in (("router", town.root()), ("clerk", chain)):
        await town.does(name, given)
        await town.does(name, given, "note", text="x")
    rules, judged = town.enforcer.rules, []
    for index, leaf in enumerate(await town.store.entries(0, 10**6)):
        one, payload = decode_event(leaf), await town.store.payload(index)
        if isinstance(one, events.Decided) and payload is not None:
            past = await then(town.store, rules, index, one, rebuild(one, payload.body))
            found = admit(past.call, past.authority, past.known, past.need, one.at)
            judged.append((one.code, None if isinstance(found, Allow) else found.reason.code.value))
    assert judged == [(None, None), ("beyond_grant", "beyond_grant")] * 2
    tried = [one async for one in Rehearsal(town.store, MemoryStore(), rules, rebuild).run()]
    assert [one.status for one in tried] == [Status.SAME] * 4
