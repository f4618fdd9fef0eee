"""What the operator declares: of tools (effect, audience, roles, labels, budgets), of people and what they may steer.

Decides nothing; gates read it. INVARIANT: silence is read against the tool: no manifest means irreversible, audience
everybody, output untrusted, each parameter a destination. What a server says of itself never enters here.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec
from msgspec.structs import force_setattr

from citywatch.core.call import Effect
from citywatch.core.label import Label

EVERYBODY = "everybody"
OWNER = "owner"
"""The audience of an act that only whoever the agent works for gets to see."""


def audience_of(names: tuple[str, ...]) -> frozenset[str] | None:
    """Audiences as labels have them: None is everybody."""
    return None if EVERYBODY in names else frozenset(names)


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """Another agent that can be spoken to: by whom, and for which skills (none named: for anything).

    `audience` are those who may see what it is told. `agent` is the name of the agent of ours that it is; none: it is
    a third party, whoever runs it. `push` is our own address, as it reaches us with its pushes (empty: none are taken),
    `pushes` where those of each caller may go, `links` where a part may lead that it
    sends as a link (both as `core.wire.destination` reads them). `extensions` are URIs of the
    protocol's extensions that a caller may ask for.
    """

    callers: tuple[str, ...]
    skills: tuple[str, ...] = ()
    audience: tuple[str, ...] = (EVERYBODY,)
    free_text: bool = True
    agent: str = ""
    push: str = ""
    links: tuple[str, ...] = ()
    extensions: tuple[str, ...] = ()
    pushes: Mapping[str, tuple[str, ...]] = {}


ANYBODY = Label(None, None)
"""Shaped by anybody, for everybody to see."""


class Ceiling(msgspec.Struct, frozen=True, kw_only=True):
    """How far another trust domain's words are believed. `label` is joined to all of them, whatever its gateway says.

    `speaks_for` are principals of ours by whose name that domain means the same person.
    """

    label: Label = ANYBODY
    speaks_for: frozenset[str] = frozenset()


class ResourceServer(msgspec.Struct, frozen=True, kw_only=True):
    """A resource server that agents go to by themselves, with a token of ours: its identifier (RFC 8707), the scopes
    that an agent may ask for. `audience` are those who may see what it is told.
    """

    identifier: str
    scopes: tuple[str, ...]
    audience: tuple[str, ...] = (EVERYBODY,)


class ParameterType(StrEnum):
    """The type under which policy sees an argument. Without one, the tool's input schema decides."""

    STRING = "string"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    DECIMAL = "decimal"  # a Cedar decimal: at most four digits after the point
    MONEY = "money"  # an integer count of minor units; `scale` says how many digits the currency has


class Role(StrEnum):
    """What an argument does in the act. All but `content` steer it, and need a source that is entitled to."""

    DESTINATION = "destination"  # whom it reaches
    OBJECT = "object"  # what it is done to
    AMOUNT = "amount"
    TIME = "time"
    COMMAND = "command"  # code, a query, a program: what is done
    SECRET = "secret"  # noqa: S105 (a role, not a secret)
    CONTENT = "content"  # words that are carried along


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """One declared parameter. A member of the known set `party` may stand in it although no person named it.

    What stands in it is added to the known set `adds` by the act, and so it is a destination. `currency` is what an
    amount of `money` is in, for people.
    """

    type: ParameterType | None = None
    scale: int = 2
    role: Role | None = None
    party: str | None = None
    adds: str | None = None
    currency: str = ""

    def __post_init__(self) -> None:
        # INVARIANT: adding a party is an act towards that party, whatever else its parameter is declared to be.
        if self.adds is not None:
            force_setattr(self, "role", Role.DESTINATION)


class Impact(StrEnum):
    """How much a wrong yes to an act would cost. It says in which order people are asked, and nothing else."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def times(self) -> int:
        """How many times as dear as a low one."""
        return {Impact.LOW: 1, Impact.MEDIUM: 2, Impact.HIGH: 5, Impact.CRITICAL: 10}[self]


class Delivery(StrEnum):
    """What becomes of something on its way to an agent that is not to have it."""

    ALLOW = "allow"
    REDACT = "redact"  # a mark stands in its place
    WITHHOLD = "withhold"  # the whole message stays here


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """What one field of a reply is. `trusted`: the server's own data, which the operator vouches for.

    Otherwise a third party can have written it. That the values of a field with a `party` exist, the server vouches for
    in either case (a member chose their name, the directory lists it): they are known parties from then on. A `key` is
    drawn by the server itself, so that no earlier write can have shaped it. `readers` are the audiences that may see
    the field; `deliver` says what becomes of it in a reply to an agent whose audience may not. With `handle` the model
    is given an opaque name in place of the value. `typed`: the gateway itself has checked that it is a number, a date
    or a word of the asker's, which no file can say.
    """

    trusted: bool = False
    party: str | None = None
    key: bool = False
    readers: tuple[str, ...] = (EVERYBODY,)
    handle: bool = False
    typed: bool = False
    deliver: Delivery = Delivery.REDACT


UNTRUSTED = Output()


class ToolManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What one tool does, as its operator declares it.

    `parts` are the pictures, sounds and files among its replies: bytes that no field holds and that models read.
    `inside`: the gateway answers by itself, so that nobody else reads what is sent there.
    `discloses`: what may not be seen by those whom a call reaches may be let out by a person who may see it themselves.
    """

    effect: Effect = Effect.IRREVERSIBLE
    audience: tuple[str, ...] = (EVERYBODY,)
    parameters: Mapping[str, Parameter] = {}
    output: Mapping[str, Output] = {}
    parts: Output = UNTRUSTED
    declared: bool = True
    inside: bool = False
    discloses: bool = False
    impact: Impact = Impact.LOW

    @property
    def hides(self) -> bool:
        """Whether some field of its replies reaches the model as a handle."""
        return any(one.handle for one in self.output.values())

    def hidden(self) -> ToolManifest:
        """The same tool, with a handle for each field that a third party can have written or that not all may see.

        INVARIANT: it shows no field that this one hides.
        """
        output = {"$": UNTRUSTED, **self.output}
        hides = {path: one.handle or not one.trusted or one.readers != (EVERYBODY,) for path, one in output.items()}
        return msgspec.structs.replace(
            self, output={path: msgspec.structs.replace(one, handle=hides[path]) for path, one in output.items()}
        )


SILENT = ToolManifest(declared=False)


class Clearance(msgspec.Struct, frozen=True, kw_only=True):
    """What one agent may be given. `audience`: who sees what it sees (None: nobody said, and no field is kept from it).

    `content` says what becomes of what a scan finds, by kind (`secret`) or, more narrowly, by kind and name
    (`personal/iban`); what it does not name is delivered.
    """

    audience: tuple[str, ...] | None = None
    content: Mapping[str, Delivery] = {}

    @property
    def is_open(self) -> bool:
        """Whether nothing at all is kept from the agent."""
        return self.audience is None and all(one is Delivery.ALLOW for one in self.content.values())


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """At most `calls` attempts in each window of `window_ms` milliseconds; 0 means over the whole life."""

    calls: int
    window_ms: int = 0


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """A person, or a system account, from whom authority starts; `may` are the acts that their words can steer.

    Each is `<server>/<tool>`, `<server>/*` or `*`. `own` are their own addresses and accounts: what reaches only them
    reaches nobody else.
    """

    name: str
    may: tuple[str, ...]
    own: tuple[str, ...] = ()

    def steers(self, server: str, tool: str) -> bool:
        """Whether this principal's words may steer this act."""
        return f"{server}/{tool}" in self.may or f"{server}/*" in self.may or "*" in self.may
