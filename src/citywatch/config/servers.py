"""The `servers` part of the file: how each is reached, and what its tools are declared to do.

Decides which declarations of a server make sense. INVARIANTS: a server is reached in exactly one way; a program runs in
a sandbox unless the file says `unsafe_same_user: true`; no secret stands in the file, and no message repeats one.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from urllib.parse import urlunsplit

from citywatch.config.addresses import loopback
from citywatch.config.audiences import readers
from citywatch.config.document import Node, Scalar, Table, Unread
from citywatch.config.issuing import Exchanged
from citywatch.config.reader import (
    SECRET_NAME,
    Notes,
    duration,
    flag,
    integer,
    named,
    one_of,
    shown,
    some,
    text,
    url,
    variable,
    where,
)
from citywatch.config.settings import FromEnvironment, FromFile, Http, Program, Server
from citywatch.config.table import Section, table
from citywatch.config.tokens import exchanged
from citywatch.core.call import Effect
from citywatch.core.errors import Malformed
from citywatch.core.flow.fields import parse_path
from citywatch.core.manifest import (
    EVERYBODY,
    UNTRUSTED,
    Delivery,
    Impact,
    Output,
    Parameter,
    ParameterType,
    Role,
    ToolManifest,
)
from citywatch.core.names import parse_segment, parse_spiffe_id

LABELS = ("trusted", "untrusted")
DISCLOSURES = ("deny", "ask")
DELIVERIES = (Delivery.REDACT.value, Delivery.WITHHOLD.value)
_INLINE = "a credential is never written into this file"
_SECRET_OPTION = re.compile(r"(?i)--?[a-z0-9_-]*(?:token|secret|password|passwd|api-?_?key)(=.+)?\Z")
_HAND_ON = "pass it in the environment, with env: {NAME: {from: NAME}}"
_FROM = "write {env: NAME} or {file: path}, and change the secret if this file was shared"


def server(notes: Notes, node: Node, path: str, name: str) -> Server | None:
    """One server. Whatever is wrong is noted; None where no way to reach it could be read."""
    section = Section(notes, node, path, "servers.*")
    timeout = section.get("timeout", duration("100ms", "10m"), 30_000)
    tools: Mapping[str, ToolManifest] = section.get("tools", table(_tool_name, _tool), {})
    reach: Http | Program | None = None
    if section.has("url") and section.has("command"):
        section.wrong("command", "a server has `url` or `command`, not both", "keep one of them")
    elif section.has("command"):
        reach = _program(section)
    elif section.has("url"):
        reach = _http(section)
    elif isinstance(node, Table):
        section.need("url", text, "http://127.0.0.1:9001/mcp` or `command: [program, argument]")
    elif isinstance(node, Scalar) and node.kind == "null":
        pass  # `Section` has said that a mapping is expected
    behind = section.get("envelope_for", named(lambda word: str(parse_spiffe_id(word))), "")
    envelope = section.get("envelope", flag, bool(behind))
    if behind and section.has("command"):
        section.wrong("envelope_for", "a program of this machine is behind no gateway", "remove it")
    if reach is None:
        return None
    return Server(name=name, reach=reach, timeout_ms=timeout, tools=tools, envelope=envelope, envelope_for=behind)


def _only(section: Section, kind: str, *foreign: str) -> None:
    for key in foreign:
        if section.has(key):
            section.wrong(key, f"`{key}` is for a server with `{kind}`", "remove it")


def _http(section: Section) -> Http | None:
    _only(section, "command", "env", "cwd", "sandbox", "unsafe_same_user")
    return reach_over_http(section)


def reach_over_http(section: Section) -> Http | None:
    """How something that has a `url` is reached, with our credential and an authority of its own."""
    parts = section.need("url", url, "http://127.0.0.1:9001/mcp")
    plain = section.get("unsafe_plain_http", flag, False)
    secret = shown_there(section.notes, *section.at("credential")) if section.has("credential") else None
    ca = section.maybe("ca", where)
    proves = section.get("spiffe_id", named(lambda word: str(parse_spiffe_id(word))), "")
    owner = section.get("owner", _account, "")
    if parts is None:
        return None
    if owner and (parts.scheme != "http" or not loopback(parts.hostname or "")):
        why = "only of http on loopback can it be seen whose it is"
        section.wrong("owner", why, "write http://127.0.0.1, or remove it")
    if proves and (parts.scheme != "https" or ca is not None):
        section.wrong("spiffe_id", "it is proved over https, by its trust domain's bundle", "write https, and no `ca`")
    if parts.scheme == "https" and plain:
        section.wrong("unsafe_plain_http", "this server is reached over https", "remove it")
    if parts.scheme == "http" and ca is not None:
        section.wrong("ca", "a `ca` is of no use over http", "write https in the url, or remove `ca`")
    if parts.scheme == "http" and not plain and parts.hostname == "localhost":
        section.wrong("url", "`localhost` is a name, and may lead elsewhere", "write 127.0.0.1 or [::1] in its place")
    elif parts.scheme == "http" and not plain and not loopback(parts.hostname or ""):
        section.wrong(
            "url",
            "plain http to another machine shows every call and credential on the way",
            "write https, or add `unsafe_plain_http: true`",
        )
    return Http(url=urlunsplit(parts), credential=secret, ca=ca, unsafe_plain_http=plain, spiffe_id=proves, owner=owner)


def _account(notes: Notes, node: Node, path: str) -> str | None:
    """An account of this machine, by its name or, in quotes, its number."""
    name = text(notes, node, path)
    if name is not None and not re.match(r"[A-Za-z0-9._][A-Za-z0-9._-]{0,63}\Z", name):
        notes.wrong(node, path, f"{shown(name)} is no account's name", "write it as in /etc/passwd")
        return None
    return name


def shown_there(notes: Notes, node: Node, path: str) -> FromEnvironment | FromFile | Exchanged | None:
    """What a server is shown: a credential by its place, or `{exchange: …}`, a token of ours for each message."""
    if isinstance(node, Table) and [key.value for key, _ in node.pairs if isinstance(key, Scalar)] == ["exchange"]:
        section = Section(notes, node, path, "servers.*.credential")
        return section.maybe("exchange", exchanged)
    return credential(notes, node, path, "servers.*.credential")


def credential(notes: Notes, node: Node, path: str, shape: str) -> FromEnvironment | FromFile | None:
    """By its place, `{env: NAME}` or `{file: path}`, and never inline."""
    if isinstance(node, Unread):
        return None
    if not isinstance(node, Table) or len(node.pairs) != 1:
        notes.wrong(node, path, _INLINE, _FROM)
        return None
    section = Section(notes, node, path, shape, secret=True)
    if section.has("env"):
        name = section.need("env", variable, "NAME")
        return FromEnvironment(name) if name is not None else None
    if section.has("file"):
        file = section.need("file", where, "path")
        return FromFile(file) if file is not None else None
    return None


def _program(section: Section) -> Program | None:
    _only(section, "url", "ca", "owner", "unsafe_plain_http")
    if section.has("credential"):
        section.wrong("credential", "a program is given its credential in its environment", "write env: {X: {from: X}}")
    command = section.need("command", _command, "[program, argument]")
    env: Mapping[str, str | FromEnvironment] = section.get("env", table(variable, _environment), {})
    cwd = section.get("cwd", where, section.notes.folder)
    same = section.get("unsafe_same_user", flag, False)
    user = section.maybe("sandbox", _sandbox)
    if section.has("sandbox") and same:
        section.wrong("unsafe_same_user", "`sandbox` and `unsafe_same_user` exclude each other", "keep `sandbox`")
    elif not section.has("sandbox") and not same:
        section.wrong(
            "command",
            "this program would run as the gateway's own user and could read its keys",
            "add `sandbox: {user: nobody}`, or `unsafe_same_user: true` to accept that",
        )
    return Program(command=command, env=env, cwd=cwd, user=user) if command is not None else None


def _command(notes: Notes, node: Node, path: str) -> tuple[str, ...] | None:
    words = some(text)(notes, node, path)
    for word, after in itertools.pairwise((*(words or ()), "")):
        option = _SECRET_OPTION.match(word)
        if option and (option[1] or (after and not after.startswith("-"))):
            notes.wrong(node, path, "a secret on a command line is seen by every user of the machine", _HAND_ON)
            return None
    return words


def _sandbox(notes: Notes, node: Node, path: str) -> str | None:
    user = Section(notes, node, path, "servers.*.sandbox").need("user", text, "nobody")
    if user in ("root", "0"):
        notes.wrong(node, path, "a sandbox that runs as root is none", "name an ordinary user, such as nobody")
        return None
    return user


def _environment(notes: Notes, node: Node, path: str, name: str) -> str | FromEnvironment | None:
    if isinstance(node, Table):
        source = Section(notes, node, path, "servers.*.env.*", secret=True).need("from", variable, name)
        return FromEnvironment(source) if source is not None else None
    if isinstance(node, Scalar) and node.kind == "str" and not node.value:
        return ""
    value = text(notes, node, path)
    if value is None:
        return None
    if SECRET_NAME.search(name):
        notes.wrong(node, path, _INLINE, f"write {{from: {name}}} to take it from the gateway's environment")
        return None
    if "${" in value:
        notes.wrong(node, path, "`${…}` is not expanded", "write {from: NAME} to pass a variable on")
        return None
    return value


def _tool_name(notes: Notes, node: Node, path: str) -> str | None:
    name = text(notes, node, path)
    if name is not None and len(name) > 128:
        notes.wrong(node, path, "a tool's name has at most 128 characters", "write the name that the server lists")
        return None
    return name


def _tool(notes: Notes, node: Node, path: str, _: str) -> ToolManifest:
    section = Section(notes, node, path, "servers.*.tools.*")
    effect = Effect(section.get("effect", one_of(Effect), Effect.IRREVERSIBLE.value))
    parameters: Mapping[str, Parameter] = section.get("parameters", table(_parameter_name, _parameter), {})
    if effect is Effect.READ and any(one.adds is not None for one in parameters.values()):
        section.wrong("effect", "a tool that adds a party changes something", "write `effect: write`")
    return ToolManifest(
        effect=effect,
        audience=section.get("audience", readers, (EVERYBODY,)),
        discloses=section.get("disclosure", one_of(DISCLOSURES), DISCLOSURES[0]) == DISCLOSURES[1],
        parameters=parameters,
        output=section.get("output", table(_json_path, _output), {}),
        parts=section.get("parts", _parts, UNTRUSTED),
        impact=Impact(section.get("impact", one_of(Impact), Impact.LOW.value)),
    )


def _parameter_name(notes: Notes, node: Node, path: str) -> str | None:
    name = text(notes, node, path)
    if name is not None and name.startswith("__"):
        notes.wrong(node, path, "a parameter's name must not start with `__`", "such arguments are always refused")
        return None
    return name


def _parameter(notes: Notes, node: Node, path: str, _: str) -> Parameter:
    section = Section(notes, node, path, "servers.*.tools.*.parameters.*")
    word = section.get("type", one_of(ParameterType), "")
    kind = ParameterType(word) if word else None
    if section.has("scale") and kind is not ParameterType.MONEY and not (section.has("type") and kind is None):
        section.wrong("scale", "`scale` is for `type: money`", "write `type: money`, or remove `scale`")
    scale = section.get("scale", integer(0, 6), 2)
    if section.has("currency") and kind is not ParameterType.MONEY:
        section.wrong("currency", "`currency` is for `type: money`", "write `type: money`, or remove `currency`")
    currency = section.get("currency", _currency, "")
    role = section.get("role", one_of(Role), "")
    adds = section.maybe("adds", _party)
    if adds is not None and role and role != Role.DESTINATION:
        section.wrong("role", f"whoever is added to `{adds}` is a destination", "write `role: destination`")
    return Parameter(
        type=kind,
        scale=scale,
        role=Role(role) if role else None,
        party=section.maybe("party", _party),
        adds=adds,
        currency=currency,
    )


def _currency(notes: Notes, node: Node, path: str) -> str | None:
    """SPEC: ISO 4217, by its form."""
    word = text(notes, node, path)
    if word is not None and not (len(word) == 3 and word.isascii() and word.isupper()):
        notes.wrong(node, path, f"{shown(word)} is not a currency", "write its three letters, such as EUR")
        return None
    return word


def _party(notes: Notes, node: Node, path: str) -> str | None:
    return named(lambda word: parse_segment(word, "name for a set of known parties"))(notes, node, path)


def _json_path(notes: Notes, node: Node, path: str) -> str | None:
    name = text(notes, node, path)
    if name is None:
        return None
    try:
        parse_path(name)
    except Malformed as wrong:
        notes.wrong(node, path, str(wrong), 'write "$.field", "$[*].field", "$..field", or "$" for all of it')
        return None
    return name


def _parts(notes: Notes, node: Node, path: str) -> Output | None:
    """What pictures, sounds and files are: a label alone, or with who may see them."""
    if not isinstance(node, Table):
        word = one_of(LABELS)(notes, node, path)
        return None if word is None else Output(trusted=word == LABELS[0])
    section = Section(notes, node, path, "servers.*.tools.*.parts")
    trusted = section.need("label", one_of(LABELS), "untrusted") == LABELS[0]
    return Output(trusted=trusted, readers=_readers(section))


def _readers(section: Section) -> tuple[str, ...]:
    found: tuple[str, ...] = section.get("readers", readers, (EVERYBODY,))
    if EVERYBODY in found and len(found) > 1:
        section.wrong("readers", f"`{EVERYBODY}` stands beside others", f"name the audiences, or write [{EVERYBODY}]")
    return found


def _output(notes: Notes, node: Node, path: str, _: str) -> Output | None:
    if not isinstance(node, Table):
        word = one_of(LABELS)(notes, node, path)
        return None if word is None else Output(trusted=word == LABELS[0])
    section = Section(notes, node, path, "servers.*.tools.*.output.*")
    trusted = section.need("label", one_of(LABELS), "untrusted") == LABELS[0]
    return Output(
        trusted=trusted,
        party=section.maybe("party", _party),
        key=section.get("key", flag, False),
        readers=_readers(section),
        handle=section.get("handle", flag, False),
        deliver=Delivery(section.get("deliver", one_of(DELIVERIES), Delivery.REDACT.value)),
    )
