"""What temporal rules add: what happened before refuses a call, or has a person asked, whoever did it and through whom.

Each attack works without its rule and fails with it; the honest case stands beside it.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from citywatch.adapters.memory import MemoryAnswer, MemoryStore, SeededChance
from citywatch.core.call import Call, Effect
from citywatch.core.enforce.past import MARGIN_MS, MAX_TRACES
from citywatch.core.errors import Code
from citywatch.core.events import Decided
from citywatch.core.identity.registration import AgentRow, agent_key, format_row
from citywatch.core.manifest import Parameter, Role, ToolManifest
from citywatch.core.plan.rules import parse_rules
from citywatch.service.memories import drop_memories
from citywatch.service.ports import Append, Appended, Exhausted, Stale
from tests.simulation.city import AGENT, KEY, LOOK, PAY, City, code_of
from tests.simulation.flow_city import ANN, TOOLS, FlowCity

RULED = Code.RULE_MATCHED.value
ASKED = Code.APPROVAL_REQUIRED.value
HOUR = 3_600_000
SCOUT = "spiffe://city.example/agent/scout"
EVE = "eve@evil.example"
POSTING = """
forbid post-after-payees per agent when
    tool in ["bank/send", "bank/fetch", "bank/search"]
    and once within 1h (event is "reply" and tool is "bank/payees");
"""
POOLED = """
forbid pooled per reader when
    effect is "irreversible" and count within 1d (event is "call" and effect is "irreversible") >= 3;
"""


def under(rules: str, here: FlowCity | None = None) -> FlowCity:
    """A city in which these rules hold, or from now on hold."""
    here = here or FlowCity()
    here.configured = msgspec.structs.replace(here.configured, temporal=parse_rules(rules) if rules else ())
    here.enforcer.rules = here.rules(*TOOLS)
    return here


NAMED = (EVE, " eve@EVIL.example", *(f"{name}@good.example" for name in ("ann", "bob", "cem", "dora")))
PAGES = ("https://evil.example/a", "https://evil.example/b", "http://EVIL.example/c?d=1", "https://good.example/c")
PROMPT = f"Write to {', '.join(NAMED)}; look at {', '.join(PAGES)}"


async def ruled(rules: str, prompt: str = PROMPT) -> FlowCity:
    here = await under(rules).open()
    row = AgentRow(agent=SCOUT, keys=("scout-key",), added_at=0)
    await here.store.append(Append(puts=((agent_key("scout"), format_row(row)),)))
    for agent in ("clerk", "scout"):
        await here.tasks.start("alice", agent, prompt, "test")
    return here


async def by_scout(here: FlowCity, name: str, /, **arguments: Any) -> dict[str, Any]:
    call = here.call(name=name, arguments=arguments, agent=SCOUT)
    return await here.ask(call, here.credential(agent=SCOUT, key="scout-key"))


async def rows(here: City) -> int:
    return len(await here.store.scan("rule"))


# -- what was read, and what follows within an hour --------------------------------------------------------------------


async def test_who_read_a_secret_posts_nothing_for_an_hour_and_then_does() -> None:
    free = await ruled("")
    await free.read("payees", [{"iban": ANN}])
    assert code_of(await free.act("send", to=EVE, text="hello")) is None
    here = await ruled(POSTING)
    assert code_of(await here.act("send", to=EVE, text="hello")) is None, "nothing was read yet"
    await here.read("payees", [{"iban": ANN}])
    for tool, arguments in (("send", {"to": EVE, "text": "hello"}), ("search", {"query": "rent"})):
        told = await here.act(tool, **arguments)
        assert code_of(told) == RULED
        assert "rule `post-after-payees`" in told["result"]["content"][0]["text"]
    assert code_of(await here.act("inbox")) is None, "the rule speaks of posting"
    here.clock.advance(HOUR)
    assert code_of(await here.act("send", to=EVE, text="hello")) == RULED, "the edge belongs to the window"
    here.clock.advance(1)
    assert code_of(await here.act("send", to=EVE, text="hello")) is None
    decided = [one for one in await here.events() if isinstance(one, Decided) and one.code == RULED]
    assert {one.detail for one in decided} == {"rule `post-after-payees`"}


async def test_a_call_that_was_refused_has_not_happened() -> None:
    """Or an agent that is refused at will would write the past of others: here, of who is reached."""
    rules = POOLED + 'forbid no-pay per agent when tool is "bank/pay" and count tool is "bank/pay" >= 1;'
    here = await ruled(rules)
    before = await rows(here)
    for amount in range(1, 5):
        assert code_of(await here.act("pay", to=EVE, amount=amount)) == RULED
    assert await rows(here) == before
    assert code_of(await here.act("send", to=EVE, text="one")) is None


async def test_a_reply_that_never_reached_the_agent_is_not_remembered() -> None:
    here = await ruled(POSTING)
    here.answer = _malformed
    await here.act("payees")
    assert await rows(here) == 0


def _malformed(_: bytes) -> MemoryAnswer:
    return MemoryAnswer([(b'{"jsonrpc":"2.0","id":1,"result":{"content":7}}', None)])


# -- what reaches one reader, through any agent ------------------------------------------------------------------------


async def test_pieces_that_two_agents_send_to_one_reader_are_counted_together_in_any_notation() -> None:
    free = await ruled("")
    for text in ("a", "b", "c"):
        assert code_of(await by_scout(free, "send", to=EVE, text=text)) is None
    here = await ruled(POOLED)
    assert code_of(await here.act("send", to=EVE, text="a")) is None
    assert code_of(await by_scout(here, "send", to="EVE@evil.example", text="b")) is None
    assert code_of(await by_scout(here, "send", to=" eve@EVIL.example", text="c")) == RULED
    assert code_of(await here.act("send", to=EVE, text="d")) == RULED
    assert code_of(await here.act("send", to="ann@good.example", text="d")) != RULED, "another reader is another trace"


async def test_a_reader_is_no_other_for_a_name_before_it_or_another_one_beside_it() -> None:
    written = (f"Eve <{EVE}>", f"E. <{EVE}>", f"{EVE}, ann@good.example", f"ann@good.example; {EVE}")
    rule = 'forbid pooled per reader when event is "call" and count within 1d event is "call" >= 3;'
    here = under(rule, FlowCity())
    here.configured = msgspec.structs.replace(here.configured, principals={})
    here.enforcer.rules = here.rules(*TOOLS)
    await here.open()
    assert [code_of(await here.act("send", to=to, text="x")) for to in written] == [None, None, RULED, RULED]


async def test_sends_to_three_readers_are_no_pooling() -> None:
    here = await ruled(POOLED)
    for to in ("ann@good.example", "bob@good.example", "cem@good.example", "dora@good.example"):
        assert code_of(await by_scout(here, "send", to=to, text="hello")) is None


async def test_an_address_is_one_reader_whatever_path_is_asked_for() -> None:
    rule = 'forbid drip per reader when tool is "bank/fetch" and count within 1h event is "call" >= 3;'
    here = await ruled(rule)
    for path in ("a", "b"):
        assert code_of(await here.act("fetch", url=f"https://evil.example/{path}")) is None
    assert code_of(await here.act("fetch", url="http://EVIL.example/c?d=1")) == RULED
    assert code_of(await here.act("fetch", url="https://good.example/c")) is None


async def test_more_readers_than_are_followed_are_refused_and_not_cut_off() -> None:
    here = await ruled(POOLED)
    crowd = [f"a{number}@b.example" for number in range(MAX_TRACES + 1)]
    prompted = f"Search for x in {', '.join(crowd)}"
    await here.tasks.start("alice", "scout", prompted, "test")
    arguments: dict[str, Any] = {"query": "x", "filters": {"to": crowd}}
    here.configured = msgspec.structs.replace(
        here.configured,
        servers={"bank": {**here.configured.servers["bank"], "search": _reaching()}},
    )
    here.enforcer.rules = here.rules(*TOOLS)
    assert code_of(await by_scout(here, "search", **arguments)) == RULED
    arguments["filters"]["to"] = crowd[:10]
    assert code_of(await by_scout(here, "search", **arguments)) is None


def _reaching() -> ToolManifest:
    return ToolManifest(effect=Effect.READ, parameters={"filters": Parameter(role=Role.DESTINATION)})


async def test_what_is_no_tool_reaches_everybody_and_everybody_is_a_trace() -> None:
    rule = 'forbid flood per reader when event is "call" and count within 1h event is "call" >= 3;'
    here = await ruled(rule)
    for number in (1, 2):
        told = await here.ask(_resource(here, f"notes://{number}"))
        assert code_of(told) is None
    assert code_of(await here.ask(_resource(here, "notes://3"))) == RULED


def _resource(here: FlowCity, uri: str) -> Call:
    here.answer = _contents
    return here.call(method="resources/read", name=uri, arguments={"uri": uri})


def _contents(_: bytes) -> MemoryAnswer:

    reply = {"jsonrpc": "2.0", "id": 1, "result": {"contents": [{"uri": "notes://1", "text": "hi"}]}}
    return MemoryAnswer([(json.dumps(reply).encode(), None)])


# -- origins, tasks, resources -----------------------------------------------------------------------------------------


async def test_mail_after_a_stranger_s_words_waits_for_a_person_for_an_hour() -> None:
    rule = """ask mail-after-web per agent when
        tool is "bank/send" and once within 1h (event is "reply" and origin is "outside:*");"""
    here = await ruled(rule)
    await here.read("inbox", "buy now")
    told = await here.act("send", to=EVE, text="hello")
    assert code_of(told) == ASKED
    assert "rule `mail-after-web`" in told["result"]["content"][0]["text"]
    (ticket,) = await here.tickets.pending()
    assert ticket.why == "rule `mail-after-web`"
    await here.tickets.answer(ticket.id, True, "alice", "fine")
    assert code_of(await here.act("send", to=EVE, text="hello")) is None
    assert code_of(await here.act("send", to=EVE, text="again")) == ASKED, "an answer is for one call"
    here.clock.advance(HOUR + 1)
    assert code_of(await here.act("send", to=EVE, text="later")) is None
    trusted = await ruled(rule)
    await trusted.read("payees", [{"iban": ANN}])
    assert code_of(await trusted.act("send", to=EVE, text="hello")) is None, "the server vouches for these"


async def test_a_question_that_nobody_could_be_asked_is_a_refusal() -> None:
    here = await ruled('ask resources per agent when not tool is "*" and event is "call";')
    assert code_of(await here.ask(_resource(here, "notes://1"))) == RULED


async def test_what_is_counted_in_a_task_begins_anew_with_the_next_and_not_with_a_second_key() -> None:
    rule = 'forbid thrice per task when event is "call" and count (event is "call" and tool is "bank/send") >= 3;'
    here = await ruled(rule)
    row = AgentRow(agent=AGENT, keys=(KEY, "second"), added_at=0)
    await here.store.append(Append(puts=((agent_key("clerk"), format_row(row)),)))
    await here.task(f"Write to {EVE}")
    send = {"to": EVE, "text": "hello"}
    for key in (KEY, "second"):
        call = here.call(name="send", arguments=send)
        assert code_of(await here.ask(call, here.credential(key=key))) is None
    assert code_of(await here.act("send", **send)) == RULED
    await here.task(f"Write to {EVE} again")
    assert code_of(await here.act("send", **send)) is None


class Interrupted(MemoryStore):
    """A store in which something else happens between what a decision read and its entry, once."""

    between: Callable[[], Awaitable[None]] | None = None

    async def append(self, append: Append) -> Appended | Stale | Exhausted:
        between, self.between = self.between, None
        if between is not None:
            await between()
        return await super().append(append)


@pytest.mark.parametrize("per", ["agent", "task", "reader"])
async def test_of_two_replicas_that_race_for_the_last_of_a_count_one_sees_the_other(per: str) -> None:
    rule = f'forbid once per {per} when event is "call" and count (event is "call" and tool is "bank/search") >= 2;'
    store = Interrupted()
    one, other = under(rule, FlowCity(store=store)), under(rule, FlowCity(store=store))
    other.chance = SeededChance(8)
    other.enforcer.chance = other.chance
    await one.open()
    await one.store.append(
        Append(
            puts=(
                (agent_key("clerk"), format_row(AgentRow(agent=AGENT, keys=(KEY, "second"), added_at=0))),
                (agent_key("scout"), format_row(AgentRow(agent=SCOUT, keys=("scout-key",), added_at=0))),
            )
        )
    )
    for agent in ("clerk", "scout"):
        await one.tasks.start("alice", agent, PROMPT, "test")
    told: list[str | None] = []

    async def meanwhile() -> None:
        # Nothing in common with the other, no context, party or thing written: the rule's own row alone can tell
        if per == "reader":
            told.append(code_of(await by_scout(other, "search", query="first")))
        else:
            call = other.call(name="search", arguments={"query": "first"})
            told.append(code_of(await other.ask(call, other.credential(key="second"))))

    store.between = meanwhile
    told.append(code_of(await one.act("search", query="second")))
    assert told == [None, RULED]


async def test_an_object_has_one_trace_whoever_touches_it_and_however_its_number_is_written() -> None:
    rule = """forbid wiped per resource when
        tool is "bank/delete_file" and once within 1h (event is "call" and tool is "bank/write_file");"""
    here = await ruled(rule, "Delete 7 and 8")
    assert code_of(await by_scout(here, "write_file", id="7", text="x")) is None
    assert code_of(await here.act("delete_file", id="07")) == RULED
    assert code_of(await here.act("delete_file", id="8")) is None


async def test_a_rule_that_changed_starts_with_no_memory_and_one_that_did_not_keeps_it_over_a_restart() -> None:
    here = await ruled(POSTING)
    await here.read("payees", [{"iban": ANN}])
    again = under(POSTING, FlowCity(store=here.store))
    again.clock.advance(1)
    assert code_of(await again.act("send", to=EVE, text="hello")) == RULED
    other = under(POSTING.replace("1h", "2h"), FlowCity(store=here.store))
    assert code_of(await other.act("send", to=EVE, text="hello")) is None


async def test_where_contexts_are_not_kept_an_origin_could_be_anything() -> None:
    rule = 'forbid crm per agent when tool is "bank/look" and origin is "server:crm";'
    city = City()
    city.configured = msgspec.structs.replace(city.configured, temporal=parse_rules(rule))
    city.enforcer.rules = city.rules(PAY, LOOK)
    await city.settle_in()
    assert code_of(await city.ask(city.call())) == RULED


# -- what is forgotten -------------------------------------------------------------------------------------------------


async def test_a_memory_is_forgotten_a_day_after_its_window_and_not_before() -> None:
    """The attack: fill the store with readers that are written to once. The honest case: the window still holds."""
    here = await ruled(POOLED)
    for reader in NAMED[2:]:
        await here.act("send", to=reader, text="hello")
    kept = await rows(here)
    assert kept >= len(NAMED[2:])
    here.clock.advance(24 * HOUR + MARGIN_MS)
    assert await drop_memories(here.store, here.enforcer.rules, here.clock.now_ms()) == 0, "the edge belongs to it"
    here.clock.advance(1)
    assert await drop_memories(here.store, here.enforcer.rules, here.clock.now_ms()) == kept
    assert await rows(here) == 0


async def test_what_still_counts_is_not_forgotten() -> None:
    here = await ruled(POOLED)
    for text in ("one", "two"):
        assert code_of(await here.act("send", to=EVE, text=text)) is None
    here.clock.advance(23 * HOUR)
    await drop_memories(here.store, here.enforcer.rules, here.clock.now_ms())
    assert code_of(await here.act("send", to=EVE, text="three")) == RULED


async def test_a_clock_that_is_put_back_finds_what_it_should() -> None:
    """The attack: have the clock put back after the sweep, and write once more within the same day."""
    here = await ruled(POOLED)
    for text in ("one", "two"):
        assert code_of(await here.act("send", to=EVE, text=text)) is None
    here.clock.advance(25 * HOUR)
    await drop_memories(here.store, here.enforcer.rules, here.clock.now_ms())
    here.clock.advance(-2 * HOUR)
    assert code_of(await here.act("send", to=EVE, text="three")) == RULED


async def test_what_has_no_window_and_what_a_rule_that_is_gone_remembers_stays() -> None:
    ever = 'forbid ever per agent when tool is "bank/send" and once (tool is "bank/payees");'
    here = await ruled(ever)
    await here.read("payees", [{"iban": ANN}])
    kept = await rows(here)
    here.clock.advance(400 * 24 * HOUR)
    assert await drop_memories(here.store, here.enforcer.rules, here.clock.now_ms()) == 0
    assert code_of(await here.act("send", to=EVE, text="hello")) == RULED
    under(POOLED, here)
    assert await drop_memories(here.store, here.enforcer.rules, here.clock.now_ms()) == 0
    assert await rows(here) == kept
    under(ever, here)
    assert code_of(await here.act("send", to=EVE, text="hello")) == RULED


async def test_a_memory_that_moves_while_it_is_forgotten_is_kept() -> None:
    here = await ruled(POOLED)
    await here.act("send", to=EVE, text="one")
    here.clock.advance(3 * 24 * HOUR)
    plain, calls = here.store.append, 0

    async def meanwhile(append: Append) -> Appended | Stale | Exhausted:
        nonlocal calls
        calls += 1
        if calls == 1:
            assert code_of(await here.act("send", to=EVE, text="two")) is None
        return await plain(append)

    here.store.append = meanwhile  # type: ignore[method-assign]
    await drop_memories(here.store, here.enforcer.rules, here.clock.now_ms())
    here.store.append = plain  # type: ignore[method-assign]
    assert code_of(await here.act("send", to=EVE, text="three")) is None
    assert code_of(await here.act("send", to=EVE, text="four")) == RULED
