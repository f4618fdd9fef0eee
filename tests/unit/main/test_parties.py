"""`citywatch parties`, over a real store."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from citywatch.core.enforce.context import Party, party_forms, party_key
from citywatch.main.assembly import open_city
from citywatch.main.place import read_place
from citywatch.service.ports import Append
from tests.simulation.flow_city import ANN, MALLORY
from tests.unit.main.test_tasks import here, run

assert here is not None  # a fixture, used by name


async def learn(value: str, party: Party) -> None:
    async with open_city(read_place(Path("citywatch.yaml"))) as city:
        rows = tuple((party_key(form), msgspec.json.encode(party)) for form in party_forms("payees", value))
        await city.store.append(Append(puts=rows))


@pytest.fixture
def known(here: Path) -> Path:
    asyncio.run(learn(ANN, Party(at=1_763_800_000_000)))
    asyncio.run(learn(MALLORY, Party(at=1_763_800_000_000, waits=True, by=("principal:alice",))))
    asyncio.run(learn("\u202eeve", Party()))
    return here


@pytest.mark.usefixtures("known")
def test_who_is_known_is_listed_with_since_when_and_by_whom() -> None:
    lines = run("parties", "list").output.splitlines()
    assert f"payees  iban:{ANN}  since 2025-11-22 08:26:40" in lines
    waiting = next(line for line in lines if f"iban:{MALLORY}" in line)
    assert waiting.endswith("for tasks begun later, brought by an agent's write in words of principal:alice")
    assert not any("\u202e" in line for line in lines)
    assert "nobody is known" in run("parties", "list", "others").output


@pytest.mark.usefixtures("known")
def test_one_is_forgotten_under_each_name_and_a_set_is_emptied() -> None:
    assert run("parties", "forget", "payees", ANN, "--reason", "closed").output == "took 2 names out of payees\n"
    assert ANN not in run("parties", "list", "payees").output
    assert run("parties", "clear", "payees", "--reason", "start over").output == "took 3 names out of payees\n"
    shown = run("log", "show").output
    assert "parties_forgotten" in shown
    assert "start over" in shown


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("what", [("forget", "payees", "bob"), ("forget", "others", ANN), ("clear", "others")])
def test_who_is_not_known_cannot_be_forgotten(what: tuple[str, ...]) -> None:
    told = run("parties", *what, "--reason", "x")
    assert told.exit_code != 0
    assert "citywatch parties list" in told.output
    assert run("parties", *what).exit_code != 0  # and never without a reason
