"""The client for programs without an event loop: each call is made in a thread of its own that has one.

Decides nothing; it is `Client`, waited for.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from citywatch.sdk.chain import Chain
from citywatch.sdk.client import Client, Reply, Tool
from citywatch.sdk.papers import Papers


class SyncClient:
    """`Client` as `with SyncClient(url, papers=…) as desk`; the parameters and what is raised are the same."""

    def __init__(
        self,
        url: str,
        *,
        papers: Papers = None,
        chain: Chain | None = None,
        task: str | None = None,
        timeout_s: float = 300.0,
    ) -> None:
        self._client = Client(url, papers=papers, chain=chain, task=task, timeout_s=timeout_s)
        self._stack = ExitStack()
        self._portal: Any = None

    def __enter__(self) -> Self:
        from anyio.from_thread import start_blocking_portal

        with ExitStack() as opened:
            self._portal = opened.enter_context(start_blocking_portal())
            opened.enter_context(self._portal.wrap_async_context_manager(self._client))
            self._stack = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def tools(self) -> tuple[Tool, ...]:
        """As `Client.tools`."""
        found: tuple[Tool, ...] = self._portal.call(self._client.tools)
        return found

    def call(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        wait: bool = False,
        patience_s: float | None = None,
    ) -> Reply:
        """As `Client.call`."""

        async def called() -> Reply:
            return await self._client.call(name, arguments, wait=wait, patience_s=patience_s)

        reply: Reply = self._portal.call(called)
        return reply

    def ticket(self, ticket: str, wait_s: float = 0.0) -> tuple[str, int]:
        """As `Client.ticket`."""
        found: tuple[str, int] = self._portal.call(self._client.ticket, ticket, wait_s)
        return found

    def write_plan(self, plan: Mapping[str, Any]) -> Mapping[str, Any]:
        """As `Client.write_plan`."""
        held: Mapping[str, Any] = self._portal.call(self._client.write_plan, plan)
        return held

    def plan(self) -> Mapping[str, Any]:
        """As `Client.plan`."""
        held: Mapping[str, Any] = self._portal.call(self._client.plan)
        return held
