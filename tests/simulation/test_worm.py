"""A text that makes whoever reads it pass it on: without the policy it reaches everybody, with it few; work goes on."""

from __future__ import annotations

import asyncio
import base64
import random

import pytest

from citywatch.core import events
from citywatch.core.enforce.carrying import FRESH_MS, MAX_CARRIERS, PRINT, WINDOW_MS
from citywatch.core.errors import Code
from citywatch.service.carried import drop_carried
from tests.simulation.city import code_of
from tests.simulation.worm_city import OPEN, STOP, WORM, Edges, WormCity, spiffe

LINE: Edges = {f"a{n}": (f"a{n + 1}",) for n in range(8)} | {"a8": ()}
TICKET = (
    "My invoice 4711 of the third of May lists the router twice although I only ever received one of them, and the "
    "second was charged to my card on the ninth. Please take it off again and send me a corrected invoice by mail."
)
REPHRASED = (
    "Ein Kunde schreibt, dass auf der Rechnung ein Posten doppelt steht; bitte pruefen und die Gutschrift anlegen, "
    "wenn das stimmt, danach eine kurze Antwort an die Zentrale."
)


def random_graph(seed: int, size: int, chance: float) -> Edges:
    """Everybody is reached from the first: a ring, and chords."""
    pick = random.Random(seed)
    names = [f"a{n}" for n in range(size)]
    edges = {}
    for at, name in enumerate(names):
        chords = (one for one in names if one != name and pick.random() < chance)
        edges[name] = tuple(dict.fromkeys((names[(at + 1) % size], *chords)))
    return edges


async def decisions(city: WormCity) -> list[events.Decided]:
    return [one for one in await city.events() if isinstance(one, events.Decided)]


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_an_outbreak_reaches_everybody_without_the_policy_and_few_with_it(seed: int) -> None:
    edges = random_graph(seed, 20, 0.12)
    city = await WormCity(edges, OPEN).open()
    assert await city.outbreak("a0") == set(edges)
    stopped = await WormCity(edges).open()
    await stopped.outbreak("a0")
    sent = {one.agent for one in await decisions(stopped) if one.forwarded and one.method == "SendMessage"}
    assert 0 < len(sent) <= 3, "three agents passed it on before the fourth was refused"


@pytest.mark.parametrize("ours", [True, False], ids=["seen", "past us"])
async def test_along_a_line_the_fourth_agent_is_refused_and_told_so(ours: bool) -> None:
    city = await WormCity(LINE, ours=ours).open()
    assert await city.outbreak("a0") == {"a0", "a1", "a2", "a3"}
    last = (await decisions(city))[-1]
    assert (last.agent, last.code, last.policies) == (spiffe("a3"), Code.FORBIDDEN.value, ("no-worm",))
    assert last.carriers == ("a0", "a1", "a2", "a3"), "the operator sees who carried it"


async def test_whoever_was_refused_counts_all_the_same() -> None:
    """Refused attempts are no way to try often: the fifth agent finds the fourth in the count."""
    city = await WormCity(LINE).open()
    await city.outbreak("a0")
    assert await city.tell("a4", "a5", WORM) == Code.FORBIDDEN
    assert (await decisions(city))[-1].carriers == ("a0", "a1", "a2", "a3", "a4")


async def test_of_two_that_pass_it_on_at_once_one_sees_the_other() -> None:
    city = await WormCity(LINE, ours=False).open()  # or the context of who is spoken to would part them
    for name in ("a0", "a1"):
        await city.read_by(name, "inbox", WORM)
        assert await city.tell(name, f"a{int(name[1]) + 1}", WORM) is None
    codes = await asyncio.gather(city.tell("a2", "a3", WORM), city.tell("a3", "a4", WORM))
    assert sorted(codes, key=str) == [None, Code.FORBIDDEN]


def base64_of(text: str, hop: int) -> str:
    return base64.b64encode(WORM.encode()).decode() if hop % 2 else WORM


def dressed(text: str, hop: int) -> str:
    looks = (
        str.upper,
        lambda one: "\u200b".join(one),
        lambda one: one.replace("a", "\u0430").replace("e", "\u0435"),
        lambda one: one.replace("e", "3").replace("o", "0").replace("t", "7"),
        lambda one: " ".join(one),
        lambda one: "".join(f"&#{ord(char)};" for char in one),
    )
    return looks[hop % len(looks)](WORM)


@pytest.mark.parametrize(
    "mutate",
    [
        base64_of,
        dressed,
        lambda text, hop: f"Message {hop} of the day, from a colleague of yours:\n> {WORM}\nKind regards, agent {hop}",
        lambda text, hop: WORM[: len(WORM) // 2 + 40 * (hop % 3)],
    ],
    ids=["base64", "dressed", "wrapped", "half"],
)
async def test_in_another_dress_it_is_the_same_text(mutate: object) -> None:
    city = await WormCity(LINE).open()
    assert await city.outbreak("a0", mutate=mutate) == {"a0", "a1", "a2", "a3"}  # type: ignore[arg-type]


async def test_it_counts_in_pieces_of_one_message_and_beside_any_other_text() -> None:
    city = await WormCity(LINE).open()
    for name in ("a0", "a1", "a2"):
        await city.read_by(name, "inbox", WORM)
        cut = [WORM[at : at + 9] for at in range(0, len(WORM), 9)]
        noise = " ".join(f"{name} notes item {number} of its own list" for number in range(2_000))
        assert await city.tell(name, f"a{int(name[1]) + 1}", noise, *cut) is None
    assert await city.tell("a3", "a4", WORM) == Code.FORBIDDEN


async def test_through_what_others_read_it_counts_as_through_messages() -> None:
    """Written by one agent's tool call, read by the next."""
    city = await WormCity(LINE).open()
    for name in ("a0", "a1", "a2"):
        await city.read_by(name, "find_file", [{"id": "1", "text": WORM}], name="notes")
        assert code_of(await city.act_by(name, "write_file", id="1", text=f"Note to all. {WORM}")) != Code.FORBIDDEN
    await city.read_by("a3", "find_file", [{"id": "1", "text": WORM}], name="notes")
    told = await city.act_by("a3", "write_file", id="1", text=WORM)
    assert code_of(told) == Code.FORBIDDEN
    assert (await decisions(city))[-1].carriers == ("a0", "a1", "a2", "a3")


async def test_what_only_reads_carries_nothing_on() -> None:
    city = await WormCity(LINE, STOP.replace(">= 4", ">= 1") + OPEN).open()
    await city.read_by("a0", "inbox", WORM)
    assert code_of(await city.act_by("a0", "search", query=WORM)) is None
    assert code_of(await city.act_by("a0", "write_file", id="1", text=WORM)) == Code.FORBIDDEN


async def test_honest_hand_overs_pass() -> None:
    """A ticket is quoted by the router, by billing and by whoever books the credit; each adds words of its own."""
    city = await WormCity(LINE).open()
    await city.read_by("a0", "inbox", TICKET)
    for at in range(3):
        await city.read_by(f"a{at}", "inbox", TICKET)
        assert await city.tell(f"a{at}", f"a{at + 1}", f"For you, from a{at}:\n{TICKET}") is None
    assert await city.tell("a3", "a4", REPHRASED) is None, "in its own words"
    assert [one.code for one in await decisions(city) if one.method == "SendMessage"] == [None] * 4


async def test_a_principals_own_words_are_nobodys_copy() -> None:
    city = await WormCity({"clerk": ("a1",), "a1": ()}, STOP.replace(">= 4", ">= 1") + OPEN).open()
    await city.task(TICKET)
    await city.read("inbox", TICKET)  # and a stranger repeats them
    assert await city.tell("clerk", "a1", TICKET) is None
    assert await city.tell("clerk", "a1", f"{TICKET}\n{WORM}") is None, "it came to it from nowhere"
    await city.read("inbox", WORM)
    assert await city.tell("clerk", "a1", f"{TICKET}\n{WORM}") == Code.FORBIDDEN


async def test_what_a_server_vouches_for_and_what_the_operator_approved_is_nobodys_copy() -> None:
    terms, notice = WORM.replace("assistant", "customer"), TICKET
    city = WormCity(LINE, STOP.replace(">= 4", ">= 1") + OPEN)
    city.again(boilerplate=(notice,))
    await city.open()
    await city.read_by("a0", "find_file", [{"id": "1", "title": terms, "text": notice}], name="terms")
    assert await city.tell("a0", "a1", terms) is None
    assert await city.tell("a0", "a1", notice) is None
    city.again(boilerplate=())
    await city.read_by("a0", "inbox", notice)
    assert await city.tell("a0", "a1", notice) == Code.FORBIDDEN


async def test_a_short_line_is_no_copy() -> None:
    city = await WormCity(LINE, STOP.replace(">= 4", ">= 1") + OPEN).open()
    line = "Best regards from all of us at the service desk"
    await city.read_by("a0", "inbox", line)
    assert await city.tell("a0", "a1", line) is None


async def test_it_is_forgotten_after_a_day_and_not_before() -> None:
    city = await WormCity(LINE).open()
    await city.outbreak("a0")
    rows = len(await city.store.scan(PRINT))
    assert rows > 0
    city.clock.advance(WINDOW_MS)
    assert await drop_carried(city.store, city.clock.now_ms()) == 0, "the edge belongs to it"
    assert await city.tell("a4", "a5", WORM) == Code.FORBIDDEN
    city.clock.advance(WINDOW_MS + 1)
    assert await city.tell("a5", "a6", WORM) is None
    assert await drop_carried(city.store, city.clock.now_ms()) == rows - len(await city.store.scan(PRINT))


async def test_an_agent_that_repeats_itself_is_one_agent() -> None:
    city = await WormCity(LINE).open()
    await city.read_by("a0", "inbox", WORM)
    for _ in range(5):
        city.clock.advance(FRESH_MS)
        assert await city.tell("a0", "a1", WORM) is None
    assert (await decisions(city))[-1].carriers == ("a0",)


async def test_a_row_holds_so_many_agents_and_no_more() -> None:
    edges: Edges = {f"a{n:02}": ("a00",) for n in range(MAX_CARRIERS + 4)}
    city = await WormCity(edges, OPEN + '@id("t") forbid(principal, action, resource) when { context has spread && '
                          "context.spread > 1000 };").open()  # fmt: skip
    for name in edges:
        await city.read_by(name, "inbox", WORM)
        assert await city.tell(name, "a00", WORM) is None
    assert len((await decisions(city))[-1].carriers) == MAX_CARRIERS + 1


async def test_nobody_takes_fingerprints_that_no_policy_asks_for() -> None:
    city = await WormCity(LINE, OPEN).open()
    assert not city.enforcer.rules.follows
    await city.outbreak("a0")
    assert not await city.store.scan(PRINT)


async def test_a_rule_about_the_past_can_ask_for_it() -> None:
    city = WormCity(LINE, OPEN)
    from citywatch.core.plan.rules import parse_rules

    rules = parse_rules('ask worm per agent when once within 1h (spread is "2");')
    city.again(temporal=rules)
    await city.open()
    assert city.enforcer.rules.follows
    await city.read_by("a0", "inbox", WORM)
    assert await city.tell("a0", "a1", WORM) is None
    await city.read_by("a1", "inbox", WORM)
    assert await city.tell("a1", "a2", WORM) == Code.APPROVAL_REQUIRED


async def test_an_outbreak_in_the_log_is_judged_the_same_again() -> None:
    from citywatch.core.enforce.admit import admit
    from citywatch.core.log.entry import decode_event
    from citywatch.main.replay import rebuild
    from citywatch.service.hindsight import agrees, then

    city = await WormCity(LINE).open()
    await city.outbreak("a0")
    index = len(await city.store.entries(0, 10**6)) - 1
    one = decode_event((await city.store.entries(index, index + 1))[0])
    assert isinstance(one, events.Decided)
    assert one.code == Code.FORBIDDEN
    payload = await city.store.payload(index)
    assert payload is not None
    past = await then(city.store, city.enforcer.rules, index, one, rebuild(one, payload.body))
    assert agrees(one, admit(past.call, past.authority, past.known, past.need, one.at))
