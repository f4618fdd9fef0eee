"""Conversations that agents name themselves: a peer hears a name that is one agent's alone, and each agent its own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from citywatch.adapters.memory import MemoryAnswer
from citywatch.core.errors import Code
from citywatch.core.identity.registration import AgentRow, agent_key, format_row
from citywatch.core.manifest import Peer
from citywatch.core.wire.a2a_own import MAX_NAME
from citywatch.service.ports import Append
from tests.simulation.city import AGENT, KEY
from tests.simulation.test_peers import OTHER, PeerCity, code

BOTH = Peer(callers=("clerk", "other"))


class Talking(PeerCity):
    """A city whose billing takes up whatever conversation it is told of, and remembers what was said in each."""

    def __init__(self) -> None:
        super().__init__(billing=BOTH)
        self.said: dict[str, list[str]] = {}
        self.kept: dict[str, dict[str, Any]] = {}

    def _answer(self, body: bytes) -> MemoryAnswer:
        asked = json.loads(body)
        params = asked["params"]
        if asked["method"] == "GetTask":
            result: dict[str, Any] = self.kept[params["id"]]
        else:
            message = params["message"]
            name = f"t{len(self.kept) + 1}"
            context = message.get("contextId", f"c-{name}")
            self.said.setdefault(context, []).append(message["parts"][0]["text"])
            heard = [{"messageId": "h", "role": "ROLE_USER", "contextId": context, "parts": [{"text": "x"}]}]
            status = {"state": "TASK_STATE_COMPLETED", "message": {**heard[0], "role": "ROLE_AGENT"}}
            result = self.kept[name] = {"id": name, "contextId": context, "status": status, "history": heard}
            result = {"task": result}
        told = {"jsonrpc": "2.0", "id": asked["id"], "result": result}
        return MemoryAnswer([(json.dumps(told).encode(), None)])

    async def talk(self, context: str, text: str = "hello", agent: str = AGENT) -> Any:
        return await self.say(agent=agent, message={"contextId": context, "parts": [{"text": text}]})


async def talking() -> Talking:
    city = Talking()
    await city.open()
    return city


async def test_an_agent_goes_on_with_a_conversation_under_the_name_that_it_gave_it() -> None:
    city = await talking()
    for text in ("one", "two"):
        told = (await city.talk("mine", text))["result"]["task"]
        assert told["contextId"] == told["history"][0]["contextId"] == told["status"]["message"]["contextId"] == "mine"
    ((context, said),) = city.said.items()
    assert said == ["one", "two"]
    assert context != "mine"
    assert (await city.say("GetTask", id="t1"))["result"]["contextId"] == "mine"
    listed = (await city.say("ListTasks", contextId="mine"))["result"]["tasks"]
    assert [one["contextId"] for one in listed] == ["mine", "mine"]
    assert (await city.say("ListTasks", contextId="another"))["result"]["tasks"] == []


async def test_two_agents_that_choose_one_name_have_two_conversations() -> None:
    city = await talking()
    await city.talk("desk", "from clerk")
    told = await city.talk("desk", "from other", OTHER)
    assert told["result"]["task"]["contextId"] == "desk"
    assert sorted(city.said.values()) == [["from clerk"], ["from other"]]


async def test_what_a_peer_began_with_somebody_is_not_gone_on_with_by_naming_it() -> None:
    """The attack: an agent knows how a peer calls its conversation with another, inside of this city or outside."""
    city = await talking()
    outside = "a-conversation-of-another-gateway"
    city.said[outside] = ["secret"]
    inside = (await city.say(agent=OTHER))["result"]["task"]["contextId"]
    assert code(await city.talk(inside)) == Code.PEER_TASK_UNKNOWN
    assert code(await city.talk(outside)) is None
    assert city.said[outside] == ["secret"]


async def test_the_peers_name_of_anothers_conversation_is_worth_nothing() -> None:
    """The attack: the peer, or the log, tells an agent under which name it goes on with another's conversation."""
    city = await talking()
    await city.talk("desk", "from other", OTHER)
    (peers,) = city.said
    assert code(await city.talk(peers)) == Code.PEER_TASK_UNKNOWN
    assert city.said[peers] == ["from other"]


async def test_whoever_is_given_the_name_later_has_conversations_of_its_own() -> None:
    city = await talking()
    await city.talk("desk", "before")
    row = AgentRow(agent=AGENT, keys=(KEY,), added_at=77)
    await city.store.append(Append(puts=((agent_key("clerk"), format_row(row)),)))
    await city.talk("desk", "after")
    assert sorted(city.said.values()) == [["after"], ["before"]]


@pytest.mark.parametrize("length", [MAX_NAME, MAX_NAME + 1])
async def test_a_name_has_a_length(length: int) -> None:
    city = await talking()
    assert (code(await city.talk("x" * length)) is None) is (length <= MAX_NAME)


async def test_what_a_peer_says_in_words_is_not_touched() -> None:
    city = await talking()
    await city.talk("mine")
    (peers,) = city.said
    city.kept["t1"]["artifacts"] = [{"artifactId": "a", "parts": [{"data": {"contextId": peers}}, {"text": peers}]}]
    told = (await city.say("GetTask", id="t1"))["result"]
    assert told["contextId"] == "mine"
    assert told["artifacts"] == city.kept["t1"]["artifacts"]
