"""The servers of the file as upstreams: over HTTP, as programs, and the gateway's own desk for what it hides.

Decides nothing about calls. INVARIANT: a program gets the environment that the file gives it, and nothing of ours.
"""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from citywatch.adapters.bridge.owner import check_owner
from citywatch.adapters.reader import Desk, Endpoint
from citywatch.adapters.upstream import HttpServer, HttpUpstream, Patience, StdioServer
from citywatch.adapters.upstream.credential import Credential, from_environment, from_file
from citywatch.adapters.upstream.settings import Owned
from citywatch.adapters.upstream.trust import Pin
from citywatch.config import Exchanged, FromEnvironment, FromFile, Http, Program, Reader, Server, Settings
from citywatch.core.enforce import breaker as breakers
from citywatch.core.enforce.own import SERVER as OWN
from citywatch.core.enforce.own import own_tools
from citywatch.core.errors import Malformed
from citywatch.core.manifest import ToolManifest
from citywatch.main.place import Place
from citywatch.service.bulkheads import Guarded, Places
from citywatch.service.ports import Clock, Upstream


class Pins(Protocol):
    """What makes a connection that of somebody who is known by a SPIFFE ID."""

    def of(self, spiffe_id: str) -> Callable[[], Awaitable[Pin]]: ...


def build_upstreams(place: Place, pins: Pins) -> dict[str, Upstream]:
    """The configured servers, ready to be called; `pins` prove those that are known by a SPIFFE ID."""
    upstreams = {name: _upstream(place, server, pins) for name, server in place.settings.servers.items()}
    if _has_handles(place.settings):
        upstreams[OWN] = Desk(_reader(place.settings.reader))
    if any(isinstance(server.reach, Program) for server in place.settings.servers.values()):
        from citywatch.adapters.upstream import StdioUpstream, check_apart

        check_apart(one.server for one in upstreams.values() if isinstance(one, StdioUpstream))
    return upstreams


def guarded(settings: Settings, clock: Clock, upstreams: Mapping[str, Upstream]) -> dict[str, Upstream]:
    """Each behind a bulkhead and a breaker of its own."""
    limits = settings.limits
    places = Places(per_caller=limits.calls_per_caller, in_all=limits.calls_per_upstream, wait_ms=limits.call_wait_ms)
    breaker = breakers.Patience(failures=limits.breaker_failures, rest_ms=limits.breaker_rest_ms)
    return {name: Guarded(name, upstream, clock, places, breaker) for name, upstream in upstreams.items()}


def _has_handles(settings: Settings) -> bool:
    """Whether agents are given handles, so that there is something to ask about."""
    hides = any(tool.hides for server in settings.servers.values() for tool in server.tools.values())
    return hides or any(agent.handles for agent in settings.agents.values())


def own_server(settings: Settings) -> dict[str, dict[str, ToolManifest]]:
    """The gateway's own server, where there are handles to ask about."""
    if not _has_handles(settings):
        return {}
    return {OWN: own_tools(None if settings.reader is None else settings.reader.audience)}


def _reader(settings: Reader | None) -> Endpoint | None:
    if settings is None:
        return None
    seconds = settings.timeout_ms / 1000
    return Endpoint(settings.url, settings.model, secret_at(settings.credential), timeout_s=seconds, ca=settings.ca)


def _upstream(place: Place, server: Server, pins: Pins) -> Upstream:
    seconds = server.timeout_ms / 1000
    patience = Patience(first_byte=seconds, total=max(seconds, Patience().total))
    if isinstance(server.reach, Http):
        reach = server.reach
        takes_tokens = isinstance(reach.credential, Exchanged)
        settings = HttpServer(
            name=server.name,
            url=reach.url,
            ca=reach.ca,
            takes_tokens=takes_tokens,
            patience=patience,
            owned=owned_by(reach.owner),
        )
        pin = pins.of(reach.spiffe_id) if reach.spiffe_id else None
        return HttpUpstream(settings, secret_at(reach.credential), pin)
    from citywatch.adapters.upstream import StdioUpstream

    return StdioUpstream(_stdio(place, server.name, server.reach, patience))


def _stdio(place: Place, name: str, program: Program, patience: Patience) -> StdioServer:
    environment: dict[str, str] = {}
    for key, value in program.env.items():
        if isinstance(value, FromEnvironment):
            if value.name not in os.environ:
                raise Malformed(f"server `{name}` wants `{value.name}` from the environment, and it is not set")
            environment[key] = os.environ[value.name]
        else:
            environment[key] = value
    return StdioServer(
        name=name,
        command=program.command,
        env=environment,
        cwd=program.cwd,
        user=program.user,
        unsafe_same_user=program.user is None,
        private=(str(place.state.resolve()),),
        patience=patience,
    )


def owned_by(account: str) -> Owned | None:
    """What asks whether a connection inside this machine ends at this account; None where none is named."""
    if not account:
        return None
    try:
        uid = int(account) if account.isdigit() else pwd.getpwnam(account).pw_uid
    except KeyError:
        raise Malformed(f"this machine has no account `{account}`, which `owner` names") from None

    async def ask(connection: socket.socket) -> None:
        await check_owner(connection, {uid}, advice=("use https", f"`owner` names `{account}`"))

    return ask


def secret_at(place: FromEnvironment | FromFile | Exchanged | None) -> Credential | None:
    """What gives a credential each time it is needed; None where there is none, or a token for each message."""
    if place is None or isinstance(place, Exchanged):
        return None
    return from_environment(place.name) if isinstance(place, FromEnvironment) else from_file(place.path)
