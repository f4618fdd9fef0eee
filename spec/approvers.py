"""A seeded model of approvers. It is a simulation: no person was asked, and no figure made with it is a person's.

What an approver perceives of a ticket is a number, larger by `d'` for an attack (signal detection with equal variance);
they deny what lies above their criterion. The criterion follows how frequent attacks have seemed: so it is fitted to
the two anchors of the literature, and straight in the log-odds between and beyond them. Who is asked too much answers
yes without looking. Parameters: `approvers.toml`. It shares no line with `src/`.
"""

from __future__ import annotations

import math
import random
import tomllib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any, Final

HOUR: Final = 3600.0
_NORMAL: Final = NormalDist()
_FILE: Final = Path(__file__).with_name("approvers.toml")


@dataclass(frozen=True)
class Parameters:
    """As frozen in `approvers.toml`, with what follows from them."""

    sensitivity: float
    at_hundredth: float
    slope: float
    rarest: float
    keeps: float
    begins: float
    rested: float
    scale: float
    loafs: float
    alike: float
    words_per_minute: float
    seconds_per_value: float
    seconds_to_decide: float

    def criterion(self, prevalence: float) -> float:
        """How far from the middle between honest and attack somebody draws the line, once attacks seem so frequent."""
        return self.at_hundredth + self.slope * (_logit(max(self.rarest, prevalence)) - _logit(0.01))

    def misses(self, prevalence: float) -> float:
        """The share of attacks that pass somebody who looks."""
        return _NORMAL.cdf(self.criterion(prevalence) - self.sensitivity / 2)

    def false_denials(self, prevalence: float) -> float:
        """The share of honest tickets that somebody denies who looks."""
        return 1 - _NORMAL.cdf(self.criterion(prevalence) + self.sensitivity / 2)

    def lapses(self, hourly: float) -> float:
        """The share of answers that are given without looking by somebody who gives so many an hour."""
        return 1 - math.exp(-max(0.0, hourly - self.rested) / self.scale)

    def seconds(self, words: int, values: int) -> float:
        """How long somebody reads who reads all of it."""
        return self.seconds_to_decide + 60 * words / self.words_per_minute + self.seconds_per_value * values


def read(file: Path = _FILE) -> Parameters:
    """The frozen parameters."""
    return fitted(tomllib.loads(file.read_text(encoding="utf-8")))


def fitted(table: Mapping[str, Any]) -> Parameters:
    """The parameters of a table like the file's."""
    signal, attention, reading = table["signal"], table["attention"], table["reading"]
    hit, refuses = _NORMAL.inv_cdf(1 - signal["miss_at_hundredth"]), _NORMAL.inv_cdf(signal["approves"])
    sensitivity = hit + refuses
    at_hundredth = sensitivity / 2 - hit
    at_half = sensitivity / 2 - _NORMAL.inv_cdf(1 - signal["miss_at_half"])
    return Parameters(
        sensitivity=sensitivity,
        at_hundredth=at_hundredth,
        slope=(at_half - at_hundredth) / (_logit(0.5) - _logit(0.01)),
        rarest=signal["rarest"],
        keeps=0.5 ** (1 / table["feedback"]["half_life"]),
        begins=table["feedback"]["begins"],
        rested=attention["rested"],
        scale=(attention["halved"] - attention["rested"]) / math.log(2),
        loafs=table["second"]["loafs"],
        alike=table["second"]["alike"],
        words_per_minute=reading["words_per_minute"],
        seconds_per_value=reading["seconds_per_value"],
        seconds_to_decide=reading["seconds_to_decide"],
    )


class Approver:
    """One simulated approver. `yes_man` says yes to everything."""

    def __init__(self, parameters: Parameters, chance: random.Random, *, yes_man: bool = False) -> None:
        self.parameters = parameters
        self.yes_man = yes_man
        self.prevalence = parameters.begins
        self._chance = chance
        self._answered: deque[float] = deque()

    def answers(self, attack: bool, now: float, shared: float, *, told: bool, colleague: bool | None = None) -> bool:
        """Whether they approve. `shared` is what all perceive alike of this ticket (standard normal), `told`: they hear
        at once what it was; `colleague`: what a colleague answered, where they can see it (it was not blinded)."""
        parameters, chance = self.parameters, self._chance
        while self._answered and self._answered[0] <= now - HOUR:
            self._answered.popleft()
        lapsed = chance.random() < parameters.lapses(len(self._answered))
        self._answered.append(now)
        own = chance.gauss(0, 1)
        perceived = math.sqrt(parameters.alike) * shared + math.sqrt(1 - parameters.alike) * own
        perceived += parameters.sensitivity * attack
        yes = perceived < parameters.sensitivity / 2 + parameters.criterion(self.prevalence)
        if colleague and chance.random() < parameters.loafs:
            yes = True
        # What is never said to have been an attack seems to have been none: rarity makes lax
        self.prevalence = parameters.keeps * self.prevalence + (1 - parameters.keeps) * (attack and told)
        return True if lapsed or self.yes_man else yes


def _logit(share: float) -> float:
    return math.log(share / (1 - share))
