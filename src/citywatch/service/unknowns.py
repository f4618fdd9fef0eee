"""What a log does not tell any more: contexts, plans, whole servers, and in the end everything that flows.

Decides which calls cannot be judged again, and why. INVARIANT: what is not known spreads as a taint does: from an
erased reply to the context that received it, from there to whatever that context wrote, and to whoever read that.
"""

from __future__ import annotations

from enum import StrEnum

from citywatch.core import events
from citywatch.core.enforce.needs import Needs
from citywatch.core.enforce.rules import Rules


class Status(StrEnum):
    """What came of judging a recorded call again."""

    SAME = "same"
    CHANGED = "changed"
    UNVERIFIABLE = "unverifiable"
    GONE = "gone"


class Unknowns:
    """What is not known by now, and why: `everything`, what rules about the `past` remember, known `parties`."""

    def __init__(self) -> None:
        self.everything = ""
        self.contexts: dict[tuple[str, str], str] = {}
        self.plans: dict[str, tuple[Status, str]] = {}
        self.servers: set[str] = set()
        self.parties = ""
        self.past = ""

    def context(self, agent: str, key: str, why: str) -> None:
        self.contexts.setdefault((agent, key), why)

    def told(self, one: events.Decided, why: str) -> None:
        """What was said to an agent of ours is not known, or rests on what is not."""
        for context in one.hears:
            agent, _, key = context.partition("\n")
            self.context(agent, key, why)

    def heard(self, name: str) -> str:
        """Why it is not known what an agent of ours answers with, if it is not."""
        return next((why for (agent, _), why in self.contexts.items() if agent == name), "")

    def renewed(self, event: events.KeyReplaced) -> None:
        if (event.agent, event.old) in self.contexts:
            self.context(event.agent, event.key, self.contexts[event.agent, event.old])

    def replied(self, rules: Rules, server: str, name: str | None) -> None:
        """A reply is not known: nor are the parties that it made known."""
        tool = rules.tools.get((server, name or ""))
        if tool is not None and any(one.party for one in tool.manifest.output.values()):
            self.parties = "who was made known by a reply that was erased"

    def about(self, one: events.Decided, need: Needs, *, flows: bool, remembers: bool) -> tuple[Status, str] | None:
        """Why a call cannot be judged by what flowed and what happened before; None if all of it is known."""
        if self.everything and (flows or remembers):
            return Status.UNVERIFIABLE, self.everything
        if self.past and remembers:
            return Status.UNVERIFIABLE, self.past
        if not flows:
            return None
        if (one.agent, one.key) in self.contexts:
            return Status.UNVERIFIABLE, self.contexts[one.agent, one.key]
        if one.agent in self.plans:
            return self.plans[one.agent]
        if self.parties and need.flow is not None and need.flow.parties:
            return Status.UNVERIFIABLE, self.parties
        return None
