"""`citywatch people`: how well approvers see what they are asked, and how much they are asked; from the log alone."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from citywatch.core.errors import Malformed
from citywatch.core.plan.duration import parse_duration, parse_time
from citywatch.main.place import Place, read_place

if TYPE_CHECKING:
    from citywatch.core.approvals.question import Flood
    from citywatch.core.approvals.vigilance import Rates, Vigilance, Waits


def register(cli: click.Group) -> None:
    cli.add_command(people)


@click.group()
def people() -> None:
    """See how well approvers see what they are asked, and how much that is."""


@people.command()
@click.option("--by", default="", help="Only of one person.")
@click.pass_obj
def vigilance(file: Path, by: str) -> None:
    """Show what the log says of approvers: how many made-up attacks each denied, with the interval, how long they took.

    `python -m spec.vigilance LOG` counts the same from the entries, without this program.
    """
    from citywatch.core.approvals.vigilance import Bar
    from citywatch.main.assembly import open_city
    from citywatch.service.vigilance import Watching

    place = read_place(file)

    async def run() -> None:
        async with open_city(place) as city:
            found = await Watching(city.store, Bar()).now()
        for line in lines(found, by):
            click.echo(line)

    asyncio.run(run())


@people.command()
@click.pass_obj
def load(file: Path) -> None:
    """Show how many tickets reach each approver, how much they may be asked, who is away and who floods them."""
    from citywatch.core.approvals.showing import when
    from citywatch.main.assembly import open_city
    from citywatch.main.desks import absences_of, queueing_of

    place = read_place(file)

    async def run() -> None:
        async with open_city(place) as city:
            queueing, away = queueing_of(city), await absences_of(city).now()
            for name, person in city.settings.people.items():
                if person.answers:
                    waiting = (await queueing.look(name, 1)).total
                    gone = away.get(name)
                    told = f"; away until {when(gone.until)}, {gone.deputy} stands in" if gone else ""
                    click.echo(f"{name}  {waiting} to answer, at most {person.per_hour} an hour{told}")
            for one in (await queueing.look(count=1)).floods:
                click.echo(flood_line(one))

    asyncio.run(run())


_KEY = click.Path(exists=True, dir_okay=False, path_type=Path)
_key = click.option("--key", type=_KEY, required=True, help="Sign with this key (PEM, in a folder of mode 0700).")


@people.command()
@click.argument("person")
@click.option("--until", required=True, metavar="TIME", help="2026-12-01T09:00:00Z, or for how long: 3d. At most 30d.")
@click.option("--deputy", required=True, help="Who stands in: one of their `deputies`.")
@_key
@click.pass_obj
def away(file: Path, person: str, until: str, deputy: str, key: Path) -> None:
    """Say that an approver is away, and who answers in their place; they sign that themselves.

    The deputy answers under their own name and key what reaches the absent person, who answers nothing meanwhile. It
    ends by itself, with `people back`, and when the key that signed it is taken out of the file. Said again, it takes
    the place of what was said before.
    """
    place = read_place(file)
    _absence(place, person, deputy, until, key)


@people.command()
@click.argument("person")
@_key
@click.pass_obj
def back(file: Path, person: str, key: Path) -> None:
    """Say that an approver is back before their time; nobody stands in for them from then on."""
    _absence(read_place(file), person, "", "", key)


def _absence(place: Place, person: str, deputy: str, until: str, key: Path) -> None:
    from citywatch.core.approvals.absence import absence_bytes
    from citywatch.core.approvals.showing import when
    from citywatch.main.assembly import open_city
    from citywatch.main.desks import absences_of
    from citywatch.main.ticket_keys import signed_with

    async def run() -> None:
        async with open_city(place) as city:
            absences = absences_of(city)
            ends = _ends(until, city.clock.now_ms()) if until else 0
            said = await absences.prepare(person, deputy, ends)
            await absences.say(said, signed_with(key, absence_bytes(said)))
        click.echo(f"{person} is away until {when(ends)}, {deputy} stands in" if ends else f"{person} is back")

    asyncio.run(run())


def _ends(until: str, now: int) -> int:
    try:
        return now + parse_duration(until) if until[-1:].isalpha() and "T" not in until else parse_time(until)
    except Malformed as fault:
        raise click.UsageError(f"--until: {fault}") from None


@people.command()
@click.argument("person")
@click.pass_obj
def exercise(file: Path, person: str) -> None:
    """Have somebody answer eight tickets of the past, four of which are to be denied, each with its answer at once.

    They stand among the others in `tickets list --by`. Who denies enough of what was to be denied, and not too much of
    the rest, has a yes that counts again.
    """
    from citywatch.main.assembly import open_city
    from citywatch.main.desks import canaries_of

    place = read_place(file)
    if person not in place.settings.people or not place.settings.people[person].answers:
        raise Malformed(f"the file names no approver `{person[:80]}` under `people`")

    async def run() -> None:
        async with open_city(place) as city:
            click.echo(f"{person} has {await canaries_of(city).exercise(person)} more to answer")

    asyncio.run(run())


@people.command()
@click.argument("ticket")
@click.option("--reason", required=True, help="What was wrong with it; it stands in the log.")
@click.pass_obj
def escaped(file: Path, ticket: str, reason: str) -> None:
    """Enter that an approved call should not have been: it counts as an escape of whoever approved it."""
    from citywatch.core import events
    from citywatch.core.approvals.ticket import State
    from citywatch.core.log.entry import encode_event
    from citywatch.main.assembly import open_city, operator
    from citywatch.main.desks import tickets_of
    from citywatch.service.ports import Append, NewEntry

    place = read_place(file)

    async def run() -> None:
        async with open_city(place) as city:
            found = await tickets_of(city).find(ticket)
            if found.state not in (State.APPROVED, State.USED):
                raise Malformed(f"the ticket `{found.id}` is {found.state.value}: nobody approved it")
            event = events.ApprovalReversed(
                at=city.clock.now_ms(), replica=city.replica.name, ticket=found.id, by=operator(), reason=reason
            )
            await city.store.append(Append(entries=(NewEntry(encode_event(event)),), sync=True))
        click.echo(f"{found.id} escaped {found.by}")

    asyncio.run(run())


def lines(found: Vigilance, by: str = "") -> list[str]:
    """What is known, a paragraph for each person."""
    told: list[str] = []
    for who in found.people():
        if by and who != by:
            continue
        counts = "counts" if found.counts(who) else "does not count until an exercise is passed"
        told.append(f"{json.dumps(who)[1:-1]}: their yes {counts}")
        told += [f"  {one}: {_told(found.rates(who, one))}" for one in found.categories(who)]
        drift = found.drift(who)
        if drift.found:
            first, second = drift.first, drift.second
            told.append(f"  says yes more often as the shift goes on: {_of(*first)}, then {_of(*second)}")
    alpha = found.reliability()
    if alpha is not None and not by:
        told.append(f"agreement of those who answered the same tickets: {alpha:.2f} (Krippendorff's alpha)")
    return (told or ["nobody has answered anything"]) + ([] if by else waits_lines(found.waits()))


def waits_lines(waits: Waits) -> list[str]:
    """What became of all that was asked."""
    if not waits.asked:
        return []
    said = f"asked {waits.asked}: {waits.answered} answered"
    if waits.median is not None and waits.most is not None:
        said += f", half within {waits.median / 1000:.0f} s and nine of ten within {waits.most / 1000:.0f} s"
    return [f"{said}; {waits.expired} expired without an answer, {waits.unopened} of them opened by nobody"]


def flood_line(flood: Flood) -> str:
    """One line for a flood, however much was asked."""
    who = json.dumps(flood.who.rpartition("/")[2].replace("\n", ", "))[1:-1]
    acts = " ".join(json.dumps(one)[1:-1] for one in flood.acts)
    return f"flood  {flood.kind} {who}: {flood.count} held back, strike {flood.strikes}: {acts}"


def _told(rates: Rates) -> str:
    low, high = rates.detects
    parts = [f"{rates.answered} answered"]
    if rates.targets:
        seen = f"denied {_of(rates.hits, rates.targets)} made-up attacks (95 %: {low:.0%} to {high:.0%})"
        parts += [seen, f"d' {rates.sensitivity:.1f}, criterion {rates.criterion:.1f}"]
    if rates.clean:
        parts.append(f"denied {_of(rates.false_denials, rates.clean)} honest ones")
    if rates.pace is not None:
        parts.append(f"takes {rates.pace:.1f} of the time that reading takes")
    if rates.waited is not None:
        parts.append(f"answered after {rates.waited / 1000:.0f} s")
    if rates.expired:
        parts.append(f"let {rates.expired} expire that they had opened")
    if rates.escapes:
        parts.append(f"{rates.escapes} escaped")
    return "; ".join(parts)


def _of(count: int, n: int) -> str:
    return f"{count} of {n}"
