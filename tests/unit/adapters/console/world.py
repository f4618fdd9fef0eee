"""A console over a store in memory, and a browser of sorts: ASGI without a socket."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from citywatch.adapters.console.app import Console
from citywatch.adapters.console.desk import Desk, Place, PolicyFile, Sight, Tested
from citywatch.adapters.console.provider import SignIn
from citywatch.adapters.files import LogDirectory
from citywatch.adapters.memory import MemoryStore
from citywatch.adapters.system import SystemChance
from citywatch.core import events
from citywatch.core.approvals.people import Approvals, Duty, Person
from citywatch.core.approvals.vigilance import Bar
from citywatch.core.enforce.rules import Configured, Rules, build_rules
from citywatch.core.identity.registration import AgentRow
from citywatch.core.log.entry import encode_event
from citywatch.main.replay import rebuild
from citywatch.service.absences import Absences
from citywatch.service.canaries import Canaries
from citywatch.service.care import Care
from citywatch.service.counting import whole
from citywatch.service.decisions import Decisions
from citywatch.service.documents import Documents
from citywatch.service.entering import Entering
from citywatch.service.following import Following
from citywatch.service.hours import Hours
from citywatch.service.lineage import Lineage
from citywatch.service.panorama import Panorama
from citywatch.service.passkeys import Passkeys
from citywatch.service.ports import Append, NewEntry
from citywatch.service.proofs import Proofs
from citywatch.service.queueing import Queueing
from citywatch.service.sets import Sets
from citywatch.service.tickets import Tickets
from citywatch.service.vigilance import Watching
from citywatch.service.voting import Voting
from tests.log_world import LOG

ORIGIN = "http://city-1.localhost:8470"
TOKEN = "t" * 43


RULES = build_rules(
    Configured(domain="t.example", agents=(), servers={}, budgets={}, digest="d", leeway_ms=0, principals={}), {}, ()
)


class Clock:
    now = 1_800_000_000_000

    def now_ms(self) -> int:
        return self.now


class Actions:
    """Remembers what it was told to do."""

    def __init__(self) -> None:
        self.done: list[tuple[str, str, str, str]] = []

    async def revoke(self, agent: str, by: str, reason: str) -> str:
        return self._did("revoke", agent, by, reason)

    async def stop(self, what: str, by: str, reason: str) -> str:
        return self._did("stop", what, by, reason)

    async def resume(self, what: str, by: str, reason: str) -> str:
        return self._did("resume", what, by, reason)

    async def quarantine(self, agent: str, by: str, reason: str) -> str:
        return self._did("quarantine", agent, by, reason)

    async def lift(self, agent: str, by: str, reason: str) -> str:
        return self._did("lift", agent, by, reason)

    def _did(self, what: str, name: str, by: str, reason: str) -> str:
        self.done.append((what, name, by, reason))
        return name


class World:
    """`console` is the application; `visit` signs somebody in and gives their browser."""

    def __init__(self, folder: Any, *, origin: str = ORIGIN, provider: SignIn | None = None, **more: Any) -> None:
        self.store, self.clock, self.actions = MemoryStore(), Clock(), Actions()
        self.decisions, self.panorama, self.lineage = Decisions(), Panorama(), Lineage()
        self.watching = Watching(self.store, Bar())
        apart = Sight(Decisions(asks=False), Panorama(asks=False))
        folds = (
            self.decisions.fold, self.panorama.fold, self.lineage.fold, self.watching.fold, apart.decisions.fold,
            apart.panorama.fold,
        )  # fmt: skip
        self.following = Following(self.store, folds)
        self.entering = Entering(store=self.store, clock=self.clock, replica="r1")
        self.agents: list[tuple[str, AgentRow]] = []
        self.said: list[str] = []
        people: dict[str, Person] = {one.name: one for one in more.pop("people", ())}
        approvals = more.pop("approvals", Approvals())
        self.tickets = Tickets(store=self.store, clock=self.clock, replica="r1", named=bool(people))
        documents = Documents(self.store, lambda: RULES, rebuild)
        care = Care(self.tickets, SystemChance(), people=people, approvals=approvals)
        self.canaries = Canaries(self.tickets, SystemChance(), self.watching, approvals.canaries)
        voting = Voting(
            self.tickets, documents, people=people, approvals=approvals, domain="t.example", weigh=whole, care=care,
            canaries=self.canaries,
        )  # fmt: skip
        given: dict[str, Any] = {
            "domain": "t.example", "origin": origin, "store": self.store, "clock": self.clock,
            "following": self.following, "sight": Sight(self.decisions, self.panorama),
            "apart": apart if approvals.canaries else None, "lineage": self.lineage,
            "entering": self.entering, "rules": self._rules, "rebuild": rebuild,
            "proofs": Proofs(store=self.store, files=LogDirectory(folder), key=LOG), "log_key": "log+1+x",
            "witnesses": (), "quorum": 0, "places": (Place("s:ledger", "server", "ledger"),), "agents": self._agents,
            "halted": self._nothing, "actions": self.actions,
            "policy_files": lambda: [PolicyFile("a.cedar", "permit(principal, action, resource);")],
            "policy_tests": self._tested,
            "people": people,
            "approvals": approvals,
            "tickets": self.tickets,
            "documents": documents,
            "voting": voting,
            "sets": Sets(voting, self.tickets, care, approvals.batch),
            "care": care,
            "queueing": Queueing(self.tickets, people, approvals, self.canaries),
            "canaries": self.canaries,
            "passkeys": Passkeys(
                store=self.store,
                clock=self.clock,
                chance=SystemChance(),
                replica="r1",
                people=people,
                rp=approvals.passkeys,
            ),
            "absences": Absences(
                store=self.store, clock=self.clock, replica="r1", people=people, domain="t.example"
            ),
            "watching": self.watching,
            "hours": Hours(),
        }  # fmt: skip
        self.desk = Desk(**given | more)
        self.console = Console(self.desk, self.said.append, provider)

    async def enter(self, *told: events.Event) -> None:
        """Put entries into the log, and have them seen."""
        await self.store.append(Append(entries=tuple(NewEntry(encode_event(one)) for one in told)))
        while await self.following.look():
            pass

    def browser(self, **more: Any) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=self.console)
        return httpx.AsyncClient(transport=transport, base_url=self.desk.origin, **more)

    async def visit(self, *roles: Duty, person: str = "person:ann") -> httpx.AsyncClient:
        browser = self.browser()
        await self.entering.hand_out(TOKEN, person, tuple(role.value for role in roles))
        done = await post(browser, "/login", {"link": f"{ORIGIN}/login#{TOKEN}"})
        assert done.status_code == 303, done.text
        return browser

    async def _rules(self) -> Rules:
        return RULES

    async def _agents(self) -> list[tuple[str, AgentRow]]:
        return self.agents

    async def _nothing(self) -> list[str]:
        return []

    async def _tested(self) -> Tested:
        return Tested(3, (), ())


async def post(
    browser: httpx.AsyncClient, path: str, data: Mapping[str, str | list[str]], headers: Mapping[str, str] | None = None
) -> httpx.Response:
    """What a form of our own page does."""
    return await browser.post(path, data=dict(data), headers={"origin": ORIGIN, **(headers or {})})


async def proof_of(browser: httpx.AsyncClient) -> str:
    """The proof that the pages of this session carry."""
    found: Sequence[str] = re.findall(r'name="proof" value="([^"]+)"', (await browser.get("/decisions")).text)
    return found[0]
