"""A server on loopback that is held to an account: the kernel says whose end of a connection it is, before we speak."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from citywatch.core.errors import Code, Malformed, Unavailable
from citywatch.main.assembly import open_city
from citywatch.main.peers import card_upstreams, peer_upstreams
from citywatch.main.pins import Pins
from citywatch.main.place import read_place
from citywatch.main.upstreams import build_upstreams, owned_by
from tests.unit.adapters.bridge.test_owner import squatter
from tests.upstream_world import ASK, response, says, world

CONFIG = """\
trust_domain: city.example
listen: ["http://127.0.0.1:0"]
agents: {{a: {{}}}}
servers:
  bank: {{url: "http://127.0.0.1:{port}/mcp", owner: "{owner}", tools: {{look: {{effect: read}}}}}}
peers:
  b: {{url: "http://127.0.0.1:{port}/a2a", card: "http://127.0.0.1:{port}/card", owner: "{owner}", callers: [a]}}
"""


def written(folder: Path, port: int, owner: str) -> Path:
    (folder / "policies").mkdir()
    (folder / "policies" / "all.cedar").write_text('@id("all") permit(principal, action, resource is Server);')
    (folder / "citywatch.yaml").write_text(CONFIG.format(port=port, owner=owner))
    return folder / "citywatch.yaml"


async def test_who_took_a_servers_port_is_sent_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with squatter(monkeypatch) as (port, process):
        holder = os.stat(f"/proc/{process.pid}").st_uid
        async with open_city(read_place(written(tmp_path, port, str(holder + 1)))) as city:
            bank = build_upstreams(city.place, Pins(city))["bank"]
            with pytest.raises(Unavailable, match=r"is another: the port \d+ is held by the user") as caught:
                await bank.send("a", ASK, {}, None, repeatable=True)
            await bank.close()
        assert caught.value.code is Code.UPSTREAM_UNPROVEN
        assert process.stdout is not None
        assert process.stdout.readline() == "heard b''\n"


async def test_a_peer_and_its_card_are_held_to_the_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with squatter(monkeypatch) as (port, process):
        holder = os.stat(f"/proc/{process.pid}").st_uid
        async with open_city(read_place(written(tmp_path, port, str(holder + 1)))) as city:
            pins = Pins(city)
            for one in (peer_upstreams(city, pins)["b"], card_upstreams(city, pins)["b"]):
                with pytest.raises(Unavailable, match="is held by the user"):
                    await one.send("a", ASK, {}, None, repeatable=True)
                await one.close()
                assert process.stdout is not None
                assert process.stdout.readline() == "heard b''\n"


async def test_the_account_that_is_named_is_spoken_to() -> None:
    async with world(says(response())) as made:
        upstream = made.upstream(owned=owned_by(str(os.geteuid())))
        answer = await upstream.send("a", ASK, {}, None, repeatable=True)
        assert answer.status == 200
        await upstream.close()


async def test_without_an_owner_anybody_is() -> None:
    assert owned_by("") is None


def test_an_account_that_is_not_there_is_said_at_the_start() -> None:
    with pytest.raises(Malformed, match="has no account `nobody-of-that-name`"):
        owned_by("nobody-of-that-name")
