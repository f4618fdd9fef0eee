"""The agent's end of the wire: it makes tool calls in bytes of its own, and remembers all that it was let see.

Decides nothing: a person (`Person`) answers what was asked, and the call is then made once more, unchanged. INVARIANT:
an agent knows only what `Exchange.request` released to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any

import msgspec

from bench.agentdojo.defence import AGENT, Defended
from bench.agentdojo.suites import Step
from citywatch.core.call import Call, Direction
from citywatch.core.enforce.own import ASK
from citywatch.core.enforce.own import SERVER as OWN
from citywatch.core.errors import Code
from citywatch.core.wire import jsonrpc

REVISION = "2025-11-25"


class Verdict(StrEnum):
    """What became of one call."""

    DONE = "done"
    FAILED = "failed"  # it was forwarded, and the tool itself said no
    ASKED = "asked"
    DENIED = "denied"


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent was told. `asked` says that a person was asked about it, whatever they answered."""

    step: Step
    verdict: Verdict
    code: str = ""
    text: str = ""
    value: Any = None
    asked: bool = False

    @property
    def executed(self) -> bool:
        return self.verdict in (Verdict.DONE, Verdict.FAILED)


Person = Callable[[str, Step], bool]
"""Who wants the call ("user" or "attacker") and the call → whether the person who is asked approves."""


def nobody(by: str, step: Step) -> bool:
    """Asks are denied."""
    return False


def careful(by: str, step: Step) -> bool:
    """Asks are rightly answered: yes to what the user's task needs, no to the attacker."""
    return by == "user"


def yes_man(by: str, step: Step) -> bool:
    """Asks are all approved."""
    return True


PEOPLE: Mapping[str, Person] = {"denied": nobody, "answered": careful, "yesman": yes_man}


class Agent:
    """One agent in one run; `told` is everything that happened to it, in order."""

    def __init__(self, defended: Defended, person: Person = nobody) -> None:
        self.defended = defended
        self.person = person
        self.told: list[Told] = []
        self._number = 0

    async def call(self, step: Step, by: str = "user") -> Told:
        """Make one call; if a person has to be asked, have them answer, and make it again if they approve."""
        call, answer = await self._send(step)
        found = read_told(step, answer)
        if found.verdict is Verdict.ASKED:
            approved = self.person(by, step)
            if await self.defended.answer(call, answer, approved):
                _, answer = await self._send(step)
                found = msgspec.structs.replace(read_told(step, answer), asked=True)
        self.told.append(found)
        return found

    async def ask(self, handle: str, answer: str) -> Any:
        """Ask the reader about a hidden text; the answer as it is given, or None if none comes out."""
        step = Step(ASK, dict(self.defended.question(handle, answer)))
        told = read_told(step, (await self._send(step, OWN))[1])
        self.told.append(told)
        value = told.value if isinstance(told.value, dict) else {}
        return value.get("handle", value.get("answer"))

    async def _send(self, step: Step, server: str | None = None) -> tuple[Call, dict[str, Any]]:
        self._number += 1
        params = {"name": step.tool, "arguments": step.arguments}
        body = {"jsonrpc": "2.0", "id": self._number, "method": "tools/call", "params": params}
        message = jsonrpc.parse_message(json.dumps(body).encode(), jsonrpc.FROM_AGENT)
        assert isinstance(message, jsonrpc.Request)
        assert message.params is not None
        call = Call(
            id=self.defended.chance.call_id(),
            direction=Direction.TO_SERVER,
            agent=AGENT,
            server=server or self.defended.city.server,
            method=message.method,
            name=step.tool,
            arguments=message.params["arguments"],
            body=message.body,
            revision=REVISION,
            rpc_id=message.id,
        )
        outcome = await self.defended.exchange.request(call, self.defended.credential, {})
        answer: dict[str, Any] = json.loads(outcome.body)
        return call, answer

    def seen(self) -> Iterator[str]:
        """Every text that reached the agent."""
        for told in self.told:
            yield told.text
            yield from leaves(told.value)


def read_told(step: Step, answer: Mapping[str, Any]) -> Told:
    """What a JSON-RPC answer says became of a call."""
    result = answer.get("result") or {}
    error = answer.get("error") or {}
    code = (error.get("data") or {}).get("code") or (result.get("_meta") or {}).get("citywatch/code") or ""
    text = "\n".join(part["text"] for part in result.get("content", ()) if part.get("type") == "text")
    if code:
        asked = code == Code.APPROVAL_REQUIRED
        text = text or str(error.get("message", ""))
        return Told(step=step, verdict=Verdict.ASKED if asked else Verdict.DENIED, code=code, text=text, asked=asked)
    if error or result.get("isError"):
        return Told(step=step, verdict=Verdict.FAILED, text=text or str(error.get("message", "")))
    return Told(step=step, verdict=Verdict.DONE, text=text, value=result.get("structuredContent"))


def leaves(value: Any) -> Iterator[str]:
    """Every string in a JSON value, names of members too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, one in value.items():
            yield name
            yield from leaves(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from leaves(one)


def squash(text: str) -> str:
    """A text without what YAML, JSON and line breaks do to it: letters and digits alone, in lower case."""
    return re.sub(r"[\W_]+", "", text).lower()
