"""What is asked, what is answered: `Call`, `Decision`, `Reply`. Plain frozen facts; nothing is decided here.

INVARIANTS: all types are frozen; a `Decision` always has a reason code or a policy that permitted it; there is no
third value that could be read as yes.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from citywatch.core.errors import Code
from citywatch.core.label import Label


class Direction(StrEnum):
    """Who asks whom: an agent a server, or (sampling, elicitation, roots, notifications) a server an agent."""

    TO_SERVER = "to_server"
    TO_AGENT = "to_agent"


class Effect(StrEnum):
    """What a call does to the world; an undeclared tool counts as irreversible."""

    READ = "read"
    WRITE = "write"
    IRREVERSIBLE = "irreversible"


class Asserted(msgspec.Struct, frozen=True, kw_only=True):
    """What a foreign issuer says: whose token it is, and who acts for them, from the first actor to the present one."""

    issuer: str
    subject: str
    actors: tuple[str, ...] = ()


class Continuation(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent adds to a call that it makes again: its answers by the server's keys, and the server's own state.

    SPEC: MCP 2026-07-28, `inputResponses` and `requestState`.
    """

    responses: Mapping[str, Any]
    state: str | None


class Filled(msgspec.Struct, frozen=True, kw_only=True):
    """Where a handle stood in a call's arguments, and what stands behind it: its source, the field there, its label.

    `trusted`: a server of ours vouches for the value. `inert`: it is a number, a date or the like, and can carry no
    instruction. `whole`: it is an argument of the call by itself. The value is in the call's arguments and in its body,
    and nowhere else.
    """

    path: str
    handle: str
    source: str
    field: str
    trusted: bool
    inert: bool
    label: Label
    whole: bool = False


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One attempted act, in either direction.

    `agent` is the SPIFFE ID text of the agent at the gateway's near side; `server` is the configured name of the far
    side. `name` is the tool, prompt or resource URI that the method names, `arguments` the JSON object policy may see
    (for `tools/call` the arguments, otherwise the params without `_meta`). `body` is our own re-serialisation of the
    whole JSON-RPC message: what is judged is what is forwarded. `continuation` is there if the message answers what
    the server asked in its reply to an earlier, otherwise identical call. `filled` are the handles that the agent
    wrote: arguments and body hold their values. `task` is the one that the agent names, `chain` the links that
    it shows. `about` is the tool on whose stream a server's own message came. `things` are the tasks and conversations
    with another agent that a message goes on with; `type` is the one that a message says it has. `asserted` is what a
    foreign issuer says of whoever calls, verified; it is nobody's authority. `tightened` is what a sender adds to the
    label of its own message, `brought` the label in a verified envelope of another trust domain's gateway.
    """

    id: str
    direction: Direction
    agent: str
    server: str
    method: str
    name: str | None
    arguments: Mapping[str, Any]
    body: bytes
    revision: str
    session: str | None = None
    rpc_id: str | int | None = None
    continuation: Continuation | None = None
    filled: tuple[Filled, ...] = ()
    task: str | None = None
    about: str | None = None
    chain: tuple[str, ...] = ()
    things: tuple[tuple[str, str], ...] = ()
    tightened: Label | None = None
    brought: Label | None = None
    type: str = ""
    asserted: Asserted | None = None


class Reason(msgspec.Struct, frozen=True):
    """One reason of a decision: a code, the policies that spoke, and one line for a person."""

    code: Code
    policies: tuple[str, ...] = ()
    detail: str = ""


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """A label that was let down, for one value of one call; only `flow.release` makes one.

    `path` is the argument and `role` what it does; `how` names the rule, `source` says where the value stands or who
    vouches for it, `items` are digests of what holds it. `was` and `now` are the label before and after.
    """

    path: str
    role: str
    how: str
    source: str
    items: tuple[str, ...]
    was: Label
    now: Label
    reason: str


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where one value of a call came from that waits for a person.

    `path` and `role` say where it stands and what it does there; `how` is the rule by which it would pass (empty:
    nothing entitles it), `where` one line about that; `label` is who could have shaped it, and who may see it. If it
    stands in an item, `item` is that one's source, with the instant and the call (or task) that brought it, the part's
    path, and the first and last character there. `traced`: the gates ask where it came from.
    """

    path: str
    role: str
    how: str
    where: str
    label: Label
    item: str = ""
    at: int = 0
    call: str = ""
    part: str = ""
    start: int = 0
    end: int = 0
    traced: bool = True


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """What a person's yes to one call is bound to, beside the ticket itself (`approvals.binding`).

    `pin` is the digest of the tool's definition, `arguments` of all arguments as they would be forwarded; `names` are
    the things and people that they name, as the gates read them: path, role, normal form. `labels` say of each traced
    value who could have shaped it. `chain` are the hashes of the links that the call is made under, `policies` those
    that let it come so far, `code` why a person is asked.
    """

    agent: str
    server: str
    tool: str
    effect: str
    pin: str
    arguments: str
    names: tuple[tuple[str, str, str], ...]
    labels: tuple[tuple[str, Label], ...]
    chain: tuple[str, ...]
    policies: tuple[str, ...]
    code: str
    task: str
    discloses: bool = False


class Allow(msgspec.Struct, frozen=True, tag=True):
    """The call may be forwarded. `policies` are the ids of the permits that matched, never empty.

    `sources` says of each argument that steers the act what entitled it to; `releases` are the labels that were let
    down for it.
    """

    policies: tuple[str, ...]
    sources: tuple[str, ...] = ()
    releases: tuple[Release, ...] = ()


class Ask(msgspec.Struct, frozen=True, tag=True):
    """Only a person may allow this call. Nothing is forwarded until then.

    `of` are the principals of whom one has to (None: whoever is on call may), `shown` the values that stopped it, each
    with its role, and `exact` a digest of the arguments, words aside. `discloses`: it would reach who may not see it.
    `bound` is what a yes would be bound to, `sources` where each value came from, `authority` the principals in whose
    name the agent acts.
    """

    reason: Reason
    of: tuple[str, ...] | None = None
    exact: str = ""
    shown: tuple[tuple[str, str | int | float | bool | None], ...] = ()
    discloses: bool = False
    bound: Bound | None = None
    sources: tuple[Source, ...] = ()
    authority: tuple[str, ...] = ()


class Deny(msgspec.Struct, frozen=True, tag=True):
    """The call is refused."""

    reason: Reason


Decision = Allow | Ask | Deny


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """One message that came back for a call: our own re-serialisation, and whether it ends the exchange."""

    call: str
    body: bytes
    final: bool
    is_error: bool
