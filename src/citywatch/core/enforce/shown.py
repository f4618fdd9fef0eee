"""The facts of a ticket's call for whoever shows it (`approvals.showing`): values as the manifest types them.

Decides which values a call has and what of it cannot be shown. INVARIANTS: every value of the call is a fact, or the
reason why it is not is told; what the log holds is compared with what was asked about; nothing here fails, whatever
stands in the arguments.
"""

from __future__ import annotations

import itertools
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from citywatch.core.approvals.showing import MAX_VALUES, Excerpt, Fact, Subject, Why
from citywatch.core.approvals.ticket import Ticket
from citywatch.core.call import Call, Effect, Source
from citywatch.core.canonical import canonical, digest
from citywatch.core.enforce.arguments import declarations
from citywatch.core.enforce.places import NUMBERED
from citywatch.core.enforce.rules import ApprovedTool, Rules
from citywatch.core.enforce.spoken import SCHEMA, shape_of
from citywatch.core.errors import Malformed
from citywatch.core.manifest import SILENT, Parameter, Role, ToolManifest

MAX_DEPTH: Final = 8
UNENTITLED: Final = " unentitled: "
_RAW: Final = re.compile(r"message\.parts\[[0-9]+\]\.raw")
Value = str | int | float | bool | None


def subject_of(
    ticket: Ticket,
    call: Call | None,
    rules: Rules,
    excerpts: Mapping[str, Excerpt],
    via: Sequence[str] = (),
    handles: Mapping[str, str] | None = None,
) -> Subject:
    """All that there is to show. `call` is None where the log has it no more; `handles` says what stood where."""
    if ticket.spoken:
        return said_subject(ticket, call, rules, excerpts, via)
    tool = rules.tools.get((ticket.server, ticket.tool))
    why = list(_why(ticket, call, tool))
    manifest = SILENT if tool is None else tool.manifest
    values: list[tuple[str, Value]] = []
    if call is not None:
        deep: list[Why] = []
        values = list(itertools.islice(_values(call.arguments, deep), MAX_VALUES + 1))
        why += deep
    return Subject(
        ticket=ticket,
        effect=Effect.IRREVERSIBLE if tool is None else tool.effect,
        audience=manifest.audience,
        facts=tuple(_facts(ticket, call, manifest, values, excerpts, handles or {})),
        why=tuple(dict.fromkeys(why)),
        via=tuple(via),
        near=_near(rules),
        off=tuple(line for line in ticket.why.split("; ") if line and UNENTITLED not in line),
    )


def said_subject(
    ticket: Ticket, call: Call | None, rules: Rules, excerpts: Mapping[str, Excerpt], via: Sequence[str]
) -> Subject:
    """The same of a message to another agent: each value as it is sent, a file by its digest."""
    peer = rules.peers.get(ticket.server)
    why = [*_unknown(ticket, call), *([] if _is_as_then(ticket, call, rules) else [Why.UNKNOWN_PEER])]
    deep: list[Why] = []
    found = [] if call is None else list(itertools.islice(_values(call.arguments, deep), MAX_VALUES + 1))
    found.sort(key=lambda one: not one[0].startswith("message.parts"))  # what it says stands before how it says it
    sources: dict[str, Source] = {}
    for one in ticket.sources:
        sources.setdefault(one.path, one)
    facts = []
    for path, value in found:
        if _RAW.fullmatch(path) and isinstance(value, str):
            why.append(Why.FILE)
            value = _told_of(value)
        facts.append(Fact(path=path, role="", value=value, source=sources.get(path), excerpt=excerpts.get(path)))
    return Subject(
        ticket=ticket,
        effect=Effect.IRREVERSIBLE,
        audience=() if peer is None else peer.audience,
        facts=tuple(facts),
        why=tuple(dict.fromkeys((*why, *deep))),
        via=tuple(via),
        near=_near(rules),
        off=tuple(line for line in ticket.why.split("; ") if line),
        type="" if call is None else call.type,
    )


def _is_as_then(ticket: Ticket, call: Call | None, rules: Rules) -> bool:
    """Whether the file still names the peer, and the type with the schema that the message was held to."""
    then = {} if ticket.bound is None else {path: value for path, _, value in ticket.bound.names}
    shape = "" if call is None else shape_of(ticket.server, call.type, rules)
    return ticket.server in rules.peers and (call is None or shape == then.get(SCHEMA, shape))


def _told_of(raw: str) -> str:
    """A file that nobody could read here: how long it is, and its digest."""
    try:
        content = b64decode(raw, validate=True)
    except ValueError:
        content = raw.encode("utf-8", "surrogatepass")
    return f"{len(content):,} bytes, SHA-256 {digest(content)}"


def _near(rules: Rules) -> tuple[str, ...]:
    """Names that people know here."""
    return tuple(itertools.chain.from_iterable((one.name, *one.own) for one in rules.principals.values()))


def _unknown(ticket: Ticket, call: Call | None) -> Iterator[Why]:
    if ticket.bound is None:
        yield Why.UNBOUND
    if call is None:
        yield Why.ERASED
    elif ticket.bound is not None and _arguments(call) != ticket.bound.arguments:
        yield Why.CHANGED


def _why(ticket: Ticket, call: Call | None, tool: ApprovedTool | None) -> Iterator[Why]:
    yield from _unknown(ticket, call)
    if tool is None or (ticket.bound is not None and tool.digest != ticket.bound.pin):
        yield Why.UNKNOWN_TOOL


def _arguments(call: Call) -> str:
    try:
        return digest(canonical(dict(call.arguments)))
    except Malformed:
        return ""


def _facts(
    ticket: Ticket,
    call: Call | None,
    manifest: ToolManifest,
    values: Sequence[tuple[str, Value]],
    excerpts: Mapping[str, Excerpt],
    handles: Mapping[str, str],
) -> Iterator[Fact]:
    sources: dict[str, Source] = {}
    for one in ticket.sources:
        sources.setdefault(one.path, one)
    found = () if call is None else itertools.islice(declarations(call, manifest), 8 * MAX_VALUES)
    roles = {one.path: str(one.role) for one in found}
    paths = {path for path, _ in values}
    for path, value in values:
        declared = _parameter(manifest, path)
        yield Fact(
            path=path,
            role=roles.get(path) or str(declared.role or Role.DESTINATION),
            value=value,
            type=declared.type,
            scale=declared.scale,
            currency=declared.currency,
            source=sources.get(path),
            excerpt=excerpts.get(path),
            handle=handles.get(path, ""),
        )
    for path, source in sources.items():  # a link inside a text, and what nothing in the call stands for
        if path not in paths and source.traced:
            yield Fact(
                path=path, role=source.role, value=_inside(path, values), source=source, excerpt=excerpts.get(path)
            )


def _inside(path: str, values: Sequence[tuple[str, Value]]) -> Value:
    """What stands there in a text: `note[3:20]`."""
    name, _, place = path.rpartition("[")
    start, colon, end = place.rstrip("]").partition(":")
    whole = dict(values).get(name)
    if not isinstance(whole, str) or not colon or not start.isdecimal() or not end.isdecimal():
        return None
    return whole[int(start) : int(end)]


def _parameter(manifest: ToolManifest, path: str) -> Parameter:
    numbered = NUMBERED.sub("[]", path)
    top = path.partition("[")[0].partition(".")[0]
    return manifest.parameters.get(numbered) or manifest.parameters.get(top) or Parameter()


def _values(arguments: Mapping[str, Any], deep: list[Why]) -> Iterator[tuple[str, Value]]:
    """Every value, empty ones and names of inner members too, in the order of the call."""
    pending: list[tuple[str, Any, int]] = [(name, value, 0) for name, value in reversed(list(arguments.items()))]
    while pending:
        path, value, depth = pending.pop()
        if not isinstance(value, dict | list):
            yield path, value if isinstance(value, str | int | float | bool | None) else str(value)
        elif not value:
            yield path, None
        elif depth >= MAX_DEPTH:
            deep.append(Why.TOO_DEEP)
        elif isinstance(value, dict):
            pending += [(f"{path}.{key}", inner, depth + 1) for key, inner in reversed(list(value.items()))]
        else:
            pending += [(f"{path}[{at}]", inner, depth + 1) for at, inner in reversed(list(enumerate(value)))]
