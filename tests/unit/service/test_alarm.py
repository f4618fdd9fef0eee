"""The operator hears once that it begins and once that it is over, however the disk flutters."""

from __future__ import annotations

import pytest

from citywatch.adapters.memory import MemoryStore
from citywatch.core.errors import Code, Unavailable
from citywatch.service.alarm import CALM, MAX_CALM, Alarm, WatchedStore
from citywatch.service.ports import Append

FULL = Unavailable(Code.STORE_UNAVAILABLE, "the log's database has no space left on its disk")
BEGINS = f"refused: {FULL}"
ENDS = f"recorded; it was: {FULL}"


class Terminal:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.broken = False

    def say(self, line: str) -> None:
        if self.broken:
            raise OSError("no space left on device")
        self.lines.append(line)


@pytest.fixture
def terminal() -> Terminal:
    return Terminal()


@pytest.fixture
def alarm(terminal: Terminal) -> Alarm:
    return Alarm("refused", "recorded", terminal.say)


async def fail(store: WatchedStore) -> None:
    with pytest.raises(Unavailable):
        await store.append(Append())


async def test_a_full_disk_makes_one_line_when_it_begins_and_one_when_it_is_over(
    terminal: Terminal, alarm: Alarm
) -> None:
    inner = MemoryStore()
    store = WatchedStore(inner, alarm)
    await store.append(Append())
    await store.look()
    assert terminal.lines == []
    inner.broken = FULL
    for _ in range(1_000):
        await fail(store)
    for _ in range(100):
        await store.look()
    assert terminal.lines == [BEGINS]
    inner.broken = None
    for _ in range(CALM + 100):  # nobody calls: it is found out all the same
        await store.look()
    assert terminal.lines == [BEGINS, ENDS]


async def test_a_callers_own_flood_is_no_trouble_of_the_disk(terminal: Terminal, alarm: Alarm) -> None:
    inner = MemoryStore()
    inner.broken = Unavailable(Code.OVERLOADED, "too many calls wait for the log")
    await fail(WatchedStore(inner, alarm))
    assert terminal.lines == []


async def test_a_disk_that_is_full_every_other_moment_makes_no_flood(terminal: Terminal, alarm: Alarm) -> None:
    inner = MemoryStore()
    store = WatchedStore(inner, alarm)
    for look in range(10_000):
        inner.broken = FULL if look % (CALM + 2) == 0 else None
        if inner.broken:
            await fail(store)
        await store.look()
    assert len(terminal.lines) <= 3
    for wait in (2 * CALM, 4 * CALM, MAX_CALM):
        alarm.ring("again")
        for _ in range(wait * 2):
            alarm.rest()
    assert len(terminal.lines) <= 12


async def test_what_the_terminal_cannot_take_is_said_when_it_can(terminal: Terminal, alarm: Alarm) -> None:
    terminal.broken = True
    alarm.ring(str(FULL))
    terminal.broken = False
    alarm.ring(str(FULL))
    alarm.ring(str(FULL))
    assert terminal.lines == [BEGINS]
    terminal.broken = True
    for _ in range(CALM):
        alarm.rest()
    terminal.broken = False
    for _ in range(3):
        alarm.rest()
    assert terminal.lines == [BEGINS, ENDS]


async def test_a_trouble_that_nobody_could_be_told_of_is_told_when_it_is_over(terminal: Terminal, alarm: Alarm) -> None:
    terminal.broken = True
    alarm.ring("two\nlines")
    for _ in range(CALM - 1):
        alarm.rest()
    terminal.broken = False
    assert alarm.on
    terminal.broken = True
    alarm.rest()
    terminal.broken = False
    alarm.rest()
    assert terminal.lines == ["recorded; it was: two lines"]
