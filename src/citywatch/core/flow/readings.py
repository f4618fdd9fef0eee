"""What each value of a call is, read once however often one decision asks: folded, and as typed tokens.

Decides nothing that `tokens` does not. `needs`, `steering`, `planned` and `readers` ask the same of the same few
values; so does the next call of the same agent. What they share belongs to one context and is forgotten with it.

INVARIANTS: what is kept follows from a value and its type alone, so a memory changes how long a decision takes and
nothing else; `True`, `1` and `1.0`, `0.0` and `-0.0` are different values; a memory is bounded in values and in
characters.
"""

from __future__ import annotations

from typing import Final

from citywatch.core.flow.fold import fold
from citywatch.core.flow.tokens import Token, exact_tokens, is_vague, looser_tokens

Value = str | int | float | bool
Key = str | tuple[type, Value]
Way = tuple[tuple[Token, ...], bool]
MAX_KEPT: Final = 128
MAX_LENGTH: Final = 256
"""Longer texts are read again each time: they name nothing, and a memory full of them would be large."""


class Typed:
    """One value, with what it is; each of its readings is made when it is first asked for."""

    __slots__ = ("_exact", "_folded", "_normal", "_ways", "value")

    def __init__(self, value: Value) -> None:
        self.value = value
        self._folded: str | None = None
        self._exact: tuple[Token, ...] | None = None
        self._normal: str | None = None
        self._ways: tuple[Way, ...] | None = None

    @property
    def folded(self) -> str:
        """What a reader sees of it (`fold`)."""
        if self._folded is None:
            self._folded = folded(self.value)
        return self._folded

    @property
    def exact(self) -> tuple[Token, ...]:
        """All that it is as one value (`exact_tokens`)."""
        if self._exact is None:
            self._exact = exact_tokens(self.value)
        return self._exact

    @property
    def normal(self) -> str:
        """All of these readings in one line, the same for each way of writing the value; folded if it has none."""
        if self._normal is None:
            readings = sorted([f"{one.kind}:{one.value}" for one in self.exact])
            self._normal = " ".join(readings) or fold(str(self.value))
        return self._normal

    @property
    def ways(self) -> tuple[Way, ...]:
        """Each of these readings, with what a vaguer text would say of it, and whether it is vague itself."""
        if self._ways is None:
            self._ways = tuple([((one, *looser_tokens(one)), is_vague(one)) for one in self.exact])
        return self._ways


class Readings:
    """The values that one context's calls carried last."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[Key, Typed] = {}

    def of(self, value: Value) -> Typed:
        """The value as it was read before, or about to be read."""
        if isinstance(value, str):
            if len(value) > MAX_LENGTH:
                return Typed(value)
            key: Key = value
        elif isinstance(value, int) and value.bit_length() > MAX_LENGTH:
            return Typed(value)
        else:
            # INVARIANT: with its type, and nothing as it is written: `1 == 1.0 == True`, `0.0 == -0.0`, and they read
            # differently.
            key = (type(value), value if value else repr(value))
        kept = self._kept.get(key)
        if kept is None:
            if len(self._kept) >= MAX_KEPT:
                del self._kept[next(iter(self._kept))]
            kept = self._kept[key] = Typed(value)
        return kept


def typed(value: Value | Typed) -> Typed:
    """A value that may have been read already."""
    return value if isinstance(value, Typed) else Typed(value)


def folded(value: Value) -> str:
    return fold(value) if isinstance(value, str) else str(value)
