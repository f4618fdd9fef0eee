"""Answers that must not count, tried on the running sequence; and how long a list takes where very many tickets wait.

`approve.forgeries_executed` counts calls that were let through although nobody who may rightly approved just them, out
of attempts of the kinds in `KINDS`, by turns; `approve.honest_refused` counts rightly signed answers whose call was not
let through, among as many. The attempts go through `Voting`, the gates and the store as the gateway has them, in the
world of the simulation; who forges has read the code, sees the log, the documents and every statement that was signed,
and has every key but those of the people in question. `tickets.p95_ms` is the time to list fifty tickets and to open
one, document and all, with 100,000 held open in SQLite. `tickets.queue_p95_ms` is the same as the console does it for
one of its people: the first page of the queue in its order, and the ticket at its top, while ten times a second
something is asked or over; `tickets.begun_ms` is what the first look of a process takes. Run it: `python -m bench
tickets`.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.content import SEED
from bench.decide import quantile, row
from citywatch.adapters.sqlite import open_store
from citywatch.core import events
from citywatch.core.approvals.people import Approvals, Quorum
from citywatch.core.approvals.ticket import Ticket, rows_of
from citywatch.core.errors import CitywatchError
from citywatch.core.log.entry import encode_event, payload_digest
from citywatch.main.replay import rebuild
from citywatch.service.documents import Documents
from citywatch.service.ports import Append, Key, NewEntry, Payload
from citywatch.service.queueing import Queueing
from citywatch.service.signatures import Proof, Signature, Unsigned
from citywatch.service.tickets import Tickets
from citywatch.service.voting import Offer, Voting
from tests.passkeys import Authenticator, b64
from tests.simulation.city import code_of
from tests.simulation.flow_city import MALLORY, TOOLS, FlowCity
from tests.simulation.people import PEOPLE, SIGNERS, desk, enrolling, signed
from tests.simulation.test_answers import read_letter
from tests.simulation.test_binding import another_definition, stranger

ATTEMPTS: Final = 10_000
TOGETHER: Final = 40
"""Attempts in one city: its log, its tickets and what was signed there are at the forger's hand."""
OPEN: Final = 100_000
LOOKS: Final = 200
ACTS: Final = 40
DAY: Final = 86_400_000


class Scene:
    """A city with a letter in it, the people who answer, and all that was signed there so far."""

    def __init__(self, here: FlowCity, draw: random.Random) -> None:
        self.here = here
        self.draw = draw
        self.voting = desk(here)
        self.signed: list[tuple[Offer, Proof]] = []
        self.mine = Authenticator(draw.getrandbits(30))
        self.amount = 0

    async def enrol(self) -> None:
        keys = enrolling(self.here)
        code = await keys.invite("anna", "operator")
        await keys.finish(code, self.mine.register((await keys.begin(code)).challenge))

    async def ask(self) -> str:
        """A new call that only a person may let through; the id of its ticket."""
        self.amount += 1
        told = await self.act()
        return str(told["result"]["_meta"]["citywatch/ticket"])

    async def act(self, amount: int = 0) -> dict[str, Any]:
        return await self.here.act("pay", to=MALLORY, amount=amount or 10_000 + self.amount)

    async def executed(self, amount: int = 0) -> bool:
        return code_of(await self.act(amount)) is None

    async def offer(self, name: str, person: str = "anna", voting: Voting | None = None, **more: Any) -> Offer:
        said = {"principal": "alice"} | more
        return await (voting or self.voting).prepare(name, person, True, "I rang them", **said)

    async def approve(self, name: str) -> None:
        offer = await self.offer(name)
        proof: Proof = signed(offer, "anna")
        if self.draw.random() < 0.5:
            proof = self.mine.sign(offer.challenge)
        await self.voting.vote(offer.statement, proof)
        self.signed.append((offer, proof))

    async def vote(self, offer: Offer, proof: Proof, voting: Voting | None = None) -> None:
        """Whatever comes of it."""
        with suppress(CitywatchError):
            await (voting or self.voting).vote(offer.statement, proof)


def changed(offer: Offer, **fields: Any) -> Offer:
    return msgspec.structs.replace(offer, statement=msgspec.structs.replace(offer.statement, **fields))


async def another_call(scene: Scene) -> bool:
    """What was approved is one call, what is sent another."""
    await scene.approve(await scene.ask())
    other = await scene.executed(20_000 + scene.amount)
    return other or code_of(await scene.here.act("pay", to=f"{MALLORY} ", amount=10_000 + scene.amount)) is None


async def replayed(scene: Scene) -> bool:
    """What was signed before, for whatever waits now."""
    if not scene.signed:
        await scene.approve(await scene.ask())
        await scene.executed()
    name = await scene.ask()
    offer, proof = scene.draw.choice(scene.signed)
    now = await scene.offer(name)
    moved = scene.draw.choice(
        (offer, changed(offer, ticket=name), changed(offer, ticket=name, digest=now.statement.digest), now)
    )
    await scene.vote(moved, proof)
    return await scene.executed()


async def twice(scene: Scene) -> bool:
    await scene.approve(await scene.ask())
    await scene.executed()
    first = await scene.executed()
    await scene.vote(*scene.signed[-1])
    return first or await scene.executed()


async def expired(scene: Scene) -> bool:
    name = await scene.ask()
    offer = await scene.offer(name)
    if scene.draw.random() < 0.5:
        await scene.vote(offer, signed(offer, "anna"))
        scene.here.clock.advance(DAY)
    else:
        scene.here.clock.advance(DAY + scene.draw.randrange(DAY))
        await scene.vote(changed(offer, expires=offer.statement.expires + 2 * DAY), signed(offer, "anna"))
        await scene.vote(offer, signed(offer, "anna"))
    return await scene.executed()


async def wrong_approver(scene: Scene) -> bool:
    """Somebody who may not: an auditor, nobody, one who does not speak for alice, one whose own authority it is."""
    name = await scene.ask()
    offer = await scene.offer(name)
    other = scene.draw.choice(("dora", "eve", "ben", "cara"))
    forged = changed(offer, approver=other) if other != "cara" else offer
    by = other if other in SIGNERS else "ben"
    if scene.draw.random() < 0.3:
        strict = desk(scene.here, not_own=("bank/*",), people={"ben": PEOPLE["ben"]})
        await scene.vote(forged, signed(forged, by), strict)
    await scene.vote(forged, signed(forged, by))
    return await scene.executed()


async def forged_signature(scene: Scene) -> bool:
    name = await scene.ask()
    offer = await scene.offer(name)
    honest = signed(offer, "anna").signature
    draw = scene.draw
    proof: Proof = draw.choice(
        (
            Unsigned(),
            Signature(b64(draw.randbytes(64))),
            Signature(honest[:-4] + "AAAA"),
            Signature(""),
            Signature(b64(SIGNERS["anna"].sign(offer.text.encode()))),
            Signature(b64(SIGNERS["anna"].sign(offer.challenge))),
            Authenticator(draw.getrandbits(30)).sign(offer.challenge),
        )
    )
    await scene.vote(offer, proof)
    return await scene.executed()


async def changed_statement(scene: Scene) -> bool:
    """Signed, and then made to say something else: for a no, for less, for another name."""
    name = await scene.ask()
    no = await scene.voting.prepare(name, "anna", False, "no", principal="alice")
    proof: Proof = signed(no, "anna") if scene.draw.random() < 0.5 else scene.mine.sign(no.challenge)
    await scene.vote(changed(no, decision="approve"), proof)
    offer = await scene.offer(name)
    fields: dict[str, Any] = scene.draw.choice(
        ({"hold_ms": 3_600_000}, {"reason": "other"}, {"principal": ""}, {"domain": "evil.example"}, {"nonce": "00"})
    )
    await scene.vote(changed(offer, **fields), signed(offer, "anna"))
    return await scene.executed()


async def tampered_page(scene: Scene) -> bool:
    """The approver saw another document than there is: of another ticket, or none."""
    other = await scene.offer(await scene.ask())
    name = await scene.ask()
    offer = await scene.offer(name)
    document = scene.draw.choice((other.statement.document, "", "0" * 64))
    tampered = changed(offer, document=document)
    await scene.vote(tampered, signed(tampered, "anna"))
    return await scene.executed()


async def another_by_now(scene: Scene) -> bool:
    """The tool, or what the agent has read, changed between the yes and the call. The city is not used after it."""
    await scene.approve(await scene.ask())
    await scene.draw.choice((another_definition, stranger))(scene.here)
    return await scene.executed()


async def alone_of_two(scene: Scene) -> bool:
    """One person, twice, where two have to say yes."""
    two = desk(scene.here, quorum=(Quorum(acts=("bank/*",), need=2),))
    name = await scene.ask()
    offer = await scene.offer(name, voting=two)
    await scene.vote(offer, signed(offer, "anna"), two)
    await scene.vote(offer, signed(offer, "anna"), two)
    await scene.vote(changed(offer, approver="ben"), signed(offer, "anna"), two)
    return await scene.executed()


async def copied_passkey(scene: Scene) -> bool:
    """An assertion with a counter of before, of another page, of another site, or without the person."""
    name = await scene.ask()
    offer = await scene.offer(name)
    (kept,) = await enrolling(scene.here).of("anna")
    before, changes = scene.mine.count, ({"origin": "https://evil.example"}, {"rp_id": "evil.example"}, {"flags": 1})
    if kept.count and scene.draw.random() < 0.3:  # of what was seen: a copy that is ahead cannot be told from the first
        scene.mine.count = scene.draw.randrange(kept.count)
        await scene.vote(offer, scene.mine.sign(offer.challenge))
    else:
        await scene.vote(offer, scene.mine.sign(offer.challenge, **scene.draw.choice(changes)))
    scene.mine.count = max(before, scene.mine.count)
    return await scene.executed()


KINDS: Final[dict[str, Callable[[Scene], Awaitable[bool]]]] = {
    "another call": another_call,
    "replayed": replayed,
    "twice": twice,
    "expired": expired,
    "wrong approver": wrong_approver,
    "forged signature": forged_signature,
    "changed statement": changed_statement,
    "tampered page": tampered_page,
    "alone of two": alone_of_two,
    "copied passkey": copied_passkey,
    "another by now": another_by_now,
}


async def forgeries(attempts: int, seed: int = SEED) -> tuple[dict[str, int], int, int]:
    """Of each kind how many were executed; how many honest answers were refused, and of how many."""
    draw = random.Random(seed)
    executed, refused, honest = dict.fromkeys(KINDS, 0), 0, 0
    names = list(KINDS)
    scene, left = await _scene(draw), TOGETHER
    for number in range(attempts):
        kind = names[number % len(names)]
        executed[kind] += await KINDS[kind](scene)
        left -= 1
        if kind == "another by now" or left <= 0:
            scene, left = await _scene(draw), TOGETHER
        await scene.approve(await scene.ask())
        honest += 1
        refused += not await scene.executed()
    return executed, refused, honest


async def _scene(draw: random.Random) -> Scene:
    scene = Scene(await read_letter(), draw)
    await scene.enrol()
    return scene


async def waiting(folder: Path, held: int, looks: int) -> dict[str, list[float]]:
    """How long it takes, in milliseconds, to list fifty and open one, as tickets come and in the queue's order."""
    here = await read_letter()
    told = await here.act("pay", to=MALLORY, amount=900)
    ticket = await here.tickets.find(str(told["result"]["_meta"]["citywatch/ticket"]))
    decided = next(one for one in await here.events() if isinstance(one, events.Decided) and one.call == ticket.call)
    index = next(at for at, one in enumerate(await here.events()) if one == decided)
    kept = await here.store.payload(index)
    assert kept is not None
    store = open_store(folder / "state" / "log.db")
    try:
        for start in range(0, held, 500):
            entries: list[NewEntry] = []
            puts: list[tuple[Key, bytes | None]] = []
            for at in range(start, min(held, start + 500)):
                call, asked = f"{at:012d}{'0' * 20}", ticket.asked + at
                body = payload_digest(kept.salt, kept.body)
                leaf = encode_event(msgspec.structs.replace(decided, call=call, at=asked, body=body))
                entries.append(NewEntry(leaf, Payload(kept.salt, kept.body)))
                puts += rows_of(_other(ticket, call, asked, at, held), f"{at:064x}", None, asked)
            await store.append(Append(entries=tuple(entries), puts=tuple(puts)))
        tickets = Tickets(store=store, clock=here.clock, replica="bench", named=False)
        rules = here.rules(*TOOLS)
        documents = Documents(store, lambda: rules, rebuild)
        draw, taken, after = random.Random(SEED), [], ""
        for _ in range(looks):
            begun = time.perf_counter()
            page = await tickets.page(after)
            assert len(page.tickets) == 50
            document = await documents.of(await tickets.find(draw.choice(page.tickets).id))
            taken.append((time.perf_counter() - begun) * 1000)
            assert "erased" not in document.uninspectable
            after = f"{ticket.asked + draw.randrange(held - 100):015d}"
        begun = time.perf_counter()
        assert await tickets.waiting() == held
        counted = (time.perf_counter() - begun) * 1000
        listed = await queued(here, tickets, documents, ticket, held, looks)
        return {"taken": taken, "counted": [counted], **listed}
    finally:
        await store.close()


def _other(ticket: Ticket, call: str, asked: int, at: int, held: int) -> Ticket:
    """Another question of one of many agents, about something of its own: nothing that would be folded, or a flood."""
    assert ticket.bound is not None
    agent = f"{ticket.agent}-{at % max(1, held // 4)}"
    names = tuple((path, role, f"{value}-{at}") for path, role, value in ticket.bound.names)
    bound = msgspec.structs.replace(ticket.bound, agent=agent, names=names)
    return msgspec.structs.replace(
        ticket, id=call[:12], call=call, asked=asked, expires=ticket.expires + 10 * held, agent=agent, bound=bound,
        tool=f"pay_{at % ACTS}", authority=(f"principal-{at % (held // 16 + 1)}",),
    )  # fmt: skip


async def queued(
    here: FlowCity, tickets: Tickets, documents: Documents, ticket: Ticket, held: int, looks: int
) -> dict[str, list[float]]:
    """The first page of somebody's queue, and the document of its first ticket, as the console takes them."""
    queueing = Queueing(tickets, PEOPLE, Approvals())
    begun = time.perf_counter()
    assert (await queueing.look("anna", 50)).total == held
    first = (time.perf_counter() - begun) * 1000
    keeping, taken = asyncio.create_task(queueing.keep()), list[float]()
    try:
        for number in range(looks):
            at = held + number
            other = _other(ticket, f"{at:012d}{'0' * 20}", ticket.asked + at, at, held)
            await _ask(tickets, other, f"{at:064x}")
            begun = time.perf_counter()
            view = await queueing.look("anna", 50)
            assert (len(view.queued), view.total) == (50, held + number + 1)
            await documents.of(view.queued[0].ticket)
            taken.append((time.perf_counter() - begun) * 1000)
            here.clock.advance(100)
            await asyncio.sleep(0.1)
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
    return {"first": [first], "queued": taken}


async def _ask(tickets: Tickets, one: Ticket, like: str) -> None:
    event = events.TicketAsked(
        at=one.asked, replica="bench", ticket=one.id, call=one.call, agent=one.agent, server=one.server, tool=one.tool,
        digest=one.digest, expires=one.expires,
    )  # fmt: skip
    puts = rows_of(one, like, None, one.asked)
    await tickets.store.append(Append(entries=(NewEntry(encode_event(event)),), puts=puts))


def run() -> list[dict[str, Any]]:
    """All rows; what was executed of each kind stands in `kinds`."""
    executed, refused, honest = asyncio.run(forgeries(ATTEMPTS))
    with tempfile.TemporaryDirectory() as name:
        took = asyncio.run(waiting(Path(name), OPEN, LOOKS))
    total = row("approve.forgeries_executed", [float(sum(executed.values()))], "", ATTEMPTS)
    return [
        total | {"kinds": executed},
        row("approve.honest_refused", [float(refused)], "", honest),
        row("tickets.p95_ms", [quantile(took["taken"], 0.95)], "ms", OPEN),
        row("tickets.p50_ms", [quantile(took["taken"], 0.5)], "ms", OPEN),
        row("tickets.queue_p95_ms", [quantile(took["queued"], 0.95)], "ms", OPEN),
        row("tickets.queue_p50_ms", [quantile(took["queued"], 0.5)], "ms", OPEN),
        row("tickets.begun_ms", took["first"], "ms", OPEN),
        row("tickets.count_ms", took["counted"], "ms", OPEN),
    ]
