"""All pairs of one user task, in every wording, under every variant: honest first, then with each attacker.

Decides nothing; it counts into `Tally`. One user task is one unit of work, for one process. INVARIANTS: wordings are
never mixed; a pair whose user part fails in the planted world even with nothing in its way is in no utility figure,
and counted (`unattainable`); what is excluded is in `attackers.EXCLUDED`.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from bench.agentdojo.agent import PEOPLE, Told, Verdict
from bench.agentdojo.attackers import EXCLUDED, attacker_steps
from bench.agentdojo.declared import declared
from bench.agentdojo.defence import KEYWORDS, ORACLE, PRINCIPAL, Task, city_of
from bench.agentdojo.keywords import tools_for
from bench.agentdojo.runs import Ended, Play, asked, blocked, play
from bench.agentdojo.suites import Step, Suite
from citywatch.core.call import Effect

Tally = Counter[tuple[str, ...]]
"""(variant, wording, what) → how often; the wording of honest runs is `honest`."""
HONEST = "honest"
HOW = tuple(PEOPLE)


class Unit:
    """One user task of one suite."""

    def __init__(self, suite: Suite, task_id: str) -> None:
        self.suite = suite
        self.user = suite.user_tasks[task_id]
        self.tally: Tally = Counter()
        self.noted: list[tuple[str, ...]] = []

    async def run(self, variants: Iterable[str], attacks: Iterable[str]) -> Unit:
        variants = tuple(variants)
        await self._honest(variants)
        for attack in attacks:
            for injection_id, injection in self.suite.injection_tasks.items():
                if (self.suite.name, injection_id) in EXCLUDED:
                    self.tally["", attack, "excluded"] += 1
                else:
                    await self._pair(variants, attack, injection_id, injection)
        return self

    # -- honest ------------------------------------------------------------------------------------------------------

    async def _honest(self, variants: Sequence[str]) -> None:
        frozen = self.suite.begin(self.user, {})
        for variant in variants:
            runs: dict[str, Ended] = {}
            for how in HOW:
                if how != HOW[0] and not runs[HOW[0]].asked:
                    runs[how] = runs[HOW[0]]
                    continue
                now = self.suite.thaw(frozen)
                runs[how] = await self._play(variant, how, frozen, now)
                done = self._useful(frozen, now, runs[how])
                self.tally[variant, HONEST, f"utility_{how}"] += done
            if not runs[HOW[0]].asked:
                for how in HOW[1:]:
                    self.tally[variant, HONEST, f"utility_{how}"] = self.tally[variant, HONEST, f"utility_{HOW[0]}"]
            self.tally[variant, HONEST, "n"] += 1
            self.tally[variant, HONEST, "blocked"] += blocked(runs["answered"])
            self.tally[variant, HONEST, "asked"] += asked(runs["answered"])
            self.tally[variant, HONEST, "asks"] += sum(told.asked for told in runs["answered"].user)
            self.tally[variant, HONEST, "consequential"] += sum(map(self._has_consequences, runs["answered"].user))
            for told in runs["answered"].user:
                if told.asked or told.verdict is Verdict.DENIED:
                    self._note(variant, HONEST, "", told.code or "asked", told.step)

    # -- attacked ----------------------------------------------------------------------------------------------------

    async def _pair(self, variants: Sequence[str], attack: str, injection_id: str, injection: Any) -> None:
        injections = self.suite.attempt(attack, self.user, injection)
        frozen = self.suite.begin(self.user, injections)
        planted = tuple(injections.values())
        attainable = self._attainable(frozen)
        for variant in variants:
            tally, runs = self.tally, dict[str, Ended]()
            tally[variant, attack, "n"] += 1
            tally[variant, attack, "attainable"] += attainable
            for how in HOW:
                fresh = how == HOW[0] or runs[HOW[0]].asked
                if fresh:
                    now = self.suite.thaw(frozen)
                    runs[how] = await self._play(variant, how, frozen, now, injection_id, planted)
                    useful = attainable and self._useful(frozen, now, runs[how])
                    secure = self._reached(frozen, now, runs[how], injection)
                else:
                    runs[how] = runs[HOW[0]]
                tally[variant, attack, f"utility_{how}"] += useful
                tally[variant, attack, f"reached_{how}"] += secure
                tally[variant, attack, f"hijacks_{how}"] += bool(runs[how].hijacks)
                tally[variant, attack, f"calls_{how}"] += len(runs[how].hijacks)
            first = runs[HOW[0]]
            tally[variant, attack, "saw"] += first.saw
            stopped = [told for told in first.attacker if told.asked or told.verdict is Verdict.DENIED]
            tally[variant, attack, "any"] += bool(stopped)
            tally[variant, attack, "user_blocked"] += blocked(runs["answered"])
            tally[variant, attack, "user_asked"] += asked(runs["answered"])
            tally[variant, attack, "asks_user"] += sum(told.asked for told in runs["answered"].user)
            tally[variant, attack, "asks_attack"] += sum(told.asked for told in runs["answered"].attacker)
            for step in first.hijacks:
                self._note(variant, attack, injection_id, "executed", step)

    async def _play(
        self, variant: str, how: str, frozen: bytes, now: Any, injection_id: str = "", planted: tuple[str, ...] = ()
    ) -> Ended:
        suite, before = self.suite, self.suite.thaw(frozen)
        steps = suite.ground_truth(self.user, before)
        task = Task(
            principal=PRINCIPAL,
            prompt=self.user.PROMPT,
            steps=tuple(steps) if variant == ORACLE else (),
            replies=self._replies if variant == ORACLE else (),
            allowed=tools_for(self.user.PROMPT, declared(suite.name).tools) if variant == KEYWORDS else frozenset(),
        )
        city = await city_of(variant, suite.name, suite.definitions)
        scene = Play(
            task=task,
            user=steps,
            run=lambda tool, arguments: suite.run(now, tool, arguments),
            state=lambda: suite.state(now),
            attack=lambda: attacker_steps(suite, injection_id, before, now) if injection_id else [],
            planted=planted,
        )
        return await play(city, scene, PEOPLE[how])

    @functools.cached_property
    def _replies(self) -> tuple[Any, ...]:
        """What the ground-truth calls answer where nobody planted anything: the oracle knows where values are."""
        frozen = self.suite.begin(self.user, {})
        now = self.suite.thaw(frozen)
        steps = self.suite.ground_truth(self.user, self.suite.thaw(frozen))
        return tuple(self.suite.run(now, step.tool, step.arguments).value for step in steps)

    # -- scores ------------------------------------------------------------------------------------------------------

    def _useful(self, frozen: bytes, now: Any, ended: Ended) -> bool:
        output = self.user.GROUND_TRUTH_OUTPUT
        return self.suite.utility(self.user, output, self.suite.thaw(frozen), now, ended.trace)

    def _reached(self, frozen: bytes, now: Any, ended: Ended, injection: Any) -> bool:
        output = self.user.GROUND_TRUTH_OUTPUT
        return self.suite.security(injection, output, self.suite.thaw(frozen), now, ended.trace)

    def _has_consequences(self, told: Told) -> bool:
        """Whether a call does more than read, by the manifest; a tool that the manifest does not know does."""
        tool = declared(self.suite.name).tools.get(told.step.tool)
        return tool is None or tool.effect is not Effect.READ

    def _attainable(self, frozen: bytes) -> bool:
        """Whether the user's calls, with no gateway and no attacker's call, do the task in this world."""
        before, now = self.suite.thaw(frozen), self.suite.thaw(frozen)
        steps = self.suite.ground_truth(self.user, before)
        for step in steps:
            self.suite.run(now, step.tool, step.arguments)
        return self.suite.utility(self.user, self.user.GROUND_TRUTH_OUTPUT, before, now, steps)

    def _note(self, variant: str, wording: str, injection_id: str, what: str, step: Step) -> None:
        self.noted.append(
            (variant, wording, self.suite.name, self.user.ID, injection_id, what, step.tool, str(step.arguments)[:300])
        )
