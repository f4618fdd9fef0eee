"""Who has what a person spoke of: those to whom they gave a thing of their own, by the list that a server keeps.

"Send the team meeting minutes to each person in them": the minutes are a file of theirs, and shared with these. Decides
whether a value is in the list of the one thing that was meant; whether people left open to whom an act is done, and
what else must hold for it, is `enforce.steering`'s.

INVARIANTS
1. The list is the server's: an object for which it vouches, under a name that says that they have it, with a member
   for each.
2. The thing is a person's own: the field that says whose it is holds an address of theirs, and the server vouches for
   that. Who shares something with them, and names it as they name theirs, has put nobody in a list of theirs.
3. It was said as the name of something, where the act was asked for. Of two that were said there is none, unless both
   were given to this one: a file of that name elsewhere makes it ambiguous.
4. No agent's write has shaped the list: whom a person let be added has not been chosen for the next act as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from citywatch.core.flow.history import History, Sighting
from citywatch.core.flow.item import Item, Part
from citywatch.core.flow.mentions import find_said, spoken_form
from citywatch.core.flow.provenance import MAX_TWINS, Provenance
from citywatch.core.flow.readings import Typed

WHOSE: Final = frozenset(("owner", "owned_by", "creator", "created_by", "author"))
"""What servers call the field that says whose a thing is."""
HAVING: Final = tuple("share access permission member collaborator participant attendee editor viewer".split())
"""Words in the name of a list of those who have it. Not whoever was refused or blocked, nor who wrote below it."""
_LIST: Final = re.compile(r"\.([A-Za-z_]\w*)(?:\.\w+|\[\"[^\"\[\]]*\"\])\Z")
"""The end of the path of a member's name: the list that it is in."""
_Thing = tuple[int, int]
"""An item, and the record of a thing in it."""


def given_to(
    history: History, people: Provenance, value: Typed, act: str, own: Callable[[Part], bool]
) -> tuple[Sighting, str] | None:
    """Where a server lists this value for the one thing of a person's own of which they spoke, and what it is called.

    `own` says whether a field holds an address of such a person.
    """
    listed: dict[_Thing, Sighting] = {}
    for seen in history.sightings(value):
        part, item = history.part(seen), history.items[seen.item]
        if _is_listed(part) and _is_untouched(item):
            listed.setdefault((seen.item, item.parents[part.record]), seen)
    asked = people.where_asked(act) if listed else ()
    for thing, seen in listed.items():
        fields = history.record(*thing)
        if not any(one.trusted and one.name.strip("_").lower() in WHOSE and own(one) for one in fields):
            continue  # INVARIANT: 2.
        for other in fields:
            if _is_said(other, people, asked) and _is_only(other, history, people, asked, listed):
                return seen, other.whole
    return None


def _is_listed(part: Part) -> bool:
    """# INVARIANT: 1."""
    if not part.trusted or part.name or part.record < 0:
        return False
    found = _LIST.search(part.path)
    return found is not None and any(word in found[1].lower() for word in HAVING)


def _is_untouched(item: Item) -> bool:
    """# INVARIANT: 4. The words of people come into a reply by a write alone."""
    origins = item.label.origins
    return origins is not None and not any(one.startswith(("principal:", "agent:")) for one in origins)


def _is_said(part: Part, people: Provenance, asked: Sequence[str]) -> bool:
    """Whether people called something by this field, where they asked for the act; a file's name as it is spoken."""
    forms = (part.whole, spoken_form(part.whole))
    return any(people.is_telling(form) and any(find_said(form, one) >= 0 for one in asked) for form in forms if form)


def _is_only(
    part: Part, history: History, people: Provenance, asked: Sequence[str], listed: dict[_Thing, Sighting]
) -> bool:
    """# INVARIANT: 3."""
    twins = history.fields(part.name)
    if len(twins) > MAX_TWINS:
        return False
    return all((number, twin.record) in listed for number, twin in twins if _is_said(twin, people, asked))
