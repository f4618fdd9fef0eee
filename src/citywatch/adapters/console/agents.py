"""The agents: their papers, for whom they act, what they use; and stopping them.

Decides nothing: each act is that of the command of the same name. INVARIANTS: an act is asked for on a page of its own
that says what it will do, has a reason, and is entered in the name of who asked for it; what cannot be taken back asks
for the agent's name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from citywatch.adapters.console import drawing, words
from citywatch.adapters.console.access import Door
from citywatch.adapters.console.decisions import lines_of
from citywatch.adapters.console.desk import Desk
from citywatch.adapters.console.render import Pages
from citywatch.core.approvals.people import Right
from citywatch.core.errors import CitywatchError
from citywatch.core.identity.registration import AgentRow
from citywatch.service.decisions import Decisions, Wanted

LONGEST: Final = 500
TOOLS: Final = 40


class Act(msgspec.Struct, frozen=True):
    """Something that is done to an agent: its title, what it does, the word on the button; `final` cannot be undone."""

    title: str
    does: str
    button: str
    final: bool = False


ACTS: Final = {
    "stop": Act(
        "Stop",
        "Nothing goes through for this agent from its next request on, and its open streams close. "
        "It goes on when somebody lets it.",
        "Stop it",
    ),
    "resume": Act("Let go on", "The stop ends. A revocation or a quarantine holds as before.", "Let it go on"),
    "quarantine": Act(
        "Quarantine",
        "The agent is refused, and all that it ever shaped counts for nothing from now on: what it wrote, whom it made "
        "known, what others read of it. Lifting the quarantine lets the agent act again; what was frozen stays so.",
        "Put it in quarantine",
    ),
    "lift": Act("Lift the quarantine", "The agent acts again. What was frozen stays so.", "Lift it"),
    "revoke": Act(
        "Revoke",
        "All papers of this agent are void for ever, and so are chains through it. To come back it needs a new key.",
        "Revoke it for ever",
        final=True,
    ),
}


class AgentPages:
    """The list, one agent, and what is done to it."""

    def __init__(self, desk: Desk, pages: Pages) -> None:
        self._desk = desk
        self._pages = pages

    def doors(self) -> Sequence[Door]:
        return (
            Door("GET", "/agents", Right.SEE, self.listing),
            Door("GET", "/agents/{name}", Right.SEE, self.one),
            Door("GET", "/agents/{name}/{act}", Right.OPERATE, self.ask),
            Door("POST", "/agents/{name}/{act}", Right.OPERATE, self.do),
        )

    async def listing(self, request: Request) -> Response:
        rows, index = await self._desk.agents(), self._index(request)
        counts = {
            name: (
                index.count("agent", row.agent),
                index.both(("agent", row.agent), ("decision", "deny")),
            )
            for name, row in rows
        }
        declared = {one.name for one in self._desk.places if one.kind == "agent"}
        missing = sorted(declared - {name for name, _ in rows})
        return self._pages.show(
            request, "agents.html", active="agents", rows=rows, counts=counts, missing=missing,
            halted=await self._desk.halted(),
        )  # fmt: skip

    async def one(self, request: Request) -> Response:
        found = await self._found(request)
        if found is None:
            return self._no_such(request)
        name, row = found
        return self._show(request, name, row, await self._last(request, row))

    async def ask(self, request: Request) -> Response:
        """The page on which an act is confirmed."""
        found, act = await self._found(request), ACTS.get(request.path_params["act"])
        if found is None or act is None:
            return self._no_such(request)
        return self._confirm(request, found[0], act)

    async def do(self, request: Request) -> Response:
        found, act = await self._found(request), ACTS.get(request.path_params["act"])
        if found is None or act is None:
            return self._no_such(request)
        name, form = found[0], await request.form()
        reason = str(form.get("reason", "")).strip()
        if not reason:
            return self._confirm(request, name, act, "Say why: it stands in the log.")
        if act.final and str(form.get("name", "")).strip() != name:
            return self._confirm(request, name, act, "Write the agent's name to confirm.")
        by, done = request.scope["session"].visitor.person, self._desk.actions
        doing = {
            "stop": done.stop, "resume": done.resume, "quarantine": done.quarantine, "lift": done.lift,
            "revoke": done.revoke,
        }[request.path_params["act"]]  # fmt: skip
        what = f"agent:{name}" if request.path_params["act"] in ("stop", "resume") else name
        try:
            await doing(what, by, reason[:LONGEST])
        except CitywatchError as failure:
            return self._confirm(request, name, act, words.plain(str(failure), 300))
        return RedirectResponse(f"/agents/{name}", 303)

    def _show(self, request: Request, name: str, row: AgentRow, last: Sequence[object]) -> Response:
        index, lineage = self._index(request), self._desk.lineage
        tools = [
            (tool, count, index.both(("agent", row.agent), ("tool", tool))) for tool, count in index.values("tool")
        ]
        used = sorted(((tool, mine) for tool, _, mine in tools if mine), key=lambda one: -one[1])[:TOOLS]
        chains = lineage.through(row.agent)
        return self._pages.show(
            request, "agent.html", active="agents", name=name, row=row, used=used, last=last,
            chains=drawing.chain_graph(chains, row.agent) if chains else None, grants=lineage.rooted(row.agent)[:8],
            now=self._desk.clock.now_ms(), acts=_acts_for(row),
        )  # fmt: skip

    def _index(self, request: Request) -> Decisions:
        return self._desk.seen_by(request.scope["session"].visitor).decisions

    async def _last(self, request: Request, row: AgentRow) -> Sequence[object]:
        index, stopped = self._index(request), list[int]()
        for became in ("deny", "ask", "withheld"):
            page = index.page(Wanted(facets={"agent": row.agent, "decision": became}), 6)
            stopped += page.indexes
        return await lines_of(self._desk.store, index, sorted(set(stopped), reverse=True)[:6])

    async def _found(self, request: Request) -> tuple[str, AgentRow] | None:
        wanted = request.path_params["name"]
        return next(((name, row) for name, row in await self._desk.agents() if name == wanted), None)

    def _confirm(self, request: Request, name: str, act: Act, problem: str = "") -> Response:
        status = 400 if problem else 200
        return self._pages.show(request, "confirm.html", status, active="agents", name=name, act=act, problem=problem)

    def _no_such(self, request: Request) -> Response:
        text = "No agent of that name is registered; `citywatch agent add` registers one."
        return self._pages.show(
            request, "problem.html", 404, active="agents", title="There is no such agent", text=text
        )


def _acts_for(row: AgentRow) -> dict[str, Act]:
    """What can be done to an agent as it stands."""
    if row.revoked:
        return {}
    names = ["resume" if row.halted else "stop", "lift" if row.quarantined else "quarantine", "revoke"]
    return {name: ACTS[name] for name in names}
