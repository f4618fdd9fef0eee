"""People are told once of all that came, by every channel for itself; a channel that is down is tried, and seen."""

from __future__ import annotations

import msgspec

from citywatch.adapters.memory import MemoryClock, MemoryStore, SeededChance
from citywatch.core import events
from citywatch.core.approvals.notice import Notice
from citywatch.core.approvals.people import Approvals
from citywatch.core.approvals.ticket import State, Ticket, rows_of
from citywatch.core.errors import Code, Unavailable
from citywatch.core.log.entry import encode_event
from citywatch.service.alarm import Alarm
from citywatch.service.notifying import FIRST_MS, TRIES, Channel, Notifying
from citywatch.service.ports import Append, NewEntry
from citywatch.service.queueing import Queueing
from citywatch.service.tickets import Tickets
from tests.unit.core.approvals.watched import asked

HOUR = 3_600_000


class Line:
    """A channel that works, or does not."""

    def __init__(self) -> None:
        self.down = False
        self.tried = 0
        self.sent: list[Notice] = []

    async def send(self, notice: Notice) -> None:
        self.tried += 1
        if self.down:
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, "nobody there")
        self.sent.append(notice)


class Desk:
    def __init__(self) -> None:
        self.store, self.clock, self.said = MemoryStore(), MemoryClock(), list[str]()
        self.chat, self.post = Line(), Line()
        self.chance = SeededChance(1)
        self.begin()

    def begin(self) -> None:
        """As after a restart."""
        tickets = Tickets(store=self.store, clock=self.clock, replica="r1", named=False)
        channels = {
            name: Channel(line, f"https://{name}.example/", Alarm(f"{name} is down", f"{name} is up", self.said.append))
            for name, line in (("chat", self.chat), ("post", self.post))
        }
        queueing = Queueing(tickets, {}, Approvals())
        self.notifying = Notifying(queueing, channels, store=self.store, clock=self.clock, chance=self.chance)

    async def ask(self, *names: str, agent: str = "") -> None:
        self.clock.advance(1)
        now = self.clock.now_ms()
        for name in names:
            ticket = Ticket(
                id=name,
                agent=agent or name,
                server="s",
                tool="x",
                state=State.PENDING,
                asked=now,
                expires=now + 100 * HOUR,
                why="w",
                call="c",
            )
            entry = NewEntry(encode_event(asked(name, now)))
            await self.store.append(Append(entries=(entry,), puts=rows_of(ticket, name, None, now)))


async def test_each_channel_is_told_once_of_all_that_came_and_not_again_after_a_restart() -> None:
    desk = Desk()
    await desk.notifying.look()
    await desk.ask("t1", "t2")
    await desk.notifying.look()
    await desk.notifying.look()
    desk.begin()
    await desk.notifying.look()
    for line, name in ((desk.chat, "chat"), (desk.post, "post")):
        (notice,) = line.sent
        assert (notice.waiting, notice.fresh, notice.link) == (2, 2, f"https://{name}.example/")
    await desk.ask("t3")
    await desk.notifying.look()
    assert (desk.chat.sent[1].waiting, desk.chat.sent[1].fresh) == (3, 1)
    assert desk.chat.sent[0].id != desk.chat.sent[1].id


async def test_what_is_passed_on_is_told_once_more_and_once() -> None:
    desk = Desk()
    await desk.ask("t1", "t2")
    await desk.notifying.look()
    desk.clock.advance(HOUR)
    tickets = Tickets(store=desk.store, clock=desk.clock, replica="r1", named=False)
    found = await tickets.found("t1")
    now = desk.clock.now_ms()
    passed_on = msgspec.structs.replace(found.ticket, escalated=now)
    event = events.TicketEscalated(at=now, replica="r1", ticket="t1", to=("ben",))
    row = (found.key, msgspec.json.encode(passed_on))
    await desk.store.append(Append(entries=(NewEntry(encode_event(event)),), puts=(row,)))
    await desk.notifying.look()
    await desk.notifying.look()
    assert [(one.waiting, one.fresh) for one in desk.chat.sent] == [(2, 2), (2, 1)]


async def test_a_notice_leads_to_the_one_ticket_that_is_new_and_to_the_list_where_several_are() -> None:
    desk = Desk()
    line = Line()
    channel = Channel(line, "https://c.example/tickets", Alarm("", "", desk.said.append), "https://c.example")
    queueing = Queueing(
        Tickets(store=desk.store, clock=desk.clock, replica="r1", named=False), {}, Approvals()
    )  # fmt: skip
    notifying = Notifying(queueing, {"c": channel}, store=desk.store, clock=desk.clock, chance=desk.chance)
    for names in (("t1",), ("t2", "t3"), ("t4",)):
        await desk.ask(*names)
        await notifying.look()
    links = [one.link.removeprefix("https://c.example/tickets") for one in line.sent]
    assert links == ["/t1", "", "/t4"]


async def test_a_channel_that_is_down_is_tried_again_later_and_seen_and_the_other_goes_on() -> None:
    desk = Desk()
    desk.chat.down = True
    await desk.ask("t1")
    await desk.notifying.look()
    await desk.notifying.look()
    assert (desk.chat.tried, len(desk.post.sent)) == (1, 1)
    assert desk.said == ["chat is down: nobody there"]
    desk.clock.advance(FIRST_MS)
    await desk.notifying.look()
    assert desk.chat.tried == 2
    desk.chat.down = False
    desk.clock.advance(2 * FIRST_MS)
    await desk.notifying.look()
    assert len(desk.chat.sent) == 1


async def test_one_notice_is_tried_so_often_and_no_more() -> None:
    desk = Desk()
    desk.chat.down = True
    await desk.ask("t1")
    for _ in range(20):
        await desk.notifying.look()
        desk.clock.advance(FIRST_MS << 6)

    assert desk.chat.tried == TRIES


async def test_a_flood_is_no_flood_of_notices() -> None:
    desk = Desk()
    for number in range(60):
        await desk.ask(f"flood {number}", agent="loud")
        if number % 10 == 9:
            await desk.notifying.look()
    assert len(desk.chat.sent) <= 1
