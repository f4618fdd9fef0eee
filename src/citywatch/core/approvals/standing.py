"""Which votes stand: somebody may have left, or lost a key, since they answered.

Decides whether a vote would be taken today, by the audience and the passkeys of now; not what the votes come to
(`quorum`). INVARIANTS
1. A vote stands only while its ticket reaches whoever gave it, and while the key that signed it is theirs.
2. What cannot be shown to stand does not.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Mapping

from citywatch.core.approvals.audience import Audience
from citywatch.core.approvals.passkey import Passkey, passkey_key
from citywatch.core.approvals.ticket import Key, Ticket, Vote
from citywatch.core.signature import Ed25519Key, parse_spki, thumbprint


def passkeys_of(votes: Iterable[Vote]) -> tuple[Key, ...]:
    """The rows of the passkeys that signed them: what `standing_votes` has to be given."""
    return tuple(dict.fromkeys(passkey_key(one.key) for one in votes if one.method == "webauthn"))


def standing_votes(ticket: Ticket, audience: Audience, passkeys: Mapping[str, Passkey]) -> tuple[Vote, ...]:
    """Those votes that stand; `passkeys` by their ids. # INVARIANT: 1."""
    yes, no = audience.reached(ticket), audience.asked(ticket)
    there = (one for one in ticket.votes if one.person in (yes if one.yes else no))
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
