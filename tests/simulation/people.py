"""A city with people: who answers, with which keys, and what they would sign."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import msgspec

from citywatch.adapters.memory import MemorySigner
from citywatch.core.approvals.people import Approvals, Duty, Person
from citywatch.core.approvals.statement import statement_bytes
from citywatch.core.approvals.ticket import Ticket
from citywatch.main.replay import rebuild
from citywatch.service.counting import Weigh, whole
from citywatch.service.documents import Documents
from citywatch.service.passkeys import Passkeys
from citywatch.service.signatures import Signature
from citywatch.service.voting import Offer, Voting
from tests.passkeys import RP, b64
from tests.simulation.flow_city import FlowCity

DOMAIN = "city.example"
NAMES = ("anna", "ben", "cara")
SIGNERS = {name: MemorySigner(900 + number) for number, name in enumerate(NAMES)}
SPEAKS = {"anna": ("alice",), "ben": (), "cara": ("alice",)}
PEOPLE = {
    **{
        name: Person(
            name=name,
            roles=(Duty.APPROVER,),
            answers=("bank/*",),
            speaks_for=SPEAKS[name],
            keys=(b64encode(SIGNERS[name].public).decode(),),
        )
        for name in NAMES
    },
    "dora": Person(name="dora", roles=(Duty.AUDITOR,)),
}


def named(here: FlowCity, people: Mapping[str, Person], approvals: Approvals) -> FlowCity:
    """The gateway has read the file, too, unless it read another one."""
    if not here.enforcer.rules.people:
        here.configured = msgspec.structs.replace(here.configured, people=people, approvals=approvals)
        here.enforcer.rules = msgspec.structs.replace(here.enforcer.rules, people=people, approvals=approvals)
    return here


def desk(here: FlowCity, *, weigh: Weigh = whole, people: dict[str, Person] | None = None, **changes: Any) -> Voting:
    """Where these people answer."""
    file, approvals = PEOPLE if people is None else people, Approvals(passkeys=RP, **changes)
    named(here, file, approvals)
    return Voting(
        here.tickets,
        Documents(here.store, lambda: here.enforcer.rules, rebuild),
        people=file,
        approvals=approvals,
        domain=DOMAIN,
        weigh=weigh,
        care=None,
    )


def enrolling(here: FlowCity) -> Passkeys:
    return Passkeys(store=here.store, clock=here.clock, chance=here.chance, replica="r1", people=PEOPLE, rp=RP)


def signed(offer: Offer, name: str) -> Signature:
    return Signature(b64(SIGNERS[name].sign(statement_bytes(offer.statement))))


async def says(voting: Voting, ticket: str, name: str, yes: bool = True, **more: Any) -> Ticket:
    """One person answers, as they are meant to."""
    principal = more.pop("principal", next(iter(SPEAKS[name]), ""))
    offer = await voting.prepare(ticket, name, yes, more.pop("reason", "I rang them"), principal=principal, **more)
    return await voting.vote(offer.statement, signed(offer, name))
