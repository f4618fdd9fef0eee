"""`citywatch console`: the city, for people. It opens the same store and log as every command does.

Decides where the console is and who a link is for. INVARIANTS: links are handed out by whoever can open the state
folder, in their own name or with the roles that the file gives a person; a link is printed once and kept nowhere.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from citywatch.core.errors import CitywatchError, Malformed
from citywatch.main.place import Place, read_place

if TYPE_CHECKING:
    from citywatch.adapters.console.desk import Desk, PolicyFile, Tested
    from citywatch.adapters.console.desk import Place as Shown
    from citywatch.adapters.console.provider import SignIn
    from citywatch.config import FromEnvironment, FromFile, Settings
    from citywatch.core.approvals.people import Approvals
    from citywatch.core.enforce.rules import Rules
    from citywatch.core.enforce.spread import Roots, Touch
    from citywatch.main.assembly import City
    from citywatch.service.entering import Entering
    from citywatch.service.panorama import Panorama

NAME = "console.name"
"""The file that holds what the console is called under `localhost`."""
RULES_S = 5.0


def register(cli: click.Group) -> None:
    cli.add_command(console)


@click.group(invoke_without_command=True)
@click.option("--as", "person", metavar="PERSON", help="Whom the link lets in that is printed at the start.")
@click.option("--no-link", is_flag=True, help="Print no link: people sign in at their provider, or ask for one.")
@click.pass_context
def console(ctx: click.Context, person: str | None, no_link: bool) -> None:
    """Show the city in a browser: who speaks with whom, what was decided and why, the log, the people.

    It listens on loopback and reads what the gateway writes; both may run, or either alone.
    """
    if ctx.invoked_subcommand is None:
        asyncio.run(_serve(read_place(ctx.obj), person, not no_link))


@console.command()
@click.option("--as", "person", metavar="PERSON", help="Whom it lets in.  [default: you, as the operator]")
@click.pass_obj
def link(file: Path, person: str | None) -> None:
    """Print a link into the console that is good once, for five minutes."""
    place = read_place(file)

    async def run() -> str:
        from citywatch.main.assembly import open_city

        async with open_city(place) as city:
            return await _hand_out(city, _entering(city), _origin(city, place.settings.console.port), person)

    click.echo(asyncio.run(run()))


async def _serve(place: Place, person: str | None, with_link: bool) -> None:
    from citywatch.adapters.console.app import Console
    from citywatch.adapters.console.serve import bind, serve
    from citywatch.main.approvals_api import api_of, beside, forget_requests
    from citywatch.main.assembly import open_city

    declared = place.settings.console
    listener = bind(declared.host, declared.port)
    async with open_city(place) as city:
        origin = _origin(city, listener.getsockname()[1])
        desk = await _desk(city, origin)
        pages = Console(desk, _log, _sign_in(city, origin))
        app = beside(pages, api_of(desk, _log))
        first = await _hand_out(city, desk.entering, origin, person) if with_link else ""

        def ready() -> None:
            click.echo(f"console      {origin}")
            if first:
                click.echo(f"sign in      {first}")
                click.echo("             good once, for five minutes; `citywatch console link` prints another")
            click.echo("ready")

        runs = (desk.following.run(), desk.queueing.keep(), forget_requests(city))
        chores = [asyncio.create_task(one) for one in runs]
        try:
            await serve(app, listener, ready)
        finally:
            for chore in chores:
                chore.cancel()
            await asyncio.gather(*chores, return_exceptions=True)


def _log(line: str) -> None:
    click.echo(line, err=True)


async def _hand_out(city: City, entering: Entering, origin: str, person: str | None) -> str:
    from citywatch.adapters.console.entrance import draw_token

    name, roles = _whom(city.settings, person)
    token = draw_token()
    await entering.hand_out(token, name, roles)
    return f"{origin}/login#{token}"


def _whom(settings: Settings, person: str | None) -> tuple[str, tuple[str, ...]]:
    """Whose link it is, as the log names them, and what they may do."""
    from citywatch.core.approvals.people import Duty
    from citywatch.main.assembly import operator

    if person is not None:
        if person not in settings.people:
            known = ", ".join(sorted(settings.people)) or "nobody"
            raise Malformed(f"the configuration names no person `{person[:80]}`; it names {known}")
        return f"person:{person}", tuple(role.value for role in settings.people[person].roles)
    # Whoever can open the state folder can do all this by commands; where people are named, answering is theirs.
    roles = (Duty.OPERATOR, Duty.AUDITOR, *(() if settings.people else (Duty.APPROVER,)))
    return operator(), tuple(role.value for role in roles)


def _origin(city: City, port: int) -> str:
    """Where browsers reach the console.

    Cookies know no ports: a page of any program on this machine, at `localhost` or at 127.0.0.1, would be sent ours.
    So the console has a name of its own, which nobody else can guess and which every browser takes for this machine.
    """
    declared = city.settings.console
    if declared.address:
        return declared.address
    if not city.keys.exists(NAME):
        with suppress(Malformed):  # another process was faster
            city.keys.create(NAME, f"city-{city.chance.call_id()[:16]}".encode())
    return f"http://{city.keys.read(NAME).decode('ascii')}.localhost:{port}"


def _sign_in(city: City, origin: str) -> SignIn | None:
    """The provider that vouches for people, if the file names one."""
    from citywatch.adapters.console.provider import SignIn

    declared = city.settings.console.oidc
    if declared is None:
        return None
    place = declared.credential
    return SignIn(
        issuer=declared.issuer,
        client=declared.client,
        secret=None if place is None else lambda: _secret(place),
        ca=declared.ca,
        origin=origin,
        clock=city.clock,
    )


def _secret(place: FromEnvironment | FromFile) -> str:
    from citywatch.config import FromEnvironment

    if isinstance(place, FromEnvironment):
        found = os.environ.get(place.name, "")
        if not found:
            raise Malformed(f"the environment has no `{place.name}`, which holds the secret of `console.oidc`")
        return found
    try:
        return Path(place.path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise Malformed(f"`{place.path}`, which holds the secret of `console.oidc`, cannot be read") from None


def _entering(city: City) -> Entering:
    from citywatch.service.entering import Entering

    return Entering(store=city.store, clock=city.clock, replica=city.replica.name)


async def _desk(city: City, origin: str) -> Desk:
    from citywatch.adapters.console.desk import Desk, Sight
    from citywatch.core.log.checkpoint import parse_note_key
    from citywatch.main.desks import (
        absences_of,
        canaries_of,
        care_of,
        passkeys_of,
        queueing_of,
        tickets_of,
        voting_over,
        watching_of,
    )
    from citywatch.main.replay import rebuild
    from citywatch.service.decisions import Decisions
    from citywatch.service.documents import Documents
    from citywatch.service.following import Following
    from citywatch.service.halts import Halts
    from citywatch.service.hours import Hours
    from citywatch.service.lineage import Lineage
    from citywatch.service.sets import Sets

    settings = city.settings
    sights = [Sight(Decisions(asks=asks), _panorama(settings, asks=asks)) for asks in _sights(settings)]
    rules, lineage, hours, watching = _Rules(city), Lineage(), Hours(), watching_of(city)
    folds = [lineage.fold, hours.fold, watching.fold]
    folds += [fold for one in sights for fold in (one.decisions.fold, one.panorama.fold)]
    approvals = _approvals(settings, origin)
    tickets = tickets_of(city)
    documents = Documents(city.store, await rules.held(), rebuild)
    halts = Halts(store=city.store, clock=city.clock, replica=city.replica.name)
    care, canaries = care_of(city, approvals), canaries_of(city, watching)
    voting = voting_over(city, approvals, documents, care, canaries, watching)
    queueing = queueing_of(city, canaries)
    folds.append(queueing.fold)
    return Desk(
        domain=settings.trust_domain,
        origin=origin,
        store=city.store,
        clock=city.clock,
        following=Following(city.store, folds),
        sight=sights[0],
        apart=sights[-1] if len(sights) > 1 else None,
        lineage=lineage,
        entering=_entering(city),
        rules=rules.now,
        rebuild=rebuild,
        proofs=city.publisher().proofs,
        log_key=city.verifier_key(),
        witnesses=[parse_note_key(one.key) for one in settings.witnesses],
        quorum=settings.witness_quorum,
        places=_places(settings),
        agents=city.admin.list_agents,
        halted=halts.halted,
        actions=_Actions(city, rules),
        policy_files=lambda: _policy_files(settings),
        policy_tests=lambda: _policy_tests(city, rules),
        people=settings.people,
        approvals=approvals,
        tickets=tickets,
        documents=documents,
        voting=voting,
        sets=Sets(voting, tickets, care, approvals.batch),
        care=care,
        queueing=queueing,
        canaries=canaries,
        passkeys=passkeys_of(city, approvals.passkeys),
        absences=absences_of(city),
        watching=watching,
        hours=hours,
        unsafe=settings.unsafe,
    )


def _approvals(settings: Settings, origin: str) -> Approvals:
    """The file's, with passkeys for this very console where it names none and browsers give them here."""
    from citywatch.core.approvals.people import Passkeys

    if settings.approvals.passkeys is not None or not settings.people:
        return settings.approvals
    host = origin.partition("://")[2].partition(":")[0]
    return msgspec.structs.replace(settings.approvals, passkeys=Passkeys(rp_id=host, origins=(origin,)))


def _sights(settings: Settings) -> tuple[bool, ...]:
    """Whether what people are asked is in what is seen of the log: where tickets are made up, there is one without."""
    return (True, False) if settings.people and settings.approvals.canaries else (True,)


def _panorama(settings: Settings, *, asks: bool) -> Panorama:
    from citywatch.service.panorama import Panorama

    return Panorama({name: peer.declared.agent for name, peer in settings.peers.items()}, asks=asks)


def _places(settings: Settings) -> tuple[Shown, ...]:
    """What the file names. A server that can be written and read is a memory: what went in may come out again."""
    from citywatch.adapters.console.desk import Place as Shown
    from citywatch.core.call import Effect

    found = [Shown(f"p:{name}", "person", name) for name in settings.principals]
    found += [Shown(f"a:{name}", "agent", name) for name in settings.agents]
    for name, server in settings.servers.items():
        effects = {tool.effect for tool in server.tools.values()}
        remembers = effects == {Effect.READ, Effect.WRITE}
        kind, note = ("memory", "remembers what is written to it") if remembers else ("server", "")
        found.append(Shown(f"s:{name}", kind, name, note))
    for name, peer in settings.peers.items():
        if not peer.declared.agent:
            found.append(Shown(f"s:{name}", "peer", name, "somebody else's agent"))
    return tuple(found)


class _Rules:
    """The rules of now, read again at most every few seconds: a page shows several things that ask for them."""

    def __init__(self, city: City) -> None:
        self._city = city
        self._rules: Rules | None = None
        self._read = 0.0

    async def now(self) -> Rules:
        from citywatch.main.assembly import load_rules

        if self._rules is None or time.monotonic() - self._read > RULES_S:
            self._rules = await load_rules(self._city.settings, self._city.store, self._city.roots())
            self._read = time.monotonic()
        return self._rules

    async def held(self) -> Callable[[], Rules]:
        """The rules as they were last read, for whoever cannot wait."""
        first = await self.now()
        return lambda: self._rules or first


class _Actions:
    """What an operator does from a page, as the commands of the same names do it."""

    def __init__(self, city: City, rules: _Rules) -> None:
        from citywatch.service.halts import Halts
        from citywatch.service.quarantine import Quarantine

        self._city = city
        self._rules = rules
        self._halts = Halts(store=city.store, clock=city.clock, replica=city.replica.name)
        self._quarantine = Quarantine(
            store=city.store, clock=city.clock, replica=city.replica.name, blast=self._touched
        )

    async def revoke(self, agent: str, by: str, reason: str) -> str:
        return (await self._city.admin.revoke_agent(agent, reason, by)).agent

    async def stop(self, what: str, by: str, reason: str) -> str:
        return await self._halts.halt(what, by, reason)

    async def resume(self, what: str, by: str, reason: str) -> str:
        return await self._halts.resume(what, by, reason)

    async def quarantine(self, agent: str, by: str, reason: str) -> str:
        return (await self._quarantine.lay(agent, 0, by, reason)).agent

    async def lift(self, agent: str, by: str, reason: str) -> str:
        return await self._quarantine.lift(agent, by, reason)

    async def _touched(self, roots: Roots) -> tuple[Touch, ...]:
        from citywatch.main.replay import rebuild
        from citywatch.service.blast import blast

        return await blast(self._city.store, await self._rules.now(), roots, rebuild)


def _policy_files(settings: Settings) -> Sequence[PolicyFile]:
    from citywatch.adapters.console.desk import PolicyFile

    folder = Path(settings.policies)
    files = sorted([*folder.glob("*.cedar"), *folder.glob("*.test.yaml")])
    found = [PolicyFile(path.name, path.read_text(encoding="utf-8", errors="replace")) for path in files]
    if settings.temporal_rules is not None:
        path = Path(settings.temporal_rules)
        found.append(PolicyFile(path.name, path.read_text(encoding="utf-8", errors="replace")))
    return found


async def _policy_tests(city: City, rules: _Rules) -> Tested:
    from citywatch.adapters.console.desk import Tested
    from citywatch.core.policy.tables import run_tables, untested
    from citywatch.main.policy import read_tables

    try:
        now = await rules.now()
        outcomes = run_tables(read_tables(city.place), now.policies, now.world)
    except CitywatchError as failure:
        return Tested(0, (str(failure),), ())
    wrong = [f"{one.file} case {one.number}: got {one.got}" for one in outcomes if not one.passed]
    return Tested(len(outcomes) - len(wrong), tuple(wrong), tuple(untested(outcomes, now.policies)))
