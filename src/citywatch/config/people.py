"""The `people` and `approvals` parts of the file: who may be asked, about what, and how their answers count.

Decides which declarations make sense together. INVARIANTS
1. Nobody both approves and audits, or approves and changes policy: the roles would check nobody.
2. A key, and a login, are one person's: otherwise nobody could say whose answer it was.
3. What asks for several people can be answered by as many.
4. Nobody is somebody else's role by a name: a person is never called as a role is.
5. Whoever stands in for somebody is another person of the file, and an approver.
6. Whom tickets are passed on to are some who can answer an act and were not asked first.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Collection, Mapping

from citywatch.config.acts import Declared, act
from citywatch.config.addresses import loopback
from citywatch.config.document import Node
from citywatch.config.reader import (
    Notes,
    Reader,
    duration,
    each,
    flag,
    instead,
    integer,
    named,
    one_of,
    shown,
    some,
    text,
    url,
)
from citywatch.config.table import Section, table
from citywatch.core.approvals.people import (
    APART,
    Approvals,
    Duty,
    Login,
    Passkeys,
    Person,
    Quorum,
    Uninspectable,
    is_act_of,
    is_of,
)
from citywatch.core.approvals.seal import LEAST_RATE, MOST_RATE
from citywatch.core.approvals.statement import MAX_SET
from citywatch.core.errors import Malformed
from citywatch.core.names import parse_segment
from citywatch.core.signature import Ed25519Key, format_spki, parse_spki

UNSIGNED = "approvals.unsafe_unsigned"
HASTY = "approvals.unsafe_hasty"
_ROLES = tuple(role.value for role in Duty)
_EXAMPLE = "[approver]"
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*\Z")
MAX_NEED = 16


def people(declared: Declared, principals: Collection[str]) -> Reader[dict[str, Person]]:
    """All people; `declared` names the tools of each server in the file, `principals` those whose names it has."""
    keys: dict[str, str] = {}
    logins: dict[Login, str] = {}
    visited: list[str] = []
    standing_in: list[tuple[Section, Person]] = []

    def person(notes: Notes, node: Node, path: str, name: str) -> Person | None:
        section = Section(notes, node, path, "people.*")
        visited.append(name)
        roles = section.need("roles", some(one_of(_ROLES)), _EXAMPLE)
        if roles is None:
            return None
        found = Person(
            name=name,
            roles=tuple(Duty(one) for one in dict.fromkeys(roles)),
            speaks_for=section.get("as", each(_principal(principals)), ()),
            answers=section.get("answers", some(act(declared)), ()),
            keys=section.get("keys", each(_key), ()),
            oidc=section.maybe("oidc", _login),
            per_hour=section.get("per_hour", integer(1, 10_000), Person(name=name, roles=()).per_hour),
            deputies=section.get("deputies", each(text), ()),
        )
        standing_in.append((section, found))
        _check_roles(section, found)
        for key in found.keys:  # INVARIANT: 2.
            if (other := keys.setdefault(key, name)) != name:
                section.wrong("keys", f"this is a key of `{other}` too", "give each person keys of their own")
        if found.oidc is not None and (other := logins.setdefault(found.oidc, name)) != name:
            section.wrong("oidc", f"this is the login of `{other}` too", "give each person a login of their own")
        return found

    read_all = table(_name, person)

    def read(notes: Notes, node: Node, path: str) -> dict[str, Person] | None:
        found = read_all(notes, node, path)
        for section, one in standing_in:
            _check_deputies(section, one, found or {}, visited)
        return found

    return read


def _check_deputies(section: Section, person: Person, found: Mapping[str, Person], visited: Collection[str]) -> None:
    """# INVARIANT: 5."""
    for name in person.deputies if Duty.APPROVER in person.roles else ():
        if name == person.name:
            section.wrong("deputies", "nobody stands in for themselves", "name somebody else")
        elif name not in visited:
            section.wrong("deputies", f"no person {shown(name)} in this file", instead(name, visited))
        elif name in found and Duty.APPROVER not in found[name].roles:
            why = f"{shown(name)} is no approver, and could answer nothing"
            section.wrong("deputies", why, "name an approver")


def approvals(declared: Declared, known: Mapping[str, Person]) -> Reader[Approvals]:
    """How tickets are answered by these people."""

    def read(notes: Notes, node: Node, path: str) -> Approvals:
        section, plain = Section(notes, node, path, "approvals"), Approvals()
        found = Approvals(
            quorum=section.get("quorum", each(_quorum(declared, known)), ()),
            not_own=section.get("not_own", _not_own(declared), ()),
            expires_ms=section.get("expires", duration("1m", "30d"), plain.expires_ms),
            reason_required=section.get("reason_required", flag, plain.reason_required),
            one_denies=section.get("one_denies", flag, plain.one_denies),
            uninspectable=Uninspectable(
                section.get("uninspectable", one_of(one.value for one in Uninspectable), plain.uninspectable.value)
            ),
            passkeys=section.maybe("passkeys", _passkeys),
            unsafe_unsigned=section.get("unsafe_unsigned", flag, False),
            unsafe_hasty=section.get("unsafe_hasty", flag, False),
            canaries=section.get("canaries", integer(LEAST_RATE, MOST_RATE), plain.canaries),
            asks_per_agent=section.get("asks_per_agent", integer(1, 10_000), plain.asks_per_agent),
            asks_per_root=section.get("asks_per_root", integer(1, 10_000), plain.asks_per_root),
            batch=section.get("batch", integer(1, MAX_SET), plain.batch),
            escalate_after_ms=section.get("escalate_after", duration("1m", "30d"), plain.escalate_after_ms),
            escalate_to=section.get("escalate_to", some(_member((*known, *_ROLES))), plain.escalate_to),
        )
        _check_escalation(section, found, known)
        for key in ("quorum", "passkeys", "unsafe_unsigned", "unsafe_hasty", "canaries", "batch", "escalate_to"):
            if section.has(key) and not known:
                section.wrong(key, "this file names no people", "name them under `people`, or remove it")
        return found

    return read


def _check_roles(section: Section, person: Person) -> None:
    for one, other in APART:  # INVARIANT: 1.
        if one in person.roles and other in person.roles:
            why = f"`{one.value}` and `{other.value}` are two people's roles: each is there to check the other"
            section.wrong("roles", why, "give one of them to somebody else")
    if Duty.APPROVER in person.roles and not section.has("answers"):
        section.wrong("roles", "an approver of nothing", "write `answers: [server/tool]`, or `answers: ['*']`")
    for key, value in (("answers", person.answers), ("as", person.speaks_for), ("deputies", person.deputies)):
        if value and Duty.APPROVER not in person.roles:
            section.wrong(key, "only an approver is asked", "add `approver` to its roles, or remove this")


def _name(notes: Notes, node: Node, path: str) -> str | None:
    name = named(lambda word: parse_segment(word, "name for a person"))(notes, node, path)
    if name in _ROLES:  # INVARIANT: 4.
        notes.wrong(node, path, f"`{name}` is a role", "call this person by a name")
        return None
    return name


def _principal(principals: Collection[str]) -> Reader[str]:
    def read(notes: Notes, node: Node, path: str) -> str | None:
        word = text(notes, node, path)
        if word is not None and word not in principals:
            notes.wrong(node, path, f"no principal {shown(word)} in this file", instead(word, principals))
            return None
        return word

    return read


def _key(notes: Notes, node: Node, path: str) -> str | None:
    word = text(notes, node, path)
    if word is None:
        return None
    advice = "write the line that `citywatch tickets keygen` prints"
    try:
        key = parse_spki(b64decode(word, validate=True))
    except (Base64Error, ValueError, Malformed):
        notes.wrong(node, path, "not a public key in base64", advice)  # not echoed: people paste private keys here
        return None
    if not isinstance(key, Ed25519Key):
        notes.wrong(node, path, "answers are signed with Ed25519", advice)
        return None
    return b64encode(format_spki(key)).decode()


def _login(notes: Notes, node: Node, path: str) -> Login | None:
    section = Section(notes, node, path, "people.*.oidc")
    issuer = section.need("issuer", _issuer, "https://login.acme.example")
    subject = section.need("subject", text, "'00u1a2b3c4'")
    return None if issuer is None or subject is None else Login(issuer, subject)


def _issuer(notes: Notes, node: Node, path: str) -> str | None:
    """SPEC: OpenID Connect Core §2: an issuer is a URL with https, and is compared letter by letter."""
    found = url(notes, node, path)
    if found is None:
        return None
    if found.scheme != "https" and not loopback(found.hostname or ""):
        notes.wrong(node, path, "a provider of logins is reached over https", "write https://login.acme.example")
        return None
    return text(notes, node, path)


def _not_own(declared: Declared) -> Reader[tuple[str, ...]]:
    """`true` is all acts, `false` none; or a list of acts."""

    def read(notes: Notes, node: Node, path: str) -> tuple[str, ...] | None:
        if getattr(node, "kind", "") == "bool":
            found = flag(notes, node, path)
            return None if found is None else ("*",) if found else ()
        return some(act(declared))(notes, node, path)

    return read


def _member(words: Collection[str]) -> Reader[str]:
    def read(notes: Notes, node: Node, path: str) -> str | None:
        word = text(notes, node, path)
        if word is not None and word not in words:
            notes.wrong(node, path, f"{shown(word)} is neither a person nor a role", instead(word, words))
            return None
        return word

    return read


def _check_escalation(section: Section, approvals: Approvals, known: Mapping[str, Person]) -> None:
    """# INVARIANT: 6."""
    after, to = section.has("escalate_after"), section.has("escalate_to")
    if after != to:
        key, other = ("escalate_after", "escalate_to") if after else ("escalate_to", "escalate_after")
        section.wrong(key, f"it goes together with `{other}`", f"write `{other}` too, or remove it")
        return
    if not (after and approvals.escalate_to and known):
        return
    if approvals.escalate_after_ms >= approvals.expires_ms:
        section.wrong("escalate_after", "by then a ticket has expired", "write a time that is shorter than `expires`")
    wider = Quorum(acts=(), need=1, of=approvals.escalate_to)
    next_ones = [one for one in known.values() if is_of(wider, one)]
    rules = [(rule, act) for rule in approvals.quorum for act in rule.acts]
    if not any(_answers(one, wider, act) and not is_of(rule, one) for one in next_ones for rule, act in rules):
        why = "it adds nobody to those who are asked first: all approvers are, where no quorum says out of whom"
        section.wrong("escalate_to", why, "name who is asked first in `approvals.quorum[].of`, and others here")


def _quorum(declared: Declared, known: Mapping[str, Person]) -> Reader[Quorum]:
    words = (*known, *_ROLES)

    def read(notes: Notes, node: Node, path: str) -> Quorum | None:
        section, before = Section(notes, node, path, "approvals.quorum[]"), len(notes.mistakes)
        acts = section.need("acts", some(act(declared)), "[server/tool]")
        need = section.need("need", integer(1, MAX_NEED), "2")
        of = section.get("of", some(_member(words)), Quorum(acts=(), need=1).of)
        blinded = section.get("blinded", flag, True)
        if acts is None or need is None or len(notes.mistakes) > before:
            return None
        found = Quorum(acts=acts, need=need, of=of, blinded=blinded)
        for one in acts:  # INVARIANT: 3.
            can = [name for name, person in known.items() if _answers(person, found, one)]
            if known and len(can) < need:
                why = f"{need} people have to approve {shown(one)}, and {_count(can)}"
                section.wrong("need", why, "name more people")
        return found

    return read


def _answers(person: Person, quorum: Quorum, pattern: str) -> bool:
    """Whether a person can answer at least some of the acts that a pattern names."""
    if not is_of(quorum, person) or Duty.APPROVER not in person.roles:
        return False
    server, _, tool = pattern.partition("/")
    if pattern == "*" or tool == "*":
        return any(one == "*" or pattern == "*" or one.partition("/")[0] == server for one in person.answers)
    return is_act_of(person.answers, server, tool)


def _count(names: Collection[str]) -> str:
    return f"only {' and '.join(f'`{name}`' for name in sorted(names))} can" if names else "nobody can"


def _passkeys(notes: Notes, node: Node, path: str) -> Passkeys | None:
    section = Section(notes, node, path, "approvals.passkeys")
    rp_id = section.need("rp_id", _rp_id, "console.acme.example")
    origins = section.need("origins", some(_origin), "['https://console.acme.example']")
    if rp_id is None or origins is None:
        return None
    for one in origins:
        host = one.partition("://")[2].partition(":")[0]
        if host != rp_id and not host.endswith(f".{rp_id}"):
            why = f"a page of {shown(one)} cannot use passkeys of {shown(rp_id)}"
            section.wrong("origins", why, "write the host of the console, or one that it ends with, as `rp_id`")
    return Passkeys(rp_id=rp_id, origins=origins)


def _rp_id(notes: Notes, node: Node, path: str) -> str | None:
    word = text(notes, node, path)
    if word is not None and (not _HOST.match(word) or word.rpartition(".")[2].isdigit()):
        notes.wrong(node, path, f"{shown(word)} is not a host name", "write it as console.acme.example, or localhost")
        return None
    return word


def _origin(notes: Notes, node: Node, path: str) -> str | None:
    """SPEC: WebAuthn §13.4.9: origins are compared as they are; browsers give passkeys to secure ones and localhost."""
    found = url(notes, node, path)
    if found is None:
        return None
    host = found.hostname or ""
    if found.scheme != "https" and host != "localhost" and not host.endswith(".localhost"):
        notes.wrong(node, path, "browsers use passkeys on https pages only, or on localhost", "write it with https")
        return None
    default = {"https": 443, "http": 80}[found.scheme]
    port = "" if found.port in (None, default) else f":{found.port}"
    return f"{found.scheme}://{host}{port}"
