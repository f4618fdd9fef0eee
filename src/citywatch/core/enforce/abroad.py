"""What an agent of another trust domain brings along: who can have shaped its words, as far as anybody here can tell.

Decides the label that such an agent's context has here beside what passed through this gateway. It reads elsewhere what
we do not see, so without its own gateway's word it can have been shaped by anybody. With it (`identity.envelope`) what
that gateway says is joined with the ceiling that the file gives its domain.

INVARIANTS
1. What another domain calls by a name of ours is not ours: an origin or reader there is `domain:<domain>/<name>`, which
   steers nothing and reads nothing here. But that of a person for whom the file says that the domain may speak.
2. Without an envelope, and without a ceiling, anybody can have shaped it.
3. For agents of our own domain nothing is added.
"""

from __future__ import annotations

from citywatch.core.call import Call
from citywatch.core.enforce.rules import Rules
from citywatch.core.label import Label, Shaper, join
from citywatch.core.manifest import ANYBODY, Ceiling
from citywatch.core.names import parse_agent_id

_PRINCIPAL = f"{Shaper.PRINCIPAL}:"


def brought_from_abroad(call: Call, rules: Rules) -> Label | None:
    """What is joined to the context of an agent of another domain, for this call; None for one of our own."""
    if call.agent.startswith(f"spiffe://{rules.domain}/"):  # INVARIANT: 3.
        return None
    domain = parse_agent_id(call.agent).domain
    ceiling = rules.ceilings.get(domain, Ceiling())
    if call.brought is None:  # INVARIANT: 2.
        return join(ceiling.label, ANYBODY)
    return join(ceiling.label, translated(call.brought, domain, ceiling.speaks_for))


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
