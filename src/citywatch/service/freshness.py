"""What a running program is shown now, and who waits for what comes next.

Decides when papers are due: at half of their life, when the authority's keys change, and when the clock was put back to
before they began. INVARIANTS: whoever is revoked, replaced or changed is shown nothing from the next look on, and every
stream ends with the reason; while the authority cannot issue, what was issued is shown until it expires and nothing new
is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import msgspec

from citywatch.core.errors import CitywatchError, Code, Refused, Unavailable
from citywatch.core.identity.bundle import TrustBundle
from citywatch.service.authority import Issued
from citywatch.service.workload import Run


class Shown(msgspec.Struct, frozen=True):
    """A certificate, when it was issued, the bundle that goes with it, and other domains' bundles by their domains."""

    certificate: Issued
    since: int
    bundle: TrustBundle
    others: Mapping[str, TrustBundle] = {}


class Freshness:
    """The papers of one run, kept fresh by `look`."""

    def __init__(self, run: Run, look_at_authority: Callable[[], Awaitable[int]]) -> None:
        """`look_at_authority` reads the authority again and returns the number of the generation that signs."""
        self.run = run
        self._look_at_authority = look_at_authority
        self._shown: Shown | None = None
        self._generation = 0
        self._bundle: TrustBundle | None = None
        self._changed = asyncio.Event()
        self.refused: Refused | None = None
        self.failed: CitywatchError | None = None

    async def look(self) -> None:
        """One look: renew what is due, end what is over. Never raises for what the world or the agent did."""
        if self.refused is not None:
            return
        try:
            generation = await self._look_at_authority()
            await self.run.check()
            shown, now, bundle, others = self._shown, self.run.now_ms(), self.run.bundle(), self.run.others()
            if shown is None or generation != self._generation or is_due(shown, now):
                self._show(Shown(await self.run.certificate(), now, bundle, others))
                self._generation = generation
            elif shown.bundle.sequence != bundle.sequence or shown.others != others:
                self._show(msgspec.structs.replace(shown, bundle=bundle, others=others))
            self.failed = None
        except Refused as failure:
            self.refused = failure
            self._wake()
        except (CitywatchError, OSError) as failure:
            told = failure if isinstance(failure, CitywatchError) else None
            self.failed = told or Unavailable(Code.STORE_UNAVAILABLE, "no papers can be issued now")

    def shown(self) -> Shown:
        """What is good now. `Refused` once the run is over, `Unavailable` if it expired and no new one came."""
        if self.refused is not None:
            raise self.refused
        if self._shown is None or self.run.now_ms() >= self._shown.certificate.not_after:
            raise Unavailable(Code.CREDENTIAL_EXPIRED, "the papers have expired and no new ones can be issued now")
        return self._shown

    async def follow(self) -> AsyncIterator[Shown]:
        """What is good now, and each change of it; ends with `Refused` when the run is over."""
        last: Shown | None = None
        while True:
            changed = self._changed
            now = self.shown() if last is None or self.refused is not None else self._shown
            if now is not None and now is not last:
                last = now
                yield now
                continue
            await changed.wait()

    def _show(self, shown: Shown) -> None:
        self._shown = shown
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def is_due(shown: Shown, now: int) -> bool:
    """Whether half of the certificate's life is over, or the clock was put back to before it began."""
    return not shown.since <= now < shown.since + (shown.certificate.not_after - shown.since) // 2
