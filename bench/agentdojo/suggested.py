"""How well `citywatch manifest suggest` guesses: its drafts of AgentDojo's tools beside the manifests written by hand.

Decides nothing. For each role and effect: how often the guess is what a person declared; how often it is weaker, which
is what could do harm; and how often a *line* of the draft (what holds if it is pasted unread) is weaker, which has to
be never. Weaker means that something passes unasked which the declared manifest would stop.

Run it: `.venv/agentdojo/bin/python -m bench.agentdojo.suggested` (after `make bench-agentdojo` has set it up).
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from bench.agentdojo import suites
from bench.agentdojo.declared import declared
from citywatch.config.draft import Drafted, draft_manifests
from citywatch.core.call import Effect
from citywatch.core.enforce.steering import ENFORCED
from citywatch.core.manifest import Role

STRICT = {
    Role.CONTENT: 0,
    Role.TIME: 1,
    Role.AMOUNT: 2,
    Role.OBJECT: 3,
    Role.DESTINATION: 4,
    Role.COMMAND: 4,
    Role.SECRET: 4,
}
"""What must have a source, from least to most; destinations, commands and secrets differ in how they are named."""
EFFECTS = tuple(Effect)


class Compared(NamedTuple):
    """One declared fact beside its guess and the line that stands in the draft."""

    kind: str
    truth: str
    guess: str
    line: str
    weaker: bool
    line_weaker: bool
    where: str


def compared() -> Iterator[Compared]:
    """Every declared effect and role of the suites."""
    for name, suite in suites.load().items():
        truths = declared(name).tools
        for one in draft_manifests(name, suite.definitions).drafted:
            truth = truths[one.name]
            effect, line = one.effect.effect, one.manifest.effect
            where = f"{name}/{one.name}"
            less, line_less = (EFFECTS.index(which) < EFFECTS.index(truth.effect) for which in (effect, line))
            yield Compared("effect", truth.effect.value, effect.value, line.value, less, line_less, where)
            yield from _roles(one, where, truth.effect, {path: one.role for path, one in truth.parameters.items()})


def _roles(one: Drafted, where: str, effect: Effect, truths: dict[str, Role | None]) -> Iterator[Compared]:
    guessed = {place.place.path: place for place in one.places}
    for path, truth in truths.items():
        found = guessed[path]
        role, guess = truth or Role.DESTINATION, found.guess.role or Role.DESTINATION
        counts = role in ENFORCED[effect]  # where the act lets anything stand, no guess is weaker
        yield Compared(
            "role",
            role.value,
            "-" if found.guess.role is None else guess.value,
            found.role.value,
            counts and STRICT[guess] < STRICT[role],
            counts and STRICT[found.role] < STRICT[role],
            f"{where}.{path}",
        )


def main() -> None:
    """Print the table, then each guess that is weaker than what was declared."""
    rows = list(compared())
    if not rows:
        raise SystemExit("nothing was compared")
    print(
        f"{'declared':<22}{'places':>8}{'guessed':>9}{'no guess':>10}{'stricter':>10}{'weaker':>8}{'weaker line':>13}"
    )
    for kind, truth in sorted({(row.kind, row.truth) for row in rows}):
        same = [row for row in rows if (row.kind, row.truth) == (kind, truth)]
        count = Counter(
            "weaker" if row.weaker else "same" if row.guess == truth else "none" if row.guess == "-" else "stricter"
            for row in same
        )
        told = [count[word] for word in ("same", "none", "stricter", "weaker")]
        lines = sum(row.line_weaker for row in same)
        print(f"{kind + ' ' + truth:<22}{len(same):>8}{told[0]:>9}{told[1]:>10}{told[2]:>10}{told[3]:>8}{lines:>13}")
    for row in rows:
        if row.weaker or row.line_weaker:
            print(f"weaker: {row.where}: declared {row.truth}, guessed {row.guess}, written {row.line}")
    sys.exit(any(row.line_weaker for row in rows))


if __name__ == "__main__":
    main()
