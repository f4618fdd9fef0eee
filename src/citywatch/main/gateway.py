"""One running gateway: recovery, rules, upstreams, listeners, and the tasks that keep them fresh.

Decides nothing about calls. INVARIANT: whatever a dead process left open is closed before the first call is taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import msgspec

import citywatch
from citywatch.adapters.gateway.app import Gateway
from citywatch.adapters.gateway.door import Door
from citywatch.adapters.gateway.protocol import Bounds
from citywatch.adapters.gateway.serve import Address, Listeners
from citywatch.adapters.tls import GatewayTls
from citywatch.adapters.weights import content_model
from citywatch.core import events
from citywatch.core.enforce.rules import Rules
from citywatch.core.errors import CitywatchError, Refused, Unavailable
from citywatch.core.policy.check import check_policies
from citywatch.core.wire.jsonrpc import Limits
from citywatch.main.assembly import GATEWAY_TTL_MS, City, build_upstreams, load_rules, operator
from citywatch.service.alarm import Alarm, WatchedStore, keep_looking
from citywatch.service.enforcer import Enforcer
from citywatch.service.exchange import Exchange
from citywatch.service.handles import drop_shelves
from citywatch.service.publisher import Publisher
from citywatch.service.recovery import close_lost_calls, drop_expired, note_boot, note_start, note_stop

REFRESH_S = 5.0
PUBLISH_S = 1.0
LOOK_S = 1.0


class Running(msgspec.Struct):
    """What `up` shows and later stops. `broken` is set if a chore ended, which none ever should."""

    listeners: Listeners
    says: list[str]
    enforcer: Enforcer
    broken: asyncio.Event


@asynccontextmanager
async def open_gateway(city: City, say: Callable[[str], None]) -> AsyncIterator[Running]:
    """Bring the gateway up; take it down again on the way out, leaving the log whole. `say` tells the operator."""
    settings, limits = city.settings, city.settings.limits
    rules = await load_rules(settings, city.store)
    publisher = city.publisher()
    published = await publisher.resume()
    power_was_lost = await note_boot(city.store, city.clock, city.replica.name, city.boot, published)
    lost = await close_lost_calls(city.store, city.clock, city.replica.name, city.replica.is_dead)
    await drop_expired(city.store, city.clock)
    await drop_shelves(city.store, city.clock.now_ms())
    await city.admin.note_policy(rules.policies.digest, operator())
    await note_start(city.store, await _started(city, rules, published), city.boot)
    try:
        await publisher.publish()
    except Unavailable:
        pass  # it is tried again, and what `up` shows says so
    except Refused as failure:
        advice = "if this disk was put back from a copy, put the newest copy back"
        raise CitywatchError(f"the log is not the one that was shown to others: {failure}; {advice}") from None

    async def refresh() -> Rules:
        try:
            loaded = await load_rules(settings, city.store)
            await city.admin.note_policy(loaded.policies.digest, operator())
            return loaded
        except CitywatchError:
            return enforcer.rules  # what is approved but cannot be read with the policies stays unusable

    alarm = Alarm("calls are refused, because they cannot be recorded", "calls are recorded again", say)
    store = WatchedStore(city.store, alarm)
    enforcer = Enforcer(
        store=store,
        clock=city.clock,
        chance=city.chance,
        rules=rules,
        replica=city.replica.name,
        refresh=refresh,
        model=content_model(),
    )
    upstreams = build_upstreams(city.place)
    reply_limits = Limits(size=limits.reply_bytes, depth=limits.depth, nodes=limits.nodes)
    exchange = Exchange(enforcer, upstreams, reply_limits, limits.sessions_per_agent)
    door = Door(lambda: city.row().bundle(), city.audience)
    issuer = city.issuer

    async def bundle(_: bytes) -> tuple[int, str, bytes]:
        return 200, "application/json", issuer.bundle()

    async def renew(body: bytes) -> tuple[int, str, bytes]:
        return 200, "application/json", await issuer.renew(body)

    async def health(_: bytes) -> tuple[int, str, bytes]:
        log = publisher.health
        status = "ok" if log.failed is None else "the log is not published for now: its disk or a witness is away"
        if log.refused is not None:
            status = "the log is not published: a witness or the signer refused"
        return 200, "application/json", msgspec.json.encode({"status": status, "published": log.size})

    gateway = Gateway(
        exchange=exchange,
        door=door,
        limits=Limits(size=limits.request_bytes, depth=limits.depth, nodes=limits.nodes),
        body_time=limits.body_time_ms / 1000,
        max_in_flight=limits.max_in_flight,
        routes={
            ("GET", "/citywatch/bundle"): bundle,
            ("POST", "/citywatch/renew"): renew,
            ("GET", "/citywatch/health"): health,
        },
        closed=lambda: publisher.health.refused,
        hosts=frozenset({"localhost", "127.0.0.1", "::1", *settings.names, *(one.host for one in settings.listen)}),
    )
    listeners = Listeners(
        gateway,
        Bounds(headers=limits.headers, header_bytes=limits.header_bytes, header_time=limits.header_time_ms / 1000),
        limits.connections,
    )
    tls = GatewayTls() if any(listen.tls for listen in settings.listen) else None
    if tls is not None:
        await city.renew_gateway(tls)
    addresses = [Address(listen.host, listen.port, listen.tls) for listen in settings.listen]
    opened = await listeners.open(addresses, None if tls is None else tls.context)
    publication = Alarm("the log is not published", "the log is published again", say)

    async def look_at_publication() -> None:
        log = publisher.health
        why = log.refused or log.failed
        publication.rest() if why is None else publication.ring(why)

    looks = keep_looking((store.look, look_at_publication), LOOK_S)
    chores = (_keep_fresh(city, door, tls), publisher.run(PUBLISH_S), _fold(enforcer), looks)
    tasks = [asyncio.create_task(chore) for chore in chores]
    broken = asyncio.Event()
    for task in tasks:
        task.add_done_callback(lambda _: broken.set())
    try:
        yield Running(listeners, _says(city, rules, opened, lost, power_was_lost, publisher), enforcer, broken)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for upstream in upstreams.values():
            await upstream.close()
        await note_stop(city.store, city.clock, city.replica.name, city.replica.is_dead)
        with suppress(CitywatchError):
            for _ in range(3):  # another publisher may be faster, and then this one stands back
                if (await publisher.publish()).size >= await city.store.sync():
                    break


async def _fold(enforcer: Enforcer) -> None:
    """Enter now and then what a flood of refused requests was counted to."""
    while True:
        await asyncio.sleep(PUBLISH_S)
        with suppress(CitywatchError):
            await enforcer.rejections.fold()


async def _keep_fresh(city: City, door: Door, tls: GatewayTls | None) -> None:
    """Renew the gateway's key and certificate; see if another process rotated the authority, and believe that."""
    renewed = city.clock.now_ms()
    shown = city.row().sequence
    while True:
        await asyncio.sleep(REFRESH_S)
        before = city.row().sequence
        try:
            after = (await city.look_at_authority()).sequence
            if after != before:
                door.forget()
            if tls is not None and (after != shown or is_due(city.clock.now_ms(), renewed)):
                now = city.clock.now_ms()
                await city.renew_gateway(tls)
                renewed, shown = now, after
        except (CitywatchError, OSError):
            continue  # store or disk are away for a moment: calls are refused by the append meanwhile


def is_due(now: int, renewed: int) -> bool:
    """Whether half of the certificate's life is over, or the clock was put back to before it began."""
    return not renewed <= now <= renewed + GATEWAY_TTL_MS // 2


async def _started(city: City, rules: Rules, published: int) -> events.Started:
    return events.Started(
        at=city.clock.now_ms(),
        replica=city.replica.name,
        version=citywatch.__version__,
        policy=rules.policies.digest,
        manifest=rules.manifest,
        checkpoint=published,
        size=await city.store.sync(),
        unsafe=city.settings.unsafe,
    )


def _says(
    city: City,
    rules: Rules,
    opened: list[tuple[Address, int]],
    lost: int,
    power_was_lost: bool,
    publisher: Publisher,
) -> list[str]:
    says = []
    for address, port in opened:
        host = f"[{address.host}]" if ":" in address.host else address.host
        for server in rules.servers:
            says.append(f"{server:12} {'https' if address.tls else 'http'}://{host}:{port}/mcp/{server}")
    says.append(f"policies     {len(rules.policies.policies)} ({rules.policies.digest[:16]})")
    says.append(f"tools        {len(rules.tools)} approved")
    says += [f"UNSAFE       {name}" for name in city.settings.unsafe]
    says.append(f"log          {publisher.health.size} entries published, {publisher.health.cosigned} cosignatures")
    if publisher.health.failed:
        says.append(f"log          not published up to now: {publisher.health.failed}")
    says += [f"policy       {mistake}" for mistake in check_policies(rules.policies.policies, rules.world)]
    if power_was_lost:
        says.append("power        the machine lost power while a gateway ran: the log has an entry that says so")
    if lost:
        says.append(f"lost         {lost} calls were open when an earlier process died; the log says which")
    return says
