"""`citywatch task start`, `citywatch tickets` and what `check` and `policy why` say of it, over a real store."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from citywatch.core.call import Call, Direction
from citywatch.core.identity.credential import Credential, Kind
from citywatch.core.wire.jsonrpc import Response
from citywatch.core.wire.mcp import Definition
from citywatch.main import cli
from citywatch.main.assembly import load_rules, open_city
from citywatch.main.place import read_place
from citywatch.service.enforcer import Enforcer
from citywatch.service.judged import Judged
from citywatch.service.tools import approve, compare
from tests.simulation.flow_city import MALLORY, tool

CONFIG = """\
trust_domain: city.example
listen: ["http://127.0.0.1:0"]
agents: {clerk: {}}
servers:
  bank:
    url: http://127.0.0.1:1/mcp
    tools:
      pay: {parameters: {to: {role: destination}}}
      look: {effect: read}
principals:
  alice: {may: [bank/pay]}
"""
POLICY = '@id("all") permit(principal, action, resource is Server);'
OFFERED = (tool("pay", to="string", amount="number"), tool("look"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "all.cedar").write_text(POLICY)
    (tmp_path / "citywatch.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    assert run("agent", "add", "clerk").exit_code == 0
    asyncio.run(approved())
    return tmp_path


def run(*arguments: str, words: str | None = None) -> Result:
    return CliRunner().invoke(cli, list(arguments), input=words)


async def approved() -> None:
    async with open_city(read_place(Path("citywatch.yaml"))) as city:
        offered = [Definition(kind="tool", name=one["name"], value=one) for one in OFFERED]
        await approve(city.store, city.clock, city.replica.name, compare("bank", offered, []), "a person")


async def asked(arguments: dict[str, Any], name: str = "pay", reply: dict[str, Any] | None = None) -> Judged:
    """What the gates say to the clerk, in a process of its own; with a reply, the clerk receives it."""
    place = read_place(Path("citywatch.yaml"))
    async with open_city(place) as city:
        ((_, row),) = await city.admin.list_agents()
        enforcer = Enforcer(
            store=city.store,
            clock=city.clock,
            chance=city.chance,
            rules=await load_rules(place.settings, city.store),
            replica=city.replica.name,
        )
        now = city.clock.now_ms()
        papers = Credential(
            agent=row.agent, key=row.keys[0], kind=Kind.X509, not_before=now - 1, not_after=now + 60_000, digest="d"
        )
        params = {"name": name, "arguments": arguments}
        call = Call(
            id=city.chance.call_id(),
            direction=Direction.TO_SERVER,
            agent=row.agent,
            server="bank",
            method="tools/call",
            name=name,
            arguments=arguments,
            body=json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode(),
            revision="2025-11-25",
            rpc_id=1,
        )
        judged = await enforcer.judge(call, papers)
        if reply is not None:
            await enforcer.settle(judged, Response(id=1, result=reply, body=json.dumps(reply).encode()), 0)
        return judged


def wants(**arguments: Any) -> Judged:
    return asyncio.run(asked(arguments))


def test_a_principals_words_reach_the_agents_context(here: Path) -> None:
    assert not wants(to="bob", amount=5).allowed
    assert run("task", "start", "clerk", "--as", "alice", "Pay bob 5").output.startswith("task ")
    assert wants(to="bob", amount=5).allowed


def test_words_may_come_by_standard_input(here: Path) -> None:
    assert run("task", "start", "clerk", "--as", "alice", words="Pay bob 5\n").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["clerk", "--as", "eve", "x"], "no principal `eve` is configured"),
        (["nobody", "--as", "alice", "x"], "no agent `nobody` is registered"),
        (["clerk", "--as", "alice", " "], "a prompt has 1 to"),
        (["clerk", "--as", "alice", "\udcff"], "not UTF-8"),
    ],
)
def test_a_wrong_task_is_told_in_one_line(here: Path, arguments: list[str], words: str) -> None:
    said = run("task", "start", *arguments)
    assert said.exit_code != 0
    assert words in said.output
    assert "Traceback" not in said.output


def test_a_person_sees_the_call_and_answers_it(here: Path) -> None:
    assert run("tickets", "list").output == "nothing waits for an answer\n"
    judged = wants(to=MALLORY, amount=5)
    listed = run("tickets", "list").output
    ticket = listed.split()[0]
    assert "clerk → bank/pay" in listed
    shown = run("tickets", "show", ticket).output
    assert f'"to": "{MALLORY}"' in shown
    assert "! to (destination) unentitled: nowhere: the agent made it up" in shown
    why = run("policy", "why", judged.call.id).output
    assert "to (destination) unentitled" in why
    assert "citywatch tickets" in why
    assert (
        run("tickets", "approve", ticket, "--as", "alice", "--reason", "I know them").output == f"{ticket} approved\n"
    )
    passed = wants(to=MALLORY, amount=5)
    assert passed.allowed
    assert f"ticket {ticket} by " in run("policy", "why", passed.call.id).output
    assert not wants(to=MALLORY, amount=5).allowed


def test_a_ticket_is_answered_once(here: Path) -> None:
    wants(to=MALLORY, amount=5)
    ticket = run("tickets", "list").output.split()[0]
    assert run("tickets", "deny", ticket, "--reason", "no").output == f"{ticket} denied\n"
    again = run("tickets", "approve", ticket, "--reason", "yes")
    assert again.exit_code != 0
    assert "is denied" in again.output
    assert run("tickets", "show", "nothing").exit_code != 0


def test_what_an_agent_wrote_is_shown_in_ascii(here: Path) -> None:
    wants(to="\u202e\x1b[2Jann", amount=5)
    ticket = run("tickets", "list").output.split()[0]
    shown = run("tickets", "show", ticket).output
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_an_erased_call_is_not_shown_as_if_it_were_there(here: Path) -> None:
    wants(to=MALLORY, amount=5)
    ticket = run("tickets", "list").output.split()[0]
    entries = [line for line in run("log", "show").output.splitlines() if "pay" in line and "decided" in line]
    index = re.findall(r"\d+", entries[-1])[0]
    assert run("log", "erase", index, "--reason", "x").exit_code == 0
    shown = run("tickets", "show", ticket).output
    assert "the payload was erased" in shown
    assert f'"to": "{MALLORY}"' not in shown


@pytest.mark.parametrize(
    ("change", "said", "unsaid"),
    [
        (lambda text: text, "principals      alice", "information flow is not enforced"),
        (lambda text: text.partition("principals:")[0], "information flow is not enforced", "principals      alice"),
    ],
)
def test_check_says_whether_information_flow_is_enforced_and_what_is_silent(
    here: Path, change: Callable[[str], str], said: str, unsaid: str
) -> None:
    (here / "citywatch.yaml").write_text(change(CONFIG))
    told = run("check").output
    assert said in told
    assert unsaid not in told
    assert "bank/pay has no role for `amount`: what stands there counts as destination;" in told
    assert "bank/look has no role" not in told
