"""The decisions of the log: found again, one of them explained, and how far one went.

Decides nothing: what is told is `service.telling`'s and `service.blast`'s. INVARIANT: a search reads the index and the
entries of one page, however long the log is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from citywatch.adapters.console import drawing, words
from citywatch.adapters.console.access import Door
from citywatch.adapters.console.desk import Desk
from citywatch.adapters.console.render import Pages
from citywatch.core.approvals.people import Right
from citywatch.core.enforce.spread import Touch
from citywatch.core.errors import CitywatchError, Malformed
from citywatch.core.events import Decided, Settled
from citywatch.core.log.entry import decode_event
from citywatch.service.blast import Found, blast, find_roots
from citywatch.service.decisions import ACT, FACETS, Decisions, Page, Wanted
from citywatch.service.ports import Store
from citywatch.service.telling import VERDICTS, Told, advice_of, remedy_of, tell

LENGTH: Final = 50
WORDS: Final = 8
CHOICES: Final = 300
SPANS: Final = (("hour", 3_600_000), ("day", 86_400_000), ("week", 7 * 86_400_000))


class Line(msgspec.Struct, frozen=True):
    """One decision as a list shows it, with what became of the reply."""

    index: int
    decided: Decided
    outcome: str = ""
    reply_code: str = ""

    @property
    def became(self) -> str:
        return "withheld" if self.outcome == "withheld" else self.decided.verdict


class DecisionPages:
    """The list, one decision, its graph."""

    def __init__(self, desk: Desk, pages: Pages) -> None:
        self._desk = desk
        self._pages = pages

    def doors(self) -> Sequence[Door]:
        return (
            Door("GET", "/decisions", Right.SEE, self.listing),
            Door("GET", "/decisions/{index:int}", Right.SEE, self.one),
            Door("GET", "/decisions/{index:int}/blast", Right.SEE, self.blast),
            Door("GET", "/calls/{call}", Right.SEE, self.by_call),
        )

    async def listing(self, request: Request) -> Response:
        wanted, shown = self._wanted(request)
        index = self._sight(request)
        page = index.page(wanted, LENGTH)
        partly = "hx-request" in request.headers
        return self._pages.show(
            request,
            "_decisions.html" if partly else "decisions.html",
            active="decisions",
            lines=await lines_of(self._desk.store, index, page.indexes),
            more=_more(shown, page),
            shown=shown,
            first=not wanted.before,
            choices={name: index.values(name)[:CHOICES] for name in ("agent", "server", "code")},
            total=len(index),
            following=self._desk.following,
            apart=self._desk.is_apart(request.scope["session"].visitor),
        )

    async def one(self, request: Request) -> Response:
        index = request.path_params["index"]
        line = await self._line(request, index)
        if line is None:
            return await self._no_such(request, index)
        told, problem = await self._tell(line)
        return self._pages.show(
            request,
            "decision.html",
            active="decisions",
            line=line,
            one=line.decided,
            told=told,
            problem=problem,
            graph=None if told is None or told.explanation is None else drawing.why_graph(told),
            verdicts=VERDICTS,
            remedies=_remedies(told),
            reply=await self._reply(request, line.index),
        )

    async def blast(self, request: Request) -> Response:
        """What a call touched since, drawn; it reads the whole log, so it is asked for."""
        index = request.path_params["index"]
        line = await self._line(request, index)
        if line is None:
            return await self._no_such(request, index)
        found, touches = await self._spread(line.decided.call)
        return self._pages.show(
            request,
            "blast.html",
            active="decisions",
            line=line,
            one=line.decided,
            told=found.told,
            touches=touches,
            counts=drawing.counts(touches),
            graph=drawing.blast_graph(touches),
        )

    async def by_call(self, request: Request) -> Response:
        index = self._sight(request).find(request.path_params["call"])
        if index is None:
            return await self._no_such(request, request.path_params["call"])
        return RedirectResponse(f"/decisions/{index}", 303)

    def _sight(self, request: Request) -> Decisions:
        return self._desk.seen_by(request.scope["session"].visitor).decisions

    async def _line(self, request: Request, index: int) -> Line | None:
        """# INVARIANT: an address gives what a list would."""
        found = next(iter(await lines_of(self._desk.store, self._sight(request), [index])), None)
        apart = self._desk.is_apart(request.scope["session"].visitor)
        return None if found is not None and apart and found.decided.decision == "ask" else found

    async def _spread(self, call: str) -> tuple[Found, tuple[Touch, ...]]:
        desk = self._desk
        found = await find_roots(desk.store, call, desk.domain)
        return found, await blast(desk.store, await desk.rules(), found.roots, desk.rebuild)

    async def _tell(self, line: Line) -> tuple[Told | None, str]:
        """The decision judged again; or why that cannot be done."""
        try:
            rules = await self._desk.rules()
            return await tell(self._desk.store, rules, line.index, line.decided, self._desk.rebuild), ""
        except CitywatchError as failure:
            return None, str(failure)

    async def _reply(self, request: Request, index: int) -> Settled | None:
        at = self._sight(request).reply(index)
        leaves = [] if at is None else await self._desk.store.entries(at, at + 1)
        event = decode_event(leaves[0]) if leaves else None
        return event if isinstance(event, Settled) else None

    async def _no_such(self, request: Request, what: Any) -> Response:
        text = f"Entry {what} of the log is no decision; the log page shows every entry."
        return self._pages.show(
            request, "problem.html", 404, active="decisions", title="There is no such decision", text=words.plain(text)
        )

    def _wanted(self, request: Request) -> tuple[Wanted, dict[str, str]]:
        """What is looked for, and the same as the form shows it."""
        given = {name: value.strip()[:300] for name, value in request.query_params.items() if value.strip()}
        shown = {name: given.get(name, "") for name in ("q", "span", "before", "all", *FACETS)}
        now = self._desk.clock.now_ms()
        span = dict(SPANS).get(shown["span"], 0)
        before = shown["before"]
        return (
            Wanted(
                facets={name: shown[name] for name in FACETS if shown[name]},
                words=tuple(shown["q"].split()[:WORDS]),
                kind="" if shown["all"] else ACT,
                since=now - span if span else 0,
                before=int(before) if before.isascii() and before.isdecimal() and len(before) < 16 else 0,
            ),
            shown,
        )


async def lines_of(store: Store, decisions: Decisions, indexes: Sequence[int]) -> list[Line]:
    """These entries, as a list shows them; those that are no decision are left out."""
    found = []
    for index in indexes:
        leaves = await store.entries(index, index + 1)
        event = _event(leaves[0]) if leaves else None
        if not isinstance(event, Decided):
            continue
        at = decisions.reply(index)
        replies = [] if at is None else await store.entries(at, at + 1)
        reply = _event(replies[0]) if replies else None
        outcome = (reply.outcome, reply.code or "") if isinstance(reply, Settled) else ("", "")
        found.append(Line(index, event, *outcome))
    return found


def _event(leaf: bytes) -> object:
    try:
        return decode_event(leaf)
    except Malformed:
        return None


def _more(shown: dict[str, str], page: Page) -> str:
    if not page.next:
        return ""
    kept = {name: value for name, value in shown.items() if value and name != "before"}
    return f"/decisions?{urlencode({**kept, 'before': page.next})}"


def _remedies(told: Told | None) -> list[str]:
    if told is None or told.decided.verdict == "allow":
        return []
    found = [remedy_of(one, told.decided, words.plain) for one in told.remedies]
    return found or [advice_of(told.decided.code)]
