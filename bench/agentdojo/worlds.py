"""A world of tools behind the gateway's `Upstream` port, in process: it runs what is forwarded, and answers in MCP.

Decides nothing. A world is a function from a tool's name and its arguments to what came of it (`Ran`); the suites'
environments, recorded transcripts and the tests' toys are such functions. INVARIANTS: a world is reached only by
bytes that the exchange forwarded; what it answered is kept beside (`answered`), so that a harness can compare what the
server said with what the agent was let see.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from citywatch.adapters.memory import MemoryAnswer
from citywatch.core.errors import Code, Unavailable
from citywatch.core.identity.access import AccessToken


class Ran(NamedTuple):
    """What came of one tool call: its value as JSON, the text a model would be shown, and whether it failed."""

    value: Any
    text: str
    failed: bool = False


Run = Callable[[str, dict[str, Any]], Ran]
"""A tool's name and its arguments → what came of it."""


def result_of(ran: Ran) -> dict[str, Any]:
    """The MCP result: what is no object is wrapped as SDK servers wrap it; a failure has its text and nothing else."""
    content = [{"type": "text", "text": ran.text}]
    if ran.failed:
        return {"content": content, "isError": True}
    structured = ran.value if isinstance(ran.value, dict) else {"result": ran.value}
    return {"content": content, "structuredContent": structured, "isError": False}


class World:
    """`service.ports.Upstream` over a `Run`; `answered` holds each structured value, in the order of the calls."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.answered: list[Ran] = []

    async def send(
        self,
        caller: str,
        body: bytes,
        headers: Mapping[str, str],
        session: str | None,
        *,
        repeatable: bool,
        token: AccessToken | None = None,
    ) -> MemoryAnswer:
        asked = json.loads(body)
        if asked["method"] != "tools/call":
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, "this world has tools and nothing else")
        ran = self.run(asked["params"]["name"], asked["params"].get("arguments") or {})
        self.answered.append(ran)
        reply = {"jsonrpc": "2.0", "id": asked["id"], "result": result_of(ran)}
        return MemoryAnswer([(json.dumps(reply, ensure_ascii=False).encode(), None)])

    async def listen(
        self, caller: str, headers: Mapping[str, str], session: str | None, *, token: AccessToken | None = None
    ) -> MemoryAnswer:
        raise Unavailable(Code.UPSTREAM_UNAVAILABLE, "this world never speaks unasked")

    async def end(
        self, caller: str, headers: Mapping[str, str], session: str, *, token: AccessToken | None = None
    ) -> int:
        return 200

    def callers(self) -> tuple[str, ...]:
        return ()

    async def dismiss(self, caller: str) -> None:
        """Nothing runs."""

    async def close(self) -> None:
        """Nothing is open."""
