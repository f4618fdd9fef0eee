"""Who is away, and who stands in: a statement of whoever goes, in one form of bytes, signed under a key of their own.

    signed bytes = "citywatch/absence/v1\n" + RFC 8785 of the statement's members
    the file says who may stand in for whom (`people.*.deputies`), the statement who does, from now on and until when

Decides whether a statement may be made now, and whom the kept ones put in whose place at an instant; what a deputy may
answer is `audience`'s. INVARIANTS
1. Nobody stands in whom the file does not allow, who is no approver, or whom the absent person did not sign for.
2. A statement ends by itself, after thirty days at most, and with the key that signed it: it is verified whenever it is
   looked at, under the keys that the file has by then.
3. Each statement of a person is younger than the one before it: none counts again after another one, or much later.
4. Any bytes give a statement or `Malformed`; each statement has exactly one form, and is signed for nothing else.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from citywatch.core.approvals.people import Person, Right
from citywatch.core.approvals.ticket import Key
from citywatch.core.canonical import canonical
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.signature import Ed25519Key, parse_b64url, parse_spki, thumbprint, verify_ed25519

PREFIX: Final = b"citywatch/absence/v1\n"
LONGEST_MS: Final = 30 * 24 * 3_600_000
FRESH_MS: Final = 300_000
"""How far the time in a statement may be from now when it is made."""
MAX_BYTES: Final = 4 << 10


class Absence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From `at` until `until` (ms) this person is away, and `deputy` stands in; both empty (0): they are back."""

    domain: str
    person: str
    deputy: str
    at: int
    until: int

    @property
    def back(self) -> bool:
        return not self.deputy and not self.until


class Kept(msgspec.Struct, frozen=True):
    """The latest statement of a person as a row: its text and its signature, which is verified at each look."""

    text: str
    signature: str


def away_key(person: str) -> Key:
    """Where the latest statement of a person lies."""
    return ("away", person)


def absence_bytes(said: Absence) -> bytes:
    """The bytes that are signed."""
    members: dict[str, Any] = msgspec.to_builtins(said)
    return PREFIX + canonical(members)


def format_absence(said: Absence) -> str:
    """The statement as it stands in the log and goes to whoever signs it: what follows the prefix."""
    return absence_bytes(said)[len(PREFIX) :].decode()


def parse_absence(text: str) -> Absence:
    """The inverse of `format_absence`; `Malformed` for any other text, and for the same in another form."""
    if len(text) > MAX_BYTES:
        raise Malformed("a statement of absence has at most 4 KiB")
    try:
        said = msgspec.json.decode(text.encode(), type=Absence)
        same = format_absence(said) == text
    except (msgspec.DecodeError, UnicodeEncodeError, Malformed):
        raise Malformed("the text is no statement of absence") from None
    if not same:  # INVARIANT: 4.
        raise Malformed("a statement of absence is not in its one form")
    return said


def check_absence(said: Absence, people: Mapping[str, Person], domain: str, now: int, before: Absence | None) -> Person:
    """Who says it, if it may be said now, after `before`; whoever signed it, `verify_absence` asks."""
    if said.domain != domain:
        raise Malformed("the statement is of another domain")
    person = people.get(said.person)
    if person is None or not person.may(Right.ANSWER):
        raise Refused(Code.NO_PERMIT, f"the file names no approver `{said.person[:80]}` under `people`")
    if abs(now - said.at) > FRESH_MS or (before is not None and said.at <= before.at):  # INVARIANT: 3.
        raise Malformed("the statement is not of now, or older than the last one: make it anew")
    if said.back:
        if before is None or before.back:
            raise Malformed(f"`{person.name}` has not said that they are away")
        return person
    check_deputy(person, said.deputy, people)
    if said.until <= now:
        raise Malformed("an absence ends later than now")
    if said.until - said.at > LONGEST_MS:  # INVARIANT: 2.
        raise Malformed("an absence lasts at most 30 days")
    return person


def check_deputy(person: Person, deputy: str, people: Mapping[str, Person]) -> None:
    """Raise `Refused` unless the file lets this deputy stand in for this person. # INVARIANT: 1."""
    if deputy not in person.deputies or deputy == person.name:
        may = " or ".join(f"`{one}`" for one in person.deputies) or "nobody"
        raise Refused(
            Code.NO_PERMIT,
            f"`{deputy[:80]}` may not stand in for `{person.name}`, but {may} may: see `people.*.deputies`",
        )
    found = people.get(deputy)
    if found is None or not found.may(Right.ANSWER):
        raise Refused(Code.NO_PERMIT, f"`{deputy[:80]}` is no approver, and stands in for nobody")


def verify_absence(said: Absence, signature: bytes, person: Person) -> str:
    """The thumbprint of the key of this person that signed it; `Malformed` if none did."""
    for spki in person.keys:
        key = parse_spki(b64decode(spki))
        try:
            if isinstance(key, Ed25519Key):
                verify_ed25519(key, absence_bytes(said), signature)
                return thumbprint(key)
        except Malformed:
            continue
    raise Malformed(f"the statement is signed with none of the keys of `{person.name}`")


def standing_in(kept: Iterable[Kept], people: Mapping[str, Person], domain: str, now: int) -> dict[str, Absence]:
    """Who is away at this instant, by name: those statements that would be good today. # INVARIANT: 1 and 2."""
    found: dict[str, Absence] = {}
    for one in kept:
        try:
            said = parse_absence(one.text)
            person = people.get(said.person)
            if said.domain != domain or person is None or not person.may(Right.ANSWER):
                continue
            if said.back or not said.at - FRESH_MS <= now < said.until or said.until - said.at > LONGEST_MS:
                continue
            check_deputy(person, said.deputy, people)
            verify_absence(said, parse_b64url(one.signature), person)
        except (Malformed, Refused):
            continue
        found[person.name] = said
    return found
