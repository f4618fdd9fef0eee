"""From settings to a working city: which adapter stands behind each port, and what the gates are told.

Decides nothing about calls. INVARIANT: everything dangerous that the settings switch on is named when it starts.
"""

from __future__ import annotations

import getpass
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from citywatch.adapters.files import LogDirectory
from citywatch.adapters.keys import CheckpointSigner, KeyKind, KeySigner, SecretDirectory, load_key, open_key
from citywatch.adapters.sqlite import SqliteStore, open_store
from citywatch.adapters.system import SystemChance, SystemClock
from citywatch.adapters.tls import GatewayTls, TlsKey
from citywatch.adapters.witness import HttpWitness
from citywatch.config import (
    Settings,
    attestor_keys,
    ceiling_of,
    manifest_digest,
)
from citywatch.core.canonical import canonical, digest
from citywatch.core.delegation.frontier import Frontier
from citywatch.core.enforce.rules import Configured, Definition, Rules, Tool, build_rules
from citywatch.core.errors import Malformed
from citywatch.core.identity.bundle import TrustBundle
from citywatch.core.identity.x509 import gateway_id
from citywatch.core.log.checkpoint import format_note_key, parse_note_key
from citywatch.core.manifest import Clearance, Peer
from citywatch.core.plan.formula import Rule
from citywatch.core.plan.rules import format_rules
from citywatch.core.policy.world import AgentFacts
from citywatch.core.signature import P256Key, parse_spki, thumbprint
from citywatch.main.access import key_name, read_issuers
from citywatch.main.envelopes import envelope_keys
from citywatch.main.place import Place, Replica, open_state
from citywatch.main.texts import read_boilerplate, read_messages, read_policies, read_temporal_rules
from citywatch.main.upstreams import own_server
from citywatch.service.admin import Admin
from citywatch.service.authority import Authority, Generation, found_generation, p256
from citywatch.service.entries import HONEST_RUNTIME
from citywatch.service.issuer import Issuer, Lifetimes
from citywatch.service.outside import Outside
from citywatch.service.ports import Store
from citywatch.service.publisher import Publisher, log_note_key
from citywatch.service.rotation import AuthorityRow, found_authority, load_authority
from citywatch.service.tools import approvals
from citywatch.service.witnessing import Witnesses

LEEWAY_MS = 30_000
WITNESS_S = 10.0
AUTHORITY_TTL_MS = 10 * 365 * 24 * 3_600_000
LOG_KEY = "log.pem"
PRINCIPALS_KEY = "principals.pem"
CREDENTIALS_KEY = "credentials.pem"
GATEWAY_TTL_MS = 3_600_000


class City:
    """What one process of citywatch has opened: store, keys, authority; and what it makes of them."""

    def __init__(self, place: Place, store: SqliteStore, replica: Replica) -> None:
        self.place = place
        self.store = store
        self.replica = replica
        self.clock = SystemClock()
        self.chance = SystemChance()
        self.keys = SecretDirectory(place.keys)
        self.authority_row: AuthorityRow | None = None
        self.outside: Outside | None = None
        self.boot = _boot_id()

    @property
    def settings(self) -> Settings:
        return self.place.settings

    @property
    def audience(self) -> str:
        """Whom a token must be for: this trust domain's gateway."""
        spire = self.settings.spire
        return gateway_id(self.settings.trust_domain) if spire is None else spire.spiffe_id

    @property
    def admin(self) -> Admin:
        return Admin(store=self.store, clock=self.clock, replica=self.replica.name, domain=self.settings.trust_domain)

    @property
    def issuer(self) -> Issuer:
        return Issuer(
            store=self.store,
            clock=self.clock,
            replica=self.replica.name,
            authority=self.authority,
            bundle=self.bundle,
            audience=self.audience,
            lifetimes=self.lifetimes,
            leeway_ms=LEEWAY_MS,
            envelopes=lambda: envelope_keys(self.keys),
            principals=self.principal_keys,
        )

    def row(self) -> AuthorityRow:
        """The authority as it stood when it was last looked at."""
        if (spire := self.settings.spire) is not None:
            raise Malformed(f"papers of `{self.settings.trust_domain}` are SPIRE's to give, at unix://{spire.socket}")
        if self.authority_row is None:
            raise Malformed("the authority is not founded yet")
        return self.authority_row

    def bundle(self) -> TrustBundle:
        """Whom our own trust domain believes, as it stood when it was last looked at."""
        return self.row().bundle() if self.outside is None else self.outside.bundle()

    def authority(self) -> Authority:
        """The authority with the keys of its active generation."""
        row = self.row()
        certificates, tokens = self.keys_of(row.active)
        generation = row.generation(row.active)
        return Authority(row.domain, generation, certificates=certificates, tokens=tokens, chance=self.chance)

    async def look_at_authority(self) -> AuthorityRow:
        """Read the authority's row again; found it if this is the first process ever."""
        domain = self.settings.trust_domain
        row = await load_authority(self.store, domain)
        if row is None:
            first = self.draw_generation(1)
            await found_authority(self.store, self.clock, self.replica.name, first, domain, operator())
            row = await load_authority(self.store, domain)
        self.authority_row = row
        return self.row()

    def draw_generation(self, number: int) -> Generation:
        """A generation of the authority from fresh keys, or from those that a step which failed has left behind."""
        certificates, tokens = (open_key(self.keys, name, KeyKind.P256) for name in _generation_names(number))
        return found_generation(
            self.settings.trust_domain,
            number,
            certificates,
            tokens,
            now=self.clock.now_ms(),
            ttl=AUTHORITY_TTL_MS,
            chance=self.chance,
        )

    def discard_generation(self, number: int) -> None:
        """Remove the keys of a retired generation: whoever has not heard of its end would still believe them."""
        for name in (*_generation_names(number), key_name(number)):
            self.keys.remove(name)

    @property
    def longest_paper_ms(self) -> int:
        """How long any paper lives that this configuration lets the authority issue, and a minute for the clocks."""
        lives = [self.lifetimes(name) for name in ("", *self.settings.agents)]
        return max(GATEWAY_TTL_MS, *(max(life.certificate, life.token) for life in lives)) + LEEWAY_MS * 2

    def publisher(self) -> Publisher:
        """What signs and publishes the log's head; the same for every process of this state folder."""
        origin = self.settings.origin
        signer = CheckpointSigner(self.keys, LOG_KEY, self._log_key(), origin)
        witnesses = Witnesses(
            [(parse_note_key(one.key), HttpWitness(one.url, timeout_s=WITNESS_S)) for one in self.settings.witnesses],
            self.settings.witness_quorum,
        )
        files = LogDirectory(self.place.tiles)
        return Publisher(store=self.store, files=files, signer=signer, origin=origin, witnesses=witnesses)

    async def renew_gateway(self, tls: GatewayTls, others: Iterable[TrustBundle] = ()) -> None:
        """Give the gateway a fresh key, and a certificate for the names it is reached by; on record first."""
        key = TlsKey()
        hosts = {one.host for one in self.settings.listen if one.host not in ("0.0.0.0", "::")}  # noqa: S104
        names = sorted({"localhost", "127.0.0.1", *hosts, *self.settings.names})
        issued = await self.issuer.gateway(p256(key.public), names, GATEWAY_TTL_MS)
        tls.install([issued.value], key, self.bundle(), tuple(others))

    def speaks_for_principals(self) -> KeySigner:
        """The key that signs the first link of a chain in a principal's name; the same for every process here."""
        return open_key(self.keys, PRINCIPALS_KEY, KeyKind.P256)

    def principal_keys(self) -> dict[str, P256Key]:
        """The public key that proves what our principals granted, by `kid`."""
        key = p256(self.speaks_for_principals().public)
        return {thumbprint(key): key}

    def vouches(self) -> KeySigner:
        """The authority's key for credentials of agents; the same for every process here."""
        return open_key(self.keys, CREDENTIALS_KEY, KeyKind.ED25519)

    def roots(self) -> frozenset[str]:
        """The thumbs of keys whose word is a principal's."""
        return frozenset({thumbprint(parse_spki(self.speaks_for_principals().public))})

    def verifier_key(self) -> str:
        """The log's public key, as signed notes write it."""
        return format_note_key(log_note_key(self.settings.origin, self._log_key()))

    def _log_key(self) -> KeySigner:
        return open_key(self.keys, LOG_KEY, KeyKind.ED25519)

    def keys_of(self, number: int) -> tuple[KeySigner, KeySigner]:
        """The signers of a generation, for certificates and for tokens; `Unavailable` if their files are gone."""
        first, second = _generation_names(number)
        return load_key(self.keys, first, KeyKind.P256), load_key(self.keys, second, KeyKind.P256)

    def lifetimes(self, name: str) -> Lifetimes:
        agent = self.settings.agents.get(name)
        if agent is None:
            return Lifetimes(certificate=3_600_000, token=900_000)
        return Lifetimes(certificate=agent.svid_ttl_ms, token=agent.token_ttl_ms)


@asynccontextmanager
async def open_city(place: Place) -> AsyncIterator[City]:
    """Open store and keys; close the store on the way out."""
    open_state(place)
    store = open_store(place.database)
    try:
        city = City(place, store, Replica(place.replicas))
        if place.settings.spire is None:
            await city.look_at_authority()
        yield city
    finally:
        await store.close()


def operator() -> str:
    """Who works the command line, as the log names them."""
    try:
        return f"operator:{getpass.getuser()}"
    except (KeyError, OSError):
        return "operator"


def configured(settings: Settings) -> Configured:
    """The settings in the terms of the gates; raises `Malformed` with all mistakes of the temporal rules."""
    temporal, boilerplate, messages = read_temporal_rules(settings), read_boilerplate(settings), read_messages(settings)
    return Configured(
        domain=settings.trust_domain,
        agents=tuple(
            AgentFacts(id=settings.agent_id(agent.name), roles=agent.roles, attributes=agent.attributes)
            for agent in settings.agents.values()
        ),
        servers={**{name: server.tools for name, server in settings.servers.items()}, **own_server(settings)},
        budgets={agent.name: agent.budgets for agent in settings.agents.values() if agent.budgets},
        digest=declared_digest(manifest_digest(settings), temporal, {"boilerplate": boilerplate, "messages": messages}),
        boilerplate=boilerplate,
        messages=messages,
        leeway_ms=LEEWAY_MS,
        principals=settings.principals,
        clearances={
            agent.name: Clearance(audience=agent.audience, content={**settings.content, **agent.content})
            for agent in settings.agents.values()
        },
        clearance=Clearance(content=settings.content),
        observe=settings.observe,
        temporal=temporal,
        isolated=frozenset(agent.name for agent in settings.agents.values() if agent.isolation == "task"),
        bound=frozenset(agent.name for agent in settings.agents.values() if agent.delegated_only),
        peers={name: pushing(peer.declared, settings) for name, peer in settings.peers.items()},
        ceilings={name: one.ceiling for name, one in settings.federation.items()},
        frontiers=frontiers(settings),
        max_hops=settings.limits.max_hops,
        hop_memory_ms=settings.limits.hop_memory_ms,
        push_memory_ms=settings.limits.push_memory_ms,
        resources=settings.resources,
        issuers=read_issuers(settings),
        attestors={name: thumbprint(key) for name, key in attestor_keys(settings.attestors).items()},
        ticket_ms=settings.approvals.expires_ms,
        not_own=settings.approvals.not_own,
        people=settings.people,
        approvals=settings.approvals,
        attested_by={one.name: one.attested_by for one in settings.agents.values() if one.attested_by is not None},
        handles={agent.name: frozenset(agent.handles) for agent in settings.agents.values() if agent.handles},
    )


def frontiers(settings: Settings) -> dict[str, Frontier]:
    """How far chains of other trust domains reach, of those whose chains the file speaks of."""
    called = {theirs: str(settings.agent_id(name)) for name in settings.agents if (theirs := settings.called(name))}
    return {
        domain: Frontier(
            principals=frozenset(f"principal:{name}" for name in one.ceiling.speaks_for),
            ceiling=msgspec.structs.replace(ceiling_of(one.chains), not_after=None, depth=None),
            longest=one.chains.longest_ms,
            calls=one.chains.calls,
            max_age=one.max_age_ms,
            agents={theirs: ours for theirs, ours in called.items() if theirs.startswith(f"spiffe://{domain}/")},
        )
        for domain, one in settings.federation.items()
        if one.chains is not None
    }


def pushing(peer: Peer, settings: Settings) -> Peer:
    """A peer as it was declared, with where those of its callers take pushes who take any."""
    found = ((name, settings.agents[name].push) for name in peer.callers)
    return msgspec.structs.replace(peer, pushes={name: push for name, push in found if push})


def declared_digest(manifest: str, temporal: tuple[Rule, ...], more: Mapping[str, object] | None = None) -> str:
    """What names all that decisions rest on beside policies; as before these were known, where there are none."""
    rest = {key: digest(msgspec.json.encode(value, order="sorted")) for key, value in (more or {}).items() if value}
    if not temporal and not rest:
        return manifest
    named = [manifest, format_rules(temporal), *([rest] if rest else [])]
    return digest(b"citywatch/declared/v1\n" + canonical(named))


async def approved_definitions(store: Store) -> dict[Tool, Definition]:
    """The tools that are approved, with the definitions that were shown when they were."""
    return {
        (one.server, one.name): Definition(digest=one.pin.digest, value=one.definition)
        for one in await approvals(store)
        if one.kind == "tool"
    }


async def load_rules(settings: Settings, store: Store, roots: frozenset[str] = frozenset()) -> Rules:
    """Everything a decision may depend on, as of now. `roots` are the thumbs of keys that speak for principals."""
    declared = msgspec.structs.replace(configured(settings), roots=roots)
    return build_rules(declared, await approved_definitions(store), read_policies(settings))


def assumptions(rules: Rules) -> tuple[str, ...]:
    """What is assumed beside *havoc*, of whom; it stands in the log each time that a gateway starts."""
    return tuple(f"{HONEST_RUNTIME} of {name}: its program keeps its tasks apart" for name in sorted(rules.isolated))


def _generation_names(number: int) -> tuple[str, str]:
    return f"authority-{number}-certificates.pem", f"authority-{number}-tokens.pem"


def _boot_id() -> str:
    """What names this run of the machine: another name later means that it went down in between."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"
