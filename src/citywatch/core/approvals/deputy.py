"""Who answers in somebody's absence: a deputy whom the file allows, whom the absent person signed for, for a while.

    the file:       who may stand in for whom (`deputies`)
    the statement:  who stands in now, for which acts, from when until when, signed by whoever is away

Decides whom that lets answer what. INVARIANTS
1. Never wider: a deputy answers only acts that whoever is away answers, that the statement names, and while it lasts.
2. A deputy is an approver of their own and has one voice: they answer under their own name and key, once.
3. What was handed over is not handed on: only the absent person's own acts are in it, none that they stand in for.
4. Whoever is away answers nothing while a deputy stands in: there are never two of one voice.
5. A signature is that of a key which the file gives to whoever is away, over all of the statement.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from citywatch.core.canonical import canonical
from citywatch.core.errors import Malformed
from citywatch.core.signature import Ed25519Key, verify_ed25519

DAY_MS: Final = 24 * 3_600_000
LONGEST_MS: Final = 14 * DAY_MS
LEAST_NONCE: Final = 16
PREFIX: Final = b"citywatch/deputy/v1\n"


class Deputising(msgspec.Struct, frozen=True, kw_only=True):
    """That `deputy` stands in for `absent` in these acts (`<server>/<tool>`, `<server>/*`, `*`), from and until these
    instants (ms). Not verified yet."""

    absent: str
    deputy: str
    acts: tuple[str, ...]
    begins: int
    ends: int
    nonce: str


class Stands(msgspec.Struct, frozen=True, kw_only=True):
    """A statement that was verified; only `verify_deputising` makes one."""

    absent: str
    deputy: str
    acts: tuple[str, ...]
    begins: int
    ends: int

    def now(self, now: int) -> bool:
        return self.begins <= now < self.ends


def statement(said: Deputising) -> bytes:
    """What whoever is away signs."""
    return PREFIX + canonical(msgspec.to_builtins(said))


def verify_deputising(
    said: Deputising, signature: bytes, keys: Collection[Ed25519Key], allowed: Collection[str]
) -> Stands:
    """The statement, verified: under one of the absent person's keys, for a deputy whom the file allows them.

    1. somebody else, whom the file allows   2. for a while, and not for long   3. for named acts   4. signed
    """
    if said.deputy == said.absent or said.deputy not in allowed:
        raise Malformed(f"`{said.deputy[:80]}` may not stand in for `{said.absent[:80]}`: name them under `deputies`")
    if not 0 < said.ends - said.begins <= LONGEST_MS or len(said.nonce) < LEAST_NONCE:
        raise Malformed("a deputy stands in for at most 14 days, by a statement with a nonce")
    if not said.acts:
        raise Malformed("a deputy stands in for named acts: `*` for all that are one's own")
    for key in keys:
        try:
            verify_ed25519(key, statement(said), signature)
        except Malformed:
            continue
        return Stands(absent=said.absent, deputy=said.deputy, acts=said.acts, begins=said.begins, ends=said.ends)
    raise Malformed("the statement is not signed by whoever is away")


def answers_now(
    who: str, answers: Mapping[str, Collection[str]], standing: Iterable[Stands], server: str, tool: str, now: int
) -> bool:
    """Whether somebody answers an act now, of their own or in somebody's absence. `answers` are everybody's own acts.

    Who is no approver (has no acts of their own) stands in for nobody.
    """
    there = [one for one in standing if one.now(now)]
    own = answers.get(who, ())
    if not own or any(one.absent == who and _names(one.acts, server, tool) for one in there):  # INVARIANT: 2, 4
        return False
    if _names(own, server, tool):
        return True
    return any(
        one.deputy == who and _names(one.acts, server, tool) and _names(answers.get(one.absent, ()), server, tool)
        for one in there
    )  # INVARIANT: 1, 3


def overdue(asked: int, now: int, escalate_ms: int) -> bool:
    """Whether a ticket has waited so long that those are asked whom its act escalates to."""
    return escalate_ms > 0 and now - asked >= escalate_ms


def _names(acts: Iterable[str], server: str, tool: str) -> bool:
    return any(one in ("*", f"{server}/*", f"{server}/{tool}") for one in acts)
