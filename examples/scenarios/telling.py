"""A scenario told in a terminal: what was asked, what came of it undefended, honestly and through citywatch, and why.

Decides nothing. INVARIANT: what it says of harm is what the databases hold, what it says of reasons is what the log
holds, and it ends with an error if the story did not hold.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from examples.mesh import world
from examples.mesh.mesh import PEERS, open_mesh
from examples.scenarios.scenario import Act, Drawn, Fact, Handling, Scenario, Stopped, faults
from examples.scenarios.stage import Stage
from examples.support_desk.model import Model, ObedientModel
from examples.support_desk.screen import MARGIN, Row, Screen

MARKS = {"done": ("✓", "green"), "refused": ("✗", "yellow"), "failed": ("!", "red")}
SEED = 20261126
WIDTH, NAMES, DEEPEST = 30, 18, 3
FORBIDS = ("forbidden", "rule_matched")
"""Where the policies that spoke are those that refused; elsewhere they let the call through to the next gate."""
Played = tuple[Handling, Handling, Handling]
"""Undefended, honest, defended."""
Pause = Callable[[str], None]
"""Says what it waits for, and returns once somebody went on."""
WATCHED_PACE_S = 0.15


def tell(
    screen: Screen, scenario: Scenario, model: Model, seed: str | None, folder: Path, pause: Pause | None = None
) -> int:
    """Play a scenario and show it; 0 if the story held."""
    begun = time.monotonic()
    played = play(screen, scenario, model, SEED if seed is None else seed, folder, pause)
    screen.line()
    return conclude(screen, scenario, model, played, time.monotonic() - begun)


def play(
    screen: Screen, scenario: Scenario, model: Model, seed: int | str, folder: Path, pause: Pause | None = None
) -> Played:
    """The three handlings, each shown as it is done; with `pause`, what goes through citywatch in its console too."""
    data = folder / "data"
    books = world.build(data)
    drawn = scenario.draw(random.Random(seed), books)
    introduce(screen, scenario, drawn, model)
    with open_mesh(data, PEERS) as mesh:
        stage = Stage(folder, mesh, scenario.agents, books, lambda words, output: None)
        screen.heading(2, "Undefended: agents at each other's addresses")
        undefended = stage.handle(scenario, drawn, "undefended")
        show(screen, undefended)
        with stage.guarded(), watched(screen, stage, pause):
            screen.heading(3, "Through citywatch: what an honest person asks")
            honest = stage.handle(scenario, drawn, "honest")
            show(screen, honest)
            screen.heading(4, "Through citywatch: the attack")
            defended = stage.handle(scenario, drawn, "defended")
            show(screen, defended)
            for stopped in defended.stopped:
                screen.line()
                reason(screen, stopped)
        screen.heading(5, "What the databases say")
        compare(screen, undefended, honest, defended)
        screen.heading(6, "What the log says")
        audit(screen, stage, defended)
    return undefended, honest, defended


@contextmanager
def watched(screen: Screen, stage: Stage, pause: Pause | None) -> Iterator[None]:
    """Where there is a `pause`: the console serving inside the block, which waits for whoever looks at it."""
    if pause is None:
        yield
        return
    with stage.city.console() as link:
        stage.pace_s = WATCHED_PACE_S
        screen.line()
        screen.say("The console of this city; the link is good once, for five minutes:")
        screen.line(f"{MARGIN}{screen.style(link, 'cyan')}")  # never cut
        pause("Open it, then press Enter: what follows happens before your eyes.")
        yield
        screen.line()
        pause("Look around: Tickets, Decisions, Agents, Log. Enter ends it.")


def introduce(screen: Screen, scenario: Scenario, drawn: Drawn, model: Model) -> None:
    screen.title(f"citywatch · {scenario.name}", "Northwind Kitchen")
    screen.heading(1, scenario.title)
    for number, step in enumerate(scenario.steps, start=1):
        screen.say(f"{number}. {step}")
    screen.line()
    text, attack = scenario.asked(drawn)
    screen.quote(text, attack)
    screen.line()
    screen.say(
        f"Each agent is a process of its own: an A2A server on a2a-sdk, tools over MCP, the model {model.name}.", "dim"
    )


def show(screen: Screen, handling: Handling) -> None:
    """A line for each call, and what the databases hold afterwards."""
    for act in handling.acts:
        screen.row(_row(act))
    screen.line()
    for fact in handling.facts:
        if fact.harm or fact.true:
            screen.row(((f"{fact.label:<{WIDTH}}", "dim"), (fact.text, _style(fact))))


def reason(screen: Screen, stopped: Stopped) -> None:
    """Which control stopped a call, in the log's words."""
    act = stopped.act
    screen.row((("✗ ", "yellow"), (f"{act.agent} → {act.what}", "bold")))
    spoke = ", ".join(stopped.rules)
    by = "" if not spoke else f" by {spoke}" if stopped.code in FORBIDS else f", although {spoke} permits it"
    detail = "" if stopped.detail == f"rule: {spoke}" else stopped.detail  # said already
    screen.say(f"{stopped.code}{by}: {detail}" if detail else f"{stopped.code}{by}", "yellow")
    if stopped.via:
        screen.say(" → ".join(one.rpartition("/")[2] for one in stopped.via), "dim")


def compare(screen: Screen, *handlings: Handling) -> None:
    """The same facts, three times."""
    third = (screen.width - WIDTH - 6) // 3
    titles: Row = ((" " * WIDTH, ""), *((f"{one:<{third}}", "dim") for one in ("undefended", "honest", "defended")))
    screen.row(titles)
    for facts in zip(*(one.facts for one in handlings), strict=True):
        cells = [(f"{fact.text if fact.harm or fact.true else '–':<{third}}", _style(fact)) for fact in facts]
        screen.row(((f"{facts[0].label:<{WIDTH}}", ""), *cells))


def audit(screen: Screen, stage: Stage, defended: Handling) -> None:
    """The log verified, and where each refusal is explained."""
    screen.ran(("citywatch", "log", "verify"), stage.city.run("log", "verify", shown=False))
    calls = [one.act.decision for one in defended.stopped if one.act.decision]
    if calls:
        screen.line()
        screen.ran(("citywatch", "why", calls[0]), _head(stage.city.run("why", calls[0], shown=False)))
    if len(calls) < len(defended.stopped):  # what never became a call was nothing to decide about
        shown = stage.city.run("log", "show", "--last", "60", shown=False).splitlines()
        kept = [line for line in shown if re.match(r" *\d+  [\d-]+ [\d:]+  (rejected|tool_changed) ", line)]
        screen.line()
        screen.ran(("citywatch", "log", "show", "--last", "60"), "\n".join(kept))


def conclude(screen: Screen, scenario: Scenario, model: Model, handlings: Played, seconds: float) -> int:
    """Say whether the story held."""
    undefended, honest, defended = handlings
    found = faults(undefended, honest, defended, obedient=isinstance(model, ObedientModel))
    for fault in found:
        screen.say(f"The story did not hold: {fault}.", "alarm")
    if not found:
        screen.say(scenario.lesson, "bold")
        screen.say(f"{seconds:.0f} seconds. Another wording: citywatch demo {scenario.name} --attack random", "dim")
    return 1 if found else 0


def _row(act: Act) -> Row:
    mark, style = MARKS[act.outcome]
    loud = "yellow" if act.outcome == "refused" else ""
    within = f"{'  ' * min(act.depth, DEEPEST)}{act.agent}"
    return ((mark, style), (f" {within:<{NAMES}}", "bold"), (f"{act.what:<27} ", loud), (act.shown, "dim"))


def _style(fact: Fact) -> str:
    if fact.harm:
        return "alarm" if fact.true else "green"
    return "green" if fact.true else ""


def _head(text: str, most: int = 14) -> str:
    lines = text.rstrip("\n").split("\n")
    return "\n".join(lines if len(lines) <= most else [*lines[:most], f"… {len(lines) - most} more lines"])
