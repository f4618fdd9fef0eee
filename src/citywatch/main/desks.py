"""Where people's answers are given, put together for a city: tickets, what is shown of them, votes, passkeys.

Decides nothing: `citywatch tickets` and the console take what they need from here, with what the file says of people.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from citywatch.core.approvals.people import Approvals
from citywatch.core.approvals.people import Passkeys as RelyingParty
from citywatch.core.approvals.vigilance import Bar
from citywatch.core.enforce.spread import Roots, Touch
from citywatch.core.errors import CitywatchError
from citywatch.main.assembly import City, load_rules, operator
from citywatch.main.replay import rebuild
from citywatch.service.absences import Absences
from citywatch.service.blast import blast as spread
from citywatch.service.canaries import Canaries
from citywatch.service.care import Care
from citywatch.service.documents import Documents
from citywatch.service.escalating import Escalating
from citywatch.service.floodwatch import Floodwatch
from citywatch.service.passkeys import Passkeys
from citywatch.service.ports import Store
from citywatch.service.quarantine import Quarantine
from citywatch.service.queueing import Queueing
from citywatch.service.sets import Sets
from citywatch.service.tickets import PAGE, Tickets
from citywatch.service.vigilance import Watching
from citywatch.service.voting import Voting


def tickets_of(city: City, store: Store | None = None) -> Tickets:
    """The tickets of this city's store, or of one that stands before it."""
    named = bool(city.settings.people)
    return Tickets(store=store or city.store, clock=city.clock, replica=city.replica.name, named=named)


async def documents_of(city: City) -> Documents:
    """What is shown of tickets, under the rules as they are now."""

    rules = await load_rules(city.settings, city.store)
    return Documents(city.store, lambda: rules, rebuild)


async def voting_of(city: City) -> Voting:
    """The answers of the people whom the file names."""

    approvals, watching = city.settings.approvals, watching_of(city)
    canaries = canaries_of(city, watching)
    return voting_over(city, approvals, await documents_of(city), care_of(city, approvals), canaries, watching)


def voting_over(
    city: City, approvals: Approvals, documents: Documents, care: Care, canaries: Canaries, watching: Watching
) -> Voting:
    """# INVARIANT: wherever people answer, a yes takes the same care and weighs the same."""
    settings = city.settings
    return Voting(
        tickets_of(city),
        documents,
        people=settings.people,
        approvals=approvals,
        domain=settings.trust_domain,
        weigh=watching.weigh,
        care=care,
        canaries=canaries,
    )


async def sets_of(city: City) -> Sets:
    """Their answers to several tickets at once."""
    approvals = city.settings.approvals
    return Sets(await voting_of(city), tickets_of(city), care_of(city, approvals), approvals.batch)


def care_of(city: City, approvals: Approvals) -> Care:
    """What a yes takes: to have been shown the ticket, for long enough, with words of one's own, within a budget."""
    return Care(tickets_of(city), city.chance, people=city.settings.people, approvals=approvals)


def watching_of(city: City) -> Watching:
    """What the log says of approvers."""
    return Watching(city.store, Bar())


def canaries_of(city: City, watching: Watching | None = None) -> Canaries:
    """What is made up to see whether people look."""
    return Canaries(tickets_of(city), city.chance, watching or watching_of(city), city.settings.approvals.canaries)


def queueing_of(city: City, canaries: Canaries | None = None) -> Queueing:
    """In which order they are to be answered."""
    settings = city.settings
    return Queueing(
        tickets_of(city), settings.people, settings.approvals, canaries or canaries_of(city), absences_of(city)
    )


def absences_of(city: City) -> Absences:
    """Who of the people of the file is away, and who stands in."""
    return Absences(
        store=city.store,
        clock=city.clock,
        replica=city.replica.name,
        people=city.settings.people,
        domain=city.settings.trust_domain,
    )


def floodwatch_of(city: City) -> Floodwatch:
    """What enters floods, and puts aside who goes on."""

    async def blast(roots: Roots) -> tuple[Touch, ...]:
        return await spread(city.store, await load_rules(city.settings, city.store), roots, rebuild)

    quarantine = Quarantine(store=city.store, clock=city.clock, replica=city.replica.name, blast=blast)
    return Floodwatch(
        queueing_of(city),
        store=city.store,
        clock=city.clock,
        replica=city.replica.name,
        lay=lambda agent, reason: quarantine.lay(agent, 0, operator(), reason),
    )


def escalating_of(city: City) -> Escalating:
    """What passes on to others what nobody answers."""
    return Escalating(tickets_of(city), city.settings.people, city.settings.approvals)


async def expire_tickets(tickets: Tickets, canaries: Canaries, every_s: float) -> None:
    """Enter of tickets whose time is over that it is; for as long as the gateway runs."""
    while True:
        with suppress(CitywatchError):
            while await tickets.expire() == PAGE:
                await asyncio.sleep(0)
            await canaries.expire()
        await asyncio.sleep(every_s)


async def pass_on(escalating: Escalating, every_s: float) -> None:
    """Pass on to others what nobody answers, for as long as the gateway runs."""
    while True:
        with suppress(CitywatchError):
            await escalating.sweep()
        await asyncio.sleep(every_s)


async def watch_floods(floods: Floodwatch, every_s: float) -> None:
    """Enter who floods people with questions, and put aside who goes on; for as long as the gateway runs."""
    while True:
        with suppress(CitywatchError):
            await floods.sweep()
        await asyncio.sleep(every_s)


def passkeys_of(city: City, rp: RelyingParty | None = None) -> Passkeys:
    """The passkeys of the people whom the file names; `rp` is whose they are where the file does not say."""

    return Passkeys(
        store=city.store,
        clock=city.clock,
        chance=city.chance,
        replica=city.replica.name,
        people=city.settings.people,
        rp=city.settings.approvals.passkeys or rp,
    )
