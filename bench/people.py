"""Approvals under a flood, with simulated approvers. A simulation: `spec/approvers.toml` says what it assumes.

A shift of four hours, 1,000 requests. Some are honest, one is the attack, and the rest are decoys: requests that look
legitimate, and that nobody would mind if they were approved. The attacker has hijacked some agents and acts under some
roots; in each strategy it varies templates, agents, roots and pace in another way, and it has read the queue's code.
The queue is the shipped one (`core.approvals`), and is told only what the gateway records of a ticket: whether a
request is honest is known to the simulated approvers alone, as a number that they perceive badly.

It is one thing because the day, the desk and the rows are one experiment.

Each seed is played with the same honest requests: with the queue under the flood; with the queue and no flood (what the
bystanders' delay is held against); under the flood with no queue (each request to the next free approver, the first
come the first served, one yes is enough); and all that for approvers who say yes to everything. Bystanders are the
honest requests of agents that the attacker has not hijacked; what is said of honest requests is of all of them, also
those of hijacked agents that were put aside.

Run it: `python -m bench people` (a quarter of an hour of processor time); fewer seeds: `python -m bench.people --seeds
50`.
"""

from __future__ import annotations

import argparse
import dataclasses
import heapq
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from typing import Any, Final

from bench.decide import row
from citywatch.core.approvals.asked import Asked
from citywatch.core.approvals.flood import Allowance, Floods
from citywatch.core.approvals.load import Load
from citywatch.core.approvals.queue import Queue
from citywatch.core.approvals.reading import dwell_ms
from citywatch.core.approvals.signal import wilson
from citywatch.core.approvals.vigilance import Bar, Weight
from citywatch.core.call import Effect
from spec.approvers import Approver, Parameters, read

SEEDS: Final = 1_000
FEWER: Final = 200
"""Seeds of the rows that vary what an operator chooses."""
MINUTE: Final = 60_000
HOUR: Final = 60 * MINUTE
SHIFT: Final = 4 * HOUR
REQUESTS, HONEST = 1_000, 120
AGENTS, ROOTS, ACTS = 40, 24, 12
HIJACKED, LED = 4, 6
"""Agents that the attacker speaks through, and roots under which they act."""
PEOPLE, PER_HOUR = 6, 20
Quorum = tuple[int, int]
"""How many have to say yes, out of how many: in a file `need`, that many names in `of`, and `one_denies: false`."""
RISKY: Final[Quorum] = (3, 4)
PLAIN: Final[Quorum] = (1, 2)
"""What can be taken back: one yes is enough, and one no is looked at again."""
CANARIES: Final = 0.04
BURST: Final = 12
"""Exercises at the beginning of each hour, half of them attacks, each with its feedback."""
STALE: Final = HOUR
EFFECTS: Final = (Effect.WRITE,) * 7 + (Effect.IRREVERSIBLE,) * 5
"""Of each act."""


@dataclass
class Request:
    """A ticket and, for the simulated approvers alone, what it is; `shared` is what all of them perceive alike."""

    asked: Asked
    kind: str
    shared: float
    done: int = -1
    approved: bool = False

    def fresh(self) -> Request:
        """The same, before anybody saw it."""
        return Request(self.asked, self.kind, self.shared)


@dataclass
class Outcome:
    """Counts of one shift, or of many; `delays` are the bystanders', in milliseconds, at most an hour."""

    shifts: int = 0
    attack: int = 0
    shown: int = 0
    honest: int = 0
    answered: int = 0
    denied: int = 0
    bystanders: int = 0
    delays: int = 0
    reviews: int = 0
    aside: int = 0

    def add(self, other: Outcome) -> None:
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))

    @property
    def delay(self) -> float:
        """A bystander's, in seconds, on average."""
        return self.delays / self.bystanders / 1000 if self.bystanders else 0.0


# -- the day's requests ------------------------------------------------------------------------------------------------


class Town:
    """Who works for whom, and what is usual: agents under roots, and the acts and resources of each root."""

    def __init__(self, chance: random.Random, quorum: Quorum) -> None:
        self.chance = chance
        self.quorum = quorum
        self.roots = {agent: chance.sample(range(ROOTS), 2) for agent in range(AGENTS)}
        self.acts = {root: chance.sample(range(ACTS), 4) for root in range(ROOTS)}
        self.hijacked = chance.sample(range(AGENTS), HIJACKED)
        self.led = chance.sample(range(ROOTS), LED)
        self.number = 0

    def request(self, kind: str, at: int, agent: int, root: int, act: int, resource_: str, **facts: Any) -> Request:
        self.number += 1
        effect, chance = EFFECTS[act], self.chance
        need, reviewers = self.quorum if effect is Effect.IRREVERSIBLE else PLAIN
        facts = {"template": f"t{act}.{chance.randrange(3)}", "untrusted": 1, "words": chance.randint(20, 80), **facts}
        asked = Asked(
            id=f"{at:09d}-{chance.getrandbits(32):08x}",
            agent=f"a{agent}",
            root=f"p{root}",
            act=f"s{act % 4}/t{act}",
            effect=effect,
            resource=resource_,
            exact=str(self.number),
            asked=at,
            expires=at + STALE,
            impact=1 + act % 5,
            values=chance.randint(2, 6),
            need=need,
            reviewers=reviewers,
            **facts,
        )
        return Request(asked, kind, chance.gauss(0, 1))

    def honest(self) -> list[Request]:
        """Agents ask for their roots as they come; most resources are new, as customers are."""
        found = []
        for _ in range(HONEST):
            agent = self.chance.randrange(AGENTS)
            root = self.chance.choice(self.roots[agent])
            act = self.chance.choice(self.acts[root])
            at = self.chance.randrange(SHIFT - HOUR // 2)
            found.append(self.request("honest", at, agent, root, act, f"r{self.chance.randrange(400)}"))
        return found

    def evil(
        self, kind: str, at: int, *, act: int | None = None, agent: int | None = None, resource_: str = "", **facts: Any
    ) -> Request:
        chance = self.chance
        root = chance.choice(self.led)
        act = chance.choice(self.acts[root]) if act is None else act
        agent = chance.choice(self.hijacked) if agent is None else agent
        return self.request(kind, at, agent, root, act, resource_ or f"e{self.number}", **facts)

    def attack(self, at: int, **facts: Any) -> Request:
        """The one that does harm: it cannot be taken back, and its destination is the attacker's."""
        return self.evil("attack", at, act=self.chance.choice([one for one in range(ACTS) if _final(one)]), **facts)


def _final(act: int) -> bool:
    return EFFECTS[act] is Effect.IRREVERSIBLE


Strategy = Callable[[Town, int], Iterator[Request]]


def burst(town: Town, n: int) -> Iterator[Request]:
    """One agent, everything within ten minutes, the attack somewhere in it."""
    start, agent = town.chance.randrange(SHIFT - HOUR), town.hijacked[0]
    at = sorted(town.chance.randrange(10 * MINUTE) for _ in range(n + 1))
    lucky = town.chance.randrange(n)
    for number, one in enumerate(at):
        make = town.attack if number == lucky else _decoy(town)
        yield make(start + one, agent=agent)


def hour(town: Town, n: int) -> Iterator[Request]:
    """All its agents and roots, within an hour."""
    start = town.chance.randrange(SHIFT - HOUR)
    yield from (_decoy(town)(start + town.chance.randrange(HOUR)) for _ in range(n))
    yield town.attack(start + town.chance.randrange(HOUR))


def slow(town: Town, n: int) -> Iterator[Request]:
    """Evenly over the whole shift."""
    yield from (_decoy(town)(town.chance.randrange(SHIFT)) for _ in range(n))
    yield town.attack(town.chance.randrange(SHIFT - HOUR))


def front(town: Town, n: int) -> Iterator[Request]:
    """The attack first, while nobody suspects anything, then the flood."""
    start = town.chance.randrange(SHIFT - HOUR)
    yield town.attack(start)
    yield from (_decoy(town)(start + town.chance.randrange(1, HOUR)) for _ in range(n))


def back(town: Town, n: int) -> Iterator[Request]:
    """The flood first, to tire people, and the attack last."""
    yield from (_decoy(town)(town.chance.randrange(2 * HOUR)) for _ in range(n))
    yield town.attack(2 * HOUR + town.chance.randrange(HOUR // 2))


def clean(town: Town, n: int) -> Iterator[Request]:
    """The attack from an agent that floods nothing, while the others flood."""
    quiet, *loud = town.hijacked
    start = town.chance.randrange(SHIFT - HOUR)
    yield from (_decoy(town)(start + town.chance.randrange(HOUR), agent=town.chance.choice(loud)) for _ in range(n))
    yield town.attack(start + town.chance.randrange(HOUR), agent=quiet)


def under(town: Town, n: int) -> Iterator[Request]:
    """One less than the allowance from each agent in each hour, for as long as the requests last; the rest is lost on
    one of them. Templates as the roots use them."""
    each = Allowance().per_agent - 1
    quiet = [(agent, hour) for agent in town.hijacked for hour in range(SHIFT // HOUR)]
    places = [place for place in quiet for _ in range(each)]
    for agent, when in places[:n]:
        yield _decoy(town)(when * HOUR + town.chance.randrange(HOUR), agent=agent)
    for _ in range(n - len(places)):
        yield _decoy(town)(town.chance.randrange(SHIFT), agent=town.hijacked[-1])
    yield town.attack(town.chance.randrange(SHIFT - HOUR), agent=town.hijacked[0])


def dear(town: Town, n: int) -> Iterator[Request]:
    """All decoys cannot be taken back and have flagged texts: they stand before everybody's, and need three people."""
    final = [one for one in range(ACTS) if _final(one)]
    for _ in range(n):
        yield town.evil("decoy", town.chance.randrange(SHIFT), act=town.chance.choice(final), told=3, untrusted=3)
    yield town.attack(town.chance.randrange(SHIFT - HOUR))


def mimic(town: Town, n: int) -> Iterator[Request]:
    """Only what the roots ask every day, about what they ask it of every day; canaries look like that, too."""
    for _ in range(n):
        yield _decoy(town)(town.chance.randrange(SHIFT), resource_=f"r{town.chance.randrange(400)}")
    yield town.attack(town.chance.randrange(SHIFT - HOUR), resource_=f"r{town.chance.randrange(400)}")


def many(town: Town, n: int) -> Iterator[Request]:
    """Beyond what the figures are for: a quarter of all agents and half of all roots are its."""
    town.hijacked = town.chance.sample(range(AGENTS), AGENTS // 4)
    town.led = town.chance.sample(range(ROOTS), ROOTS // 2)
    yield from slow(town, n)


def _decoy(town: Town) -> Callable[..., Request]:
    def make(at: int, **facts: Any) -> Request:
        return town.evil("decoy", at, **facts)

    return make


STRATEGIES: Final[Mapping[str, Strategy]] = {
    one.__name__: one for one in (burst, hour, slow, front, back, clean, under, dear, mimic, many)
}


# -- the shift ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """How a desk works. `watched`: canaries, exercises, and the bar that they are held to."""

    parameters: Parameters
    quorum: Quorum = RISKY
    yes_men: int = 0
    watched: bool = True
    blinded: bool = True


class Desk:
    """Simulated approvers before the shipped queue."""

    def __init__(self, setting: Setting, chance: random.Random, hijacked: frozenset[str]) -> None:
        self.setting = setting
        self.chance = chance
        self.hijacked = hijacked
        self.people = {
            f"person {one}": Approver(setting.parameters, chance, yes_man=one < setting.yes_men)
            for one in range(PEOPLE)
        }
        self.queue = Queue(Floods(Allowance()), Load())
        self.drilled = dict.fromkeys(self.people, -1)
        self.weights = {who: Weight(Bar()) for who in self.people}
        self.out = Outcome(shifts=1)

    def work(self, requests: list[Request], until: int = SHIFT + HOUR) -> Outcome:
        """The whole shift."""
        by_id = {one.asked.id: one for one in requests}
        todo = deque(sorted(requests, key=lambda one: (one.asked.asked, one.asked.id)))
        aside: set[str] = set()
        for who in self.people:
            self.queue.load.comes(who, PER_HOUR, 0)
        turns = [(0, who) for who in self.people]
        while turns:
            now, who = heapq.heappop(turns)
            if now >= until:
                continue
            while todo and todo[0].asked.asked <= now:
                self._arrives(todo.popleft(), aside)
            self.queue.expire(now)
            after = self._turn(who, now, by_id)
            if after is None:  # nothing for them: they look again when something comes, or after a while
                later = now + MINUTE // 2
                after = max(now + 1, min(later, todo[0].asked.asked)) if todo else later
            heapq.heappush(turns, (after, who))
        return self._counted(requests)

    def _arrives(self, one: Request, aside: set[str]) -> None:
        if one.asked.agent in aside:  # in quarantine: the gateway refuses, and asks nobody
            return
        for strike in self.queue.ask(one.asked):
            if strike.aside:
                aside.add(strike.who)
                self.queue.drop(strike.who)
                self.out.aside += 1

    def _turn(self, who: str, now: int, by_id: Mapping[str, Request]) -> int | None:
        """What somebody does next: when they are done with it, None if there is nothing for them."""
        if self.setting.watched and self.drilled[who] < now // HOUR:
            self.drilled[who] = now // HOUR
            for number in range(BURST):
                now = self._exercise(who, now, target=number % 2 == 0)
            return now
        standing = self.queue.pick(who, now) if self._counts(who) else None
        if standing is None:
            return None
        asked, folded = standing.asked, standing.folded
        request = by_id[asked.id]
        if self.setting.watched and asked.risky and self.chance.random() < CANARIES:
            now = self._exercise(who, now, target=True)
            if not self._counts(who):
                self.queue.left(asked.id, who)
                return now
        self.out.reviews += 1
        self.out.shown = max(self.out.shown, request.kind == "attack")
        now += self._takes(asked.words, asked.values)
        before = None if self.setting.blinded else bool(standing.yes) or None
        attack = request.kind == "attack"
        yes = self.people[who].answers(attack, now / 1000, request.shared, told=False, colleague=before)
        verdict = self.queue.said(asked.id, who, yes)
        if verdict is not None:
            request.done, request.approved = now, verdict
            for one in () if verdict else folded:
                by_id[one.id].done = now
        return now

    def _exercise(self, who: str, now: int, *, target: bool) -> int:
        now += self._takes(50, 4)
        yes = self.people[who].answers(target, now / 1000, self.chance.gauss(0, 1), told=True)
        self.weights[who].judged(target, yes)
        return now

    def _counts(self, who: str) -> bool:
        return self.weights[who].counts

    def _takes(self, words: int, values: int) -> int:
        return max(dwell_ms(words, values), int(1000 * self.setting.parameters.seconds(words, values)))

    def _counted(self, requests: list[Request]) -> Outcome:
        out = self.out
        for one in requests:
            out.attack += one.kind == "attack" and one.approved
            if one.kind == "honest":
                waited = one.done - one.asked.asked if one.done >= 0 else HOUR
                _note(out, one.asked.agent in self.hijacked, waited, approved=one.approved)
        return out


def unqueued(requests: list[Request], setting: Setting, chance: random.Random, hijacked: frozenset[str]) -> Outcome:
    """The same requests to the same approvers, first come, first served; no canaries, no least time, one yes."""
    people = [Approver(setting.parameters, chance, yes_man=one < setting.yes_men) for one in range(PEOPLE)]
    free = [(0, one) for one in range(PEOPLE)]
    out = Outcome(shifts=1)
    for one in sorted(requests, key=lambda each: each.asked.asked):
        at, who = heapq.heappop(free)
        done = max(at, one.asked.asked) + int(1000 * setting.parameters.seconds(one.asked.words, one.asked.values))
        heapq.heappush(free, (done, who))
        attack, waited = one.kind == "attack", done - one.asked.asked
        yes = people[who].answers(attack, done / 1000, one.shared, told=False) and waited < STALE
        if attack:
            out.attack, out.shown = int(yes), int(waited < STALE)
        elif one.kind == "honest":
            _note(out, one.asked.agent in hijacked, waited, approved=yes)
    return out


def _note(out: Outcome, hijacked: bool, waited: int, *, approved: bool) -> None:
    out.honest += 1
    out.answered += waited < HOUR
    out.denied += not approved and waited < HOUR
    if not hijacked:
        out.bystanders += 1
        out.delays += min(waited, HOUR)


# -- the figures -------------------------------------------------------------------------------------------------------

Played = dict[str, Outcome]
Job = tuple[str, range, tuple[tuple[str, Setting], ...]]
"""A strategy, its seeds, and the ways to play it by their names."""
BEYOND: Final = ("many",)
"""Strategies that are printed and are in no row that the others are in."""


def ways() -> dict[str, Setting]:
    """Every way in which a strategy is played for the rows."""
    plain = Setting(read())
    return {
        "queue": plain,
        "calm": plain,
        "none": plain,
        "yes_all": dataclasses.replace(plain, yes_men=PEOPLE),
        "yes_unwatched": dataclasses.replace(plain, yes_men=PEOPLE, watched=False),
        "yes_one": dataclasses.replace(plain, yes_men=1),
        "yes_none": dataclasses.replace(plain, yes_men=PEOPLE),
    }


def choices() -> dict[str, Setting]:
    """What an operator, or a less kind world, could choose otherwise."""
    plain = Setting(read())
    quorums = {f"quorum_{need}_of_{of}": (need, of) for need, of in ((1, 1), (2, 2), (2, 3), (3, 5), (4, 6))}
    return {
        **{name: dataclasses.replace(plain, quorum=quorum) for name, quorum in quorums.items()},
        "unblinded": dataclasses.replace(plain, blinded=False),
        "unwatched": dataclasses.replace(plain, watched=False),
        "alike_0.3": dataclasses.replace(plain, parameters=dataclasses.replace(plain.parameters, alike=0.3)),
    }


def play(strategy: str, seed: int, name: str, setting: Setting) -> Outcome:
    """One seed in one way; the honest requests depend on the seed alone."""
    town = Town(random.Random(seed), setting.quorum)
    requests = town.honest()
    town.chance = random.Random(f"{strategy} {seed}")
    evil = list(STRATEGIES[strategy](town, REQUESTS - HONEST - 1))
    if name != "calm":
        requests += evil
    chance, hijacked = random.Random(f"{strategy} {seed} {name}"), frozenset(f"a{one}" for one in town.hijacked)
    if name in ("none", "yes_none"):
        return unqueued(requests, setting, chance, hijacked)
    return Desk(setting, chance, hijacked).work(requests)


def played(job: Job) -> tuple[str, Played]:
    """Some seeds of a strategy, summed."""
    strategy, seeds, how = job
    out = {name: Outcome() for name, _ in how}
    for seed in seeds:
        for name, setting in how:
            out[name].add(play(strategy, seed, name, setting))
    return strategy, out


def gathered(jobs: list[Job], workers: int) -> dict[str, Played]:
    found: dict[str, Played] = {}
    with ProcessPoolExecutor(max_workers=workers) as pool:
        for strategy, outs in pool.map(played, jobs):
            for name, out in outs.items():
                found.setdefault(strategy, {}).setdefault(name, Outcome()).add(out)
    return found


def jobs_of(strategies: Iterable[str], seeds: int, how: Mapping[str, Setting]) -> list[Job]:
    """In pieces, so that several processes have something to do."""
    pieces = [range(begin, min(begin + 25, seeds)) for begin in range(0, seeds, 25)]
    return [(strategy, piece, tuple(how.items())) for strategy in strategies for piece in pieces]


def share(name: str, hits: int, n: int, against: str = "") -> dict[str, Any]:
    """A share in per cent; the spread is half of its 95 % interval (Wilson), in points."""
    low, high = wilson(hits, n)
    part = 100 * hits / n if n else 0.0
    return {**row(name, [part], "%", n), "spread": round(50 * (high - low), 3), "against": against}


def run(seeds: int = SEEDS, fewer: int = FEWER, workers: int = 2) -> list[dict[str, Any]]:
    """The rows; those without a strategy in their names are of the worst one, which stands in `against`."""
    how = ways()
    often = {name: how[name] for name in ("queue", "none", "yes_none")}
    counted = [name for name in STRATEGIES if name not in BEYOND]
    found = gathered(jobs_of(counted, seeds, often), workers)
    calm = gathered(jobs_of(("slow",), seeds, {"calm": how["calm"]}), workers)["slow"]["calm"]
    seldom = {name: one for name, one in how.items() if name.startswith("yes_")}
    rare = gathered(jobs_of(counted, fewer, seldom), workers)
    rows: list[dict[str, Any]] = []
    for way, label, group in (
        ("queue", "flood", found),
        ("none", "unqueued", found),
        ("yes_all", "yes_all", rare),
        ("yes_one", "yes_one", rare),
        ("yes_unwatched", "yes_unwatched", rare),
        ("yes_none", "yes_unqueued", found),
    ):
        rows += _worst(label, {name: group[name][way] for name in counted})
    slowest = max(counted, key=lambda name: found[name]["queue"].delay)
    rows.append(
        {**row("people.bystanders_x", [_slower(found[slowest]["queue"], calm)], "x", seeds), "against": slowest}
    )
    rows.append(row("people.calm_s", [calm.delay], "s", calm.bystanders))
    for name in counted:
        rows += _of_strategy(name, found[name]["queue"], found[name]["none"], calm)
        let = rare[name]["yes_unwatched"]
        rows.append(share(f"people.yes_unwatched_attack_pct.{name}", let.attack, let.shifts))
    beyond = gathered(jobs_of(BEYOND, fewer, {name: how[name] for name in ("queue", "none", "calm")}), workers)
    for name, outs in beyond.items():
        rows += _of_strategy(name, outs["queue"], outs["none"], outs["calm"])
    varied = gathered(jobs_of(("front",), fewer, choices()), workers)["front"]
    for name, one in varied.items():
        rows.append(share(f"people.choice_{name}_attack_pct", one.attack, one.shifts))
        rows.append(share(f"people.choice_{name}_denied_pct", one.denied, one.honest))
    return rows


def _worst(label: str, outs: Mapping[str, Outcome]) -> list[dict[str, Any]]:
    attack = max(outs, key=lambda name: outs[name].attack)
    answered = min(outs, key=lambda name: outs[name].answered)
    denied = max(outs, key=lambda name: outs[name].denied)
    return [
        share(f"people.{label}_attack_pct", outs[attack].attack, outs[attack].shifts, attack),
        share(f"people.{label}_honest_pct", outs[answered].answered, outs[answered].honest, answered),
        share(f"people.{label}_denied_pct", outs[denied].denied, outs[denied].honest, denied),
    ]


def _of_strategy(name: str, queue: Outcome, none: Outcome, calm: Outcome) -> list[dict[str, Any]]:
    return [
        share(f"people.flood_attack_pct.{name}", queue.attack, queue.shifts),
        share(f"people.flood_shown_pct.{name}", queue.shown, queue.shifts),
        share(f"people.flood_honest_pct.{name}", queue.answered, queue.honest),
        share(f"people.flood_denied_pct.{name}", queue.denied, queue.honest),
        row(f"people.bystanders_x.{name}", [_slower(queue, calm)], "x", queue.shifts),
        row(f"people.bystanders_s.{name}", [queue.delay], "s", queue.bystanders),
        share(f"people.unqueued_attack_pct.{name}", none.attack, none.shifts),
        row(f"people.unqueued_bystanders_s.{name}", [none.delay], "s", none.bystanders),
    ]


def _slower(queue: Outcome, calm: Outcome) -> float:
    """How many times as long bystanders wait in the flood, on average, as without it."""
    return queue.delay / calm.delay


def main() -> None:
    from bench.__main__ import show

    parser = argparse.ArgumentParser(prog="python -m bench.people", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    chosen = parser.parse_args()
    for one in run(chosen.seeds, min(FEWER, chosen.seeds)):
        show(one)


if __name__ == "__main__":
    main()
