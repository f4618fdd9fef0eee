"""An access token that this gateway writes: which claims it has, and how who acts for whom stands in it.

Decides the form: RFC 9068's claims, with RFC 8693's `act` for the agents of a chain, the acting one outermost. Does not
decide for whom a call is made (`enforce.acting`), nor signs (`service.access`).

INVARIANTS
1. `parse_actors(format_actors(agents)) == agents`, for as many agents as a chain can have.
2. A token is for one resource, lives a minute at most, and holds nothing that anybody but this gateway wrote.
3. Only `service.access` and `service.borrowed` make an `AccessToken`; its text is in no `repr`.
SPEC: RFC 9068 §2, RFC 8693 §4.1, RFC 8707 §2, RFC 7800 §3, RFC 8417 §2.2 (`txn`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from citywatch.core.errors import Malformed
from citywatch.core.identity.token import text_claim

TYPE: Final = "at+jwt"
LONGEST_MS: Final = 60_000
MAX_ACTORS: Final = 8
"""As many as a chain has links."""
TASK_CLAIM: Final = "citywatch_task"
_SAFE: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/:*")


class AccessToken:
    """A token on its way to the one resource it was made for."""

    __slots__ = ("digest", "not_after", "text")

    def __init__(self, text: str, digest: str, not_after: int) -> None:
        self.text = text
        self.digest = digest
        self.not_after = not_after

    def __repr__(self) -> str:
        return f"AccessToken({self.digest[:16]})"


class Acting(msgspec.Struct, frozen=True, kw_only=True):
    """Who acts for whom: `subject` is whose authority it is, `actors` the agents from the first to the acting one.

    `agent` acts. Where nobody stands behind it, it is the subject itself and there are no actors. `until` is when what
    it rests on is over, in milliseconds.
    """

    subject: str
    actors: tuple[str, ...]
    agent: str
    task: str | None = None
    until: int | None = None


def access_claims(
    acting: Acting, *, issuer: str, resource: str, scopes: Sequence[str], now: int, call: str, token: str
) -> dict[str, Any]:
    """The claims of a token for one call. `call` is its id in our log, `token` names this token and no other."""
    end = now + LONGEST_MS if acting.until is None else min(now + LONGEST_MS, acting.until)  # INVARIANT: 2.
    claims: dict[str, Any] = {
        "iss": issuer,
        "aud": resource,
        "sub": acting.subject,
        "client_id": acting.agent,
        "scope": " ".join(scopes),
        "iat": now // 1000,
        "exp": end // 1000,
        "jti": token,
        "txn": call,
    }
    if acting.actors:
        claims["act"] = format_actors(acting.actors)
    if acting.task is not None:
        claims[TASK_CLAIM] = acting.task
    return claims


def format_actors(agents: Sequence[str]) -> dict[str, Any]:
    """The claim `act` for agents from the first to the acting one, which is outermost."""
    if not 0 < len(agents) <= MAX_ACTORS:
        raise Malformed(f"from 1 to {MAX_ACTORS} agents act for somebody")
    act: dict[str, Any] = {}
    for agent in agents:
        act = {"sub": agent, **({"act": act} if act else {})}
    return act


def parse_actors(claims: Mapping[str, Any]) -> tuple[str, ...]:
    """The inverse, of all claims of a token: the first agent first, none if there is no `act`.

    What stands in an `act` beside `sub`, `iss` and `act` is passed over, as RFC 8693 §4.1 asks.
    """
    found: list[str] = []
    act = claims.get("act")
    while act is not None:
        if not isinstance(act, dict) or len(found) >= MAX_ACTORS:
            raise Malformed(f"the claim `act` is no nest of at most {MAX_ACTORS} objects")
        found.append(text_claim(act, "sub"))
        act = act.get("act")
    return tuple(reversed(found))


def scope_word(name: str) -> str:
    """A name as one word of a scope: what RFC 6749 §3.3 does not let stand there, and `%`, is percent-encoded."""
    return "".join(
        letter if letter in _SAFE else "".join(f"%{byte:02X}" for byte in letter.encode("utf-8", "surrogatepass"))
        for letter in name
    )
