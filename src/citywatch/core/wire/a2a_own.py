"""Conversations that an agent names itself: what a peer is told in the place of that name, and the way back.

All agents behind a gateway are one client to a peer. If it were told the name that an agent chose, an agent could go on
with what the peer began with somebody else by knowing, or guessing, how that is called. So the peer is told a name that
only this agent can have, and the agent is told its own.

Decides the two names. Whether an agent may name a conversation itself, `core.enforce.peers` says. INVARIANTS: what a
peer is told begins with a digest of whose it is, so no two agents' names meet, and none is one that a peer made up;
only its owner is told the name that is in it; the way back finds what the way there began with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from citywatch.core.canonical import digest
from citywatch.core.wire.jsonrpc import Response, format_message

MAX_NAME: Final = 256
_START: Final = "cw1."
_MARK: Final = _START.encode()
_DOMAIN: Final = b"citywatch/own-conversation/v1\n"
_KEY: Final = "contextId"
_INSIDE: Final = ("task", "message", "statusUpdate", "artifactUpdate", "status", "history", "tasks")


def peers_name(owner: str, name: str) -> str:
    """What a peer is told where this agent, as it was registered, named a conversation so."""
    return _start(owner) + name


def renamed(response: Response, owner: str) -> Response:
    """A checked reply with the agent's own names in it; the same object where it holds none."""
    if response.result is None or _MARK not in response.body:
        return response
    changed = Response(response.id, _within(response.result, _start(owner)))
    return msgspec.structs.replace(changed, body=format_message(changed))


def _start(owner: str) -> str:
    return f"{_START}{digest(_DOMAIN + owner.encode())[:32]}."


def _within(value: Mapping[str, Any], start: str) -> dict[str, Any]:
    """The names of conversations where A2A has them, and nowhere else: what a peer says besides is data."""
    found = dict(value)
    if type(name := found.get(_KEY)) is str and name.startswith(start):
        found[_KEY] = name.removeprefix(start)
    for key in _INSIDE:
        inner = found.get(key)
        if type(inner) is dict:
            found[key] = _within(inner, start)
        elif type(inner) is list:
            found[key] = [_within(one, start) if type(one) is dict else one for one in inner]
    return found
