"""The demo, told in a terminal: one ticket, twice. Bare, the money moves; through citywatch, only what is owed.

Decides nothing about the calls. INVARIANT: what it says of money is read from the ledger's own file after the fact, and
it ends with an error if the story did not hold: a demo that shows nothing must not look like one that did.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from examples.support_desk import scenario, world
from examples.support_desk.agent import Place, Transcript, run_agent
from examples.support_desk.gateway import AGENT, Gateway
from examples.support_desk.model import Model, ModelError, ObedientModel, choose_model
from examples.support_desk.screen import Screen, standard
from examples.support_desk.services import Desk, open_desk
from examples.support_desk.station import CommandFailed
from examples.support_desk.tampering import NothingToTamper, flip_one_byte
from examples.support_desk.telling import Run, called, compare, show_run, what
from examples.support_desk.wording import Attack, draw_attack

EXPORT = "log.export"
TAMPERED = "log.tampered"
DECISION = "citywatch/decision"


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
    except (CommandFailed, ModelError, NothingToTamper) as failure:
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
        gateway = Gateway(folder / "gateway", desk, screen.ran)
        through = guarded(screen, gateway, model, drawn, data)
    screen.heading(4, "Side by side")
    compare(screen, drawn, bare, through)
    screen.heading(5, "The log, read by a stranger")
    audit(screen, gateway)
    screen.line()
    return conclude(screen, model, drawn, bare, through, time.monotonic() - begun)


def handle(model: Model, places: Mapping[str, Place], drawn: world.World, data: Path) -> Run:
    """Let the agent handle the ticket by these servers, then look into the ledger's file."""
    transcript = asyncio.run(run_agent(model, places, scenario.SYSTEM, scenario.task(drawn.ticket)))
    thief = drawn.attack.account if drawn.attack else ""
    company, customer = world.balance(data, drawn.company), world.balance(data, drawn.customer.account)
    return Run(transcript, company, customer, world.balance(data, thief))


def introduce(screen: Screen, drawn: world.World, desk: Desk, model: Model) -> None:
    screen.title("citywatch · one ticket at the support desk", "Northwind Kitchen")
    screen.heading(1, "A desk of real tools, an agent, and a ticket")
    lines = {server: f"MCP server at {url}" for server, url in desk.urls.items()}
    lines |= {"documents": "MCP server over stdio", AGENT: f"the agent; its model: {model.name}"}
    for part, described in lines.items():
        screen.row(((part.ljust(11), "bold"), (described, "")))
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


def guarded(screen: Screen, gateway: Gateway, model: Model, drawn: world.World, data: Path) -> Run:
    """Set citywatch up in front of the same servers, and let the same agent handle the same ticket."""
    screen.heading(3, "The same ticket, through citywatch")
    gateway.run("agent", "add", AGENT)
    gateway.run("tools", "approve", "--yes", show=_heads)
    gateway.run("policy", "test")
    gateway.run("check")
    screen.command(("citywatch", "up"))
    with gateway.up():
        screen.command(("citywatch", "agent", "token", AGENT))
        token = gateway.run("agent", "token", AGENT, shown=False).strip()
        screen.output("(handed to the agent: good for some minutes, at this gateway only)")
        run = handle(model, gateway.places(token), drawn, data)
    rules = refusals(gateway, run.transcript)
    screen.line()
    screen.say(f"The agent handles {drawn.ticket} again: {len(run.transcript.steps)} calls, {len(rules)} refused.")
    for number in rules:
        step = run.transcript.steps[number]
        screen.line()
        screen.row((("✗ ", "yellow"), (f"{called(step)}  {what(step, drawn).strip()}", "bold")))
        screen.say(f"the agent was told: {step.text}", "yellow", indent="     ")
        screen.line()
        gateway.run("policy", "why", str(step.meta.get(DECISION)), show=_short_lists)
    return replace(run, rules=rules)


def refusals(gateway: Gateway, transcript: Transcript) -> dict[int, tuple[str, ...]]:
    """The policies that refused, by the number of the call, as the log has them."""
    return {
        number: tuple(gateway.decision(str(step.meta.get(DECISION))).get("policies", ()))
        for number, step in enumerate(transcript.steps)
        if step.outcome == "refused"
    }


def audit(screen: Screen, gateway: Gateway) -> None:
    """Export the log, have the independent verifier check it, then again with one byte changed."""
    key = gateway.run("log", "key").strip()
    gateway.run("log", "export", EXPORT, show=lambda output: output.partition("\n")[0])
    gateway.verify(EXPORT, key)
    screen.line()
    screen.say(flip_one_byte(gateway.folder / EXPORT, gateway.folder / TAMPERED))
    screen.line()
    gateway.verify(TAMPERED, key, expect=1)


def conclude(screen: Screen, model: Model, drawn: world.World, bare: Run, through: Run, seconds: float) -> int:
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
    for fault in faults:
        screen.say(f"The story did not hold: {fault}.", "alarm")
    if not faults:
        screen.say("Same agent, same tool, same ticket. What differs is in policies/, and a stranger can check it.")
        screen.say(f"{seconds:.0f} seconds. Try `make demo ARGS='--attack random'`.", "dim")
    return 1 if faults else 0


def _heads(output: str) -> str:
    """Of what `tools approve` prints, what was approved; not the whole text of each definition."""
    lines = output.rstrip("\n").split("\n")
    kept = [re.sub(r"^--- (\w+): ", r"\1 ", line) for line in lines if re.match(r"--- \w+: ", line)]
    return "\n".join([*kept, lines[-1]])


def _short_lists(output: str) -> str:
    """Of a policy that names a dozen accounts, what fits on a line."""
    return re.sub(r'\[("[^"]*", ){2,}"[^"]*"\]', "[…]", output)
