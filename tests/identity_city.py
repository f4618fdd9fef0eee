"""A trust domain in memory with real keys: authority, registration and issuer over the ports that behave."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec

from citywatch.adapters.keys import KeySigner
from citywatch.adapters.memory import MemoryClock, MemoryStore, SeededChance
from citywatch.core.events import AnyEvent
from citywatch.core.identity.x509 import gateway_id
from citywatch.core.log.entry import Unknown, decode_event
from citywatch.core.names import AgentId
from citywatch.service.admin import Admin
from citywatch.service.authority import Authority, Generation, bundle_of, found_generation
from citywatch.service.issuer import Issuer, Lifetimes
from citywatch.service.messages import Messages
from citywatch.service.renewal import prove_renewal

DOMAIN = "acme.example"
GATEWAY = gateway_id(DOMAIN)
BILLING = AgentId(DOMAIN, "billing")
YEAR = 365 * 86_400_000
HOUR = 3_600_000
LEEWAY = 5_000


def signer() -> KeySigner:
    return KeySigner(ec.generate_private_key(ec.SECP256R1()))


class City:
    """One generation of one authority, nobody registered yet."""

    def __init__(self, store: MemoryStore | None = None, clock: MemoryClock | None = None) -> None:
        self.store = store or MemoryStore()
        self.clock = clock or MemoryClock()
        self.chance = SeededChance(7)
        self.certificates, self.tokens = signer(), signer()
        self.generation = self.found(1, self.certificates, self.tokens)
        self.authority = self.authority_of(self.generation, self.certificates, self.tokens)
        self.bundle = bundle_of(DOMAIN, [self.generation], sequence=1, refresh_hint=300)
        self.admin = Admin(store=self.store, clock=self.clock, replica="r1", domain=DOMAIN)
        self.issuer = Issuer(
            store=self.store,
            clock=self.clock,
            replica="r1",
            authority=lambda: self.authority,
            bundle=lambda: self.bundle,
            audience=GATEWAY,
            lifetimes=lambda name: Lifetimes(HOUR, HOUR // 4),
            leeway_ms=LEEWAY,
        )
        self.messages = Messages(self.store, self.clock, LEEWAY)

    def found(self, number: int, certificates: KeySigner, tokens: KeySigner, *, ttl: int = 10 * YEAR) -> Generation:
        return found_generation(
            DOMAIN, number, certificates, tokens, now=self.clock.now_ms(), ttl=ttl, chance=self.chance
        )

    def authority_of(self, generation: Generation, certificates: KeySigner, tokens: KeySigner) -> Authority:
        return Authority(DOMAIN, generation, certificates=certificates, tokens=tokens, chance=self.chance)

    def proof(
        self, key: KeySigner, *, nonce: str = "n" * 16, following: KeySigner | None = None, agent: AgentId = BILLING
    ) -> bytes:
        return prove_renewal(agent, GATEWAY, key, now=self.clock.now_ms(), nonce=nonce, following=following)

    async def events(self) -> list[AnyEvent | Unknown]:
        return [decode_event(leaf) for leaf in await self.store.entries(0, 10_000)]
