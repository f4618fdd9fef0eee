"""The whole file, key by key of its first level.

Decides whether a text is a configuration. INVARIANTS: any text gives `Settings` or `ConfigError`, never another error;
plain HTTP is served on literal loopback addresses only; all mistakes that can be seen are reported together.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from ipaddress import ip_address

from citywatch.config.addresses import loopback
from citywatch.config.agents import Declared, agents
from citywatch.config.attestors import attestors
from citywatch.config.audiences import audiences
from citywatch.config.console import console
from citywatch.config.content import content
from citywatch.config.document import Node, Scalar, Table, parse_document
from citywatch.config.federation import authority, federation
from citywatch.config.notices import notice
from citywatch.config.peers import peers
from citywatch.config.people import HASTY, UNSIGNED, approvals, people
from citywatch.config.principals import principals
from citywatch.config.reader import Notes, duration, each, flag, integer, named, shown, size, some, text, url, where
from citywatch.config.readers import reader
from citywatch.config.servers import server
from citywatch.config.settings import (
    Agent,
    ConfigError,
    Console,
    Http,
    Limits,
    Listen,
    PeerAgent,
    Program,
    Server,
    Settings,
    WebEndpoint,
    Witness,
)
from citywatch.config.table import Section, table
from citywatch.config.tokens import check_resources, issuer, issuers, resources
from citywatch.core.approvals.people import MESSAGE, Approvals, Person
from citywatch.core.enforce.own import SERVER as OWN
from citywatch.core.enforce.own import TOOLS as OWN_TOOLS
from citywatch.core.errors import Malformed
from citywatch.core.log.checkpoint import Kind, parse_note_key
from citywatch.core.names import parse_domain, parse_segment

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*\Z")
OBSERVE = "unsafe_observe"
_LISTEN = (Listen(False, "127.0.0.1", 8460),)


def parse_settings(content: str, base: str | os.PathLike[str]) -> Settings:
    """Read the text of `citywatch.yaml`; `base` is the folder it lies in, relative paths start there.

    Raises `ConfigError` with every mistake; after a mistake in YAML itself nothing beyond it can be read.
    """
    notes = Notes(os.fspath(base), [])
    root = parse_document(content, notes.mistakes)
    if isinstance(root, Scalar) and root.kind == "null":
        notes.wrong(root, "", "the file is empty", "run `citywatch init` for an example to start from")
        raise ConfigError(tuple(notes.mistakes))
    settings = _settings(notes, root)
    if settings is None or notes.mistakes:
        raise ConfigError(tuple(sorted(notes.mistakes)))
    return settings


def _settings(notes: Notes, root: Node) -> Settings | None:
    section = Section(notes, root, "", "")
    domain = section.need("trust_domain", named(parse_domain), "acme.example")
    listen = section.get("listen", some(_listen), _LISTEN)
    if len(set(listen)) < len(listen):
        section.wrong("listen", "the same address stands here twice", "keep one")
    if section.has("audiences"):
        notes.audiences = audiences(notes, *section.at("audiences"), _people(root))
    servers: Mapping[str, Server] = section.get(
        "servers", table(named(lambda name: parse_segment(name, "name for a server")), server), {}
    )
    if OWN in servers:
        section.wrong("servers", f"`{OWN}` is the gateway's own server", "give this one another name")
    _one_user_each(notes, root)
    asks = section.maybe("reader", reader)
    ours: Mapping[str, Agent] = section.get(
        "agents", agents({OWN: OWN_TOOLS, **_declared(root)}, _attestors(root), _domains(root)), {}
    )
    elsewhere = {name for name, agent in ours.items() if agent.spiffe_id}
    seen_by = {name: agent.audience for name, agent in ours.items() if name not in elsewhere}
    names = _people(root)["agent"]
    spoken_to: Mapping[str, PeerAgent] = section.get(
        "peers", peers(names, {OWN, *servers}, [one for one in names if one not in elsewhere], seen_by), {}
    )
    named_issuer = section.maybe("issuer", issuer)
    beyond = section.get("resources", resources({OWN, *servers, *spoken_to}), {})
    check_resources(section, _over_http(servers, spoken_to), beyond, named_issuer)
    witnesses, quorum = _witnesses(section)
    observe = section.get(OBSERVE, flag, False)
    acts = {**_declared(root), **{name: one.declared.skills or (MESSAGE,) for name, one in spoken_to.items()}}
    asked: Mapping[str, Person] = section.get("people", people(acts, _people(root)["principal"]), {})
    answered = section.get("approvals", approvals(acts, asked), Approvals())
    seen_at = section.get("console", console, Console())
    settings = Settings(
        trust_domain=domain or "",
        listen=listen,
        names=section.get("names", each(_name), ()),
        state=section.get("state", where, os.path.normpath(os.path.join(notes.folder, ".citywatch"))),
        policies=section.get("policies", where, os.path.normpath(os.path.join(notes.folder, "policies"))),
        origin=section.get("origin", _origin, f"{domain}/citywatch"),
        agents=ours,
        attestors=section.get("attestors", attestors, {}),
        servers=servers,
        principals=section.get("principals", principals(_declared(root)), {}),
        reader=asks,
        peers=spoken_to,
        federation=section.get("federation", federation(domain or "", _people(root)["principal"]), {}),
        spire=section.maybe("authority", authority(domain or "")),
        bundle_endpoint=section.maybe("bundle_endpoint", _bundle_endpoint),
        content=section.get("content", content, {}),
        limits=section.get("limits", _limits, Limits()),
        witnesses=witnesses,
        witness_quorum=quorum,
        unsafe=(
            *((OBSERVE,) if observe else ()),
            *(one for item in servers.values() for one in _unsafe(item)),
            *(f"peers.{one.name}.unsafe_plain_http" for one in spoken_to.values() if one.reach.unsafe_plain_http),
            *(("reader.unsafe_plain_http",) if asks is not None and asks.unsafe_plain_http else ()),
            *((UNSIGNED,) if answered.unsafe_unsigned else ()),
            *((HASTY,) if answered.unsafe_hasty else ()),
        ),
        observe=observe,
        temporal_rules=section.maybe("temporal_rules", where),
        plan_templates=section.maybe("plan_templates", where),
        boilerplate=section.maybe("boilerplate", where),
        issuer=named_issuer,
        resources=beyond,
        issuers=section.get("issuers", issuers, {}),
        console=seen_at,
        people=asked,
        approvals=answered,
        notices=section.get(
            "notices",
            table(named(lambda word: parse_segment(word, "name for a channel")), notice(seen_at.address)),
            {},
        ),
    )
    _check_authority(section, settings)
    where_to = "name the people whose words steer acts under `principals`, or remove `{}`"
    hiding = [name for name, one in servers.items() if any(tool.hides for tool in one.tools.values())]
    if hiding and not settings.principals:
        why = f"`{hiding[0]}` has a `handle`, and without principals nothing is hidden"
        section.wrong("servers", why, where_to.format("handle"))
    choosing = [agent.name for agent in settings.agents.values() if agent.handles]
    if choosing and not settings.principals:
        why = f"`{choosing[0]}` has `handles`, and without principals nothing is hidden"
        section.wrong("agents", why, where_to.format("handles"))
    return settings if domain is not None else None


def _over_http(servers: Mapping[str, Server], peers: Mapping[str, PeerAgent]) -> Iterator[tuple[str, Http]]:
    for name, one in servers.items():
        if isinstance(one.reach, Http):
            yield name, one.reach
    yield from ((name, peer.reach) for name, peer in peers.items())


def _members(node: Node | None) -> dict[str, Node]:
    pairs = node.pairs if isinstance(node, Table) else []
    return {key.value: value for key, value in pairs if isinstance(key, Scalar)}


def _declared(root: Node) -> Declared:
    """The names of the servers and tools that stand in the file, whether or not they could be read."""
    servers = _members(_members(root).get("servers"))
    return {name: _members(_members(node).get("tools")).keys() for name, node in servers.items()}


def _check_authority(section: Section, settings: Settings) -> None:
    """Where another authority issues our papers, no name may be two agents', and no key of ours signs beside it."""
    if settings.spire is None:
        return
    if settings.bundle_endpoint is not None:
        section.wrong("bundle_endpoint", "the bundle is SPIRE's, and so is its endpoint", "remove it")
    if settings.issuer is not None:
        section.wrong(
            "issuer", "access tokens are signed beside our own authority, and `authority` names another", "remove it"
        )
    seen: dict[str, str] = {}
    for name in settings.agents:
        if (other := seen.setdefault(settings.called(name), name)) != name:
            section.wrong(
                "agents", f"`{other}` and `{name}` are called the same there", "give one of them its `spiffe_id`"
            )


def _domains(root: Node) -> Collection[str]:
    """The trust domains whose authority is not this gateway, whether or not they could be read."""
    home = _members(root).get("trust_domain")
    own = [home.value] if isinstance(home, Scalar) and "authority" in _members(root) else []
    return [*_members(_members(root).get("federation")), *own]


def _attestors(root: Node) -> Collection[str]:
    """The names of attestors that stand in the file, whether or not their keys could be read."""
    return _members(_members(root).get("attestors")).keys()


def _people(root: Node) -> dict[str, Collection[str]]:
    """The names that can be members of an audience, by their kind, whether or not they could be read."""
    return {kind: _members(_members(root).get(f"{kind}s")).keys() for kind in ("agent", "principal", "server")}


def _one_user_each(notes: Notes, root: Node) -> None:
    """Programs of one user read each other's environment, secrets and all, and write into each other's pipes."""
    first: dict[str, str] = {}
    for name, node in _members(_members(root).get("servers")).items():
        user = _members(_members(node).get("sandbox")).get("user")
        if not isinstance(user, Scalar) or not user.value:
            continue
        if (other := first.setdefault(user.value, name)) != name:
            message = f"the program of `{other}` runs as {shown(user.value)} too, and the two could read each other"
            notes.wrong(user, f"servers.{name}.sandbox.user", message, "give each program a user of its own")


def _unsafe(item: Server) -> list[str]:
    if isinstance(item.reach, Program):
        return [] if item.reach.user is not None else [f"servers.{item.name}.unsafe_same_user"]
    return [f"servers.{item.name}.unsafe_plain_http"] if item.reach.unsafe_plain_http else []


def _listen(notes: Notes, node: Node, path: str) -> Listen | None:
    word = text(notes, node, path)
    if word is None:
        return None
    match = re.match(r"(https?)://(\[[0-9a-fA-F:.]+\]|[^/\[\]:@]+):([0-9]{1,5})/?\Z", word)
    if match is None or int(match[3]) > 65_535:
        notes.wrong(node, path, f"{shown(word)} is not an address to serve on", "write it as https://0.0.0.0:8461")
        return None
    tls, host, port = match[1] == "https", match[2].strip("[]"), int(match[3])
    try:
        ip_address(host)
    except ValueError:
        advice = f"write {match[1]}://127.0.0.1:{port}; names for clients go under `names`"
        notes.wrong(node, path, f"{shown(host)} is a name, not an address", advice)
        return None
    if not tls and not loopback(host):
        advice = f"write https://{match[2]}:{port}, or http://127.0.0.1:{port} for this machine alone"
        notes.wrong(node, path, "plain http is for loopback only", advice)
        return None
    return Listen(tls, host, port)


def _bundle_endpoint(notes: Notes, node: Node, path: str) -> WebEndpoint | None:
    section = Section(notes, node, path, "bundle_endpoint")
    listen = section.need("listen", _listen, "https://0.0.0.0:8462")
    certificate = section.need("certificate", where, "/etc/citywatch/web.pem")
    key = section.need("key", where, "/etc/citywatch/web.key")
    if listen is not None and not listen.tls:
        section.wrong("listen", "a bundle over plain HTTP is anybody's", f"write https://{listen.host}:{listen.port}")
    return None if listen is None or certificate is None or key is None else WebEndpoint(listen, certificate, key)


def _name(notes: Notes, node: Node, path: str) -> str | None:
    word = text(notes, node, path)
    if word is None:
        return None
    try:
        return str(ip_address(word))
    except ValueError:
        if _HOST.match(word.lower()):
            return word.lower()
    notes.wrong(node, path, f"{shown(word)} is not a DNS name or an IP address", "write it as gateway.acme.example")
    return None


def _origin(notes: Notes, node: Node, path: str) -> str | None:
    word = text(notes, node, path)  # SPEC: C2SP signed-note: a name has no space and no plus
    if word is not None and (" " in word or "+" in word or len(word) > 255):
        notes.wrong(
            node, path, "an origin has no space, no plus, at most 255 characters", "write acme.example/citywatch"
        )
        return None
    return word


def _limits(notes: Notes, node: Node, path: str) -> Limits:
    section = Section(notes, node, path, "limits")
    plain = Limits()
    return Limits(
        request_bytes=section.get("request_bytes", size("1KiB", "256MiB"), plain.request_bytes),
        reply_bytes=section.get("reply_bytes", size("1KiB", "1GiB"), plain.reply_bytes),
        depth=section.get("depth", integer(4, 128), plain.depth),
        nodes=section.get("nodes", integer(100, 10_000_000), plain.nodes),
        headers=section.get("headers", integer(8, 1000), plain.headers),
        header_bytes=section.get("header_bytes", size("1KiB", "1MiB"), plain.header_bytes),
        header_time_ms=section.get("header_time", duration("100ms", "5m"), plain.header_time_ms),
        max_staleness_ms=section.get("max_staleness", duration("100ms", "10m"), plain.max_staleness_ms),
        body_time_ms=section.get("body_time", duration("100ms", "10m"), plain.body_time_ms),
        connections=section.get("connections", integer(1, 100_000), plain.connections),
        sessions_per_agent=section.get("sessions_per_agent", integer(1, 10_000), plain.sessions_per_agent),
        max_in_flight=section.get("max_in_flight", integer(1, 100_000), plain.max_in_flight),
        max_hops=section.get("max_hops", integer(1, 64), plain.max_hops),
        hop_memory_ms=section.get("hop_memory", duration("1s", "24h"), plain.hop_memory_ms),
        card_interval_ms=section.get("card_interval", duration("1s", "24h"), plain.card_interval_ms),
        push_memory_ms=section.get("push_memory", duration("1m", "365d"), plain.push_memory_ms),
        task_calls=section.get("task_calls", integer(0, 10_000_000), plain.task_calls),
        calls_per_caller=section.get("calls_per_caller", integer(1, 10_000), plain.calls_per_caller),
        calls_per_upstream=section.get("calls_per_upstream", integer(1, 100_000), plain.calls_per_upstream),
        call_wait_ms=section.get("call_wait", duration("10ms", "1m"), plain.call_wait_ms),
        breaker_failures=section.get("breaker_failures", integer(1, 1_000), plain.breaker_failures),
        breaker_rest_ms=section.get("breaker_rest", duration("100ms", "1h"), plain.breaker_rest_ms),
    )


def _witnesses(section: Section) -> tuple[tuple[Witness, ...], int]:
    before = len(section.notes.mistakes)
    witnesses: tuple[Witness, ...] = section.get("witnesses", each(_witness), ())
    quorum = section.get("witness_quorum", integer(0, 64), 0)
    if len(section.notes.mistakes) > before:
        return witnesses, quorum  # whatever is compared below would be a guess
    if any(len({getattr(one, field) for one in witnesses}) < len(witnesses) for field in ("name", "url", "key")):
        section.wrong(
            "witnesses", "two witnesses share a name, url or key", "one witness counts once: remove the other"
        )
    if witnesses and not section.has("witness_quorum"):
        # No default: how many strangers must agree is the operator's to say.
        section.wrong("witnesses", "`witness_quorum` is missing", "write how many of them must cosign, such as 1")
    elif quorum > len(witnesses):
        advice = "lower it, or name more witnesses"
        section.wrong("witness_quorum", f"{quorum} of {len(witnesses)} witnesses cannot cosign", advice)
    return witnesses, quorum


def _witness(notes: Notes, node: Node, path: str) -> Witness | None:
    section = Section(notes, node, path, "witnesses[]")
    name = section.need("name", named(lambda word: parse_segment(word, "name for a witness")), "north")
    address = section.need("url", url, "http://127.0.0.1:8470")
    key = section.need("key", _verifier_key, "north+1a2b3c4d+…")
    if name is None or address is None or key is None:
        return None
    return Witness(name=name, url=address.geturl().rstrip("/"), key=key)


def _verifier_key(notes: Notes, node: Node, path: str) -> str | None:
    """A key as `citywatch witness` prints it; a log's own is no witness's. SPEC: C2SP signed-note, "verifier keys"."""
    word = text(notes, node, path)
    if word is None:
        return None
    try:
        witness = parse_note_key(word).kind is Kind.WITNESS
    except Malformed:
        witness = False
    if not witness:
        notes.wrong(node, path, "not a witness's key", "copy the whole line that `citywatch witness` prints as its key")
        return None
    return word
