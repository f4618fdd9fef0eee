"""`ListTasks`: an agent is told of its own tasks, and of nothing that another one did."""

from __future__ import annotations

import json
from typing import Any

from citywatch.adapters.memory import MemoryAnswer
from citywatch.core.errors import Code
from citywatch.service.listing import MAX_LISTED
from tests.simulation.test_peers import OTHER, PeerCity, code


class ListCity(PeerCity):
    """A city whose billing keeps the tasks of all its callers, as an agent does that sees them as one client."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, dict[str, Any]] = {}
        self.asked: list[dict[str, Any]] = []
        self.wrong: dict[str, Any] | None = None

    def _answer(self, body: bytes) -> MemoryAnswer:
        request = json.loads(body)
        self.asked.append(request)
        params = request["params"]
        if request["method"] == "SendMessage":
            name = f"t{len(self.kept) + 1}"
            context = params["message"].get("contextId") or f"c{name}"
            at = f"2026-01-01T00:00:{len(self.kept) % 60:02d}Z"
            status = {"state": "TASK_STATE_COMPLETED", "timestamp": at}
            self.kept[name] = {"id": name, "contextId": context, "status": status}
            return self._told(request, {"task": self.kept[name]})
        if request["method"] == "ListTasks":
            return self._told(request, {"tasks": list(self.kept.values()), "totalSize": len(self.kept)})
        if self.wrong is not None:
            return self._told(request, self.wrong)
        if params["id"] not in self.kept:
            error = {"code": -32001, "message": "Task not found"}
            raw = json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": error}).encode()
            return MemoryAnswer([(raw, None)])
        return self._told(request, self.kept[params["id"]])

    def _told(self, request: dict[str, Any], result: dict[str, Any]) -> MemoryAnswer:
        return MemoryAnswer([(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}).encode(), None)])

    async def listed(self, agent: str | None = None, **params: Any) -> dict[str, Any]:
        told = await (
            self.say("ListTasks", **params) if agent is None else self.say("ListTasks", agent=agent, **params)
        )
        result: dict[str, Any] = told["result"]
        return result


async def test_an_agent_is_told_of_its_own_tasks_and_not_how_many_others_there_are() -> None:
    """The attack: billing takes all agents for one, and would list, count and page through the tasks of everybody."""
    city = ListCity()
    await city.open()
    for _ in range(3):
        await city.say()
        await city.say(agent=OTHER)
    found = await city.listed()
    assert {one["id"] for one in found["tasks"]} == {"t1", "t3", "t5"}
    assert (found["totalSize"], found["nextPageToken"]) == (3, "")
    assert {one["id"] for one in (await city.listed(OTHER))["tasks"]} == {"t2", "t4", "t6"}
    assert not [one for one in city.asked if one["method"] == "ListTasks"]
    first = await city.listed(pageSize=2)
    rest = await city.listed(pageSize=2, pageToken=first["nextPageToken"])
    assert [one["id"] for one in first["tasks"] + rest["tasks"]] == ["t5", "t3", "t1"]
    assert (await city.listed(OTHER, pageToken=first["nextPageToken"]))["totalSize"] == 3


async def test_what_another_agent_does_changes_nothing_in_a_list() -> None:
    city = ListCity()
    await city.open()
    await city.say()
    before = await city.listed()
    for _ in range(2 * MAX_LISTED):
        await city.say(agent=OTHER)
    city.asked.clear()
    assert await city.listed() == before
    assert len(city.asked) == 1


async def test_a_list_costs_the_peer_a_bounded_number_of_requests_and_has_the_newest() -> None:
    city = ListCity()
    await city.open()
    for _ in range(MAX_LISTED + 3):
        await city.say()
        city.clock.advance(1)
    city.asked.clear()
    found = await city.listed()
    assert len(city.asked) == MAX_LISTED == found["totalSize"]
    assert "t1" not in {one["id"] for one in found["tasks"]}
    assert f"t{MAX_LISTED + 3}" in {one["id"] for one in found["tasks"]}


async def test_a_conversation_of_somebody_else_has_no_tasks() -> None:
    city = ListCity()
    await city.open()
    await city.say()
    await city.say(agent=OTHER)
    assert [one["id"] for one in (await city.listed(contextId="ct1"))["tasks"]] == ["t1"]
    assert (await city.listed(contextId="ct2"))["tasks"] == (await city.listed(contextId="none"))["tasks"] == []


async def test_a_task_that_is_gone_is_left_out_and_another_ones_is_malformed() -> None:
    city = ListCity()
    await city.open()
    await city.say()
    await city.say(agent=OTHER)
    city.wrong = city.kept["t2"]
    assert code(await city.say("ListTasks")) == Code.REPLY_MALFORMED
    city.wrong = None
    del city.kept["t1"]
    assert (await city.listed())["tasks"] == []


async def test_an_id_that_was_given_to_one_agent_is_not_given_to_another() -> None:
    """The attack: an agent gets a peer to repeat an id, and would own the task from then on."""
    city = ListCity()
    await city.open()
    await city.say()
    city.kept.clear()
    await city.say(agent=OTHER)
    assert code(await city.say("GetTask", agent=OTHER, id="t1")) == Code.PEER_TASK_UNKNOWN
    assert code(await city.say("GetTask", id="t1")) is None
