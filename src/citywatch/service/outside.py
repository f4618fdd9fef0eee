"""Our own papers, where another authority than ours issues them: a SPIRE that was there before.

Decides whether what the Workload API gives is ours: the SPIFFE ID of the configuration, a certificate that its own
bundle judges good, authorities of our trust domain. Where the socket is, and how it is spoken to, is an adapter's.
INVARIANTS: nothing is issued here; what is not ours, or not whole, changes nothing; while the issuer is away what it
gave last is shown and believed, the certificate until it ends and the bundle for `MAX_AGE_MS`; each bundle is on record
before it judges anything.
SPEC: SPIFFE Workload API §5.2 and §6.2.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final, Protocol

import msgspec
from cryptography import x509

from citywatch.core import events
from citywatch.core.canonical import digest
from citywatch.core.errors import CitywatchError, Code, Malformed, Unavailable
from citywatch.core.identity.bundle import TrustBundle, format_bundle, parse_token_keys
from citywatch.core.identity.certificate import parse_authority_certificate
from citywatch.core.identity.elsewhere import FOR_GOOD
from citywatch.core.identity.x509 import verify_leaf
from citywatch.core.log.entry import encode_event
from citywatch.core.signature import P256Key
from citywatch.service.ports import Append, Clock, NewEntry, Store

MAX_AGE_MS: Final = 86_400_000
FIRST_S: Final = 30.0
RETRY_S: Final = 2.0
HINT_S: Final = 300


class OwnPapers(msgspec.Struct, frozen=True):
    """What the Workload API gives us: a chain (DER, leaf first), its key (PKCS#8 in DER), authorities (DER)."""

    spiffe_id: str
    chain: tuple[bytes, ...]
    key: bytes
    authorities: tuple[bytes, ...]

    def __repr__(self) -> str:
        return f"OwnPapers({self.spiffe_id!r})"


class Identity(Protocol):
    """Who gives us our papers. A stream that ends raises `Unavailable`."""

    @property
    def name(self) -> str: ...

    def papers(self) -> AsyncIterator[OwnPapers]: ...

    def token_bundles(self) -> AsyncIterator[Mapping[str, bytes]]: ...


class Outside:
    """Our papers and our domain's bundle, as the issuer outside gave them last."""

    def __init__(
        self, *, identity: Identity, spiffe_id: str, domain: str, store: Store, clock: Clock, replica: str
    ) -> None:
        """`spiffe_id` is ours, of the trust domain `domain`."""
        self._identity = identity
        self._spiffe_id = spiffe_id
        self._domain = domain
        self._store = store
        self._clock = clock
        self._replica = replica
        self._papers: OwnPapers | None = None
        self._bundle = bundle_of_certificates(domain, ())
        self._lost_at: int | None = None
        self._first = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._failed: dict[str, str] = {}
        self.changed: Callable[[], None] = lambda: None
        """Called each time that papers or bundle are other ones."""

    @property
    def failed(self) -> str:
        """Why nothing new comes, or what came and was not ours; empty while all is well."""
        return "; ".join(self._failed.values())

    def bundle(self) -> TrustBundle:
        """Whom our own domain believes; without any authority before the first papers."""
        return self._bundle

    def papers(self) -> OwnPapers:
        """What we show; `Unavailable` before the first papers."""
        if self._papers is None:
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, self.failed or f"no papers yet from {self._identity.name}")
        return self._papers

    def until(self) -> int:
        """Until when (milliseconds) the bundle judges anything: for good, while whoever gave it is there."""
        return FOR_GOOD if self._lost_at is None else self._lost_at + MAX_AGE_MS

    async def begin(self) -> None:
        """Wait for the first papers; `Unavailable` if none come. `run` has to be at work."""
        try:
            async with asyncio.timeout(FIRST_S):
                await self._first.wait()
        except TimeoutError:
            raise Unavailable(
                Code.UPSTREAM_UNAVAILABLE, self.failed or f"no papers come from {self._identity.name}"
            ) from None

    async def run(self) -> None:
        """Follow both streams until cancelled; one that ends is begun again."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._follow("papers", self._follow_papers))
            both.create_task(self._follow("keys", self._follow_keys))

    async def _follow(self, what: str, once: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await once()
            except CitywatchError as failure:
                self._failed[what] = str(failure)
                self._lost_at = self._clock.now_ms() if self._lost_at is None else self._lost_at
            await asyncio.sleep(RETRY_S)

    async def _follow_papers(self) -> None:
        async for papers in self._identity.papers():
            authorities = self._authorities(papers)
            bundle = bundle_of_certificates(self._domain, authorities)
            if papers.spiffe_id != self._spiffe_id:
                raise Malformed(f"{self._identity.name} calls us `{papers.spiffe_id[:80]}`, not `{self._spiffe_id}`")
            if verify_leaf(papers.chain, bundle).name != self._spiffe_id:
                raise Malformed(f"{self._identity.name} gives a certificate that is another's")
            await self._believe(certificates=authorities)
            self._papers = papers
            self._here("papers")
            self._first.set()

    async def _follow_keys(self) -> None:
        async for bundles in self._identity.token_bundles():
            text = bundles.get(f"spiffe://{self._domain}")
            found = parse_token_keys(text) if text is not None else {}
            await self._believe(keys=found)
            self._here("keys")

    def _here(self, what: str) -> None:
        self._failed.pop(what, None)
        if not self._failed:
            self._lost_at = None
        self.changed()

    def _authorities(self, papers: OwnPapers) -> tuple[x509.Certificate, ...]:
        if not papers.authorities:
            raise Malformed(f"{self._identity.name} gives no authority of ours")
        return tuple(parse_authority_certificate(der, self._domain) for der in papers.authorities)

    async def _believe(
        self, *, certificates: tuple[x509.Certificate, ...] | None = None, keys: Mapping[str, P256Key] | None = None
    ) -> None:
        """One change at a time: certificates and keys come on streams of their own."""
        async with self._one_at_a_time:
            before = self._bundle
            after = TrustBundle(
                domain=before.domain,
                certificates=before.certificates if certificates is None else certificates,
                keys=before.keys if keys is None else keys,
                sequence=0,
                refresh_hint=HINT_S,
            )
            await self._record(after)

    async def _record(self, bundle: TrustBundle) -> None:
        if format_bundle(bundle) == format_bundle(self._bundle):
            return
        text = format_bundle(bundle)
        event = events.BundleBelieved(
            at=self._clock.now_ms(),
            replica=self._replica,
            domain=self._domain,
            sequence=0,
            bundle=digest(text),
            by=self._identity.name,
        )
        await self._store.append(Append(entries=(NewEntry(encode_event(event)),), sync=True))
        self._bundle = bundle


def bundle_of_certificates(domain: str, certificates: tuple[x509.Certificate, ...]) -> TrustBundle:
    """A bundle that judges certificates and no token."""
    return TrustBundle(domain=domain, certificates=certificates, keys={}, sequence=0, refresh_hint=HINT_S)
