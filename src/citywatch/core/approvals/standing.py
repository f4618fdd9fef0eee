"""Which votes stand, and whether a yes that was decided still is one: somebody may have left, or lost a key, since.

    when the last answer is given    which of the earlier ones count (`service.counting`)
    when the call is made            whether those that stand would decide it today (`service.withdrawing`)

Decides whether a vote would be taken today, by the audience and the passkeys of now; not what the votes come to
(`quorum`). INVARIANTS
1. A vote stands only while its ticket reaches whoever gave it, and while the key that signed it is theirs.
2. What cannot be shown to stand does not.
3. A yes stands only by as many people as decided it, and by as many as the file asks for by now.
4. Where one of some has to have said yes, one of them still has.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Mapping

import msgspec

from citywatch.core.approvals.audience import Audience, Question
from citywatch.core.approvals.passkey import Passkey, passkey_key
from citywatch.core.approvals.quorum import Verdict, tally
from citywatch.core.approvals.ticket import Key, Ticket, Vote
from citywatch.core.signature import Ed25519Key, parse_spki, thumbprint


class Yes(msgspec.Struct, frozen=True, kw_only=True):
    """What a yes rests on, as its ticket says it: kept beside an answer that outlives its ticket."""

    server: str
    tool: str
    authority: tuple[str, ...]
    of: tuple[str, ...] | None
    votes: tuple[Vote, ...]
    need: int
    escalated: int = 0


def yes_of(ticket: Ticket) -> Yes:
    """What the yes to this ticket rests on."""
    return Yes(
        server=ticket.server,
        tool=ticket.tool,
        authority=ticket.authority,
        of=ticket.of,
        votes=ticket.votes,
        need=ticket.need,
        escalated=ticket.escalated,
    )


def fallen(yes: Yes | None, audience: Audience, passkeys: Mapping[str, Passkey]) -> str:
    """Why a yes that was decided is none any more; empty if it stands.

    Nothing is kept of a yes that no person of a file gave: where the file names people by now, it is none.
    """
    if yes is None or not yes.votes:
        return "nobody whom the file names gave it"
    standing = standing_votes(yes, yes.votes, audience, passkeys)
    need = max(yes.need, audience.quorum(yes).need)
    if tally(standing, need, (), one_denies=False).verdict is not Verdict.YES:  # INVARIANT: 3
        there = {one.person for one in standing}
        gone = sorted({one.person for one in yes.votes if one.yes} - there)
        who = ", ".join(f"`{one[:80]}`" for one in gone)
        return f"the yes of {who} does not stand any more" if gone else f"it takes {need} people by now"
    if yes.of is not None and not spoken_for(yes.of, standing, audience):  # INVARIANT: 4
        return f"nobody who said yes speaks for {' or '.join(f'`{one}`' for one in yes.of) or 'anybody'} any more"
    return ""


def spoken_for(of: Iterable[str], votes: Iterable[Vote], audience: Audience) -> bool:
    """Whether one of these principals is among those in whose names these people say yes, and may."""
    named = frozenset(of)
    yes = [one for one in votes if one.yes and one.principal in named]
    return any(one.principal in audience.people[one.place or one.person].speaks_for for one in yes)


def passkeys_of(votes: Iterable[Vote]) -> tuple[Key, ...]:
    """The rows of the passkeys that signed them: what `standing_votes` has to be given."""
    return tuple(dict.fromkeys(passkey_key(one.key) for one in votes if one.method == "webauthn"))


def standing_votes(
    ticket: Question, votes: Iterable[Vote], audience: Audience, passkeys: Mapping[str, Passkey]
) -> tuple[Vote, ...]:
    """Those votes that stand; `passkeys` by their ids. # INVARIANT: 1."""
    there = (one for one in votes if audience.stands(ticket, one))
    return tuple(one for one in there if _is_theirs(one, audience, passkeys))


def _is_theirs(vote: Vote, audience: Audience, passkeys: Mapping[str, Passkey]) -> bool:
    """# INVARIANT: 2."""
    if vote.method == "ed25519":
        keys = (parse_spki(b64decode(spki)) for spki in audience.people[vote.person].keys)
        return any(isinstance(key, Ed25519Key) and thumbprint(key) == vote.key for key in keys)
    if vote.method == "webauthn":
        passkey = passkeys.get(vote.key)
        return passkey is not None and passkey.person == vote.person and passkey.counts
    return vote.method == "unsigned" and audience.approvals.unsafe_unsigned
