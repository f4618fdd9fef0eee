"""A city of people whose answers come over the approvals API."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import msgspec

from citywatch.adapters.approvals_api.answers import Desk
from citywatch.adapters.approvals_api.app import ApprovalsApi
from citywatch.adapters.memory import MemorySigner
from citywatch.core.approvals.people import Approvals
from citywatch.main.replay import rebuild
from citywatch.service.callers import Callers
from citywatch.service.care import Care
from citywatch.service.counting import whole
from citywatch.service.documents import Documents
from citywatch.service.entering import Entering
from citywatch.service.lending import Lending
from citywatch.service.queueing import Queueing
from citywatch.service.voting import Voting
from tests.front_end import ORIGIN, FrontEnd
from tests.passkeys import RP
from tests.simulation.flow_city import FlowCity
from tests.simulation.people import DOMAIN, PEOPLE, SIGNERS, enrolling, named
from tests.simulation.test_answers import read_letter

LEEWAY = 5_000
DORA = MemorySigner(990)
"""The auditor's."""


class Api:
    """`here` is the city, `app` the API, `of` somebody's front end."""

    def __init__(self, here: FlowCity, origin: str = ORIGIN, **changes: Any) -> None:
        self.here = here
        dora = msgspec.structs.replace(PEOPLE["dora"], keys=(b64encode(DORA.public).decode(),))
        self.people = people = changes.pop("people", {**PEOPLE, "dora": dora})
        approvals = Approvals(passkeys=RP, **changes)
        named(here, people, approvals)
        care = Care(here.tickets, here.chance, people=people, approvals=approvals)
        documents = Documents(here.store, lambda: here.enforcer.rules, rebuild)
        self.voting = Voting(
            here.tickets, documents, people=people, approvals=approvals, domain=DOMAIN, weigh=whole, care=care
        )
        lending = Lending(
            here.store,
            here.clock,
            people=people,
            domain=DOMAIN,
            rp=RP,
            entering=Entering(store=here.store, clock=here.clock, replica="r1"),
            leeway_ms=LEEWAY,
        )
        desk = Desk(
            domain=DOMAIN,
            clock=here.clock,
            approvals=approvals,
            voting=self.voting,
            care=care,
            queueing=Queueing(here.tickets, people, approvals),
            passkeys=enrolling(here),
            lending=lending,
        )
        self.said: list[str] = []
        self.callers = Callers(here.store, here.clock, people, lending, LEEWAY)
        self.app = ApprovalsApi(desk, self.callers, origin, self.said.append)

    def of(self, name: str) -> FrontEnd:
        signer = DORA if name == "dora" else SIGNERS[name]
        return FrontEnd(self.app, signer, self.here.clock.now_ms)


async def api(**changes: Any) -> Api:
    return Api(await read_letter(), **changes)
