"""The agents behind the gateway, for programs without an event loop.

Decides nothing; it is `Peers`, waited for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from citywatch.sdk.chain import Chain
from citywatch.sdk.papers import Papers
from citywatch.sdk.peers import Answer, Peers


class SyncPeers:
    """`Peers` as `with SyncPeers(url, papers=…) as peers`; the parameters and what is raised are the same."""

    def __init__(
        self,
        url: str,
        *,
        papers: Papers = None,
        chain: Chain | None = None,
        task: str | None = None,
        timeout_s: float = 300.0,
    ) -> None:
        self._peers = Peers(url, papers=papers, chain=chain, task=task, timeout_s=timeout_s)
        self._stack = ExitStack()
        self._portal: Any = None

    def __enter__(self) -> Self:
        from anyio.from_thread import start_blocking_portal

        with ExitStack() as opened:
            self._portal = opened.enter_context(start_blocking_portal())
            opened.enter_context(self._portal.wrap_async_context_manager(self._peers))
            self._stack = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def card(self, peer: str) -> Mapping[str, Any]:
        """As `Peers.card`."""
        found: Mapping[str, Any] = self._portal.call(self._peers.card, peer)
        return found

    def send(
        self,
        peer: str,
        said: str | Sequence[Mapping[str, Any]],
        *,
        skill: str | None = None,
        type: str | None = None,
        task: str | None = None,
        chain: Chain | None = None,
        handed: Chain | None = None,
        after: Answer | None = None,
        at_once: bool = False,
        wait: bool = False,
        patience_s: float | None = None,
    ) -> Answer:
        """As `Peers.send`."""
        named: dict[str, Any] = {"skill": skill, "type": type, "task": task, "chain": chain}
        named |= {"handed": handed, "after": after}
        named["at_once"] = at_once

        async def sent() -> Answer:
            return await self._peers.send(peer, said, wait=wait, patience_s=patience_s, **named)

        answer: Answer = self._portal.call(sent)
        return answer

    def stream(
        self,
        peer: str,
        said: str | Sequence[Mapping[str, Any]],
        *,
        skill: str | None = None,
        type: str | None = None,
        task: str | None = None,
        chain: Chain | None = None,
        handed: Chain | None = None,
        after: Answer | None = None,
    ) -> Iterator[Answer]:
        """As `Peers.stream`."""
        named: dict[str, Any] = {"skill": skill, "type": type, "task": task, "chain": chain}
        named |= {"handed": handed, "after": after}
        pieces: Any = self._peers.stream(peer, said, **named)
        try:
            while True:
                try:
                    piece: Answer = self._portal.call(pieces.__anext__)
                except StopAsyncIteration:
                    return
                yield piece
        finally:
            self._portal.call(pieces.aclose)

    def get_task(self, peer: str, peer_task: str) -> Answer:
        """As `Peers.get_task`."""
        answer: Answer = self._portal.call(self._peers.get_task, peer, peer_task)
        return answer

    def cancel_task(self, peer: str, peer_task: str) -> Answer:
        """As `Peers.cancel_task`."""
        answer: Answer = self._portal.call(self._peers.cancel_task, peer, peer_task)
        return answer

    def ticket(self, ticket: str, wait_s: float = 0.0) -> tuple[str, int]:
        """As `Peers.ticket`."""
        found: tuple[str, int] = self._portal.call(self._peers.ticket, ticket, wait_s)
        return found
