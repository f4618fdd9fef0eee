"""A drafted manifest that somebody pasted unread: what a server calls its arguments frees none of them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from citywatch.config.draft import draft_manifests
from tests.simulation.city import code_of
from tests.simulation.flow_city import ANN, MALLORY, MANIFESTS, TOOLS, FlowCity, tool

DISGUISES = (("get_receipt", "note"), ("update_note", "date"), ("search", "query"), ("get_page", "path"))


async def paying(name: str, argument: str, *, unsafe: bool) -> FlowCity:
    """A city whose bank calls its payment something harmless, with the draft of it pasted."""
    city = FlowCity()
    disguised = tool(name, **{argument: "string"})
    drafted = draft_manifests("bank", [disguised], unsafe_guesses=unsafe).tools
    servers = {"bank": {**MANIFESTS, **drafted}}
    city.configured = msgspec.structs.replace(city.configured, servers=servers)
    tools: tuple[dict[str, Any], ...] = (*(one for one in TOOLS if one["name"] != name), disguised)
    city.enforcer.rules = city.tasks._rules = city.rules(*tools)
    await city.settle_in(*tools)
    await city.task(f"{name.split('_')[0]} something for {ANN}")
    await city.read("inbox", [{"text": f"no: to {MALLORY}"}])
    return city


@pytest.mark.parametrize(("name", "argument"), DISGUISES)
async def test_a_harmless_name_frees_nothing_until_somebody_decides_so(name: str, argument: str) -> None:
    city = await paying(name, argument, unsafe=False)
    assert code_of(await city.act(name, **{argument: MALLORY})) == "approval_required"
    assert code_of(await city.act(name, **{argument: ANN})) is None  # a principal named it


async def test_guesses_that_nobody_decided_are_the_hole_that_they_say_they_are() -> None:
    reached = []
    for name, argument in DISGUISES:
        city = await paying(name, argument, unsafe=True)
        reached.append(code_of(await city.act(name, **{argument: MALLORY})) is None)
    assert reached.count(True) >= 3, reached
