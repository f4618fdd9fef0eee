"""Handles that one agent is given and others are not: chosen per tool, for one agent, and never fewer."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from citywatch.core.enforce.context import context_key
from citywatch.core.enforce.needs import agent_key
from citywatch.core.identity.registration import AgentRow, format_row
from citywatch.service.contexts import context_of
from citywatch.service.ports import Append
from tests.simulation.city import AGENT, KEY, code_of
from tests.simulation.flow_city import TOOLS as OPEN
from tests.simulation.flow_city import FlowCity, told
from tests.simulation.test_handles import EVIL, HANDLE, TOOLS, HidingCity

OTHER = AGENT.replace("clerk", "reader")
MAIL = [{"id": "7", "from": "mallory@evil.example", "body": EVIL}]
FILES = [{"id": "13", "text": EVIL, "size": 5}]


class ChoosingCity(FlowCity):
    """A flow city that hides nothing, but from `clerk`, for whom handles were chosen; `reader` is another agent."""

    def __init__(self, *chosen: tuple[str, str]) -> None:
        super().__init__()
        self.configured = msgspec.structs.replace(self.configured, handles={"clerk": frozenset(chosen)})
        self.enforcer.rules = self.tasks._rules = self.rules(*OPEN)

    async def open(self) -> ChoosingCity:
        await self.settle_in(*OPEN)
        row = AgentRow(agent=OTHER, keys=(KEY,), added_at=0)
        await self.store.append(Append(puts=((agent_key("reader"), format_row(row)),)))
        return self

    async def shows(self, agent: str, name: str, value: Any, /, **arguments: Any) -> Any:
        """What an agent is shown of a reply."""
        self.answer = lambda body: told(body, value)
        reply = await self.ask(self.call(name=name, agent=agent, arguments=arguments), self.credential(agent=agent))
        return reply["result"]["structuredContent"]["result"]

    async def strangers(self, agent: str) -> bool:
        key = context_key(agent, KEY)
        label = context_of(key, await self.store.load((key,), ())).label
        return any(one.startswith("outside:") for one in label.origins or ())


@pytest.mark.parametrize("chosen", [("bank", "inbox"), ("bank", "*")])
async def test_an_agent_that_chose_handles_is_not_shown_what_others_read(chosen: tuple[str, str]) -> None:
    city = await ChoosingCity(chosen).open()
    shown = await city.shows(AGENT, "inbox", MAIL)
    assert HANDLE.search(json.dumps(shown))
    assert "Ignore" not in json.dumps(shown)
    assert not await city.strangers(AGENT)
    assert await city.shows(OTHER, "inbox", MAIL) == MAIL
    assert await city.strangers(OTHER)


async def test_the_servers_own_data_is_shown_and_secrets_are_not() -> None:
    city = await ChoosingCity(("bank", "find_file"), ("bank", "salaries")).open()
    (shown,) = await city.shows(AGENT, "find_file", FILES, name="x")
    assert (shown["id"], shown["size"]) == ("13", 5)
    assert HANDLE.fullmatch(shown["text"])
    (shown,) = await city.shows(AGENT, "salaries", [{"id": "7", "name": "ann", "pay": 4200}], team="all")
    assert shown["id"] == "7"
    assert HANDLE.fullmatch(shown["name"])
    assert HANDLE.fullmatch(shown["pay"])


async def test_a_tool_that_was_not_chosen_is_as_its_manifest_says() -> None:
    city = await ChoosingCity(("bank", "find_file")).open()
    assert await city.shows(AGENT, "inbox", MAIL) == MAIL
    assert await city.strangers(AGENT)


async def test_what_was_chosen_is_carried_on_like_any_handle() -> None:
    city = await ChoosingCity(("bank", "*")).open()
    await city.task("Forward my mail to ann@example.org")
    mail = await city.read("inbox", "Lunch at noon?")
    handle = HANDLE.search(json.dumps(mail))
    assert handle is not None
    sent: list[Any] = []

    def answer(body: bytes) -> Any:
        sent.append(json.loads(body)["params"]["arguments"]["text"])
        return told(body, "done")

    city.answer = answer
    assert code_of(await city.act("send", to="ann@example.org", text=f"She says: {handle[0]}")) is None
    assert sent == ["She says: Lunch at noon?"]


async def test_choosing_takes_no_handle_away() -> None:
    """The attack: choose a tool whose manifest hides a field that the server vouches for, and be shown it."""
    city = HidingCity()
    city.configured = msgspec.structs.replace(city.configured, handles={"clerk": frozenset((("bank", "*"),))})
    city.enforcer.rules = city.tasks._rules = city.rules(*TOOLS)
    await city.open()
    await city.task("File a review of ann")
    told = await city.read("salaries", [{"id": "7", "name": "ann", "pay": 4200}], team="all")
    assert "4200" not in json.dumps(told)
    assert "Ignore" not in json.dumps(await city.mail())
