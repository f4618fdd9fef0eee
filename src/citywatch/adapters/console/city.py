"""The picture of the city: the places of the file and of the log, the roads between them, and what happens just now.

Decides nothing. What is live comes from the log's tail, so that nothing is shown that is not recorded. INVARIANT: a
slow browser holds up nobody: it is sent where the log is by now, and what it missed it sees as counts.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from citywatch.adapters.console import words
from citywatch.adapters.console.access import Door
from citywatch.adapters.console.decisions import lines_of
from citywatch.adapters.console.desk import Desk, Place, Sight
from citywatch.adapters.console.render import Pages
from citywatch.core.approvals.people import Right
from citywatch.core.enforce.context import Context, context_key
from citywatch.core.errors import Code
from citywatch.core.label import Label
from citywatch.service.decisions import Wanted
from citywatch.service.panorama import STANDING, Panorama, Passing, Road, name_of

BEAT_S: Final = 15.0
GATHER_S: Final = 0.05
"""Whatever happens within it is sent together: fifty things a second are twenty messages."""
MOST_STREAMS: Final = 64
LATEST: Final = 40
BECAME: Final = {
    "allow": "let through",
    "ask": "asked",
    "deny": "stopped",
    "turned_away": "turned away",
    "quarantined": "in quarantine",
    "lifted": "acts again",
    "halted": "stopped",
    "resumed": "acts again",
}
"""What a line says became of something; what is missing here is said as it is called."""
OUTSIDE: Final = ("outside:", "domain:")


class CityPages:
    """The first page, its table, one place, and the stream."""

    def __init__(self, desk: Desk, pages: Pages) -> None:
        self._desk = desk
        self._pages = pages
        self._streams = 0

    def doors(self) -> Sequence[Door]:
        return (
            Door("GET", "/", Right.SEE, self.city),
            Door("GET", "/city/data", Right.SEE, self.data),
            Door("GET", "/city/stream", Right.SEE, self.stream),
            Door("GET", "/city/table", Right.SEE, self.table),
            Door("GET", "/city/place", Right.SEE, self.place),
        )

    async def city(self, request: Request) -> Response:
        seen = self._sight(request).panorama
        latest = [one for one in list(seen.recent)[-LATEST * 4 :] if _worth_a_line(one)][-12:][::-1]
        return self._pages.show(
            request,
            "city.html",
            active="city",
            latest=[(one, _leads_to(one)) for one in latest],
            became=BECAME,
            standing=STANDING,
            totals=_totals(seen),
            apart=self._desk.is_apart(request.scope["session"].visitor),
            empty=not seen.roads,
            following=self._desk.following,
        )

    async def data(self, request: Request) -> Response:
        """Places and roads as they are by now, for the script that draws them."""
        seen = self._desk.following.seen
        labels = await self._labels()
        places = {
            one.id: {"id": one.id, "kind": one.kind, "name": words.plain(one.name, 48), "note": words.plain(one.note)}
            for one in await self.places(request)
        }
        roads = [
            {
                "from": road.source, "to": road.target, "passed": road.passed, "asked": road.asked,
                "stopped": road.stopped, "last": road.last, "label": labels.get(_agent_of(road), ""),
            }
            for road in self._sight(request).panorama.roads.values()
        ]  # fmt: skip
        body = json.dumps({"places": list(places.values()), "roads": roads, "seen": seen})
        return Response(body, media_type="application/json")

    async def table(self, request: Request) -> Response:
        """The same as rows, for whoever would rather read."""
        names, seen = {one.id: one for one in await self.places(request)}, self._sight(request).panorama
        labels = await self._labels()
        roads = sorted(seen.roads.values(), key=lambda road: -road.volume)
        rows = [
            (names.get(road.source), names.get(road.target), road, labels.get(_agent_of(road), "")) for road in roads
        ]
        return self._pages.show(request, "city_table.html", active="city", rows=rows, totals=_totals(seen))

    async def place(self, request: Request) -> Response:
        """One place: what it is, with whom it deals, what was last stopped there."""
        wanted = request.query_params.get("id", "")
        sight, names = self._sight(request), {one.id: one for one in await self.places(request)}
        found = names.get(wanted)
        if found is None:
            return self._pages.show(
                request,
                "problem.html",
                404,
                active="city",
                title="There is no such place",
                text="The city has changed.",
            )
        roads = [road for road in sight.panorama.roads.values() if wanted in (road.source, road.target)]
        facet = {"agent": "agent", "server": "server", "memory": "server", "peer": "server"}.get(found.kind)
        value = f"spiffe://{self._desk.domain}/agent/{found.name}" if facet == "agent" else found.name
        stopped: list[int] = []
        if facet is not None:
            for became in ("deny", "ask", "withheld"):
                page = sight.decisions.page(Wanted(facets={facet: value, "decision": became}), 5)
                stopped += page.indexes
        template = "_place.html" if "hx-request" in request.headers else "place.html"
        return self._pages.show(
            request,
            template,
            active="city",
            place=found,
            roads=sorted(roads, key=lambda road: -road.volume),
            names=names,
            stopped=await lines_of(self._desk.store, sight.decisions, sorted(stopped, reverse=True)[:6]),
            label=(await self._labels()).get(found.name, "") if found.kind == "agent" else "",
            facet=facet,
            value=value,
        )

    async def stream(self, request: Request) -> Response:
        """What happens, as it is recorded."""
        if self._streams >= MOST_STREAMS:
            return Response("too many watch already\n", 503, media_type="text/plain")
        start = _number(request.headers.get("last-event-id") or request.query_params.get("from", ""))
        session = request.scope["session"]
        still = request.scope["still"]
        return StreamingResponse(
            self._events(self._sight(request).panorama, start, lambda: still(session)),
            media_type="text/event-stream",
            headers={"x-accel-buffering": "no"},
        )

    async def _events(self, panorama: Panorama, start: int | None, still: Any) -> AsyncIterator[bytes]:
        self._streams += 1
        try:
            at = self._desk.following.seen if start is None else start
            yield b"retry: 2000\n\n"
            while still():
                try:
                    async with asyncio.timeout(BEAT_S):
                        seen = await self._desk.following.past(at)
                except TimeoutError:
                    yield b": still here\n\n"
                    continue
                told = [await self._told(one) for one in panorama.since(at)]
                at = seen
                if told:
                    yield b"id: %d\ndata: %s\n\n" % (at, json.dumps(told, separators=(",", ":")).encode())
                await asyncio.sleep(GATHER_S)
        finally:
            self._streams -= 1

    async def _told(self, one: Passing) -> list[Any]:
        """One thing that happened, as the script reads it."""
        label = ""
        if one.agent and one.key:
            label = _kind_of(await self._label(one.agent, one.key))
        return [
            _leads_to(one), one.at, one.source, one.target, one.became, words.plain(one.name, 60), one.code, label,
            int(one.quiet), one.count,
        ]  # fmt: skip

    async def places(self, request: Request) -> list[Place]:
        """Those of the file, those of the log that the file does not name, and the agents that are registered."""
        found = {one.id: one for one in self._desk.places}
        for name, row in await self._desk.agents():
            known = found.get(f"a:{name}", Place(f"a:{name}", "agent", name))
            standing = row.refusal
            found[f"a:{name}"] = msgspec.structs.replace(known, note=_standing(standing))
        for id_ in self._sight(request).panorama.places:
            if id_ not in found:
                kind = {"a": "agent", "p": "person", "s": "server"}.get(id_[:1], "server")
                found[id_] = Place(id_, kind, id_[2:], "not in the file any more" if kind != "person" else "")
        return list(found.values())

    def _sight(self, request: Request) -> Sight:
        return self._desk.seen_by(request.scope["session"].visitor)

    async def _label(self, agent: str, key: str) -> Label | None:
        where = context_key(agent, key)
        row = (await self._desk.store.load([where], [])).rows.get(where)
        return None if row is None else msgspec.json.decode(row.value, type=Context).label

    async def _labels(self) -> dict[str, str]:
        """By an agent's name, what its contexts hold just now."""
        found: dict[str, str] = {}
        for name, row in await self._desk.store.scan("context"):
            label = _kind_of(msgspec.json.decode(row.value, type=Context).label)
            who = name_of(name.partition("\n")[0])
            found[who] = "".join(sorted({*found.get(who, ""), *label}))
        return found


def _totals(panorama: Panorama) -> dict[str, int]:
    roads = panorama.roads.values()
    return {
        "passed": sum(road.passed for road in roads),
        "asked": sum(road.asked for road in roads),
        "stopped": sum(road.stopped for road in roads) + panorama.turned_away,
    }


def _leads_to(one: Passing) -> str:
    """Where one reads more of it: the decision, or the agent that was refused; nothing, where nobody was known."""
    if one.became not in (*STANDING, "turned_away"):
        return f"/decisions/{one.decided}"
    return f"/agents/{quote(one.source[2:], safe='')}" if one.source.startswith("a:") else ""


def _worth_a_line(one: Passing) -> bool:
    return not one.quiet and one.became != "released"


def _agent_of(road: Road) -> str:
    """Whose context gives a road its colour: the one that goes out."""
    return road.source[2:] if road.source.startswith("a:") else ""


def _kind_of(label: Label | None) -> str:
    """`u`: somebody outside may have shaped it; `c`: not everybody may see it."""
    if label is None:
        return ""
    outside = label.origins is None or any(one.startswith(OUTSIDE) for one in label.origins)
    return ("c" if label.readers is not None else "") + ("u" if outside else "")


def _standing(code: Code | None) -> str:
    return (
        {
            Code.AGENT_REVOKED: "revoked",
            Code.AGENT_QUARANTINED: "in quarantine",
            Code.HALTED: "stopped",
        }.get(code, "")
        if code is not None
        else ""
    )


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else None
