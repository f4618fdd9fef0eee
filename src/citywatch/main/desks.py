"""Where people's answers are given, put together for a city: tickets, what is shown of them, votes, passkeys.

Decides nothing: `citywatch tickets` and the console take what they need from here, with what the file says of people.
"""

from __future__ import annotations

from citywatch.main.assembly import City, load_rules
from citywatch.main.replay import rebuild
from citywatch.service.documents import Documents
from citywatch.service.passkeys import Passkeys
from citywatch.service.tickets import Tickets
from citywatch.service.voting import Voting


def tickets_of(city: City) -> Tickets:
    """The tickets of this city's store."""

    named = bool(city.settings.people)
    return Tickets(store=city.store, clock=city.clock, replica=city.replica.name, named=named)


async def documents_of(city: City) -> Documents:
    """What is shown of tickets, under the rules as they are now."""

    rules = await load_rules(city.settings, city.store)
    return Documents(city.store, lambda: rules, rebuild)


async def voting_of(city: City) -> Voting:
    """The answers of the people whom the file names."""

    settings = city.settings
    return Voting(
        tickets_of(city),
        await documents_of(city),
        people=settings.people,
        approvals=settings.approvals,
        domain=settings.trust_domain,
    )


def passkeys_of(city: City) -> Passkeys:
    """The passkeys of the people whom the file names."""

    return Passkeys(
        store=city.store,
        clock=city.clock,
        chance=city.chance,
        replica=city.replica.name,
        people=city.settings.people,
        rp=city.settings.approvals.passkeys,
    )
