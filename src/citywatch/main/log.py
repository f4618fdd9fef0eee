"""`citywatch log`: read the book, prove from it, hand it out, and erase what must be forgotten."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from citywatch.core.errors import CitywatchError, Code, Malformed, Refused
from citywatch.main.place import read_place

if TYPE_CHECKING:
    from citywatch.main.assembly import City

SLICE = 512
POLL_S = 0.2
RELEASES = ("label_released", "context_released")
RELEASED = tuple(f'"type":"{one}"'.encode() for one in RELEASES)
PUBLISHING_S = 2.0


def register(cli: click.Group) -> None:
    cli.add_command(log)


@click.group()
def log() -> None:
    """Show, verify, prove, export and erase what was recorded."""


def _in_city(file: Path, work: Callable[[City], Coroutine[Any, Any, None]]) -> None:
    from citywatch.main.assembly import open_city

    async def run() -> None:
        async with open_city(read_place(file)) as city:
            await work(city)

    asyncio.run(run())


@log.command()
@click.option("--last", type=click.IntRange(1), default=20, show_default=True, help="How many entries.")
@click.option("--call", help="Only the entries of one call.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, all but ASCII escaped.")
@click.pass_obj
def show(file: Path, last: int, call: str | None, as_json: bool) -> None:
    """Show entries, the newest last."""

    async def work(city: City) -> None:
        size = await city.store.sync()
        start = 0 if call else max(0, size - last)
        found = []
        for at in range(start, size, SLICE):
            for index, leaf in enumerate(await city.store.entries(at, min(at + SLICE, size)), at):
                if call is None or json.loads(leaf).get("call") == call:
                    found.append((index, leaf))
        for index, leaf in found[-last:]:
            click.echo(_json(leaf) if as_json else _line(index, leaf))

    _in_city(file, work)


@log.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, all but ASCII escaped.")
@click.pass_obj
def tail(file: Path, as_json: bool) -> None:
    """Show entries as they come, until Ctrl-C."""

    async def work(city: City) -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):  # also where whoever started us left them ignored
            loop.add_signal_handler(number, stop.set)
        at = await city.store.sync()
        while not stop.is_set():
            leaves = await city.store.entries(at, at + SLICE)
            for index, leaf in enumerate(leaves, at):
                click.echo(_json(leaf) if as_json else _line(index, leaf))
            at += len(leaves)
            await asyncio.sleep(0 if leaves else POLL_S)

    _in_city(file, work)


@log.command()
@click.option("--call", help="Only those of one call.")
@click.option("--how", help="Only those by one rule, such as `approved`, `known` or `named`.")
@click.option("--last", type=click.IntRange(1), default=100, show_default=True, help="How many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, all but ASCII escaped.")
@click.pass_obj
def releases(file: Path, call: str | None, how: str | None, last: int, as_json: bool) -> None:
    """Show every label that was let down, by which rule, on whose account and why; the newest last."""

    async def work(city: City) -> None:
        found: deque[tuple[int, bytes]] = deque(maxlen=last)
        async for index, leaf in _leaves(city):
            if not any(tag in leaf for tag in RELEASED):
                continue
            entry = json.loads(leaf)
            if entry["type"] in RELEASES and how in (None, entry.get("how")) and call in (None, entry.get("call")):
                found.append((index, leaf))
        for index, leaf in found:
            click.echo(_json(leaf) if as_json else _release(index, leaf))
        if not found:
            click.echo("no label was let down", err=True)

    _in_city(file, work)


@log.command()
@click.pass_obj
def verify(file: Path) -> None:
    """Recompute the published head from the entries, and every payload's digest. Exit with 1 if anything differs.

    This is our own check. `spec/verify_log.py` checks an export without any of our code.
    """
    _in_city(file, _verify)


async def _verify(city: City) -> None:
    from citywatch.core.log.entry import decode_event, payload_digest
    from citywatch.core.log.merkle import Frontier, leaf_hash

    proofs = city.publisher().proofs
    head = await proofs.head()
    end = time.monotonic() + PUBLISHING_S
    while head is not None and head.checkpoint.size < await city.store.sync() and time.monotonic() < end:
        await asyncio.sleep(POLL_S)  # a gateway that runs publishes every second: judge what it is about to show
        head = await proofs.head()
    if head is None:
        raise Malformed("the log has no checkpoint yet; the gateway publishes one when it runs")
    size, checked = head.checkpoint.size, 0
    frontier = Frontier()
    for start in range(0, size, SLICE):
        leaves = await city.store.entries(start, min(start + SLICE, size))
        frontier, _ = frontier.extended([leaf_hash(leaf) for leaf in leaves])
        for index, leaf in enumerate(leaves, start):
            event = decode_event(leaf)
            payload = await city.store.payload(index)
            if payload is not None:
                checked += 1
                if payload_digest(payload.salt, payload.body) != getattr(event, "body", None):
                    raise Refused(Code.CONFLICT, f"the payload of entry {index} is not the one that was recorded")
    if frontier.size != size or frontier.root() != head.checkpoint.root:
        raise Refused(Code.CONFLICT, f"the entries do not give the published head of {size} entries")
    rest = await city.store.sync() - size
    click.echo(f"verified: {size} entries give the published head, {checked} payloads match their digests")
    if rest:
        click.echo(f"{rest} newer entries are not published yet")


@log.command()
@click.argument("index", type=click.IntRange(0))
@click.option("--out", type=click.Path(path_type=Path), help="Write to a file instead of the terminal.")
@click.option("--payload", is_flag=True, help="Hand out the payload too, if it was not erased.")
@click.pass_obj
def prove(file: Path, index: int, out: Path | None, payload: bool) -> None:
    """Hand out one entry with the proof that it is in the log (check: `spec/verify_log.py proof`)."""

    async def work(city: City) -> None:
        bundle = await (await _published(city)).prove(index, with_payload=payload)
        if out is None:
            click.echo(bundle.decode(), nl=False)
        else:
            out.write_bytes(bundle)

    _in_city(file, work)


@log.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--payloads", is_flag=True, help="Hand out the payloads too, other than erased ones.")
@click.pass_obj
def export(file: Path, out: Path, payloads: bool) -> None:
    """Write the whole published log to a file that a stranger can check (`spec/verify_log.py export`)."""

    async def work(city: City) -> None:
        proofs = await _published(city)
        count = -1
        with out.open("wb") as target:
            async for line in proofs.export(with_payloads=payloads):
                target.write(line)
                count += 1
        click.echo(f"exported {count} entries to {out}")
        click.echo(f"verifier key: {city.verifier_key()}")

    _in_city(file, work)


@log.command()
@click.argument("index", type=click.IntRange(0))
@click.option("--reason", required=True, help="Why; it stands in the log.")
@click.pass_obj
def erase(file: Path, index: int, reason: str) -> None:
    """Destroy the payload of one entry and its salt. The entry stands; the erasure is an entry of its own."""

    async def work(city: City) -> None:
        from citywatch.core.events import Erased, Settled
        from citywatch.core.log.entry import decode_event, encode_event
        from citywatch.main.assembly import operator
        from citywatch.service.handles import erase_shelves
        from citywatch.service.ports import NewEntry

        if await city.store.payload(index) is None:
            raise Malformed(f"entry {index} has no payload, or it was erased before")
        event = Erased(
            at=city.clock.now_ms(), replica=city.replica.name, index=index, by=operator(), reason=reason[:500]
        )
        entry = decode_event((await city.store.entries(index, index + 1))[0])
        behind = await erase_shelves(city.store, entry.call) if isinstance(entry, Settled) else 0
        done = await city.store.erase(index, NewEntry(encode_event(event)))
        click.echo(f"erased the payload of entry {index}; entry {done.first} says so")
        if behind:
            click.echo("the handles that it gave an agent name nothing any more")

    _in_city(file, work)


@log.command()
@click.pass_obj
def key(file: Path) -> None:
    """Print the log's verifier key, for auditors and witnesses."""

    async def work(city: City) -> None:
        click.echo(city.verifier_key())

    _in_city(file, work)


async def _published(city: City) -> Any:
    """The log's proofs, after publishing what is synced; without a quorum, what was published last."""
    publisher = city.publisher()
    try:
        await publisher.publish()
    except CitywatchError as failure:
        click.echo(f"note: not published up to now: {failure}", err=True)
    return publisher.proofs


async def _leaves(city: City) -> AsyncIterator[tuple[int, bytes]]:
    """Every entry there is, with its number, oldest first."""
    size = await city.store.sync()
    for at in range(0, size, SLICE):
        for index, leaf in enumerate(await city.store.entries(at, min(at + SLICE, size)), at):
            yield index, leaf


def _release(index: int, leaf: bytes) -> str:
    """One release for a person: agents, servers and strangers chose some of its words, so it is shown in ASCII."""
    entry = json.loads(leaf)
    before, after = ", ".join(entry["origins"]), ", ".join(entry["to_origins"]) or "nobody outside"
    if entry["readers"] != entry["to_readers"]:
        before += f" for {', '.join(entry['readers']) or 'nobody'}"
        after += f" for {', '.join(entry['to_readers']) or 'nobody'}"
    what = f"call {entry['call']} {entry['path']} ({entry['role']})" if "call" in entry else "its context"
    said = f"{what} {entry.get('how', 'cleared')}: {entry.get('source', entry.get('by', ''))}"
    line = f"{entry['agent'].rpartition('/')[2]}  {said}; from {before} to {after}; {entry['reason']}"
    return f"{index:>8}  {_when(entry['at'])}  {json.dumps(line)[1:-1]}"


def _json(leaf: bytes) -> str:
    """One entry for a program, and for the terminal that it is printed on: agents and servers chose its words."""
    return json.dumps(json.loads(leaf), separators=(",", ":"))


def _line(index: int, leaf: bytes) -> str:
    """One entry for a person; whatever an agent or server wrote is shown as JSON, in ASCII."""
    entry = json.loads(leaf)
    kind, at = entry.pop("type"), entry.pop("at", 0)
    when = _when(at)
    if kind == "decided":
        method, server, name = (json.dumps(entry[key] or "")[1:-1] for key in ("method", "server", "name"))
        what = f"{server}/{name}" if name else server
        said = entry["decision"] + (f" ({entry['code']})" if entry["code"] else "")
        said += f" by {', '.join(entry['policies'])}" if entry["policies"] else ""
        said += f"  call {entry['call']}" if entry["code"] else ""
        return f"{index:>8}  {when}  decided   {entry['agent'].rpartition('/')[2]}  {method} {what}  {said}"
    rest = "  ".join(f"{name}={json.dumps(value)}" for name, value in entry.items() if value not in (None, "", False))
    return f"{index:>8}  {when}  {kind:9} {rest}"


def _when(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
