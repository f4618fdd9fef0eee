"""One running gateway: recovery, rules, upstreams, listeners, and the tasks that keep them fresh.

Decides nothing about calls. `open_gateway` is the order in which things come up; each step has a name below it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

import citywatch
from citywatch.adapters.gateway.app import Gateway
from citywatch.adapters.gateway.door import Door
from citywatch.adapters.gateway.notice import Notice
from citywatch.adapters.gateway.protocol import Bounds
from citywatch.adapters.gateway.serve import Address, Listeners
from citywatch.adapters.tls import shown_chain
from citywatch.adapters.web_tls import WebTls
from citywatch.adapters.weights import content_digest, content_model
from citywatch.core import events
from citywatch.core.enforce.rules import Rules
from citywatch.core.errors import CitywatchError, Code, Malformed, Refused, Unavailable
from citywatch.core.policy.check import check_policies
from citywatch.core.wire.jsonrpc import Limits
from citywatch.main.access import access_routes, access_tokens, borrowed, handed_over, keep_issuers, resources
from citywatch.main.assembly import LEEWAY_MS, City, assumptions, load_rules, operator
from citywatch.main.desks import canaries_of, expire_tickets, tickets_of
from citywatch.main.envelopes import arrivals, envelope_routes, envelopes, reply_arrivals, reply_envelopes
from citywatch.main.joining import invitations
from citywatch.main.notices import asking_chores
from citywatch.main.peers import (
    card_upstreams,
    card_watch,
    cards,
    look_at_cards,
    peer_upstreams,
    push_taker,
    recipients,
)
from citywatch.main.routes import bundle_pages, card_routes, join_routes, own_names, proven_routes, routes, token_route
from citywatch.main.trust import REFRESH_S, Trust
from citywatch.main.upstreams import build_upstreams, guarded
from citywatch.main.waits import leading, own_tasks, pausing, waiting
from citywatch.service.access import AccessTokens
from citywatch.service.alarm import Alarm, WatchedStore, keep_looking
from citywatch.service.cards import Cards
from citywatch.service.carried import drop_carried
from citywatch.service.enforcer import Enforcer
from citywatch.service.exchange import Exchange
from citywatch.service.handles import drop_shelves
from citywatch.service.joining import drop_invitations
from citywatch.service.memories import drop_memories
from citywatch.service.messages import Messages, drop_nonces
from citywatch.service.plans import Plans
from citywatch.service.ports import Recipient, Store, Upstream
from citywatch.service.publisher import Publisher
from citywatch.service.push_rows import drop_pushes
from citywatch.service.recovery import close_lost_calls, drop_expired, note_boot, note_start, note_stop
from citywatch.service.watch import Watch

PUBLISH_S = 1.0
LOOK_S = 1.0
FORGET_S = 3600.0
NONCES_S = 60.0
EXPIRE_S = 30.0


class Running(msgspec.Struct):
    """What `up` shows and later stops. `broken` is set if a chore ended, which none ever should."""

    listeners: Listeners
    says: list[str]
    enforcer: Enforcer
    broken: asyncio.Event


class Before(msgspec.Struct, frozen=True):
    """What an earlier process left: the size that was published, calls that were open, whether the power went."""

    published: int
    lost: int
    power_was_lost: bool


@asynccontextmanager
async def open_gateway(city: City, say: Callable[[str], None]) -> AsyncIterator[Running]:
    """Bring the gateway up; take it down again on the way out, leaving the log whole. `say` tells the operator."""
    rules = await load_rules(city.settings, city.store, city.roots())
    publisher = city.publisher()
    before = await _recover(city, publisher)
    await city.admin.note_policy(rules.policies.digest, operator())
    others = await note_start(city.store, await _started(city, rules, before.published), city.boot)
    await _show_log(publisher)
    store = WatchedStore(
        city.store, Alarm("calls are refused, because they cannot be recorded", "calls are recorded again", say)
    )
    enforcer = _enforcer(city, rules, store)
    trust = Trust(city)
    await trust.begin()
    pins = trust.pins()
    where_cards_are = card_upstreams(city, pins)
    served = cards(city.settings, city.keys, enforcer, where_cards_are)
    looking = card_watch(city.settings, served)
    reached = build_upstreams(city.place, pins) | peer_upstreams(city, pins, looking.connected)
    upstreams = guarded(city.settings, city.clock, reached)
    messages = Messages(store, city.clock, LEEWAY_MS)
    door = trust.door(messages)
    tokens = access_tokens(city.settings, city.keys, city.row, city.clock, city.chance)
    exchange = _exchange(city, enforcer, upstreams, tokens, told := recipients(city.settings), trust)
    stale_s = city.settings.limits.max_staleness_ms / 1000
    watch = Watch(city.store, exchange.listening, stale_s, exchange.outward.forget)
    await watch.look()
    listeners = _listeners(city, _gateway(city, exchange, door, publisher, watch, served))
    tls = await trust.tls()
    addresses = [Address(listen.host, listen.port, listen.tls) for listen in city.settings.listen]
    opened = await listeners.open(addresses, None if tls is None else tls.context, trust.judge(), shown_chain)
    notice, renews = await _notice(city, say)
    alarms = (store.look, _look_at(publisher, say), trust.look_around(say), look_at_cards(looking, say))
    looks = keep_looking(alarms, LOOK_S)
    ticking = tickets_of(city, store)
    forgets = (
        _forget(enforcer),
        _forget_nonces(city),
        looking.run(),
        expire_tickets(ticking, canaries_of(city), EXPIRE_S),
        *asking_chores(city, say),
        *renews,
    )
    follows = keep_issuers(city.settings, enforcer, REFRESH_S)
    chores = (*trust.chores(say), watch.run(), publisher.run(PUBLISH_S), _fold(enforcer), follows, *forgets, looks)
    tasks = [asyncio.create_task(chore) for chore in chores]
    broken = asyncio.Event()
    for task in tasks:
        task.add_done_callback(lambda _: broken.set())
    try:
        yield Running(
            listeners, [*_says(city, rules, opened, before, publisher), *_says_weights(others)], enforcer, broken
        )
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if notice is not None:
            await notice.close()
        await trust.close()
        for upstream in (*upstreams.values(), *where_cards_are.values()):
            await upstream.close()
        for recipient in told.values():
            await recipient.close()
        await _leave(city, publisher)


async def _notice(
    city: City, say: Callable[[str], None]
) -> tuple[Notice | None, tuple[Coroutine[Any, Any, None], ...]]:
    """The bundle for who wants a certificate of the Web's, and what follows that certificate's renewals."""
    where = city.settings.bundle_endpoint
    if where is None:
        return None, ()
    tls = WebTls(Path(where.certificate), Path(where.key))
    notice = Notice(bundle_pages(city.issuer))
    await notice.open(where.listen.host, where.listen.port, tls.context)
    alarm = Alarm("the certificate of `bundle_endpoint` is not renewed", "it can be read again", say)

    async def look() -> None:
        try:
            tls.look()
        except Malformed as failure:
            alarm.ring(str(failure))
        else:
            alarm.rest()

    return notice, (keep_looking((look,), REFRESH_S),)


async def _recover(city: City, publisher: Publisher) -> Before:
    """# INVARIANT: whatever a dead process left open is closed before the first call is taken."""
    published = await publisher.resume()
    power_was_lost = await note_boot(city.store, city.clock, city.replica.name, city.boot, published)
    lost = await close_lost_calls(city.store, city.clock, city.replica.name, city.replica.is_dead)
    await drop_expired(city.store, city.clock)
    await tickets_of(city).index()
    return Before(published, lost, power_was_lost)


async def _show_log(publisher: Publisher) -> None:
    try:
        await publisher.publish()
    except Unavailable:
        pass  # it is tried again, and what `up` shows says so
    except Refused as failure:
        advice = "if this disk was put back from a copy, put the newest copy back"
        raise CitywatchError(f"the log is not the one that was shown to others: {failure}; {advice}") from None


async def _leave(city: City, publisher: Publisher) -> None:
    """Say that this was on purpose, and publish what is in the log by now."""
    await note_stop(city.store, city.clock, city.replica.name, city.replica.is_dead)
    with suppress(CitywatchError):
        for _ in range(3):  # another publisher may be faster, and then this one stands back
            if (await publisher.publish()).size >= await city.store.sync():
                break


def _enforcer(city: City, rules: Rules, store: Store) -> Enforcer:
    async def refresh() -> Rules:
        try:
            loaded = await load_rules(city.settings, city.store, city.roots())
            await city.admin.note_policy(loaded.policies.digest, operator())
            return loaded
        except CitywatchError:
            return enforcer.rules  # what is approved but cannot be read with the policies stays unusable

    enforcer = Enforcer(
        store=store,
        clock=city.clock,
        chance=city.chance,
        rules=rules,
        replica=city.replica.name,
        refresh=refresh,
        model=content_model(),
        federated=bool(city.settings.federation),
    )
    return enforcer


def _exchange(
    city: City,
    enforcer: Enforcer,
    upstreams: Mapping[str, Upstream],
    tokens: AccessTokens | None,
    told: Mapping[str, Recipient],
    trust: Trust,
) -> Exchange:
    limits = city.settings.limits
    replies = Limits(size=limits.reply_bytes, depth=limits.depth, nodes=limits.nodes)
    written = envelopes(city.settings, city.keys, city.clock)
    taken = arrivals(enforcer, trust.domains, LEEWAY_MS)
    signed = reply_envelopes(city.settings, city.keys, enforcer)
    answered = reply_arrivals(city.settings, enforcer, trust.domains, city.audience, LEEWAY_MS)
    sessions = limits.sessions_per_agent
    lent = borrowed(city.settings, tokens, city.clock, city.chance, enforcer.stands)
    return Exchange(enforcer, upstreams, replies, sessions, tokens, told, written, taken, signed, answered, lent)


def _gateway(city: City, exchange: Exchange, door: Door, publisher: Publisher, watch: Watch, served: Cards) -> Gateway:
    settings, limits = city.settings, city.settings.limits
    enforcer = exchange.enforcer
    plans = Plans(
        store=enforcer.store,
        clock=city.clock,
        chance=city.chance,
        replica=city.replica.name,
        rules=lambda: enforcer.rules,
    )
    waits = waiting(city, enforcer, lambda: gateway.draining)
    exchange.pausing, exchange.leading = pausing(city, waits), leading(city, enforcer)
    exchange.own_tasks = own_tasks(city, enforcer, waits)
    handed = handed_over(city.settings, exchange, lambda: city.row().bundle(), city.audience)
    gateway = Gateway(
        exchange=exchange,
        door=door,
        limits=Limits(size=limits.request_bytes, depth=limits.depth, nodes=limits.nodes),
        body_time=limits.body_time_ms / 1000,
        max_in_flight=limits.max_in_flight,
        routes={
            **routes(None if settings.spire is not None else city.issuer, publisher, enforcing=not settings.observe),
            **({} if settings.spire is not None else join_routes(invitations(city))),
            **card_routes(served),
            **access_routes(exchange.outward.tokens),
            **(envelope_routes(exchange.envelopes) if exchange.envelopes is not None else {}),
        },
        cards=served.card,
        pushed=push_taker(exchange),
        proven={
            **proven_routes(plans, waits),
            **token_route(handed),
        },
        closed=lambda: _refused(publisher) or watch.stale(),
        hosts=own_names(settings),
    )
    return gateway


def _refused(publisher: Publisher) -> Unavailable | None:
    why = publisher.health.refused
    return None if why is None else Unavailable(Code.STORE_UNAVAILABLE, f"the log is refused: {why}")


def _listeners(city: City, gateway: Gateway) -> Listeners:
    limits = city.settings.limits
    bounds = Bounds(headers=limits.headers, header_bytes=limits.header_bytes, header_time=limits.header_time_ms / 1000)
    return Listeners(gateway, bounds, limits.connections)


def _look_at(publisher: Publisher, say: Callable[[str], None]) -> Callable[[], Awaitable[None]]:
    publication = Alarm("the log is not published", "the log is published again", say)

    async def look() -> None:
        log = publisher.health
        why = log.refused or log.failed
        publication.rest() if why is None else publication.ring(why)

    return look


async def _fold(enforcer: Enforcer) -> None:
    """Enter now and then what a flood of refused requests was counted to."""
    while True:
        await asyncio.sleep(PUBLISH_S)
        with suppress(CitywatchError):
            await enforcer.rejections.fold()


async def _forget(enforcer: Enforcer) -> None:
    """Drop what is over at the start and now and then: what handles stood for, who carried what on, past events."""
    while True:
        with suppress(CitywatchError):
            now = enforcer.clock.now_ms()
            await drop_shelves(enforcer.store, now)
            await drop_memories(enforcer.store, enforcer.rules, now)
            await drop_invitations(enforcer.store, now)
            await drop_carried(enforcer.store, now)
            await drop_pushes(enforcer.store, now, enforcer.rules.push_memory_ms)
        await asyncio.sleep(FORGET_S)


async def _forget_nonces(city: City) -> None:
    """Drop the nonces of messages that have expired: there is one for each message that an agent signed."""
    while True:
        with suppress(CitywatchError):
            await drop_nonces(city.store, city.clock.now_ms(), LEEWAY_MS)
        await asyncio.sleep(NONCES_S)


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
        assumes=assumptions(rules),
        weights=content_digest(),
    )


def _says_weights(others: bool) -> Iterator[str]:
    """Replay needs no weights, for what a scan said is kept with what was read; people compare scans over time."""
    if others:
        yield f"weights      {content_digest()[:16]}: others than at the last start, so a scan may say something else"


def _says(
    city: City,
    rules: Rules,
    opened: list[tuple[Address, int]],
    before: Before,
    publisher: Publisher,
) -> list[str]:
    says = []
    for address, port in opened:
        host = f"[{address.host}]" if ":" in address.host else address.host
        for server in rules.servers:
            says.append(f"{server:12} {'https' if address.tls else 'http'}://{host}:{port}/mcp/{server}")
    says += [f"{peer:12} over A2A, at /a2a/{peer} of the same addresses" for peer in rules.peers]
    if city.settings.issuer is not None:
        shown = ", ".join(sorted((*resources(city.settings), *city.settings.resources))) or "nobody"
        says.append(f"issuer       {city.settings.issuer}, of access tokens for {shown}")
    says.append(f"policies     {len(rules.policies.policies)} ({rules.policies.digest[:16]})")
    says.append(f"tools        {len(rules.tools)} approved")
    says += [f"UNSAFE       {name}" for name in city.settings.unsafe]
    if city.settings.observe:
        says.append("UNSAFE       NOTHING IS ENFORCED: what would be refused or asked is let through, and only logged")
    says += [f"assumes      {one}" for one in assumptions(rules)]
    says.append(f"log          {publisher.health.size} entries published, {publisher.health.cosigned} cosignatures")
    if publisher.health.failed:
        says.append(f"log          not published up to now: {publisher.health.failed}")
    says += [f"policy       {mistake}" for mistake in check_policies(rules.policies.policies, rules.world)]
    if before.power_was_lost:
        says.append("power        the machine lost power while a gateway ran: the log has an entry that says so")
    if before.lost:
        says.append(f"lost         {before.lost} calls were open when an earlier process died; the log says which")
    return says
