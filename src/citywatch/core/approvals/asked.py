"""What the queue may know of a ticket, and what a wrong yes to it would cost.

Decides which tickets are the same question (`fold_of`), how much is at stake (`loss`), and what an argument template
is; not what is asked next (`queue`), nor who may answer. All of it is structure that the gateway recorded: no words of
an agent, and nothing that an agent says of itself.

INVARIANTS
1. The loss is at least 1 and at most `MAX_LOSS`: nothing weighs nothing, and nothing outweighs all time.
2. Evidence only adds: a flagged text, a value that nobody entitled, or something new never lowers the loss.
3. A template depends on the names and kinds of arguments and on no value: a value in it would make each call its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from citywatch.core.call import Effect
from citywatch.core.canonical import digest

MAX_IMPACT: Final = 10
MAX_EVIDENCE: Final = 3
MAX_NOVELTY: Final = 2
MAX_NESTED: Final = 4
WEIGHT: Final[Mapping[Effect, int]] = {Effect.READ: 1, Effect.WRITE: 3, Effect.IRREVERSIBLE: 10}
"""How hard it is to take back. What a call discloses cannot be taken back either: it counts as irreversible."""
MAX_LOSS: Final = MAX_IMPACT * 10 * (1 + 2 * MAX_EVIDENCE) * (1 + MAX_NOVELTY)
_SORTED: Final = msgspec.json.Encoder(order="sorted")

Fold = tuple[str, str, str, str]
"""The agent, the act, the argument template, the resource."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One ticket, as the queue sees it.

    `root` is whose authority the call uses: the principal of its chain or task; without one its agent. `act` is
    `<server>/<tool>`. `template` and `resource` are digests or names (`template_of`); `exact` hashes the arguments as
    they stand. `untrusted` counts values that nobody entitled supplied, `told` the lines of a scan's advice. `words`
    and `values` are what there is to read, `nonce` is the ticket's own. `need` says how many have to say yes, and
    `reviewers` how many may be asked for it at most. `impact` is configured for the act, 1 to 10.
    """

    id: str
    agent: str
    root: str
    act: str
    effect: Effect
    template: str
    resource: str
    exact: str
    asked: int
    expires: int
    task: str = ""
    impact: int = 1
    untrusted: int = 0
    told: int = 0
    discloses: bool = False
    words: int = 0
    values: int = 0
    nonce: str = ""
    need: int = 1
    reviewers: int = 1

    @property
    def risky(self) -> bool:
        """Whether a wrong yes cannot be taken back and a value in it comes from nobody who may steer the act."""
        return self.discloses or (self.effect is Effect.IRREVERSIBLE and self.untrusted > 0)


def fold_of(asked: Asked) -> Fold:
    """Which question this is."""
    return (asked.agent, asked.act, asked.template, asked.resource)


def loss(asked: Asked, novelty: int = 0) -> int:
    """Impact × irreversibility × evidence. `novelty`: 0 approved before, 1 a new resource, 2 new altogether."""
    weight = WEIGHT[Effect.IRREVERSIBLE if asked.discloses else asked.effect]
    evidence = 1 + _most(asked.untrusted, MAX_EVIDENCE) + _most(asked.told, MAX_EVIDENCE)  # INVARIANT: 2
    return max(1, _most(asked.impact, MAX_IMPACT)) * weight * evidence * (1 + _most(novelty, MAX_NOVELTY))


def template_of(act: str, arguments: Mapping[str, Any]) -> str:
    """A digest of the names and kinds of a call's arguments."""
    return digest(f"citywatch/template/v1\n{act}\n".encode() + _SORTED.encode(_kind(dict(arguments), 0)))


def _kind(value: Any, depth: int) -> Any:
    """# INVARIANT: 3."""
    if isinstance(value, Mapping):
        return {str(name): _kind(one, depth + 1) for name, one in value.items()} if depth < MAX_NESTED else "object"
    if isinstance(value, list | tuple):
        return "list"
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else "nothing" if value is None else "text"


def _most(value: int, most: int) -> int:
    return min(max(value, 0), most)
