"""What a tool's definition suggests about its manifest: a first guess, for the operator who knows the tool.

Decides nothing, and nothing of it is believed: names, types and descriptions are the server's own words. `draft` writes
a guess as a line that holds only if it takes nothing away from silence. INVARIANTS: a description or an annotation only
takes a guess back (`destructiveHint`, "sends an e-mail to"), it never makes one; a guess always says why; hostile
definitions of any form give a guess and never an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from citywatch.core.call import Effect
from citywatch.core.enforce.places import Place
from citywatch.core.manifest import ParameterType, Role

MAX_NAME: Final = 256
MAX_DESCRIPTION: Final = 4096
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


READS: Final = _set(
    "get list search find read show view lookup describe count check calculate compute estimate retrieve "
    "inspect peek browse compare status stat stats preview is has can whoami ping"
)
WRITES: Final = _set(
    "create add update set edit append write save rename insert put mark toggle enable disable archive draft "
    "upload store move copy replace label tag pin star upsert patch modify change record log register"
)
HARD: Final = _set(
    "send pay transfer delete remove drop purge wipe erase destroy cancel refund charge buy sell order "
    "purchase book reserve checkout publish post tweet share invite grant revoke approve sign submit deploy "
    "run execute exec eval call invoke trigger start stop kill terminate restart reboot shutdown reset merge "
    "push release notify email mail message reply forward schedule withdraw deposit block ban unsubscribe "
    "subscribe install uninstall unlock open close"
)
"""What cannot be taken back, wherever it stands in a name: `file_delete` deletes too."""
NOUNS: Final = _set(
    "order email mail message post release schedule call run charge deposit share reply push block book"
)
"""Those that are things as well where they end a name: `get_order` reads."""
JOINTS: Final = _set("and or then")
_TELLS: Final = re.compile(
    r"(?i)\b(sends?|deletes?|removes?|notif(y|ies)|emails? (to|the|a|all)|invites?|pays?|transfers?|publish(es)?|"
    r"posts? (to|a|an|the)|execut(e|es)|runs?|updates?|creates?|modif(y|ies)|writes?|charges?|cancels?|overwrites?)\b"
)
"""Words of a description that speak against "it only reads"."""

SECRETS: Final = _set("password passwd passphrase passcode secret credential credentials otp cvv cvc pin apikey")
COMMANDS: Final = _set(
    "command cmd code script sql shell expression program exec eval statement macro formula jq xpath regex "
    "permission permissions role privilege privileges acl access scope scopes mode recurring recurrence "
    "operation action method"
)
DESTINATIONS: Final = _set(
    "to cc bcc recipient recipients receiver receivers email emails mail address addresses url urls uri link "
    "href host hostname domain endpoint webhook callback iban bic account accounts phone mobile fax channel "
    "channels participant participants attendee attendees guest guests member members user users username "
    "usernames payee payees beneficiary contact contacts person people destination dest target server ip port "
    "street city audience followers group groups team chat room conversation thread wallet customer owner "
    "assignee assignees reviewer reviewers remote origin proxy"
)
TIMES: Final = _set(
    "date dates time times day days start end deadline due when until since before after datetime timestamp "
    "month year week hour minute duration expires expiry expiration schedule interval timezone"
)
MONEY: Final = _set("amount price cost fee payment salary balance tip budget usd eur gbp money sum total deposit rent")
AMOUNTS: Final = MONEY | _set(
    "quantity qty count number limit size percent percentage rate weight n max min num points units shares"
)
OBJECTS: Final = _set(
    "id ids uuid guid key ref reference slug path paths file files filename filepath folder directory dir "
    "document doc attachment attachments event item record row issue ticket pr repo repository branch commit "
    "project table database bucket object resource entity page node image photo video name names product sku "
    "hotel restaurant company"
)
CONTENTS: Final = _set(
    "body text message msg content contents subject description note notes comment comments title summary "
    "caption reason markdown html prompt question details remark remarks bio memo abstract"
)
QUERIES: Final = _set("query q search keyword keywords term terms topic filter")
_GENERIC: Final = _set("id ids uuid name names key number no ref reference address handle slug")
"""Heads of a name that only repeat what stands before them: an account's number is the account."""
_FORMATS: Final[Mapping[str, Role]] = {
    **dict.fromkeys(("date", "date-time", "time", "duration"), Role.TIME),
    **dict.fromkeys(("email", "idn-email", "uri", "url", "iri", "uri-reference", "iri-reference"), Role.DESTINATION),
    **dict.fromkeys(("hostname", "idn-hostname", "ipv4", "ipv6", "phone", "iban"), Role.DESTINATION),
    **dict.fromkeys(("password", "secret"), Role.SECRET),
    **dict.fromkeys(("uuid", "path"), Role.OBJECT),
}
WEAKER: Final[Mapping[Role, str]] = {
    Role.CONTENT: "words that nobody named may stand in it",
    Role.TIME: "it may follow where the rest was named",
    Role.OBJECT: "what the tool writes is then followed by this name alone",
}
"""Roles that take something away from silence, and what."""


class RoleGuess(msgspec.Struct, frozen=True):
    """What one place probably does in the act; `role` None: nothing says. `sure` is about the words, not the server.

    `option`: it can only be one of a few.
    """

    role: Role | None
    why: str
    type: ParameterType | None = None
    sure: bool = True
    option: bool = False


class EffectGuess(msgspec.Struct, frozen=True):
    """What a tool probably does to the world."""

    effect: Effect
    why: str


def words(name: str) -> tuple[str, ...]:
    """The words of a name: `sendMoneyTo`, `send_money_to` and `send.money-to` are the same three."""
    return tuple(word.lower() for word in _WORD.findall(name[:MAX_NAME]))


def guess_effect(definition: Mapping[str, Any], roles: frozenset[Role | None]) -> EffectGuess:
    """Guess from the words of the name; whatever speaks against a weaker guess takes it back. `roles` were guessed."""
    said = words(str(definition.get("name", "")))
    first = said[0] if said else ""
    things = said[-1:] if first in READS and not JOINTS.intersection(said) else ()
    hard = next((word for word in said if word in HARD and not (word in NOUNS and word in things)), None)
    against = _against(definition)
    if hard is not None and (hard == first or first not in READS):
        return EffectGuess(Effect.IRREVERSIBLE, f'its name says "{hard}"')
    if first in READS and hard is None and not WRITES.intersection(said):
        if against:
            return EffectGuess(Effect.IRREVERSIBLE, f'its name says "{first}", but {against}')
        if roles & {Role.COMMAND, Role.SECRET}:
            return EffectGuess(Effect.IRREVERSIBLE, f'its name says "{first}", but it takes a command or a secret')
        return EffectGuess(Effect.READ, f'its name begins with "{first}"')
    if hard is not None:
        return EffectGuess(Effect.IRREVERSIBLE, f'its name says "{hard}" as well')
    if first in WRITES and hard is None and not roles & {Role.DESTINATION, Role.COMMAND, Role.SECRET, None}:
        if against and "destructive" in against:
            return EffectGuess(Effect.IRREVERSIBLE, f'its name says "{first}", but {against}')
        return EffectGuess(Effect.WRITE, f'its name begins with "{first}", and nothing in it looks like a destination')
    return EffectGuess(Effect.IRREVERSIBLE, "nothing says that it could be taken back")


def _against(definition: Mapping[str, Any]) -> str:
    """What the server itself says against "it only reads"; its word for it counts for nothing."""
    hints = definition.get("annotations")
    hints = hints if isinstance(hints, Mapping) else {}
    if hints.get("destructiveHint") is True and hints.get("readOnlyHint") is not True:
        return "the server calls it destructive"
    if hints.get("readOnlyHint") is False:
        return "the server says that it does not only read"
    told = definition.get("description")
    found = _TELLS.search(told[:MAX_DESCRIPTION]) if isinstance(told, str) else None
    return f'its description says "{found[0]}"' if found else ""


def guess_role(place: Place, reads: bool) -> RoleGuess:
    """Guess what the value of a place does. `reads`: the tool looks like one that only reads."""
    said = words(place.path)
    kinds = {one for kind in place.says("type") for one in (kind if isinstance(kind, list) else [kind])} - {"null"}
    kinds = {one for one in kinds if isinstance(one, str)}
    if kinds == {"boolean"}:
        return RoleGuess(Role.COMMAND, "a yes or no", option=True)
    formats = {_FORMATS.get(one) for one in place.says("format") if isinstance(one, str)} - {None}
    if any(isinstance(one, list) for one in place.says("enum")) or any(True for _ in place.says("const")):
        return RoleGuess(Role.COMMAND, "one of a few options", option=True)
    if len(formats) == 1 and (found := formats.pop()):
        return RoleGuess(found, f"its format says {next(iter(place.says('format')))!r}".replace("'", '"'))
    return _named(said, kinds, reads)


def _named(said: tuple[str, ...], kinds: set[str], reads: bool) -> RoleGuess:
    """By the last word of the name that says something, and by what qualifies it."""
    numeric = bool(kinds) and kinds <= {"integer", "number"}
    head = said[-1] if said else ""
    if SECRETS.intersection(said) or (head in ("token", "key", "code") and _qualified(said, _KEYS)):
        return RoleGuess(Role.SECRET, f'named "{"_".join(said)[:40]}"')
    if head in ("code", "token") and len(said) > 1:
        return RoleGuess(None, "a code or token of a kind that its name does not settle", sure=False)
    if head in _GENERIC and (before := DESTINATIONS.intersection(said[:-1])):
        return RoleGuess(Role.DESTINATION, f'the {head} of a "{min(before)}"')
    if numeric:
        return _number(said, kinds)
    for role, known in _ORDER:
        if head in known:
            if role is Role.CONTENT and kinds and kinds != {"string"}:
                continue
            return RoleGuess(role, f'named "{head}"', sure=not (role is Role.OBJECT and head in ("name", "names")))
    if head in QUERIES:
        if reads:
            return RoleGuess(Role.CONTENT, f'what a search is for ("{head}")', sure=False)
        return RoleGuess(Role.COMMAND, f'a "{head}" of an act that does more than read', sure=False)
    return RoleGuess(None, "nothing in its name or type says", sure=False)


_KEYS: Final = _set("api access auth private secret session bearer security verification otp refresh")
_ORDER: Final = (
    (Role.COMMAND, COMMANDS),
    (Role.DESTINATION, DESTINATIONS),
    (Role.TIME, TIMES),
    (Role.OBJECT, OBJECTS),
    (Role.CONTENT, CONTENTS),
)


def _qualified(said: tuple[str, ...], by: frozenset[str]) -> bool:
    return not by.isdisjoint(said[:-1])


def _number(said: tuple[str, ...], kinds: set[str]) -> RoleGuess:
    """A number names nobody, unless it is an id; money only where the name says so and fractions can occur."""
    head = said[-1] if said else ""
    if head in _GENERIC - {"number", "no"} or head in OBJECTS:
        return RoleGuess(Role.OBJECT, f'a number named "{head}"')
    if head in TIMES:
        return RoleGuess(Role.TIME, f'a number named "{head}"', sure=False)
    if money := MONEY.intersection(said):
        if "number" in kinds:
            why = f'a number named "{min(money)}"; `scale` is how many digits the currency has after the point'
            return RoleGuess(Role.AMOUNT, why, ParameterType.MONEY)
        return RoleGuess(Role.AMOUNT, f'a whole number named "{min(money)}": perhaps in minor units already')
    if found := AMOUNTS.intersection(said):
        return RoleGuess(Role.AMOUNT, f'a number named "{min(found)}"')
    return RoleGuess(None, "a number whose name does not say of what", sure=False)
