"""What a person's yes is bound to and whether it counts, by definition: plain JSON, one question after the other. Slow.

The law that `citywatch.core.approvals` is held to (`docs/reference/approvals.md`); it shares no line with `src/`. A
`bound` is a JSON object as §1 of that page has it; labels are `{"origins": [...] | null, "readers": [...] | null}`.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import Any

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SAME = ("agent", "server", "tool", "effect", "pin", "arguments", "names", "chain", "policies", "code", "task")
STEPS = {
    "pending approve": "approved",
    "pending deny": "denied",
    "pending expire": "expired",
    "pending supersede": "superseded",
    "approved use": "used",
    "approved expire": "expired",
    "approved supersede": "superseded",
}


def ticket_digest(bound: dict[str, Any], ticket: str, salt: str, expires: int) -> str:
    """§1"""
    members = dict(bound)
    members["ticket"], members["salt"], members["expires"] = ticket, salt, expires
    return sha256(b"citywatch/ticket/v1\n" + rfc8785.dumps(members)).hexdigest()


def covers(then: dict[str, Any], now: dict[str, Any], steering: set[str]) -> bool:
    """§2: whether a yes to the one is a yes to the other. `steering` are the origins that may steer the act."""
    if any(then[name] != now[name] for name in SAME):
        return False
    if now["discloses"] and not then["discloses"]:
        return False
    for path, _ in now["labels"]:
        before = [one for where, one in then["labels"] if where == path]
        after = [one for where, one in now["labels"] if where == path]
        if not before or not no_worse(together(before), together(after), steering):
            return False
    return True


def together(labels: list[dict[str, Any]]) -> dict[str, Any]:
    """Shaped by all who shaped any of them, for those to see who may see all of them."""
    origins: list[str] | None = []
    readers: list[str] | None = None
    for label in labels:
        origins = None if origins is None or label["origins"] is None else [*origins, *label["origins"]]
        if label["readers"] is not None:
            readers = [one for one in label["readers"] if readers is None or one in readers]
    return {"origins": origins, "readers": readers}


def no_worse(then: dict[str, Any], now: dict[str, Any], steering: set[str]) -> bool:
    if then["origins"] is not None:
        if now["origins"] is None:
            return False
        for origin in now["origins"]:
            if origin not in then["origins"] and origin not in steering and not origin.startswith("server:"):
                return False
    if now["readers"] is None:
        return True
    return then["readers"] is not None and all(reader in now["readers"] for reader in then["readers"])


def signed_bytes(statement: dict[str, Any]) -> bytes:
    """§3"""
    return b"citywatch/approval/v1\n" + rfc8785.dumps(statement)


def challenge(statement: dict[str, Any]) -> str:
    """§4: as a browser is given it."""
    return urlsafe_b64encode(sha256(signed_bytes(statement)).digest()).rstrip(b"=").decode()


def is_signed(statement: dict[str, Any], signature: bytes, key: bytes) -> bool:
    """Whether this Ed25519 key signed the statement."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, signed_bytes(statement))
    except InvalidSignature:
        return False
    return True


def who_counts(
    votes: list[tuple[str, str, bool, str]],
    people: dict[str, dict[str, Any]],
    away: dict[str, str],
    authority: set[str],
    not_own: bool,
) -> list[str]:
    """§5: whose votes count, of (person, in whose place, whether yes, in whose name), by trying every right to vote.

    `people` has, for each: `approver`, `reached` (the act is theirs and the quorum names them), `speaks_for` and
    `deputies`; `away` is who signed that somebody stands in for them.
    """
    rights: list[tuple[str, str]] = [(name, name) for name, one in people.items() if one["reached"]]
    for absent, deputy in away.items():
        if absent not in people or deputy not in people or absent == deputy:
            continue
        if deputy in people[absent]["deputies"] and people[deputy]["approver"] and people[absent]["reached"]:
            rights.append((deputy, absent))
    counted: list[tuple[str, str]] = []
    for person, place, yes, principal in votes:
        if (person, place) not in rights or (principal and principal not in people[place]["speaks_for"]):
            continue
        own = (set(people[person]["speaks_for"]) | set(people[place]["speaks_for"])) & authority
        if yes and not_own and own:
            continue
        if any(person == other or place == taken for other, taken in counted):
            continue
        counted.append((person, place))
    return [person for person, _ in counted]


def is_signed_in_a_set(statement: dict[str, Any], batch: dict[str, Any], signature: bytes, key: bytes) -> bool:
    """§4: whether this Ed25519 key signed the set, and the statement is one of its answers."""
    for name in ("domain", "approver", "decision"):
        if statement[name] != batch[name]:
            return False
    if sha256(signed_bytes(statement)).hexdigest() not in batch["answers"]:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, set_bytes(batch))
    except InvalidSignature:
        return False
    return True


def set_bytes(batch: dict[str, Any]) -> bytes:
    """§3"""
    return b"citywatch/approval-set/v1\n" + rfc8785.dumps(batch)


def set_challenge(batch: dict[str, Any]) -> str:
    """§4: as a browser is given it."""
    return urlsafe_b64encode(sha256(set_bytes(batch)).digest()).rstrip(b"=").decode()


def set_of(statements: list[dict[str, Any]]) -> dict[str, Any]:
    """§3: what is signed for these, of one person and one decision."""
    names = [sha256(signed_bytes(one)).hexdigest() for one in statements]
    return {name: statements[0][name] for name in ("domain", "approver", "decision")} | {"answers": sorted(names)}


def verdict(votes: list[tuple[str, bool, int]], need: int, left: list[int], one_denies: bool) -> str:
    """§5: `votes` are who, whether yes, and the weight in hundredths, in their order; `left` weigh who has not said."""
    first: dict[str, tuple[bool, int]] = {}
    for person, yes, weight in votes:
        if person not in first:
            first[person] = (yes, min(100, max(0, weight)))
    if one_denies and any(not yes for yes, _ in first.values()):
        return "no"
    have = sum(weight for yes, weight in first.values() if yes)
    if have >= 100 * max(1, need):
        return "yes"
    return "open" if have + sum(min(100, max(0, weight)) for weight in left) >= 100 * max(1, need) else "no"
