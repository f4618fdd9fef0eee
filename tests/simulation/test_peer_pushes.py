"""Pushes: a peer pushes to us, and an agent is sent at its own address what was settled, once, of its own tasks."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from citywatch.adapters.memory import MemoryAnswer
from citywatch.core import events
from citywatch.core.call import Call
from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from citywatch.core.identity.registration import AgentRow, agent_key, format_row
from citywatch.core.manifest import Clearance, Delivery, Peer
from citywatch.core.policy.cedar import Source, parse_policies
from citywatch.core.wire import a2a, a2a_push
from citywatch.core.wire.jsonrpc import FROM_SERVER, Message, parse_message
from citywatch.service.ports import Append
from citywatch.service.push_rows import drop_pushes
from citywatch.service.pushes import MAX_CONFIGS, PATH, PER_MINUTE, Pushes
from tests.simulation.city import AGENT, KEY
from tests.simulation.test_peers import DONE, OTHER, POLICY, PeerCity, code, says

BASE, OWN, OTHERS = "https://gate.example", "https://clerk.example/hook", "https://other.example/hook"
BELOW = ("https://*.hooks.example/in/*", "http://127.0.0.1:*/*")
PERMIT = '@id("push") permit(principal, action in Action::"peer_push", resource == Peer::"billing");'
CREATE = "CreateTaskPushNotificationConfig"
WORKING = {"id": "t1", "contextId": "c1", "status": {"state": "TASK_STATE_WORKING"}}


def update(task: str = "t1", text: str = "on it", state: str = "WORKING") -> dict[str, Any]:
    message = {"messageId": "r", "role": "ROLE_AGENT", "parts": [{"text": text}]}
    status = {"state": f"TASK_STATE_{state}", "message": message}
    return {"statusUpdate": {"taskId": task, "contextId": "c1", "status": status}}


class Inbox:
    """Where an agent takes its pushes."""

    def __init__(self) -> None:
        self.got: list[tuple[Any, str, str]] = []
        self.at: list[tuple[str, bool]] = []
        self.away = False

    async def push(self, url: str, body: bytes, authorization: str, token: str, *, public: bool) -> None:
        if self.away:
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE)
        self.at.append((url, public))
        self.got.append((json.loads(body), authorization, token))

    async def close(self) -> None: ...


class PushCity(PeerCity):
    """A city whose billing may push; `configs` is what it was told, `clerk` and `other` are what the agents got."""

    def __init__(self, **changes: Any) -> None:
        addresses = {"clerk": (OWN,), "other": (OTHERS,)}
        peer = Peer(callers=("clerk", "other"), push=BASE, pushes=addresses)
        super().__init__(billing=msgspec.structs.replace(peer, **changes))
        self.policies = parse_policies([Source("test.cedar", POLICY + PERMIT)])
        self.again()
        self.clerk, self.other = Inbox(), Inbox()
        self.exchange.pushes = Pushes(
            self.enforcer,
            self.exchange.outward,
            self.exchange.replies,
            {"clerk": self.clerk, "other": self.other},
            FROM_SERVER,
        )
        self.configs: list[dict[str, Any]] = []
        self.removed: list[dict[str, Any]] = []
        self.fails = False

    def _answer(self, body: bytes) -> MemoryAnswer:
        request = json.loads(body)
        params = request["params"]
        if self.fails:
            error = {"code": -32003, "message": "no pushes"}
            return MemoryAnswer([(json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": error}).encode(), None)])
        if request["method"] == CREATE:
            self.configs.append(params)
            return self._told(request, params)
        if request["method"].startswith("Delete"):
            self.removed.append(params)
            return self._told(request, {})
        inline = params.get("configuration", {}).get("taskPushNotificationConfig")
        if inline is not None:
            self.configs.append(inline)
        return super()._answer(body)

    def _told(self, request: dict[str, Any], result: dict[str, Any]) -> MemoryAnswer:
        return MemoryAnswer([(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}).encode(), None)])

    async def say(self, method: str = "SendMessage", peer: str = "billing", agent: str = AGENT, **params: Any) -> Any:
        """What an agent asks, its secrets parted from it as the gateway does."""
        call = self.message(method, peer, agent, **params)
        message = parse_message(call.body, FROM_SERVER)
        plain, target = a2a_push.parted(message)
        call = self._plain(call, plain)
        outcome = await self.exchange.request(call, self.credential(agent=agent), {}, target)
        return json.loads(outcome.body)

    def _plain(self, call: Call, plain: Message) -> Call:
        reading = a2a.read_request(plain)
        return msgspec.structs.replace(call, body=plain.body, arguments=reading.arguments)

    async def started(self, agent: str = AGENT, task: str = "t1") -> None:
        self.heard = [{"task": WORKING | {"id": task}}]
        assert code(await self.say(agent=agent)) is None

    async def asked(self, agent: str = AGENT, task: str = "t1", url: str = OWN, **more: Any) -> Any:
        return await self.say(CREATE, agent=agent, taskId=task, url=url, **more)

    async def push(self, value: Any, config: int = -1, secret: str | None = None) -> None:
        """What billing pushes, with what it was told."""
        told = self.configs[config]
        address = told["url"].removeprefix(BASE + PATH)
        key = await self.exchange.pushes.known(address, [told["token"] if secret is None else secret])
        await self.exchange.pushes.receive(key, json.dumps(value).encode())

    async def refused(self, value: Any, config: int = -1, secret: str | None = None) -> Code:
        with pytest.raises((Refused, Unavailable)) as found:
            await self.push(value, config, secret)
        assert isinstance(found.value, Refused | Unavailable)
        return found.value.code


async def opened(**changes: Any) -> PushCity:
    city = PushCity(**changes)
    await city.open()
    await city.started()
    return city


async def test_a_push_is_settled_and_then_sent_to_the_agents_own_address_with_its_own_secrets() -> None:
    city = await opened()
    told = await city.asked(token="tok", authentication={"scheme": "Bearer", "credentials": "abc"}, id="mine")
    assert told["result"] == {"taskId": "t1", "id": "mine", "url": OWN}
    await city.push(update())
    await city.push({"artifactUpdate": {"taskId": "t1", "artifact": {"artifactId": "a", "parts": [{"text": "x"}]}}})
    assert city.clerk.got[0][0] == update()
    assert {(auth, token) for _, auth, token in city.clerk.got} == {("Bearer abc", "tok")}
    found = await city.events()
    subscribed = [one for one in found if isinstance(one, events.Decided) and one.method == "SubscribeToTask"][-1]
    settled = [one for one in found if isinstance(one, events.Settled) and one.call == subscribed.call]
    assert [(one.message, one.outcome) for one in settled] == [(0, "released"), (1, "released")]


async def test_a_peer_is_told_our_address_and_nothing_of_the_agents() -> None:
    """The attack: with the agent's own address a peer would reach it beside us, or whatever is named in its place."""
    city = await opened()
    await city.asked(token="tok", authentication={"scheme": "Bearer", "credentials": "abc"}, id="mine")
    (told,) = city.configs
    assert told["url"].startswith(f"{BASE}{PATH}")
    assert told["taskId"] == "t1"
    assert not {"tok", "abc", "mine", OWN} & set(json.dumps(told).split('"'))
    kept = b"".join([row.value for kind in ("push", "pushes") for _, row in await city.store.scan(kind)])
    assert told["token"].encode() not in kept
    assert told["url"].removeprefix(BASE + PATH).encode() not in kept
    for index in range(await city.store.sync()):
        payload = await city.store.payload(index)
        assert payload is None or not any(one in payload.body for one in (b"abc", b'tok"', told["token"].encode()))


@pytest.mark.parametrize(
    "url", [OTHERS, OWN + "/more", "http://169.254.169.254/latest", "http://127.0.0.1:8460/citywatch/renew", ""]
)
async def test_an_address_in_a_message_is_only_the_one_in_the_file(url: str) -> None:
    """The attack: the gateway is made to post into its own network, or to somebody else."""
    city = await opened()
    assert code(await city.asked(url=url)) == Code.PUSH_ADDRESS_UNKNOWN
    config = {"taskPushNotificationConfig": {"url": url}}
    assert code(await city.say(configuration=config)) == Code.PUSH_ADDRESS_UNKNOWN
    assert not city.configs


async def test_where_the_file_names_no_addresses_there_are_no_pushes() -> None:
    for changes in ({"push": ""}, {"pushes": {"other": OTHERS}}):
        city = await opened(**changes)
        assert code(await city.asked()) == Code.PUSH_UNSUPPORTED
        for task in ("t1", "there-is-none"):  # SPEC: A2A 1.0 §3.3.4: that comes first, whatever the request names
            assert code(await city.say("ListTaskPushNotificationConfigs", taskId=task)) == Code.PUSH_UNSUPPORTED
        assert not city.configs


async def test_nobody_asks_for_the_pushes_of_anothers_task() -> None:
    city = await opened()
    await city.asked()
    assert code(await city.asked(agent=OTHER, url=OTHERS)) == Code.PEER_TASK_UNKNOWN
    for method in ("Get", "Delete"):
        name = f"{method}TaskPushNotificationConfig"
        assert code(await city.say(name, agent=OTHER, taskId="t1", id="x")) == Code.PEER_TASK_UNKNOWN
    assert code(await city.say("ListTaskPushNotificationConfigs", agent=OTHER, taskId="t1")) == Code.PEER_TASK_UNKNOWN
    assert len(city.configs) == 1


async def test_who_does_not_know_the_secret_pushes_nothing() -> None:
    city = await opened()
    await city.asked()
    assert await city.refused(update(), secret="guess") == Code.PUSH_UNKNOWN
    assert await city.refused(update(), secret="") == Code.PUSH_UNKNOWN
    with pytest.raises(Refused):
        await city.exchange.pushes.known("0" * 64, [city.configs[0]["token"]])
    with pytest.raises(Refused):
        await city.exchange.pushes.known(city.configs[0]["url"].removeprefix(BASE + PATH), [])
    assert not city.clerk.got


async def test_a_push_comes_once_and_about_its_own_task() -> None:
    """The attack: a peer that has one agent's address tells it of another's task, or the same thing again and again."""
    city = await opened()
    await city.asked()
    await city.started(OTHER, "t2")
    await city.asked(agent=OTHER, task="t2", url=OTHERS)
    await city.push(update(), 0)
    assert await city.refused(update(), 0) == Code.PUSH_UNKNOWN
    assert await city.refused(update("t2"), 0) == Code.PUSH_UNKNOWN
    assert await city.refused(update("t1"), 1) == Code.PUSH_UNKNOWN
    await city.push(update("t2"), 1)
    assert (len(city.clerk.got), len(city.other.got)) == (1, 1)


async def test_what_is_no_push_is_none() -> None:
    city = await opened()
    await city.asked()
    wrong: list[Any] = [{}, [], {"task": {}}, {"statusUpdate": {}}, {"message": says("x")["message"]}, update() | DONE]
    wrong.append({"artifactUpdate": {"taskId": "t1", "artifact": {"parts": [{"url": "http://10.0.0.1/"}]}}})
    for value in wrong:
        with pytest.raises(Malformed):
            await city.push(value)
    assert not city.clerk.got


async def test_pushes_come_no_faster_than_they_may() -> None:
    city = await opened()
    await city.asked()
    for number in range(PER_MINUTE):
        await city.push(update(text=str(number)))
    assert await city.refused(update(text="more")) == Code.OVERLOADED
    city.clock.advance(60_000)
    await city.push(update(text="more"))


async def test_a_push_that_its_agent_did_not_take_may_come_again() -> None:
    city = await opened()
    await city.asked()
    city.clerk.away = True
    assert await city.refused(update()) == Code.UPSTREAM_UNAVAILABLE
    city.clerk.away = False
    await city.push(update())
    assert len(city.clerk.got) == 1


async def test_nothing_is_pushed_to_an_agent_that_was_revoked_however_long_its_papers_were_good() -> None:
    city = await opened()
    await city.asked()
    city.clock.advance(10 * 24 * 3_600_000)  # its papers have ended, and the task goes on
    await city.push(update())
    row = AgentRow(agent=AGENT, keys=(KEY,), added_at=0, revoked=True)
    await city.store.append(Append(puts=((agent_key("clerk"), format_row(row)),)))
    assert await city.refused(update(text="later")) == Code.AGENT_REVOKED
    assert len(city.clerk.got) == 1


async def test_configurations_are_shown_listed_and_removed() -> None:
    city = await opened()
    await city.asked(id="a")
    await city.asked(id="b", token="t")
    listed = await city.say("ListTaskPushNotificationConfigs", taskId="t1")
    assert [one["id"] for one in listed["result"]["configs"]] == ["a", "b"]
    got = await city.say("GetTaskPushNotificationConfig", taskId="t1", id="b")
    assert got["result"] == {"taskId": "t1", "id": "b", "url": OWN}
    assert (await city.say("DeleteTaskPushNotificationConfig", taskId="t1", id="b"))["result"] == {}
    assert [one["id"] for one in city.removed] == [city.configs[1]["id"]]
    assert (await city.say("DeleteTaskPushNotificationConfig", taskId="t1", id="b"))["result"] == {}
    assert code(await city.say("GetTaskPushNotificationConfig", taskId="t1", id="b")) == Code.PEER_TASK_UNKNOWN
    assert await city.refused(update(), 1) == Code.PUSH_UNKNOWN
    await city.asked(id="a")  # the same id takes the place of the one before
    listed = await city.say("ListTaskPushNotificationConfigs", taskId="t1")
    assert [one["id"] for one in listed["result"]["configs"]] == ["a"]
    assert await city.refused(update(), 0) == Code.PUSH_UNKNOWN


async def test_there_are_not_too_many_for_one_task() -> None:
    city = await opened()
    for number in range(MAX_CONFIGS):
        assert code(await city.asked(id=str(number))) is None
    assert code(await city.asked(id="more")) == Code.OVERLOADED


async def test_a_peer_that_pushes_nothing_leaves_nothing() -> None:
    city = await opened()
    city.fails = True
    assert (await city.asked())["error"]["code"] == -32003
    assert not await city.store.scan("push")
    assert not await city.store.scan("pushes")


async def test_a_message_asks_for_pushes_of_the_task_that_it_starts() -> None:
    city = PushCity()
    await city.open()
    config = {"taskPushNotificationConfig": {"url": OWN, "token": "tok", "id": "in"}}
    city.heard = [{"task": WORKING | {"id": "t9"}}]
    assert code(await city.say(configuration=config)) is None
    await city.push(update("t9"))
    assert city.clerk.got == [(update("t9"), "", "tok")]
    listed = await city.say("ListTaskPushNotificationConfigs", taskId="t9")
    assert [one["id"] for one in listed["result"]["configs"]] == ["in"]
    city.heard = [says("no task")]
    assert code(await city.say(configuration=config)) is None
    assert await city.refused(update("t9", "again")) == Code.PUSH_UNKNOWN


async def test_a_push_that_is_faster_than_the_reply_is_taken_unless_the_task_is_somebody_elses() -> None:
    city = await opened()
    await city.started(OTHER, "t2")
    for task, expected in (("t2", Code.PUSH_UNKNOWN), ("t3", None)):
        call = city.message(configuration={"taskPushNotificationConfig": {"url": OWN}})
        plain, target = a2a_push.parted(parse_message(call.body, FROM_SERVER))
        judged = await city.enforcer.judge(city._plain(call, plain), city.credential())
        early = await city.exchange.pushes.open(judged, target)
        assert early is not None
        city.configs.append(dict(early.config))
        if expected is None:
            await city.push(update(task))
        else:
            assert await city.refused(update(task)) == expected
    assert [one["statusUpdate"]["taskId"] for one, _, _ in city.clerk.got] == ["t3"]


async def test_where_something_is_kept_back_there_are_no_pushes() -> None:
    city = await opened()
    city.again(clearances={"clerk": Clearance(content={"secret": Delivery.REDACT})})
    assert code(await city.asked()) == Code.CONTENT_WITHHELD


async def test_what_no_policy_permits_is_not_asked_for() -> None:
    city = await opened()
    city.policies = parse_policies([Source("test.cedar", POLICY)])
    city.again()
    assert code(await city.asked()) == Code.NO_PERMIT


async def test_an_address_within_a_pattern_is_pushed_to_and_must_be_public_unless_it_is_a_number() -> None:
    city = await opened(pushes={"clerk": (OWN, *BELOW)})
    for number, url in enumerate(("https://a.hooks.example/in/x", "http://127.0.0.1:9/h", OWN)):
        await city.asked(url=url, id=str(number))
        await city.push(update(text=url))
    assert city.clerk.at == [("https://a.hooks.example/in/x", True), ("http://127.0.0.1:9/h", False), (OWN, False)]


@pytest.mark.parametrize("url", ["https://a.hooks.example/out", "https://hooks.example/in/x", "http://10.0.0.1:9/h"])
async def test_an_address_outside_of_every_pattern_is_refused(url: str) -> None:
    """The attack: an agent has what it receives sent on, to wherever it likes."""
    city = await opened(pushes={"clerk": (OWN, *BELOW), "other": (OTHERS,)})
    assert code(await city.asked(url=url)) == Code.PUSH_ADDRESS_UNKNOWN
    assert code(await city.asked(agent=OTHER, url="https://a.hooks.example/in/x")) is not None
    assert not city.configs


async def test_a_configuration_by_which_nothing_comes_is_over_and_forgotten() -> None:
    """The attack: an address that somebody learnt long ago still brings an agent words."""
    city = await opened()
    memory = city.enforcer.rules.push_memory_ms
    await city.asked()
    city.clock.advance(memory)
    await city.push(update())  # used: it is good for as long again
    city.clock.advance(memory)
    assert await drop_pushes(city.store, city.clock.now_ms(), memory) == 0
    city.clock.advance(1)
    assert await city.refused(update(text="late")) == Code.PUSH_UNKNOWN
    told = await city.say("ListTaskPushNotificationConfigs", taskId="t1")
    assert told["result"]["configs"] == []
    assert await drop_pushes(city.store, city.clock.now_ms(), memory) == 1
    assert not [key for kind in ("push", "pushes") for key, _ in await city.store.scan(kind)]


async def test_a_configuration_of_an_earlier_version_begins_to_age_when_it_is_seen() -> None:
    city = await opened()
    await city.asked()
    ((row_id, stored),) = await city.store.scan("push")
    old = msgspec.json.decode(stored.value)
    del old["used"]
    await city.store.append(Append(puts=((("push", row_id), msgspec.json.encode(old)),)))
    memory = city.enforcer.rules.push_memory_ms
    assert await drop_pushes(city.store, city.clock.now_ms(), memory) == 0
    await city.push(update())
    city.clock.advance(memory + 1)
    assert await drop_pushes(city.store, city.clock.now_ms(), memory) == 1
