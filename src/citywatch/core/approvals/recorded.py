"""A ticket as the queue sees it: what its row says, and nothing that an agent wrote as prose.

Decides which facts of a ticket stand for its root, its template, its resource and its evidence. INVARIANTS: the same
ticket gives the same facts; where a fact is missing (a ticket of an earlier version), the dearer one is taken.
"""

from __future__ import annotations

from citywatch.core.approvals.asked import Asked
from citywatch.core.approvals.batch import Table
from citywatch.core.approvals.people import Approvals, Quorum
from citywatch.core.approvals.reading import count_words
from citywatch.core.approvals.showing import Document
from citywatch.core.approvals.ticket import Ticket
from citywatch.core.call import Effect
from citywatch.core.canonical import canonical, digest
from citywatch.core.manifest import Role

_ACTS_ON = frozenset({Role.OBJECT.value, Role.DESTINATION.value})


def asked_of(ticket: Ticket, quorum: Quorum, reviewers: int) -> Asked:
    """What the queue may know of it; `reviewers` is how many people it reaches."""
    bound = ticket.bound
    names = () if bound is None else bound.names
    effect = Effect.IRREVERSIBLE if bound is None else Effect(bound.effect)
    act = f"{ticket.server}/{ticket.tool}"
    return Asked(
        id=ticket.id,
        agent=ticket.agent,
        root="\n".join(ticket.authority) or ticket.agent,
        act=act,
        effect=effect,
        template=_digest(act, sorted({(path, role) for path, role, _ in names})),
        resource=_digest(act, sorted((role, value) for _, role, value in names if role in _ACTS_ON)),
        exact=ticket.exact or ticket.id,
        asked=ticket.asked,
        expires=ticket.expires,
        task="" if bound is None else bound.task,
        impact=ticket.impact,
        untrusted=len(ticket.shown),
        told=len(ticket.advice),
        discloses=ticket.discloses,
        values=len(names),
        nonce=ticket.nonce,
        need=quorum.need,
        reviewers=max(quorum.need, reviewers),
    )


def reading_of(shown: Document | Table) -> tuple[int, int]:
    """How many words and how many values there are to read in what is shown."""
    lines = list(shown.lines())
    words = sum(count_words(one.text) + count_words(one.quoted) + sum(map(count_words, one.notes)) for one in lines)
    return words, sum(one.kind == "value" for one in lines)


def category_of(ticket: Ticket) -> str:
    """The class of tickets under which vigilance counts it."""
    effect = "irreversible" if ticket.bound is None else ticket.bound.effect
    return "disclosure" if ticket.discloses else f"{effect} untrusted" if ticket.shown else effect


def reviewers_of(approvals: Approvals, quorum: Quorum, reached: int) -> int:
    """How many people may be asked for one ticket: where one no decides, no more than have to say yes."""
    return quorum.need if approvals.one_denies else max(quorum.need, reached)


def _digest(act: str, values: list[tuple[str, str]]) -> str:
    return digest(b"citywatch/queued/v1\n" + canonical([act, [list(one) for one in values]]))
