"""What the pages have in common on which people answer: how a page is told, and in whose name somebody answers.

Decides nothing.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.responses import Response

from citywatch.adapters.console import words
from citywatch.core.approvals.people import Passkeys, Person
from citywatch.core.approvals.ticket import Ticket
from citywatch.core.approvals.webauthn import Assertion
from citywatch.core.errors import CitywatchError, Refused
from citywatch.service import passkeys

ANSWERS: Final = 60
ANSWERS_MS: Final = 60_000
LONGEST: Final = 1_000
DECISIONS: Final = {"approve": True, "deny": False}
NOBODY: Final = "the file names people, and nobody else answers"
NO_PASSKEYS: Final = "the file says nowhere that passkeys are used: write `approvals.passkeys`"
NO_DECISION: Final = "an answer is `approve` or `deny`"
TOO_FAST: Final = "too many answers in a minute: nobody reads so fast"


def told(members: Mapping[str, Any]) -> Response:
    """What a page's script asked for."""
    return Response(json.dumps(members), media_type="application/json")


def problem(status: int, why: str) -> Response:
    """Why it does not get it."""
    return Response(json.dumps({"problem": words.plain(why, 300)}), status, media_type="application/json")


def why(failure: CitywatchError) -> str:
    return failure.detail if isinstance(failure, Refused) else str(failure)


async def to_sign(text: str, challenge: bytes, rp: Passkeys, mine: passkeys.Passkeys, who: Person) -> Response:
    """What somebody is to sign, and with which of their passkeys."""
    own = [one.id for one in await mine.of(who.name) if one.counts]
    return told({"statement": text, "challenge": b64(challenge), "rp": rp.rp_id, "credentials": own})


def assertion_of(form: Mapping[str, str]) -> Assertion:
    """What a passkey gave the page."""
    return Assertion(
        id=form.get("id", ""),
        authenticator=form.get("authenticator", ""),
        client=form.get("client", ""),
        signature=form.get("signature", ""),
    )


def principal_of(ticket: Ticket, names: Sequence[str]) -> str:
    """In whose name somebody answers: where one of some has to, the first of those for whom they speak."""
    return next((one for one in names if ticket.of is not None and one in ticket.of), "")


def b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
