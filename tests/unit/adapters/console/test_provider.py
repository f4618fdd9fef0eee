"""A sign-in that has begun is in its browser's hands: it takes nobody's place, and is answered there, once, in time."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from citywatch.adapters.console.provider import OVER, PENDING_MS, SignIn
from citywatch.core.errors import Refused
from citywatch.core.identity.foreign import ForeignKey
from citywatch.core.identity.login import Provider
from tests.unit.adapters.console.world import Clock

ISSUER = "https://login.example"
PROVIDER = Provider(
    issuer=ISSUER, authorization=f"{ISSUER}/auth", token=f"{ISSUER}/token", keys=f"{ISSUER}/jwks", names_itself=False
)


class Away(SignIn):
    """A provider that vouches for nobody: whoever is told so was taken for the browser that began it."""

    async def _provider(self, *, anew: bool = False) -> tuple[Provider, dict[str, ForeignKey]]:
        return PROVIDER, {}


def sign_in(clock: Clock) -> Away:
    return Away(issuer=ISSUER, client="us", secret=None, ca=None, origin="https://city.example", clock=clock)


async def begun(away: Away) -> tuple[str, str]:
    where, held = await away.begin()
    return parse_qs(urlsplit(where).query)["state"][0], held


async def told(away: Away, state: str, held: str) -> str:
    with pytest.raises(Refused) as refused:
        await away.finish({"state": state, "error": "access_denied"}, held)
    return refused.value.detail


async def test_whoever_begins_many_takes_nobodys_place() -> None:
    away = sign_in(Clock())
    state, held = await begun(away)
    for _ in range(2_000):
        await begun(away)
    assert "did not vouch" in await told(away, state, held)


async def test_it_is_answered_once_by_the_browser_that_began_it_and_in_time() -> None:
    clock = Clock()
    away = sign_in(clock)
    state, held = await begun(away)
    _, another = await begun(away)
    changed = held[:20] + ("A" if held[20] != "A" else "B") + held[21:]
    for wrong in (another, changed, "", "é", "AAAA", held[:12]):
        assert await told(away, state, wrong) == OVER
    assert await told(sign_in(clock), state, held) == OVER, "another process sealed it"
    assert "did not vouch" in await told(away, state, held), "and nobody's try used it up"
    assert await told(away, state, held) == OVER
    late, mine = await begun(away)
    clock.now += PENDING_MS
    assert await told(away, late, mine) == OVER
