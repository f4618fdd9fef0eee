"""Who answers at the address of a peer that is an agent of ours: that agent under a key that it has, or nobody.

Decides nothing of what is said there. INVARIANTS: the certificate is one that our authority issued to that agent, holds
now, and is for a key that the agent has as it is registered; a name that our domain gave to somebody else, and any
certificate of any other authority, is a stranger's. It is asked again for each request: a key that is revoked answers
nothing more, whatever connection is open.
"""

from __future__ import annotations

from collections.abc import Callable

from citywatch.core.enforce.verify import check_standing
from citywatch.core.errors import Code, Refused
from citywatch.core.identity.bundle import TrustBundle
from citywatch.core.identity.certificate import format_certificate
from citywatch.core.identity.credential import Credential, check_time
from citywatch.core.identity.registration import agent_key, parse_agent_row
from citywatch.core.identity.x509 import verify_x509_svid
from citywatch.core.names import AgentId
from citywatch.service.ports import Clock, Store


class Answering:
    """Whether it is this agent that answers."""

    def __init__(
        self, agent: AgentId, *, store: Store, clock: Clock, bundle: Callable[[], TrustBundle], leeway_ms: int
    ) -> None:
        self._agent = agent
        self._store = store
        self._clock = clock
        self._bundle = bundle
        self._leeway = leeway_ms
        self._verified: tuple[bytes, TrustBundle, Credential] | None = None

    def authorities(self) -> tuple[bytes, ...]:
        """The certificates, in DER, that alone are trusted there: our own authority's, as they are today."""
        return tuple(format_certificate(one) for one in self._bundle().certificates)

    async def check(self, der: bytes) -> None:
        """Raise `Refused` unless this certificate is the agent's, now."""
        credential = self._verify(der)
        if credential.agent != str(self._agent):
            raise Refused(Code.CREDENTIAL_BAD_NAME, "another agent answers there")
        check_time(credential, self._clock.now_ms(), self._leeway)
        key = agent_key(self._agent.name)
        stored = (await self._store.load((key,), ())).rows.get(key)
        check_standing(credential.agent, credential.key, None if stored is None else parse_agent_row(stored.value))

    def _verify(self, der: bytes) -> Credential:
        """Once for each certificate and bundle: what is shown is the same for as long as a connection is open."""
        bundle = self._bundle()
        if self._verified is None or self._verified[0] != der or self._verified[1] != bundle:
            self._verified = der, bundle, verify_x509_svid([der], bundle)
        return self._verified[2]
