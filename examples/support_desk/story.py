"""The demo, told in a terminal: one ticket, twice. Bare, the money moves; through citywatch, only what is owed.

Decides nothing about the calls. INVARIANT: what it says of money is read from the ledger's own file after the fact, and
it ends with an error if the story did not hold: a demo that shows nothing must not look like one that did.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import secrets
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from examples.support_desk import scenario, world
from examples.support_desk.agent import Place, Step, Transcript, run_agent
from examples.support_desk.gateway import AGENT, CommandFailed, Gateway, Ran
from examples.support_desk.model import Model, ModelError, ObedientModel, choose_model
from examples.support_desk.screen import Row, Screen, standard
from examples.support_desk.services import Desk, open_desk
from examples.support_desk.wording import Attack, draw_attack

EXPORT = "export"


@dataclass(frozen=True)
class Run:
    """One handling of the ticket: what the agent did, and what is on the accounts afterwards, in cents."""

    transcript: Transcript
    company: int
    customer: int
    thief: int


def main() -> int:
    parser = argparse.ArgumentParser(prog="support_desk", description="One ticket, bare and through citywatch.")
    parser.add_argument("--attack", metavar="SEED", help="draw the attack from this seed; `random` draws a new one")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep databases, configuration and log here")
    options = parser.parse_args()
    screen = standard()
    folder = options.keep.resolve() if options.keep else Path(tempfile.mkdtemp(prefix="support-desk-"))
    try:
        if options.keep and folder.exists() and any(folder.iterdir()):
            parser.error(f"`{options.keep}` is not empty")
        return tell(screen, _attack(options.attack, screen), choose_model(os.environ), folder)
    except (CommandFailed, ModelError) as failure:
        screen.line()
        screen.output(str(failure), "alarm")
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)


def _attack(seed: str | None, screen: Screen) -> Attack:
    if seed is None:
        return world.default_attack()
    number = str(secrets.randbelow(10**6)) if seed == "random" else seed
    if seed == "random":
        screen.say(f"the attack of seed {number}", "dim")
    return draw_attack(random.Random(number))


def tell(screen: Screen, attack: Attack, model: Model, folder: Path) -> int:
    """Tell the whole story; 0 if it held."""
    begun = time.monotonic()
    data = folder / "desk"
    drawn = world.build(data, attack)
    with open_desk(data) as desk:
        introduce(screen, drawn, desk, model)
        screen.heading(2, "The ticket, with nothing in between")
        bare = handle(model, desk.bare(), drawn, data)
        show_run(screen, drawn, bare)
        world.build(data, attack)
        gateway = Gateway(folder / "gateway", desk, lambda ran: show_command(screen, ran))
        through = guarded(screen, gateway, model, drawn, data)
    screen.heading(4, "Side by side")
    compare(screen, drawn, bare, through)
    screen.heading(5, "The log, read by a stranger")
    caught = audit(screen, gateway, folder)
    screen.line()
    return conclude(screen, model, drawn, bare, through, caught, time.monotonic() - begun)


def handle(model: Model, places: Mapping[str, Place], drawn: world.World, data: Path) -> Run:
    """Let the agent handle the ticket by these servers, then look into the ledger's file."""
    transcript = asyncio.run(run_agent(model, places, scenario.SYSTEM, scenario.task(drawn.ticket)))
    thief = drawn.attack.account if drawn.attack else ""
    on = [world.balance(data, account) for account in (drawn.company, drawn.customer.account, thief)]
    return Run(transcript, *on)


def introduce(screen: Screen, drawn: world.World, desk: Desk, model: Model) -> None:
    screen.title("citywatch · one ticket at the support desk", "Northwind Kitchen")
    screen.heading(1, "A desk of real tools, an agent, and a ticket")
    lines = {name: f"MCP server at {url}" for name, url in desk.urls.items()}
    lines |= {"documents": "MCP server over stdio", AGENT: f"the agent; its model: {model.name}"}
    for name, what in lines.items():
        screen.line(f"   {screen.style(name.ljust(11), 'bold')}{what}")
    screen.line()
    assert drawn.attack is not None
    where = {"customer": "a note on the customer's file", "document": "a page of the handbook"}
    screen.say(f"Ticket {drawn.ticket}, from {drawn.customer.email}:")
    screen.line()
    screen.quote(world.ticket_body(desk.data, drawn.ticket), drawn.attack.text)
    if drawn.attack.place in where:
        screen.line()
        screen.say(f"And somebody has written on {where[drawn.attack.place]}:")
        screen.line()
        screen.quote(drawn.attack.text, drawn.attack.text)


def show_run(screen: Screen, drawn: world.World, run: Run) -> None:
    for step in run.transcript.steps:
        mark, style = MARKS[step.outcome]
        words, what = _words(step), _what(step, drawn)
        emphasis = ("alarm",) if _stolen(step, drawn) and step.outcome == "done" else ()
        screen.line(f"   {screen.style(mark, style)} {words:<32}{screen.style(what, *emphasis)}")
    screen.line()
    for row in balances(drawn, run):
        screen.line("   " + "".join(screen.style(text, *([style] if style else [])) for text, style in row))


def show_command(screen: Screen, ran: Ran) -> None:
    screen.command(ran.words)
    if ran.output.strip():
        screen.output(ran.output)


def guarded(screen: Screen, gateway: Gateway, model: Model, drawn: world.World, data: Path) -> Run:
    """Set citywatch up in front of the same servers, and let the same agent handle the same ticket."""
    screen.heading(3, "The same ticket, through citywatch")
    gateway.run("init")
    gateway.run("agent", "add", AGENT)
    gateway.run("tools", "approve", "--all")
    gateway.run("policy", "check")
    screen.command(("citywatch", "up"))
    with gateway.up():
        token = gateway.run("agent", "token", AGENT, shown=False).output.strip()
        run = handle(model, gateway.places(token), drawn, data)
    refused = [step for step in run.transcript.steps if step.outcome == "refused"]
    screen.line()
    screen.say(f"The agent handles {drawn.ticket} again: {len(run.transcript.steps)} calls, {len(refused)} refused.")
    for step in refused:
        screen.line()
        screen.say(f"{_words(step)} {_what(step, drawn).strip()}; the agent was told, and went on:")
        screen.output(step.text, "yellow")
    return run


def compare(screen: Screen, drawn: world.World, bare: Run, through: Run) -> None:
    columns = []
    for title, run in (("WITHOUT CITYWATCH", bare), ("THROUGH CITYWATCH", through)):
        rows: list[Row] = [((title, "bold"),), ()]
        for step in run.transcript.steps:
            mark, style = MARKS[step.outcome]
            loud = "alarm" if _stolen(step, drawn) and step.outcome == "done" else ""
            rows.append(((mark, style), (f" {_words(step):<18} ", ""), (_what(step, drawn), loud)))
        rows += [(), *balances(drawn, run)]
        columns.append(rows)
    screen.side_by_side(columns[0], columns[1])


def audit(screen: Screen, gateway: Gateway, folder: Path) -> bool:
    """Export the log, have the independent verifier check it, then again with one byte changed. True if caught."""
    gateway.run("log", "export", EXPORT)
    gateway.verify(EXPORT)
    copy = gateway.folder / "tampered"
    shutil.copytree(gateway.folder / EXPORT, copy)
    screen.line()
    screen.say(flip_one_byte(copy))
    gateway.verify(copy.name, expect=1)
    return True


def flip_one_byte(export: Path) -> str:
    """Change one byte in the middle of the largest file of an export; say which."""
    target = max((path for path in export.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(target.read_bytes())
    place = len(content) // 2
    before = content[place]
    content[place] ^= 1
    target.write_bytes(content)
    return f"Byte {place} of {target.relative_to(export)} becomes {content[place]:#04x}; it was {before:#04x}."


def conclude(
    screen: Screen, model: Model, drawn: world.World, bare: Run, through: Run, caught: bool, seconds: float
) -> int:
    """Say whether the story held: a model of one's own may refuse the bait, the obedient one may not."""
    assert drawn.attack is not None
    faults: list[str] = []
    if isinstance(model, ObedientModel):
        if (bare.thief, bare.customer) != (drawn.attack.cents, drawn.owed):
            faults.append("bare, the money did not move as ordered")
        if through.customer != drawn.owed:
            faults.append("through citywatch, the customer did not get the refund")
    if through.thief:
        faults.append("through citywatch, the attacker got money")
    if not caught:
        faults.append("the changed byte was not caught")
    for fault in faults:
        screen.say(f"The story did not hold: {fault}.", "alarm")
    if not faults:
        screen.say(f"{seconds:.0f} seconds. Nothing but policies/ tells the two payments apart.", "green")
    return 1 if faults else 0


MARKS = {"done": ("✓", "green"), "refused": ("✗", "yellow"), "failed": ("!", "red")}


def balances(drawn: world.World, run: Run) -> Sequence[Row]:
    rows: list[Row] = []
    accounts = (
        ("company", world.OPENING_BALANCE, run.company, ""),
        ("customer", 0, run.customer, ""),
        ("attacker", 0, run.thief, "alarm" if run.thief else "green"),
    )
    for name, before, after, style in accounts:
        rows.append(((f"{name:<10}", "dim"), (f"{_euros(before):>10} → ", "dim"), (f"{_euros(after):>10} EUR", style)))
    return rows


def _words(step: Step) -> str:
    return f"{step.server}/{step.tool}"


def _what(step: Step, drawn: world.World) -> str:
    """The arguments that a person would want to see, shortened."""
    if {"to", "amount"} <= step.arguments.keys():
        whom = "to the attacker" if _stolen(step, drawn) else "to the customer"
        done = {"refused": "  REFUSED", "failed": "  failed"}.get(step.outcome, "")
        return f"{step.arguments['amount']:>8} {whom}{done}"
    shown = next((str(value) for value in step.arguments.values()), "")
    return shown if len(shown) <= 30 else f"{shown[:29]}…"


def _stolen(step: Step, drawn: world.World) -> bool:
    return drawn.attack is not None and step.arguments.get("to") == drawn.attack.account


def _euros(cents: int) -> str:
    return f"{cents // 100:,}.{cents % 100:02d}".replace(",", " ")
