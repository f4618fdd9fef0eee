"""`citywatch run`: an agent's program under its own account, with papers for as long as it is what was measured."""

from __future__ import annotations

import asyncio
import os
import signal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from citywatch.core.errors import CitywatchError, Malformed
from citywatch.main.agents import agent
from citywatch.main.place import Place, read_place

if TYPE_CHECKING:
    from collections.abc import Callable

    from citywatch.adapters.workload import Accounts, Door, Program
    from citywatch.core.identity.workload import WorkloadRow
    from citywatch.core.signature import P256Key
    from citywatch.main.assembly import City
    from citywatch.service.federation import Federation
    from citywatch.service.freshness import Freshness
    from citywatch.service.ports import Bus
    from citywatch.service.workload import Run, Workloads

LOOK_S = 2.0
FAREWELL_S = 0.5


def register(cli: click.Group) -> None:
    cli.add_command(run)
    agent.add_command(measure)


@click.command()
@click.argument("name")
@click.option("--also", multiple=True, help="Another file that makes it what it is, or a folder whole.")
@click.option("--pass", "variables", multiple=True, metavar="VARIABLE", help="A variable that it gets from `run`.")
@click.argument("command", nargs=-1, required=True)
@click.pass_obj
def measure(file: Path, name: str, also: tuple[str, ...], variables: tuple[str, ...], command: tuple[str, ...]) -> None:
    """Put on file what an agent's program is: the command after `--`, and the digest of each file that it names.

    Run it in the program's folder. The program's name is looked up, and arguments and --also that are paths are
    measured, as they are from there.
    """
    from citywatch.adapters.workload import measure_program
    from citywatch.main.assembly import open_city, operator

    place = read_place(file)
    found = measure_program(command, str(Path.cwd()), variables, also, None)

    async def put() -> None:
        async with open_city(place) as city:
            city.row()
            row, shown = await workloads(city).register(name, found, operator(), _claim(city))
        click.echo(f"measured {row.agent} ({shown[:16]}), account {row.uid}")
        for path, value in sorted(found.files.items()):
            click.echo(f"    {value[:16]}  {path}")

    asyncio.run(put())


@click.command()
@click.argument("name")
@click.option("--unsafe-same-user", is_flag=True, help="Without root: under your own account.")
@click.argument("command", nargs=-1, required=True)
@click.pass_obj
def run(file: Path, name: str, unsafe_same_user: bool, command: tuple[str, ...]) -> None:
    """Run the command after `--` as an agent, and give it papers over the SPIFFE Workload API.

    It has to be what `citywatch agent measure` put on file. It runs under an account of its own, finds its socket in
    SPIFFE_ENDPOINT_SOCKET, and ends, with all that it started, when this command does. Its papers end with it.
    """
    from citywatch.adapters.workload import check_account

    place = read_place(file)
    check_account(unsafe_same_user)
    if unsafe_same_user:
        click.echo("UNSAFE       --unsafe-same-user: what else runs under your account can take its papers", err=True)
    raise SystemExit(asyncio.run(_run(place, name, command, unsafe_same_user)))


async def _run(place: Place, name: str, command: tuple[str, ...], same_user: bool) -> int:
    from citywatch.adapters.workload import (
        WorkloadApi,
        WorkloadKey,
        measure_program,
        open_door,
        open_server,
        start_program,
    )
    from citywatch.main.assembly import open_city, operator
    from citywatch.main.federation import neighbours
    from citywatch.service.authority import p256
    from citywatch.service.freshness import Freshness

    async with open_city(place) as city:
        city.row()  # whose papers are somebody else's to give starts no programs
        known_domains = neighbours(city)
        await known_domains.load()  # the program may ask for all bundles at once
        city_workloads = workloads(city, known_domains)
        row = (await city_workloads.standing(name)).program
        uid = None if same_user else row.uid
        if uid is not None:
            _accounts(city).check(uid)
        known = row.measured
        measuring = partial(measure_program, command, known.folder, known.variables, known.also, uid)
        environment = _environment(row)
        key = WorkloadKey()

        async def look_at_authority() -> int:
            await known_domains.load()
            return (await city.look_at_authority()).active

        began = await city_workloads.begin(name, p256(key.public), lambda: asyncio.to_thread(measuring), operator())
        fresh = Freshness(began, look_at_authority)
        try:
            async with (
                open_door(os.geteuid() if uid is None else uid) as door,
                open_server(WorkloadApi(fresh, key), door.behind),
            ):
                program = await start_program(known, uid, door.path, environment)
                try:
                    around = (city.store, known_domains)
                    return await _attend(fresh, *around, door, program, os.geteuid() if uid is None else uid)
                finally:
                    await program.stop()
        finally:
            await _end(began, p256(WorkloadKey().public))


async def _attend(fresh: Freshness, bus: Bus, known: Federation, door: Door, program: Program, uid: int) -> int:
    """Until the program ends, is over, or we are told to stop."""
    from citywatch.adapters.workload import check_peer

    await fresh.look()  # measured once more, now that it runs
    if (failure := fresh.refused or fresh.failed) is not None:
        raise failure
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    serving = asyncio.create_task(door.serve(lambda one: check_peer(one, uid, program.pid), _say))
    keeping = asyncio.create_task(_keep(fresh, bus))
    around = asyncio.create_task(known.run())
    ended, told = asyncio.create_task(program.wait()), asyncio.create_task(stop.wait())
    tasks = (serving, keeping, around, ended, told)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            return ended.result()
        if fresh.refused is not None:
            _say(f"{fresh.refused.code.value}: {fresh.refused.detail}; the program is stopped")
            await asyncio.sleep(FAREWELL_S)  # its streams end with the reason, and not with the connection
            return 1
        if told.done():
            await program.stop()
            return await program.wait()
        return 1  # a task that never ends has ended: nothing runs unguarded
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _keep(fresh: Freshness, bus: Bus) -> None:
    """Look now and then, and as soon as anybody was revoked: who is not any more shall not be answered once more."""
    from citywatch.service.watch import heard, until_noticed

    failed = ""
    while fresh.refused is None:
        known = await heard(bus)  # before the look: what is revoked meanwhile is looked at again
        await fresh.look()
        now = "" if fresh.failed is None else str(fresh.failed)
        if now != failed:
            _say(f"no new papers can be issued: {now}" if now else "papers are issued again")
            failed = now
        if fresh.refused is None:
            await until_noticed(bus, known, LOOK_S)


async def _end(began: Run, nobody: P256Key) -> None:
    try:
        await began.end(nobody)
    except CitywatchError as failure:
        _say(f"the papers of this run hold until they expire, for they could not be voided: {failure}")


def workloads(city: City, known: Federation | None = None) -> Workloads:
    """Programs and their papers, in this city; `known` are the other trust domains whose bundles they are shown."""
    from citywatch.config import attestor_keys
    from citywatch.core.identity.elsewhere import Domains
    from citywatch.core.signature import thumbprint
    from citywatch.main.assembly import LEEWAY_MS
    from citywatch.service.workload import Workloads

    agents = city.settings.agents
    return Workloads(
        store=city.store,
        clock=city.clock,
        replica=city.replica.name,
        authority=city.authority,
        domains=(lambda: Domains(home=city.bundle())) if known is None else known.domains,
        lifetimes=city.lifetimes,
        leeway_ms=LEEWAY_MS,
        attested_by=lambda name: agents[name].attested_by if name in agents else None,
        attestors={name: thumbprint(key) for name, key in attestor_keys(city.settings.attestors).items()},
    )


def _environment(row: WorkloadRow) -> dict[str, str]:
    missing = [name for name in row.measured.variables if name not in os.environ]
    if missing:
        raise Malformed(f"the program wants `{missing[0]}` from the environment, and it is not set")
    return {name: os.environ[name] for name in row.measured.variables}


def _claim(city: City) -> Callable[[int, bool], bool]:
    """Only root can give a program an account of its own, and only then is one taken."""
    return _accounts(city).claim if os.geteuid() == 0 else lambda uid, new: True


def _accounts(city: City) -> Accounts:
    from citywatch.adapters.workload import Accounts, folder_mark

    return Accounts(city.place.state, folder_mark(city.place.state, city.chance.salt().hex()))


def _say(line: str) -> None:
    click.echo(f"citywatch: {line}", err=True)
