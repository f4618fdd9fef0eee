"""What is said of a value to somebody who has to decide: what it does, where it stood, who entitles it, who shaped it.

Decides words alone. INVARIANT: a name that somebody else chose stands in them only as `plain.named` writes it; each
fact of a source has words, and no two kinds of facts the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from citywatch.core.approvals.plain import named, word
from citywatch.core.call import Source
from citywatch.core.label import Label
from citywatch.core.manifest import Role

DOES: Final[dict[str, str]] = {
    Role.DESTINATION: "whom it reaches",
    Role.OBJECT: "what it is done to",
    Role.AMOUNT: "how much",
    Role.TIME: "when",
    Role.COMMAND: "what is run",
    Role.SECRET: "which secret is used",
    Role.CONTENT: "words that go along",
}
"""What a value does in the act, by its role."""
ENTITLED: Final[dict[str, str]] = {
    "named": "a principal named it",
    "spoken": "a principal said it",
    "quoted": "it is quoted whole from a principal",
    "anchored": "it belongs to what a principal named",
    "clean": "nothing from outside was read before",
    "own": "the agent's own place",
    "known": "it is a known party",
    "vouched": "the server itself vouches for it",
    "planned": "the plan binds it",
    "granted": "the grant binds it",
    "approved": "a person approved it",
}
"""By which rule a value would pass."""


def does(role: str) -> str:
    """What a value does, as a part of a sentence."""
    return DOES.get(role, "words that go along")


def origin(source: Source) -> str:
    """Where a value was found, by which rule it would pass, and who can have shaped it."""
    return f"{_found(source)}; {_entitled(source)}; {_shapers(source.label)}"


def doubts(sources: Iterable[Source]) -> str:
    """What nobody entitled said of a call, in one sentence; empty if there is nothing of that kind."""
    roles = dict.fromkeys(does(one.role) for one in sources if one.traced and not one.how)
    return f"nobody who may decide {' and '.join(roles)} said this" if roles else ""


def _found(source: Source) -> str:
    kind, _, name = source.item.partition(":")
    if not source.item:
        return "it stands in nothing that the agent received"
    if kind == "principal":
        return f"from the words of {named(name)}"
    if kind == "agent":
        return f"from what the agent {named(name.rpartition('/')[2])} said"
    field = source.part.removeprefix("$").removeprefix(".")
    return f"from a reply of {named(source.item)}{f', in its field {named(field)}' if field else ''}"


def _entitled(source: Source) -> str:
    if not source.traced:
        return "words that are carried along"
    if not source.how:
        return "nobody who may steer this act supplied it"
    return ENTITLED.get(source.how) or f"entitled: {word(source.how)}"


def _shapers(label: Label) -> str:
    if label.origins is None:
        return "anybody can have shaped it"
    others = sorted(one for one in label.origins if not one.startswith(("principal:", "server:")))
    if not others:
        return "only people with rights here and the servers' own data shaped it"
    more = " and others" if len(others) > 4 else ""
    return f"it can have been shaped by {', '.join(map(_shaper, others[:4]))}{more}"


def _shaper(origin: str) -> str:
    kind, _, name = origin.partition(":")
    if kind == "outside":
        return f"strangers through {named(name, 60)}"
    return f"the domain {named(name, 60)}" if kind == "domain" else named(origin, 60)
