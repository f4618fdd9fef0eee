"""What goes over the API: each request and each answer is one of these, and nothing else.

Decides the form alone. INVARIANTS: what is asked has no member that is not named here, and is bounded; a text that an
agent, a server or a stranger wrote goes out only without what nobody can see (`approvals.plain`), in a member of its
own.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from citywatch.core.approvals.showing import Line, Why
from citywatch.core.approvals.statement import MAX_BYTES, MAX_REASON
from citywatch.core.approvals.webauthn import Assertion

DAY_MS: Final = 24 * 3_600_000
MOST: Final = 200
Millis = Annotated[int, Meta(ge=0, le=2**53 - 1, description="milliseconds since 1970")]
Part = Literal["act", "authority", "sources", "unusual", "no"]
PARTS: Final[tuple[Part, ...]] = ("act", "authority", "sources", "unusual", "no")
_B64URL: Final = "^[A-Za-z0-9_-]*$"
_Short = Annotated[str, Meta(pattern=_B64URL, max_length=2_048)]
_Long = Annotated[str, Meta(pattern=_B64URL, max_length=16_384)]


class Listing(Struct, frozen=True, forbid_unknown_fields=True):
    """Which part of the queue is asked for."""

    start: Annotated[int, Meta(ge=0, le=1_000_000, description="how many to pass over")] = 0
    count: Annotated[int, Meta(ge=1, le=MOST, description="how many at most")] = 50


class Draft(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An answer that somebody means to give: `hold_ms` for how long a yes is to hold for calls that differ in words
    alone, `acknowledged` why the call could not be shown faithfully, `principal` in whose name (empty: their own)."""

    decision: Literal["approve", "deny"]
    reason: Annotated[str, Meta(max_length=MAX_REASON)] = ""
    principal: Annotated[str, Meta(max_length=128)] = ""
    hold_ms: Annotated[int, Meta(ge=0, le=DAY_MS)] = 0
    acknowledged: Annotated[tuple[Why, ...], Meta(max_length=len(Why))] = ()


class Ed25519(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="method", tag="ed25519"):
    """A signature under a key of the person, over `citywatch/approval/v1`, a newline and the statement; base64url."""

    signature: Annotated[str, Meta(pattern=_B64URL, max_length=128)]


class WebAuthn(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="method", tag="webauthn"):
    """What a passkey of the person made of the challenge, each part in base64url."""

    id: _Short
    authenticator: _Long
    client: _Long
    signature: _Short


class Answer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A statement, letter by letter as it was prepared, and who signed it."""

    statement: Annotated[str, Meta(max_length=MAX_BYTES)]
    proof: Ed25519 | WebAuthn


class Loan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key that a passkey of the person lends: it asks in their name from `issued` until `expires`, ten hours at most.

    The passkey signs the SHA-256 of `citywatch/lent-key/v1`, a newline, and `{"domain": …, "expires": …, "issued": …,
    "key": …, "person": …}` in the form of RFC 8785; `domain` is the city's trust domain. `key` is an Ed25519 key
    (SubjectPublicKeyInfo in base64), and the one that signs this request.
    """

    person: Annotated[str, Meta(max_length=128)]
    key: Annotated[str, Meta(max_length=128)]
    issued: Millis
    expires: Millis
    passkey: Assertion


class Lent(Struct, frozen=True, kw_only=True):
    """For whom the key asks from now on, and until when."""

    person: str
    until: Millis


class Me(Struct, frozen=True, kw_only=True):
    """Who asks: as the file names them, what they may do, and what a front end has to know to answer for them.

    `answers` are the acts that reach them, `speaks_for` the principals in whose names they may answer, `per_hour` how
    often they say yes in an hour at most. `rp` and `passkeys` are for WebAuthn, `now` is the clock here.
    """

    person: str
    domain: str
    roles: tuple[str, ...]
    may_answer: bool
    answers: tuple[str, ...]
    speaks_for: tuple[str, ...]
    per_hour: int
    rp: str
    passkeys: tuple[str, ...]
    now: Millis


class Listed(Struct, frozen=True, kw_only=True):
    """One question of the queue. `alike` counts the tickets folded behind it, `need` is how many have to say yes."""

    ticket: str
    agent: str
    server: str
    tool: str
    asked: Millis
    expires: Millis
    alike: int
    need: int


class Flood(Struct, frozen=True, kw_only=True):
    """All that one agent or root asked too much, as one line: its tickets wait behind it."""

    kind: str
    who: str
    count: int
    until: Millis


class Queue(Struct, frozen=True, kw_only=True):
    """What waits for whoever asks, in the order in which it should be answered. `next` is the next `start`, if any."""

    tickets: tuple[Listed, ...]
    waiting: int
    next: int | None
    floods: tuple[Flood, ...]


class Said(Struct, frozen=True, kw_only=True):
    """What one person said."""

    person: str
    decision: Literal["approve", "deny"]
    at: Millis


class Step(Struct, frozen=True, kw_only=True):
    """A step of a ticket's life; `who` is empty where that is still to be kept back."""

    at: Millis
    what: str
    who: str


class Standing(Struct, frozen=True, kw_only=True):
    """Where a ticket stands, as whoever asks may see it: of a blinded one nobody sees what others said before it is
    decided.

    `of` are principals in the name of one of whom it has to be approved (null: it need not be), `need` how many have to
    say yes. `answered`: by whoever asks. `yours`: they may answer it now. `superseded` is the ticket that took its
    place.
    """

    ticket: str
    state: Literal["pending", "approved", "denied", "used", "expired", "superseded"]
    agent: str
    server: str
    tool: str
    asked: Millis
    expires: Millis
    need: int
    blinded: bool
    of: tuple[str, ...] | None
    answered: bool
    yours: bool
    votes: tuple[Said, ...]
    steps: tuple[Step, ...]
    superseded: str


class Section(Struct, frozen=True, kw_only=True):
    """One part of what is shown: what will happen (`act`), on whose authority, where its values come from (`sources`),
    what is unusual, what a `no` does. Of a line, `text`, `label` and `notes` are ours; `quoted` is somebody else's
    words, to be set apart and drawn as plain text, and `start` to `end` marks in it what the call took over."""

    part: Part
    title: str
    lines: tuple[Line, ...]


class Uninspectable(Struct, frozen=True, kw_only=True):
    """A reason why the call cannot be shown faithfully: whoever approves it names it (`acknowledged`)."""

    code: Why
    means: str


class Opened(Struct, frozen=True, kw_only=True):
    """A ticket to be read: the sections in the order in which they are to be shown.

    `counts_in_ms`: a yes counts only after so long. `reason_required`: a yes gives a reason; `own_words`: of more than
    a few letters, for a value in it comes from nobody who may steer the act.
    """

    standing: Standing
    sections: tuple[Section, ...]
    uninspectable: tuple[Uninspectable, ...]
    counts_in_ms: int
    reason_required: bool
    own_words: bool


class Prepared(Struct, frozen=True, kw_only=True):
    """What is to be signed. An Ed25519 key signs `citywatch/approval/v1`, a newline and `statement`; a passkey signs
    `challenge` (base64url), which is the SHA-256 of the same."""

    statement: str
    challenge: str


class Problem(Struct, frozen=True, kw_only=True):
    """RFC 9457. `type` leads to what is said of it in this document; `detail` is about this very request."""

    type: str
    title: str
    status: int
    detail: str
