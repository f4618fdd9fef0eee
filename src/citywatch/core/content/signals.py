"""What a scan says of a text: signals with their place, and nothing that permits.

Decides nothing. A signal may turn an Ask into a Deny, narrow what a reader gets, and inform people. The absence of
signals says nothing: whoever words an attack plainly passes every scanner (`docs/reference/content-model.md`), so no
type here can be read as a permit, and none has a truth value of its own.
INVARIANTS: offsets are characters of the text that was given, `0 <= start < end`; scores lie between 0 and 1; signals
stand in the order of their places.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Kind(StrEnum):
    """What a signal is about."""

    SECRET = "secret"  # noqa: S105
    PERSONAL = "personal"
    LINK = "link"
    HIDDEN = "hidden"
    INJECTION = "injection"


class Channel(StrEnum):
    """By which way a text came. Each has a head of its own in the model; they are never mixed."""

    USER = "user"  # what a person typed over their own session
    DATA = "data"  # replies of tools, documents, messages of other agents


class Signal(msgspec.Struct, frozen=True, order=True):
    """One thing that was seen, from `start` up to `end`. `name` says which detector saw it (`aws-key`, `iban`)."""

    start: int
    end: int
    kind: Kind
    name: str
    score: float


class Signals(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was seen in one text.

    `injection` is the highest score of any window, 0 without a model. `complete` is false where the bounds on work cut
    the scan short; `read` and `modelled` say how many characters the detectors and the model got to see.
    """

    found: tuple[Signal, ...] = ()
    injection: float = 0.0
    read: int = 0
    modelled: int = 0
    complete: bool = True

    def of(self, kind: Kind) -> tuple[Signal, ...]:
        """Those about one thing."""
        return tuple(one for one in self.found if one.kind is kind)

    def __bool__(self) -> bool:
        """Refuse to be used as a condition: neither the presence nor the absence of signals is a verdict."""
        raise TypeError("signals are advice and have no truth value: say which of them is asked for")
