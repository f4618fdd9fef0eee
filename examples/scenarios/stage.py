"""Where a scenario is played: fresh books, the running mesh, a city of its own, and the log it leaves.

Decides nothing. INVARIANT: why something was refused is read from the log by the decision's id, never from what an
agent was told; facts are read from the databases after all is done.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from citywatch.sdk import Failed
from examples.mesh import world
from examples.mesh.mesh import City, Mesh
from examples.mesh.world import World
from examples.scenarios.scenario import Act, Drawn, Handling, Scenario, Stopped
from examples.support_desk.station import Show

LONGEST = 60


class Stage:
    """One scenario on one mesh; the city is made when it is first needed. `pace_s` lies between the calls of a flood:
    nothing, unless somebody watches."""

    pace_s = 0.0

    def __init__(self, folder: Path, mesh: Mesh, agents: Collection[str], drawn: World, show: Show) -> None:
        """`agents` are those who take part: nobody knows of any other."""
        self.folder = folder
        self.mesh = mesh
        self.agents = agents
        self.world = drawn
        self.city = City(folder / "city", mesh, show)
        self.done: tuple[Act, ...] = ()
        """What was done in the last handling."""
        self._run = 0

    @property
    def data(self) -> Path:
        """Where the databases are."""
        return self.mesh.data

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """The gateway serving inside the block, with everybody's papers and approvals."""
        self.city.admit()
        with self.city.up():
            yield

    def bare(self, agent: str, words: str, systems: Mapping[str, str] | None = None) -> list[Act]:
        """Ask an agent, with everybody wired to addresses; what all of them did."""
        run = self._next("bare")
        self.mesh.wire(run, None, self.agents, systems)
        asyncio.run(self.mesh.ask(agent, words))
        return acts(self.mesh.transcripts(run))

    def through(
        self,
        agent: str,
        principal: str,
        words: str,
        left: Mapping[str, Any],
        systems: Mapping[str, str] | None = None,
    ) -> list[Act]:
        """Ask an agent in a principal's name, with everybody wired to the gateway; `left` is all that it may do."""
        run = self._next("guarded")
        chain = self.city.task(agent, principal, words, left)
        self.mesh.wire(run, self.city, self.agents, systems)
        asyncio.run(self.mesh.ask(agent, words, chain))
        return acts(self.mesh.transcripts(run))

    def handle(self, scenario: Scenario, drawn: Drawn, kind: str) -> Handling:
        """One of the three handlings, on fresh books."""
        world.build(self.data)
        play = {"undefended": scenario.undefended, "honest": scenario.honest, "defended": scenario.defended}[kind]
        self.done = tuple(play(self, drawn))
        stopped = () if kind == "undefended" else self._stopped(self.done)
        return Handling(self.done, tuple(scenario.facts(self, drawn)), stopped)

    def _next(self, kind: str) -> str:
        self._run += 1
        return f"{self.folder.name}-{kind}-{self._run}"

    def _stopped(self, done: Sequence[Act]) -> tuple[Stopped, ...]:
        refused = [act for act in done if act.outcome == "refused"]
        if not refused:
            return ()
        lines = self.city.run("log", "show", "--last", "10000", "--json", shown=False).splitlines()
        log = [json.loads(line) for line in lines]
        decided = {one["call"]: one for one in log if one["type"] == "decided"}
        turned_away = [one for one in log if one["type"] in ("rejected", "tool_changed")]
        return tuple(why(act, decided.get(act.decision), turned_away) for act in refused)


def acts(transcripts: Sequence[Mapping[str, Any]]) -> list[Act]:
    """All that was done, by whom, in the order in which it was begun; a colleague acts within being asked."""
    found: list[Act] = []
    open_until: list[int] = []
    every = [(step["span"], one["agent"], step) for one in transcripts for step in one["steps"]]
    for (begun, ended), agent, step in sorted(every, key=lambda each: each[0]):
        open_until = [end for end in open_until if end > begun]
        found.append(
            Act(
                agent=agent,
                what=f"{step['server']}/{step['tool']}",
                shown=_shown(step["arguments"]),
                outcome=step["outcome"],
                code=step["meta"].get("code", ""),
                detail=step["meta"].get("detail", ""),
                decision=step["meta"].get("decision", ""),
                depth=len(open_until),
            )
        )
        open_until.append(ended)
    return found


def tried(agent: str, what: str, shown: str, failure: Failed | None) -> Act:
    """What somebody did by a program of their own, through the SDK."""
    if failure is None:
        return Act(agent, what, shown, "done")
    return Act(agent, what, shown, "refused", failure.code, failure.detail, failure.decision)


def why(act: Act, entry: Mapping[str, Any] | None, turned_away: Sequence[Mapping[str, Any]]) -> Stopped:
    """What the log says of a refused act; an error if it says nothing."""
    if entry is None:  # turned away before it was anybody's call: there was nothing to decide about
        told = next(one for one in turned_away if act.code in (one.get("code"), one["type"]))
        name = "/".join(str(told[key]) for key in ("server", "name") if told.get(key))
        return Stopped(act, act.code, (), str(told.get("detail") or name or act.detail), ())
    code = str(entry["code"] or act.code)  # a call that was let go and its reply withheld has the reply's code
    detail = str(entry.get("detail") or act.detail)
    return Stopped(act, code, tuple(entry.get("policies", ())), detail, tuple(entry.get("via", ())))


def _shown(arguments: Mapping[str, Any]) -> str:
    text = "  ".join(" ".join(str(value).split()) for value in arguments.values())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
