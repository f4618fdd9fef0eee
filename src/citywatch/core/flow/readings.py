"""What each value of a call is, read once however often one decision asks: folded, and as typed tokens.

Decides nothing that `tokens` does not. `needs`, `steering`, `planned` and `readers` ask the same of the same few
values; so does the next call of the same agent. What they share belongs to one context and is forgotten with it.

INVARIANTS: what is kept follows from a value and its type alone, so a memory changes how long a decision takes and
nothing else; what certain prompts say of a value is kept beside it with a mark of those prompts (`said`), and counts
for no others; `True`, `1` and `1.0`, `0.0` and `-0.0` are different values; a memory is bounded in values and in
characters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from citywatch.core.flow.fold import fold
from citywatch.core.flow.kinds import Kind
from citywatch.core.flow.tokens import Token, exact_tokens, is_vague, looser_tokens

Value = str | int | float | bool
Key = str | tuple[type, Value]
Way = tuple[tuple[Token, ...], bool]
MAX_KEPT: Final = 128
MAX_LENGTH: Final = 256
"""Longer texts are read again each time: they name nothing, and a memory full of them would be large."""
NAMING: Final = frozenset((Kind.EMAIL, Kind.URL, Kind.HOST, Kind.IBAN, Kind.PHONE))
"""Kinds of token that name somebody. A number or a date names nobody."""


class Typed:
    """One value, with what it is; each of its readings is made when it is first asked for.

    `folded` is what a reader sees of it (`fold`), `exact` all that it is as one value (`exact_tokens`), `normal` all of
    these readings in one line, the same for each way of writing the value; `ways` each of them, with what a vaguer text
    would say of it, and whether it is vague itself. `names` are those under which it may be known, `thing` the object
    that it names.
    """

    __slots__ = ("_said", "exact", "folded", "names", "normal", "thing", "value", "ways")
    value: Value
    folded: str
    exact: tuple[Token, ...]
    normal: str
    ways: tuple[Way, ...]
    names: tuple[str, ...]
    thing: str
    _said: tuple[object, dict[Any, Any]]

    def __init__(self, value: Value) -> None:
        self.value = value

    def __getattr__(self, name: str) -> Any:
        """Only what is asked for the first time comes here: later it is an attribute like any other."""
        read = _READ.get(name)
        if read is None:
            raise AttributeError(name)
        found = read(self)
        setattr(self, name, found)
        return found

    def said(self, asked: object) -> dict[Any, Any]:
        """What was found out of it from certain prompts, of which `asked` is the mark; of others, nothing.

        # INVARIANT: what one person's words say is not what another's do.
        """
        if self._said[0] is not asked:
            self._said = (asked, {})
        return self._said[1]


def _normal(read: Typed) -> str:
    if len(read.exact) == 1:  # as most have: what follows would say the same
        return f"{read.exact[0].kind}:{read.exact[0].value}"
    readings = sorted([f"{one.kind}:{one.value}" for one in read.exact])
    return " ".join(readings) or fold(str(read.value))


def _ways(read: Typed) -> tuple[Way, ...]:
    return tuple([((one, *looser_tokens(one)), is_vague(one)) for one in read.exact])


def _names(read: Typed) -> tuple[str, ...]:
    """Itself, if it is no longer than a name, and each typed token that it is."""
    whole = (f"={read.folded}",) if 0 < len(read.folded) <= MAX_LENGTH else ()
    if len(read.exact) == 1:
        return (*whole, read.normal) if read.exact[0].kind in NAMING else whole
    kinds = [one.kind for one in read.exact]
    # INVARIANT: who is known in one reading is not known in another, and we do not know which one the tool takes.
    typed = [f"{one.kind}:{one.value}" for one in read.exact if one.kind in NAMING and kinds.count(one.kind) == 1]
    return (*whole, *typed)


def _thing(read: Typed) -> str:
    """An object under one name, whether its number is written 7, 7.0 or 07: the server may not tell them apart."""
    numbers = {token.value for token in read.exact if token.kind is Kind.NUMBER}
    if not numbers and isinstance(read.value, str):
        return read.folded
    return fold(numbers.pop() if len(numbers) == 1 else str(read.value))


_READ: Final[Mapping[str, Callable[[Typed], Any]]] = {
    "folded": lambda read: folded(read.value),
    "exact": lambda read: exact_tokens(read.value),
    "normal": _normal,
    "ways": _ways,
    "names": _names,
    "thing": _thing,
    "_said": lambda read: (None, {}),
}


class Readings:
    """The values that one context's calls carried last."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[Key, Typed] = {}

    def of(self, value: Value) -> Typed:
        """The value as it was read before, or about to be read."""
        if type(value) is str and (known := self._kept.get(value)) is not None:  # as most are; a long one is not kept
            return known
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
