"""What a model can still do with a text that reached it only as a handle.

Reads the difference between what a world said and what the agent was let see. Decides nothing. Where nothing was
hidden each call is made as it is. A value that the agent never saw in plain is passed as the handle
that stands for it; if it is only part of a hidden text, the quarantined reader is asked; else the model cannot know it.
INVARIANT: nothing is filled in that a model without the text could not have filled in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.agentdojo.agent import Agent, Told, leaves
from bench.agentdojo.suites import Step
from bench.agentdojo.worlds import World, result_of
from citywatch.core.flow.veil import OTHERS

MARK = "cw:"
SHORT = 3
"""A text of fewer letters is found everywhere and proves nothing."""
_UNKNOWN = object()


class Hidden:
    """The handles that one agent holds, and (known to the harness alone) what each of them stands for."""

    def __init__(self) -> None:
        self.meaning: dict[str, str] = {}

    def learn(self, world: World, told: Told) -> None:
        """Hold a reply against what the world had answered."""
        if told.value is None or not world.answered:
            return
        for handle, text in aligned(result_of(world.answered[-1]).get("structuredContent"), told.value):
            self.meaning[handle] = text

    async def step(self, step: Step, agent: Agent, prompt: str) -> Step | None:
        """The call as this agent can make it, None if it would have to know what it never saw."""
        if not self.meaning:
            return step
        seen = [prompt, *agent.seen()]
        found = {name: await self._value(one, seen, agent) for name, one in step.arguments.items()}
        return None if any(_holds_unknown(one) for one in found.values()) else Step(step.tool, found)

    async def _value(self, value: Any, seen: list[str], agent: Agent) -> Any:
        if isinstance(value, list):
            return [await self._value(one, seen, agent) for one in value]
        if isinstance(value, dict):
            return {name: await self._value(one, seen, agent) for name, one in value.items()}
        text = value if isinstance(value, str) else str(value)
        if isinstance(value, bool) or len(text) < SHORT or any(text in one for one in seen):
            return value
        for handle, meaning in self.meaning.items():
            if meaning == text:
                return handle
        for handle, meaning in self.meaning.items():
            if text in meaning:
                answer = await agent.ask(handle, text)
                if answer is None:
                    return _UNKNOWN
                # A number or a date is seen, and written as the tool wants it; all else is a handle.
                return answer if isinstance(answer, str) and answer.startswith(MARK) else value
        return value  # found nowhere: the model makes it up


def aligned(said: Any, released: Any) -> Iterator[tuple[str, str]]:
    """Each handle in a released value with the text that stood in its place."""
    if isinstance(released, str) and released.startswith(MARK) and released != said:
        yield released, said if isinstance(said, str) else "\n".join(leaves(said))
    elif isinstance(said, dict) and isinstance(released, dict):
        for name in said.keys() & released.keys():
            yield from aligned(said[name], released[name])
        if OTHERS in released:  # all members whose names are not shown
            yield from aligned({name: said[name] for name in said.keys() - released.keys()}, released[OTHERS])
    elif isinstance(said, list) and isinstance(released, list):
        for one, other in zip(said, released, strict=False):
            yield from aligned(one, other)


def _holds_unknown(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_holds_unknown, value))
    if isinstance(value, dict):
        return any(map(_holds_unknown, value.values()))
    return value is _UNKNOWN
