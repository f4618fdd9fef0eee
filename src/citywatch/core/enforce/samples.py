"""Representative values for each way in which an agent can come by one: made up, read, known, a person's own, named.

Decides nothing; `reach` asks `admit` about them. Each way has one value of each kind that arguments are read as (a mail
address, a link, an account, a phone, an id, a path, a day, a number), so that no rule is missed because a value had the
wrong form. INVARIANT: values of different ways have no token in common, and none of them is a word that people use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from citywatch.core.manifest import ParameterType
from citywatch.core.policy.shapes import Listed, Recorded, Shape

ANYTHING: Final = "anything"
"""What the attacker likes: it stands nowhere."""
QUOTED: Final = "quoted"
"""What stood in a text that a third party can have written, just as it stood there."""
VOUCHED: Final = "vouched"
"""What a server gave in a field that its manifest vouches for."""
OWN: Final = "own"
"""An address or account of a person whose task it is."""
ENTITLED: Final = "entitled"
"""What a person whose task it is named, described or pointed to."""
PLANNED: Final = "planned"
"""What the plan of the task binds."""
_MARKS: Final = {ANYTHING: 1, QUOTED: 2, VOUCHED: 3, ENTITLED: 4}
NOUN: Final = "zqnoun"
"""A name for the member of an object that no schema describes."""
UNHEARD: Final = "zqunheard"
"""A word that stands in no sample and that nobody says: where it may go, anything may."""


def known(party: str) -> str:
    """The way of whoever is a member of this set of known parties."""
    return f"known {party}"


class Sample(msgspec.Struct, frozen=True):
    """The values of one way: as text, and as numbers."""

    texts: tuple[str, ...]
    numbers: tuple[int | float, ...]


def sample(way: str) -> Sample:
    """The values of one way. All sets of known parties have one sample."""
    mark = _MARKS.get(way, 5)
    day, number = 10 + mark, 6_007 + 1_013 * mark * mark
    word = f"zq{'abcdef'[mark]}x{mark}"
    texts = (
        f"{word}@{word}-mail.example",
        f"https://{word}-site.example/{word}",
        f"{word}-host.example",
        _iban(mark),
        f"+49 30 5550{mark}7{mark}9",
        f"{word}-7{mark}31",
        f"/{word}/file",
        f"zq{'abcdef'[mark]}word",
        f"2041-07-{day}",
        f"2041-08-{day}T1{mark}:4{mark}:00",
        str(number),
        f"{number}.5",
    )
    return Sample(texts, (number, number + 0.5))


def members() -> Sample:
    """The values of those who are known, whatever the set."""
    return sample("")


def filled(shape: Shape, one: Sample) -> Iterator[Any]:
    """JSON values of this shape that hold one of these values in each leaf."""
    if isinstance(shape, Listed):
        yield from ([value] for value in filled(shape.item, one))
    elif isinstance(shape, Recorded):
        columns = {name: list(filled(field.shape, one)) for name, field in shape.fields.items()}
        for number in range(max((len(values) for values in columns.values()), default=0)):
            yield {name: values[number % len(values)] for name, values in columns.items() if values}
    elif shape.type is ParameterType.BOOLEAN:
        yield True
    elif shape.type is ParameterType.INTEGER:
        yield from (value for value in one.numbers if isinstance(value, int))
    elif shape.type in (ParameterType.DECIMAL, ParameterType.MONEY):
        yield from one.numbers
    elif shape.type is ParameterType.STRING:
        yield from one.texts
    else:
        yield from (*one.texts, *one.numbers, *([text] for text in one.texts), *({NOUN: text} for text in one.texts))


def names_within(fields: Mapping[str, Any]) -> Iterator[str]:
    """The names of members inside arguments: they are values like any other, and people may have said them."""
    pending: list[Shape] = [field.shape for field in fields.values()]
    while pending:
        shape = pending.pop()
        if isinstance(shape, Listed):
            pending.append(shape.item)
        elif isinstance(shape, Recorded):
            yield from shape.fields
            pending += [field.shape for field in shape.fields.values()]


def _iban(mark: int) -> str:
    """An account that is well-formed, and nobody's."""
    bban = f"99999999{mark:010}"
    return f"DE{98 - int(f'{bban}131400') % 97:02}{bban}"
