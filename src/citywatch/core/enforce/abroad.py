"""What an agent of another trust domain brings along: who can have shaped its words, as far as anybody here can tell.

Decides the label that such an agent's context has here beside what passed through this gateway. It reads elsewhere what
we do not see, so without its own gateway's word it can have been shaped by anybody. With it (`identity.envelope`) what
that gateway says is joined with the ceiling that the file gives its domain.

INVARIANTS
1. What another domain calls by a name of ours is not ours: an origin or reader there is `domain:<domain>/<name>`, which
   steers nothing and reads nothing here. But that of a person for whom the file says that the domain may speak.
2. Without an envelope, and without a ceiling, anybody can have shaped it.
3. For agents of our own domain nothing is added.
4. What a peer of another domain answers has the label that its gateway signs, joined with the ceiling. Without one it
   is a third party's text, as any peer's.
5. What a server behind another domain's gateway answers is what its manifest says here, and at least what that gateway
   signs; where the file says that it signs and it did not, anybody can have shaped it.
"""

from __future__ import annotations

import msgspec

from citywatch.core.call import Call, Direction
from citywatch.core.enforce.peers import is_message
from citywatch.core.enforce.receive import Entering
from citywatch.core.enforce.rules import Rules
from citywatch.core.enforce.said import heard, kept_from
from citywatch.core.enforce.settle import Released
from citywatch.core.label import Label, Shaper, join
from citywatch.core.manifest import ANYBODY, Ceiling
from citywatch.core.names import parse_agent_id, parse_spiffe_id

_PRINCIPAL, _SERVER = f"{Shaper.PRINCIPAL}:", f"{Shaper.SERVER}:"
NOBODY = "nobody"
"""In the place of a gateway that should have signed, and did not."""


class Told(msgspec.Struct, frozen=True):
    """What the gateway of another domain says of a reply, verified: that gateway, who it says answers, the label."""

    gateway: str
    sender: str
    label: Label


UNTOLD = Told(NOBODY, "", ANYBODY)
"""Of a reply that had to come in an envelope, and came in none."""


def is_from_abroad(call: Call, rules: Rules) -> bool:
    """Whether an agent of another domain asks."""
    return call.direction is Direction.TO_SERVER and not call.agent.startswith(f"spiffe://{rules.domain}/")


def brought_from_abroad(call: Call, rules: Rules) -> Label | None:
    """What is joined to the context of an agent of another domain, for this call; None for one of our own."""
    if call.agent.startswith(f"spiffe://{rules.domain}/"):  # INVARIANT: 3.
        return None
    domain = parse_agent_id(call.agent).domain
    ceiling = rules.ceilings.get(domain, Ceiling())
    if call.brought is None:  # INVARIANT: 2.
        return join(ceiling.label, ANYBODY)
    return join(ceiling.label, translated(call.brought, domain, ceiling.speaks_for))


def answered_abroad(call: Call, entering: Entering, told: Told, rules: Rules) -> tuple[Entering, bool]:
    """What comes back from another domain, under what its gateway says of it; and whether it is not for who asked.

    # INVARIANT: 4, 5.
    """
    if is_message(call):
        label = _believed(told, told.label, rules)
        return heard(entering, told.sender, label), kept_from(call, rules, label)
    label = _believed(told, _without_servers(told.label), rules)
    return msgspec.structs.replace(entering, beside=label), kept_from(call, rules, label)


def labelled(settled: Released, label: Label) -> Released:
    """What is released, with the label of what it brings to whoever gets it elsewhere."""
    return msgspec.structs.replace(settled, label=label)


def _believed(told: Told, label: Label, rules: Rules) -> Label:
    if told is UNTOLD:
        return label
    domain = parse_spiffe_id(told.gateway).domain
    ceiling = rules.ceilings.get(domain, Ceiling())
    return join(ceiling.label, translated(label, domain, ceiling.speaks_for))


def _without_servers(label: Label) -> Label:
    """What a server over there vouches for by itself is what the manifest here speaks of."""
    if label.origins is None:
        return label
    return Label(frozenset(one for one in label.origins if not one.startswith(_SERVER)), label.readers)


def translated(label: Label, domain: str, speaks_for: frozenset[str]) -> Label:
    """A label of another domain in names that mean the same here. # INVARIANT: 1."""
    origins, readers = label.origins, label.readers
    ours = {f"{_PRINCIPAL}{name}" for name in speaks_for}
    return Label(
        None if origins is None else frozenset(one if one in ours else _foreign(domain, one) for one in origins),
        None if readers is None else frozenset(_foreign(domain, one) for one in readers),
    )


def _foreign(domain: str, name: str) -> str:
    return f"{Shaper.DOMAIN}:{domain}/{name}"
