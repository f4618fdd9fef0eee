"""A planner without a model: which tools a prompt seems to ask for, by its words alone.

A cheap plan for the variant `keyword_plan`, good for as much as it is: it reads nothing but the prompt and what the
tools are called and declared to do. Decides no call. INVARIANTS: tools that only read are always in the plan; a tool
that acts is in it only if the prompt uses a word for that act; no task, suite or argument is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from citywatch.core.call import Effect
from citywatch.core.manifest import ToolManifest

ACTS: Mapping[str, tuple[str, ...]] = {
    "send": ("send", "mail", "email", "message", "write", "reply", "post", "forward", "tell", "pay", "refund",
             "transfer", "give", "notify", "inform", "share", "do", "follow", "perform"),
    "pay": ("pay", "refund", "transfer", "send", "settle", "do", "follow", "perform"),
    "post": ("post", "publish", "upload", "put", "do", "follow", "perform"),
    "schedule": ("schedule", "set", "recurring", "standing", "order", "subscription", "do", "follow", "perform"),
    "update": ("update", "change", "adjust", "correct", "modify", "edit", "set", "do", "follow", "perform"),
    "create": ("create", "add", "make", "new", "set", "remind", "reminder", "event", "book", "invite", "do", "follow",
               "perform"),
    "add": ("add", "invite", "include", "put", "do", "follow", "perform"),
    "append": ("add", "append", "write", "extend", "suggest", "do", "follow", "perform"),
    "share": ("share", "give", "grant", "do", "follow", "perform"),
    "delete": ("delete", "remove", "erase", "clean", "do", "follow", "perform"),
    "remove": ("remove", "delete", "kick", "do", "follow", "perform"),
    "cancel": ("cancel", "call", "off", "do", "follow", "perform"),
    "reschedule": ("reschedule", "move", "postpone", "shift", "do", "follow", "perform"),
    "invite": ("invite", "add", "do", "follow", "perform"),
    "reserve": ("reserve", "book", "reservation", "booking", "do", "follow", "perform"),
}  # fmt: skip
"""The verb that a tool's name begins with → the words in which people ask for it. The last ones hand the task on."""

_WORD = re.compile(r"[a-z]+")


def tools_for(prompt: str, tools: Mapping[str, ToolManifest]) -> frozenset[str]:
    """The tools that a plan made from this prompt holds."""
    said = set(words(prompt))
    return frozenset(
        name for name, manifest in tools.items() if manifest.effect is Effect.READ or said & set(_asked_by(name))
    )


def words(text: str) -> Iterable[str]:
    """The words of a text and their plain stems: `messages` is also `message`."""
    for word in _WORD.findall(text.lower()):
        yield word
        for ending in ("s", "ing", "ed"):
            if word.endswith(ending) and len(word) > len(ending) + 2:
                yield word[: -len(ending)]


def _asked_by(tool: str) -> tuple[str, ...]:
    verb = _WORD.findall(tool.lower())[0]
    return ACTS.get(verb, (verb,))
