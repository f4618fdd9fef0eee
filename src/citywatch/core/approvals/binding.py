"""What a yes is bound to: the digest of one call as it was asked about, and whether a later call is still that one.

    digest = SHA-256( "citywatch/ticket/v1\n" + RFC 8785 of { ticket, salt, expires, and each field of `Bound` } )

Decides what is in the digest, and which change since makes an approval one of another call. Whether the call is
otherwise admitted is asked anew each time (`enforce.admit`). The salt is drawn by the service for each ticket and
stands in no entry: with it, the digest in the log would tell the arguments to whoever guesses them.

INVARIANTS
1. Two calls that differ in the tool's definition, an argument, what is named, the chain, the policies that let them
   come so far, the reason to ask, the task, the ticket or its end have different digests.
2. An approval covers a call only if all of that is the same, and nobody could have shaped a value since who may not
   steer the act, and nobody less may see it.
3. An approval of a call that lets nothing out never covers one that does.
SPEC: `spec/approvals.py`, `docs/reference/approvals.md`; vectors in `spec/vectors/approvals.json`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from citywatch.core.call import Bound
from citywatch.core.canonical import canonical, digest
from citywatch.core.label import Label, format_label, join

PREFIX = b"citywatch/ticket/v1\n"
_SAME = (
    ("agent", "another agent asks"),
    ("server", "it goes to another server"),
    ("tool", "it is another tool"),
    ("effect", "what the tool does is declared otherwise"),
    ("pin", "the tool's definition changed"),
    ("arguments", "its arguments changed"),
    ("names", "what its arguments name changed"),
    ("chain", "it is made under another chain of grants"),
    ("policies", "other policies let it come so far"),
    ("code", "it is asked about for another reason"),
    ("task", "it is made for another task"),
)


def ticket_digest(bound: Bound, ticket: str, salt: str, expires: int) -> str:
    """The digest that an answer is bound to, as 64 hex digits. `expires` is in milliseconds since 1970."""
    return digest(PREFIX + canonical({**plain(bound), "ticket": ticket, "salt": salt, "expires": expires}))


def plain(bound: Bound) -> dict[str, Any]:
    """The same as JSON; labels are sorted, so that equal ones have equal bytes."""
    return {
        "agent": bound.agent,
        "server": bound.server,
        "tool": bound.tool,
        "effect": bound.effect,
        "pin": bound.pin,
        "arguments": bound.arguments,
        "names": [list(one) for one in bound.names],
        "labels": [[path, format_label(label)] for path, label in bound.labels],
        "chain": list(bound.chain),
        "policies": list(bound.policies),
        "code": bound.code,
        "task": bound.task,
        "discloses": bound.discloses,
    }


def changed(then: Bound, now: Bound, harmless: Callable[[str], bool]) -> str:
    """What makes a call another one than was asked about, in words; empty if nothing does.

    `harmless` says of an origin that it may steer the act anyway: that such a one spoke since changes nothing.
    """
    for field, why in _SAME:
        if getattr(then, field) != getattr(now, field):
            return why
    if now.discloses and not then.discloses:  # INVARIANT: 3.
        return "it would now reach who may not see what was read"
    before, after = _by_path(then), _by_path(now)
    for path, label in after.items():
        if (why := _worse(before.get(path), label, harmless)) != "":
            return f"{why} `{path[:80]}`"
    return ""


def _by_path(bound: Bound) -> dict[str, Label]:
    """A place of the call can hold several values (members and their names): it is as bad as the worst of them."""
    found: dict[str, Label] = {}
    for path, label in bound.labels:
        found[path] = join(found[path], label) if path in found else label
    return found


def _worse(then: Label | None, now: Label, harmless: Callable[[str], bool]) -> str:
    """# INVARIANT: 2."""
    if then is None:
        return "nobody was shown where the value came from in"
    if then.origins is not None:
        added = None if now.origins is None else now.origins - then.origins
        if added is None or not all(harmless(one) for one in added):
            return "somebody else could have shaped"
    if now.readers is not None and (then.readers is None or not then.readers <= now.readers):
        return "not all may see any more what stands in"
    return ""
