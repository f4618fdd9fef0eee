"""`citywatch demo`: which scenarios there are, and playing one.

Decides nothing but which one is meant.
"""

from __future__ import annotations

import importlib
import os
import secrets
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

from examples.scenarios.scenario import Scenario
from examples.scenarios.telling import tell
from examples.support_desk.model import ModelError, choose_model
from examples.support_desk.screen import Screen, standard
from examples.support_desk.station import CommandFailed

NAMES = ("inter_agent_injection", "identity_spoofing", "trust_exploitation", "prompt_worm", "approval_fatigue")


class NoScenario(Exception):
    """There is no scenario of that name, or its folder is not empty."""


def load(name: str) -> Scenario:
    """A scenario by its name; dashes are as good as underscores."""
    plain = name.replace("-", "_")
    if plain not in NAMES:
        raise NoScenario(f"there is no scenario `{name[:80]}`: there are {', '.join(NAMES)}")
    scenario: Scenario = importlib.import_module(f"examples.scenarios.{plain}.steps").SCENARIO
    return scenario


def show_all(screen: Screen) -> None:
    """A line for each scenario."""
    for name in NAMES:
        screen.row(((f"{name:<24}", "bold"), (load(name).title, "")))
    screen.line()
    screen.say("citywatch demo NAME plays one, on real agents and servers of this machine.", "dim")


def play(name: str | None, seed: str | None, keep: Path | None, watched: bool) -> int:
    """List the scenarios, or play one, `watched` in the console; the status that the command ends with."""
    screen = standard()
    if name is None:
        show_all(screen)
        return 0
    scenario = load(name)
    if seed == "random":
        seed = str(secrets.randbelow(10**6))
        screen.say(f"the attack of seed {seed}", "dim")
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise NoScenario(f"`{keep}` is not empty")
    folder = keep.resolve() if keep else Path(tempfile.mkdtemp(prefix="citywatch-demo-"))
    try:
        pause = partial(_until_enter, screen) if watched else None
        return tell(screen, scenario, choose_model(os.environ), seed, folder, pause)
    except (CommandFailed, ModelError) as failure:
        screen.line()
        screen.output(str(failure), "alarm")
        return 1
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def _until_enter(screen: Screen, words: str) -> None:
    screen.say(words, "bold")
    sys.stdin.readline()  # at the end of a pipe it goes on at once
