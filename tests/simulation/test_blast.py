"""How far something went: what really flows in a simulated city, where every agent says all that it knows, is named."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citywatch.adapters.memory import MemoryAnswer
from citywatch.core import events
from citywatch.core.call import Effect
from citywatch.core.enforce.spread import Touch
from citywatch.core.errors import Malformed
from citywatch.core.identity.registration import AgentRow, agent_key, format_row
from citywatch.core.log.entry import encode_event
from citywatch.core.manifest import Output, Parameter, Role, ToolManifest
from citywatch.main.replay import rebuild
from citywatch.service.blast import blast, find_roots
from citywatch.service.ports import Append, NewEntry
from tests.simulation.city import DOMAIN, code_of
from tests.simulation.flow_city import ANN, TRUSTED, FlowCity, told, tool

AGENTS = ("clerk", "courier", "cook")
TOOLS = (
    tool("inbox"),
    tool("write", id="string", text="string"),
    tool("read", id="string"),
    tool("list"),
    tool("post", text="string"),
    tool("payees"),
    tool("pay", to="string"),
)
MANIFESTS = {
    "inbox": ToolManifest(effect=Effect.READ),
    "write": ToolManifest(
        effect=Effect.WRITE,
        audience=("us",),
        parameters={"id": Parameter(role=Role.OBJECT), "text": Parameter(role=Role.CONTENT)},
    ),
    "read": ToolManifest(effect=Effect.READ, output={"$": Output(), "$[*].id": Output(trusted=True, key=True)}),
    "list": ToolManifest(effect=Effect.READ),
    "post": ToolManifest(effect=Effect.WRITE, audience=("us",), parameters={"text": Parameter(role=Role.CONTENT)}),
    "payees": ToolManifest(
        effect=Effect.READ, output={"$": TRUSTED, "$[*].iban": Output(trusted=True, party="payees")}
    ),
    "pay": ToolManifest(
        effect=Effect.IRREVERSIBLE, parameters={"to": Parameter(role=Role.DESTINATION, party="payees")}
    ),
}


class Town(FlowCity):
    """Three agents, a desk that keeps what is written, and what each agent knows: marks that it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.configured = msgspec.structs.replace(self.configured, servers={"bank": MANIFESTS})
        self.enforcer.rules = self.rules(*TOOLS)
        self.kept: dict[str, set[str]] = {}
        self.posted: set[str] = set()
        self.knows: dict[str, set[str]] = {name: set() for name in AGENTS}
        self.keys = {name: f"key-of-{name}" for name in AGENTS}
        self.marks = 0
        self.held: list[tuple[str, str, str]] = []
        """Who made which call while knowing which mark."""

    async def open(self) -> Town:
        await self.settle_in(*TOOLS)
        for name in AGENTS:
            await self._register(name)
        return self

    async def _register(self, name: str) -> None:
        row = AgentRow(agent=spiffe(name), keys=(self.keys[name],), added_at=0)
        await self.store.append(Append(puts=((agent_key(name), format_row(row)),)))

    async def renew(self, name: str) -> None:
        """A new key, and the same process behind it."""
        old, self.keys[name] = self.keys[name], f"{self.keys[name]}+"
        event = events.KeyReplaced(
            at=self.clock.now_ms(), replica="r1", agent=spiffe(name), old=old, key=self.keys[name]
        )
        await self.store.append(Append(entries=(NewEntry(encode_event(event)),)))
        await self._register(name)

    async def do(self, name: str, act: str, thing: str) -> str:
        """One call of an agent that says all that it knows; return the call's id."""
        words = " ".join(sorted(self.knows[name]))
        arguments: dict[str, Any] = {
            "write": {"id": thing, "text": words},
            "read": {"id": thing},
            "post": {"text": words},
            "pay": {"to": ANN},
        }.get(act, {})
        call = self.call(name=act, arguments=arguments, agent=spiffe(name))
        self.held += [(name, call.id, mark) for mark in self.knows[name]]
        brought: set[str] = set()

        def answer(body: bytes) -> MemoryAnswer:
            if act == "write":
                self.kept.setdefault(thing, set()).update(self.knows[name])
            if act == "post":
                self.posted.update(self.knows[name])
            if act == "inbox":
                self.marks += 1
                brought.add(f"mark-{self.marks:04}")
            elif act == "read":
                brought.update(self.kept.get(thing, ()), self.posted)
            elif act == "list":
                brought.update(self.posted, *self.kept.values())
            said: Any = " ".join(sorted(brought))
            return told(body, {"payees": [{"iban": ANN}], "read": [{"id": thing, "text": said}]}.get(act, said))

        self.answer = answer
        papers = self.credential(agent=spiffe(name), key=self.keys[name])
        if code_of(await self.ask(call, papers)) is None:
            self.knows[name] |= brought
        return call.id

    async def touched(self, what: str, since: int = 0) -> tuple[Touch, ...]:
        found = await find_roots(self.store, what, DOMAIN, since)
        return await blast(self.store, self.enforcer.rules, found.roots, rebuild)


def spiffe(name: str) -> str:
    return f"spiffe://{DOMAIN}/agent/{name}"


def calls_of(touches: tuple[Touch, ...]) -> set[str]:
    return {one.call for one in touches if one.kind == "call"}


def agents_of(touches: tuple[Touch, ...]) -> set[str]:
    return {one.name.rpartition("/")[2] for one in touches if one.kind == "context"}


async def test_a_letter_is_followed_through_an_object_to_another_agent() -> None:
    town = await Town().open()
    letter = await town.do("clerk", "inbox", "")
    await town.do("clerk", "write", "plan")
    read = await town.do("courier", "read", "plan")
    await town.do("cook", "read", "another")
    after = await town.do("courier", "post", "")
    touches = await town.touched(letter)
    assert agents_of(touches) == {"clerk", "courier"}
    assert {after} < calls_of(touches)
    assert read not in calls_of(touches), "the question came before the answer"
    assert [(one.server, one.name) for one in touches if one.kind == "object"][:1] == [("bank", "plan")]
    chain = [one for one in touches if one.call == after]
    while chain[-1].by >= 0:
        chain.append(touches[chain[-1].by])
    assert [one.kind.value for one in chain] == ["call", "context", "object", "call", "context", "call"]
    assert chain[-1].call == letter


async def test_what_came_before_is_not_named() -> None:
    town = await Town().open()
    before = await town.do("clerk", "post", "")
    letter = await town.do("clerk", "inbox", "")
    assert before not in calls_of(await town.touched(letter))
    assert before in calls_of(await town.touched("clerk"))
    assert before not in calls_of(await town.touched("clerk", since=len(await town.events())))


async def test_a_new_key_is_the_same_process() -> None:
    town = await Town().open()
    letter = await town.do("clerk", "inbox", "")
    await town.renew("clerk")
    after = await town.do("clerk", "post", "")
    assert after in calls_of(await town.touched(letter))


async def test_an_item_is_found_by_its_digest_and_a_task_by_its_id() -> None:
    town = await Town().open()
    letter = await town.do("clerk", "inbox", "")
    (_, row), *_ = await town.store.scan("item")
    digest = msgspec.json.decode(row.value)["digest"]
    assert await town.touched(digest) == await town.touched(digest[:16]) == await town.touched(letter)
    task = await town.task("Post it")
    after = await town.do("clerk", "post", "")
    assert calls_of(await town.touched(task)) == {after}


@pytest.mark.parametrize("name", ["nobody", "f" * 32, "ab"])
async def test_what_the_log_does_not_know_has_touched_nothing_and_says_so(name: str) -> None:
    town = await Town().open()
    await town.do("clerk", "inbox", "")
    with pytest.raises(Malformed, match="knows no agent, call, task or item"):
        await town.touched(name)


async def test_who_passes_because_a_touched_reply_made_them_known_is_named() -> None:
    town = await Town().open()
    listed = await town.do("clerk", "payees", "")
    await town.tasks.start("alice", "cook", "Pay the plumber", "test", None)
    await town.do("cook", "inbox", "")
    other = await town.do("cook", "pay", "")
    touches = await town.touched(listed)
    assert [one.name for one in touches if one.kind == "party"]
    assert other in calls_of(touches)


@pytest.mark.parametrize("what", ["payload", "manifest"])
async def test_what_cannot_be_read_any_more_counts_as_everything(what: str) -> None:
    """The clerk wrote `plan`; that the cook reads `other` is of no matter as long as both can be read."""
    town = await Town().open()
    letter = await town.do("clerk", "inbox", "")
    await town.do("clerk", "write", "plan")
    after = [await town.do("cook", act, "other") for act in ("read", "post")]
    assert not set(after) & calls_of(await town.touched(letter))
    if what == "payload":
        for index in range(len(await town.events())):
            if await town.store.payload(index) is not None:
                erased = events.Erased(at=0, replica="r1", index=index, by="an operator", reason="asked to")
                await town.store.erase(index, NewEntry(encode_event(erased)))
    else:
        town.configured = msgspec.structs.replace(town.configured, digest="another")
        town.enforcer.rules = town.rules(*TOOLS)
    assert after[1] in calls_of(await town.touched(letter))


ACTS = st.tuples(
    st.sampled_from(AGENTS),
    st.sampled_from(("inbox", "write", "read", "list", "post", "payees", "pay", "renew")),
    st.sampled_from(("plan", "note", "7", "07")),
)


@settings(max_examples=60, deadline=None)
@given(day=st.lists(ACTS, min_size=1, max_size=14), forgotten=st.booleans(), observing=st.booleans())
async def test_whatever_really_flowed_from_a_letter_is_named(
    day: list[tuple[str, str, str]], forgotten: bool, observing: bool
) -> None:
    """The slow twin is the town itself: it follows every mark through minds and objects. With payloads and without.

    A gateway that only observes lets everything flow, and its entries say that it did.
    """
    town = await Town().open()
    town.enforcer.rules = msgspec.structs.replace(town.enforcer.rules, observe=observing)
    letters: list[str] = []
    for name, act, thing in day:
        if act == "renew":
            await town.renew(name)
            continue
        call = await town.do(name, act, str(int(thing)) if thing.isdigit() else thing)
        if act == "inbox":
            letters.append(call)
    if forgotten:
        for index in range(len(await town.events())):
            if await town.store.payload(index) is not None:
                erased = events.Erased(at=0, replica="r1", index=index, by="an operator", reason="asked to")
                await town.store.erase(index, NewEntry(encode_event(erased)))
    for number, letter in enumerate(letters, 1):
        mark = f"mark-{number:04}"
        touches = await town.touched(letter)
        assert {call for _, call, held in town.held if held == mark} <= calls_of(touches)
        assert {name for name, known in town.knows.items() if mark in known} <= agents_of(touches)
        wrote = any(mark in marks for marks in (*town.kept.values(), town.posted))
        assert not wrote or any(one.kind == "object" for one in touches)
        assert all(one.by < number for number, one in enumerate(touches))
