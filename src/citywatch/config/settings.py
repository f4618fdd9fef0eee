"""What an operator's file says, as frozen values; and the mistakes it may contain.

Decides nothing and reads nothing: `parse_settings` makes these values, `main` hands them on.
INVARIANTS: every value is complete and within its bounds (a default is already filled in); no secret is ever in here,
only the name of the place it comes from; everything dangerous that was switched on is named in `Settings.unsafe`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from citywatch.config.issuing import Exchanged, KnownIssuer
from citywatch.config.neighbours import Neighbour
from citywatch.core.approvals.people import Approvals, Person
from citywatch.core.canonical import canonical, digest
from citywatch.core.errors import Malformed
from citywatch.core.manifest import EVERYBODY, Budget, Delivery, Peer, Principal, ResourceServer, ToolManifest
from citywatch.core.names import AgentId, parse_spiffe_id


class Mistake(msgspec.Struct, frozen=True, order=True):
    """One mistake in the file. `line` and `column` count from 1; `path` is the dotted key, empty for the whole file."""

    line: int
    column: int
    path: str
    message: str
    advice: str

    def __str__(self) -> str:
        where = f"line {self.line}, column {self.column}"
        return ": ".join(part for part in (where, self.path, f"{self.message}; {self.advice}") if part)


class ConfigError(Malformed):
    """The file has mistakes: all of them, in the order of its lines; `str()` lists one a line."""

    def __init__(self, mistakes: tuple[Mistake, ...]) -> None:
        super().__init__("\n".join(str(mistake) for mistake in mistakes))
        self.mistakes = mistakes


class Listen(msgspec.Struct, frozen=True):
    """An address to serve on. Without `tls` it is a loopback address, always."""

    tls: bool
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """What policy may know of an agent. Budgets by (server, tool), all of them hold; the ttls are milliseconds.

    `handles`: of which (server, tool) it is given handles for all that is not a server's own data for everybody.
    `isolation`: `process`, or `task` where the program around the model is trusted to keep its tasks apart.
    `spiffe_id`: what another authority than ours calls it; empty for an agent to which we issue papers.
    `delegated_only`: it has no rights of its own, and acts only under a chain of grants. `attested_by`: it acts, and
    its program gets papers, only while this attestor vouches for it. `push`: where it takes what peers push
    to it, as addresses or patterns of them.
    """

    name: str
    spiffe_id: str = ""
    roles: tuple[str, ...] = ()
    attributes: Mapping[str, str | bool | int | tuple[str, ...]] = {}
    budgets: Mapping[tuple[str, str], tuple[Budget, ...]] = {}
    isolation: str = "process"
    delegated_only: bool = False
    push: tuple[str, ...] = ()
    attested_by: str | None = None
    audience: tuple[str, ...] | None = None
    content: Mapping[str, Delivery] = {}
    handles: tuple[tuple[str, str], ...] = ()
    svid_ttl_ms: int = 3_600_000
    token_ttl_ms: int = 900_000


class FromEnvironment(msgspec.Struct, frozen=True, tag="env"):
    """A value taken from the gateway's own environment when it starts."""

    name: str


class FromFile(msgspec.Struct, frozen=True, tag="file"):
    """A value read from a file when it is needed."""

    path: str


class Http(msgspec.Struct, frozen=True, kw_only=True, tag="http"):
    """A server reached over HTTP. `ca` is a PEM file that alone is trusted for it; None means the system's."""

    url: str
    credential: FromEnvironment | FromFile | Exchanged | None = None
    ca: str | None = None
    unsafe_plain_http: bool = False
    spiffe_id: str = ""
    owner: str = ""


class Program(msgspec.Struct, frozen=True, kw_only=True, tag="program"):
    """A server started as a child, one per caller. `env` is its whole environment. `user` None: as the gateway."""

    command: tuple[str, ...]
    env: Mapping[str, str | FromEnvironment] = {}
    cwd: str
    user: str | None


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """One configured server and the manifests of its tools; a tool that is not in `tools` is read against it.

    `envelope`: calls go to it in one; `envelope_for` is the gateway of another trust domain that it is behind."""

    name: str
    reach: Http | Program
    timeout_ms: int
    tools: Mapping[str, ToolManifest]
    envelope: bool = False
    envelope_for: str = ""


class PeerAgent(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that others speak to over A2A: where it listens and in which binding, where its card is, and who may
    speak to it. `envelope_for` is what the authority of another trust domain calls it; `envelope`: messages go in one.
    `messages` are the files of the schemas that its types of messages have."""

    name: str
    reach: Http
    binding: str
    card: str
    timeout_ms: int
    declared: Peer
    envelope_for: str = ""
    envelope: bool = False
    messages: Mapping[str, str] = {}


class Reader(msgspec.Struct, frozen=True, kw_only=True):
    """The model that answers typed questions about hidden texts. `audience`: who may see what is sent there."""

    url: str
    model: str
    credential: FromEnvironment | FromFile | None = None
    ca: str | None = None
    audience: tuple[str, ...] = (EVERYBODY,)
    timeout_ms: int = 30_000
    unsafe_plain_http: bool = False


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one gateway process puts up with. Sizes are bytes, times milliseconds.

    `max_hops` is how many agents a message may have come through, `hop_memory` for how long what an agent does may
    belong to what it was told; `push_memory` for how long a configuration for pushes is kept after its last one;
    `card_interval` how often a peer's card is looked at;
    `task_calls` is the budget of a task that names none, 0 for none. An agent may have
    `calls_per_caller` calls open at one server or peer, all agents `calls_per_upstream`; one more waits for
    `call_wait_ms`. After `breaker_failures` in a row a caller leaves a server alone for `breaker_rest_ms`.
    """

    request_bytes: int = 4 << 20
    reply_bytes: int = 16 << 20
    depth: int = 64
    nodes: int = 100_000
    headers: int = 64
    header_bytes: int = 16 << 10
    header_time_ms: int = 5_000
    body_time_ms: int = 30_000
    max_staleness_ms: int = 5_000
    connections: int = 1024
    sessions_per_agent: int = 32
    max_in_flight: int = 1024
    max_hops: int = 8
    hop_memory_ms: int = 600_000
    push_memory_ms: int = 30 * 86_400_000
    card_interval_ms: int = 60_000
    task_calls: int = 0
    calls_per_caller: int = 32
    calls_per_upstream: int = 256
    call_wait_ms: int = 1_000
    breaker_failures: int = 5
    breaker_rest_ms: int = 5_000


class Spire(msgspec.Struct, frozen=True):
    """Whose Workload API (a Unix socket's path) gives this gateway its papers, and what it is called there."""

    socket: str
    spiffe_id: str


class WebEndpoint(msgspec.Struct, frozen=True):
    """Where our bundle can be read by who wants a certificate of the Web's, and the files of that one and its key."""

    listen: Listen
    certificate: str
    key: str


class Witness(msgspec.Struct, frozen=True, kw_only=True):
    """Who cosigns the log. `key` is a verifier key as C2SP signed-note writes it: `<name>+<hash>+<base64>`."""

    name: str
    url: str
    key: str


class Oidc(msgspec.Struct, frozen=True, kw_only=True):
    """A provider that vouches for people at the console (OpenID Connect), who is whom stands under `people`. `ca` is a
    PEM file that alone is trusted for it; without `credential` the client is a public one."""

    issuer: str
    client: str
    credential: FromEnvironment | FromFile | None = None
    ca: str | None = None


class Console(msgspec.Struct, frozen=True, kw_only=True):
    """Where `citywatch console` listens, always on loopback, and under which origin browsers reach it.

    `address` is empty where nothing stands before it: then it has a name of its own under `localhost`.
    """

    host: str = "127.0.0.1"
    port: int = 8470
    address: str = ""
    oidc: Oidc | None = None


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file. Paths are resolved; `unsafe` names every dangerous option that is on.

    `observe` is `unsafe_observe`: refusals are written down and not enforced.
    `temporal_rules` is a file of rules about what happened before, `plan_templates` a folder of plans with parameters,
    `boilerplate` one of texts that agents may say to each other as often as they like; None: there are none.
    `attestors` are public keys of builders by their name: a SubjectPublicKeyInfo in base64.
    `people` may be asked or may look, `approvals` says how their answers count; with no people, the operator answers.
    """

    trust_domain: str
    listen: tuple[Listen, ...]
    names: tuple[str, ...]
    state: str
    policies: str
    origin: str
    agents: Mapping[str, Agent]
    servers: Mapping[str, Server]
    principals: Mapping[str, Principal]
    reader: Reader | None
    content: Mapping[str, Delivery] = {}
    limits: Limits
    witnesses: tuple[Witness, ...]
    witness_quorum: int
    unsafe: tuple[str, ...]
    observe: bool = False
    temporal_rules: str | None = None
    plan_templates: str | None = None
    boilerplate: str | None = None
    peers: Mapping[str, PeerAgent] = {}
    federation: Mapping[str, Neighbour] = {}
    spire: Spire | None = None
    bundle_endpoint: WebEndpoint | None = None
    attestors: Mapping[str, str] = {}
    issuer: str | None = None
    resources: Mapping[str, ResourceServer] = {}
    issuers: Mapping[str, KnownIssuer] = {}
    console: Console = Console()
    people: Mapping[str, Person] = {}
    approvals: Approvals = Approvals()

    def agent_id(self, name: str) -> AgentId:
        """The agent that has this name in the file; one of another trust domain is of that one, by its name here."""
        agent = self.agents.get(name)
        elsewhere = "" if agent is None else agent.spiffe_id
        return AgentId(parse_spiffe_id(elsewhere).domain if elsewhere else self.trust_domain, name)

    def called(self, name: str) -> str:
        """The SPIFFE ID under which another authority than ours vouches for an agent of the file; empty for ours."""
        agent = self.agents.get(name)
        if agent is None or agent.spiffe_id:
            return "" if agent is None else agent.spiffe_id
        return "" if self.spire is None else str(self.agent_id(name))


def manifest_digest(settings: Settings) -> str:
    """Name by one digest all that was declared of agents and servers; it stands in every decision's entry.

    Literal environment values are left out: a digest of a short value would tell it to whoever guesses.
    """
    servers = {}
    for name, server in settings.servers.items():
        plain = msgspec.to_builtins(server)
        _leave_out_unsaid(plain["reach"])
        if isinstance(server.reach, Program):
            plain["reach"]["env"] = {
                key: value.name if isinstance(value, FromEnvironment) else None
                for key, value in server.reach.env.items()
            }
        for tool in plain["tools"].values():
            if not tool["discloses"]:
                del tool["discloses"]
            for parameter in tool["parameters"].values():
                if not parameter["currency"]:
                    del parameter["currency"]
        servers[name] = plain
    agents = {}
    for name, agent in settings.agents.items():
        plain = msgspec.to_builtins(msgspec.structs.replace(agent, budgets={}))
        if agent.isolation == "process":
            del plain["isolation"]  # as before there was another, so that digests of then are digests of now
        if not agent.handles:
            del plain["handles"]
        if not agent.spiffe_id:
            del plain["spiffe_id"]
        if not agent.delegated_only:
            del plain["delegated_only"]
        if agent.attested_by is None:
            del plain["attested_by"]
        plain["budgets"] = {
            f"{server}/{tool}": msgspec.to_builtins(budgets) for (server, tool), budgets in agent.budgets.items()
        }
        agents[name] = plain
    declared = {"v": 1, "trust_domain": settings.trust_domain, "agents": agents, "servers": servers}
    if settings.observe:
        declared["unsafe_observe"] = True
    if settings.reader is not None:
        declared["reader"] = msgspec.to_builtins(settings.reader)
    if settings.principals:
        declared["principals"] = msgspec.to_builtins(settings.principals)
    if settings.peers:
        peers: dict[str, Any] = msgspec.to_builtins(settings.peers)
        for plain in peers.values():
            del plain["messages"]  # what those files say is named beside this
            _leave_out_unsaid(plain["reach"])
        declared["peers"] = peers
    if settings.spire is not None:
        declared["spire"] = msgspec.to_builtins(settings.spire)
    if settings.resources:
        declared["resources"] = msgspec.to_builtins(settings.resources)
    if settings.federation:
        declared["federation"] = federation = msgspec.to_builtins(settings.federation)
        for one in federation.values():
            if one["chains"] is None:
                del one["chains"]  # as before there were any
    if settings.attestors:
        declared["attestors"] = dict(settings.attestors)
    if settings.issuers:
        declared["issuers"] = msgspec.to_builtins(settings.issuers)
    if settings.issuer is not None:
        declared["issuer"] = settings.issuer
    if settings.approvals.not_own:  # of all that is said of approvals, what the gates ask about
        declared["not_own"] = list(settings.approvals.not_own)
    if settings.content:
        declared["content"] = msgspec.to_builtins(settings.content)
    return digest(canonical(declared))


def _leave_out_unsaid(reach: dict[str, Any]) -> None:
    """As before it could be said, so that digests of then are digests of now."""
    for name in ("spiffe_id", "owner"):
        if not reach.get(name):
            reach.pop(name, None)
    exchanged = reach.get("credential")
    if isinstance(exchanged, dict) and "at" in exchanged and exchanged["at"] is None:
        del exchanged["at"]
