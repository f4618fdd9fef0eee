"""What the log shows: everything that it hands out convinces the stranger's verifier, or is not handed out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from citywatch.adapters.files import LogDirectory
from citywatch.core.errors import Malformed, Unavailable
from citywatch.core.log.checkpoint import format_note_key, verify_checkpoint
from citywatch.core.log.entry import encode_event, payload_digest
from citywatch.service.ports import Append, NewEntry, Payload
from citywatch.service.proofs import CACHED_TILES, Proofs
from spec import verify_log
from tests.log_city import World
from tests.log_world import LOG, event, head_of, leaves

KEY = format_note_key(LOG)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "log")


def proofs(world: World) -> Proofs:
    return Proofs(store=world.store, files=LogDirectory(world.root), key=LOG)


def convinces(tmp_path: Path, verb: str, data: bytes, *options: str) -> bool:
    (tmp_path / "shown").write_bytes(data)
    return verify_log.main([verb, str(tmp_path / "shown"), "--key", KEY, *options]) == 0


async def test_every_entry_of_a_log_has_a_proof_that_convinces(world: World, tmp_path: Path) -> None:
    await world.append(70)
    await world.publisher().publish()
    shown = proofs(world)
    for index in range(70):
        assert convinces(tmp_path, "proof", await shown.prove(index, with_payload=False))


@pytest.mark.parametrize("size", [1, 255, 256, 257, 600, 1100])
async def test_proofs_reach_across_tiles(world: World, tmp_path: Path, size: int) -> None:
    publisher = world.publisher()
    if size > 300:
        await world.append(300)
        await publisher.publish()
        await publisher.publish()
    await world.append(size - world.written)
    await publisher.publish()
    shown = proofs(world)
    for index in sorted({0, size // 2, max(0, size - 256), size - 1}):
        assert convinces(tmp_path, "proof", await shown.prove(index, with_payload=False))


async def test_a_proof_carries_its_payload_unless_it_is_erased_or_kept_back(world: World, tmp_path: Path) -> None:
    payload = Payload(bytes(16), b'{"amount":1200}')
    leaf = encode_event(event(0, payload_digest(payload.salt, payload.body)))
    await world.store.append(Append(entries=(NewEntry(leaf, payload),)))
    await world.append(2)
    await world.publisher().publish()
    shown = proofs(world)
    whole = await shown.prove(0, with_payload=True)
    assert convinces(tmp_path, "proof", whole)
    assert "payload" in json.loads(whole)
    assert "payload" not in json.loads(await shown.prove(0, with_payload=False))
    assert "payload" not in json.loads(await shown.prove(1, with_payload=True))
    await world.store.erase(0, NewEntry(leaves(1)[0]))
    assert "payload" not in json.loads(await shown.prove(0, with_payload=True))


async def test_an_entry_above_the_head_has_no_proof(world: World) -> None:
    shown = proofs(world)
    with pytest.raises(Malformed, match="no checkpoint yet"):
        await shown.prove(0, with_payload=False)
    assert await shown.head() is None
    await world.append(3)
    await world.publisher().publish()
    await world.append(1)
    for index in (3, 4, -1):
        with pytest.raises(Malformed):
            await shown.prove(index, with_payload=False)


async def test_growth_from_every_head_that_was_ever_published(world: World, tmp_path: Path) -> None:
    publisher, kept = world.publisher(), []
    for count in (1, 4, 250, 1, 300, 60):
        await world.append(count)
        await publisher.publish()
        head = world.checkpoint()
        assert head is not None
        kept.append(head)
    for old in kept:
        assert convinces(tmp_path, "growth", await proofs(world).growth(old))


async def test_growth_from_another_history_is_not_shown(world: World) -> None:
    await world.append(9)
    await world.publisher().publish()
    ahead = verify_checkpoint(head_of(leaves(20)), LOG)
    with pytest.raises(Malformed):
        await proofs(world).growth(ahead)
    forked = verify_checkpoint(head_of([b"{}", *leaves(4)]), LOG)
    with pytest.raises(Unavailable):
        await proofs(world).growth(forked)


async def test_an_export_convinces_and_holds_no_more_than_its_head_covers(world: World, tmp_path: Path) -> None:
    payloads = [Payload(bytes([i]) * 16, b'{"n":%d}' % i) for i in range(3)]
    entries = [encode_event(event(i, payload_digest(each.salt, each.body))) for i, each in enumerate(payloads)]
    pairs = tuple(NewEntry(leaf, payload) for leaf, payload in zip(entries, payloads, strict=True))
    await world.store.append(Append(entries=pairs))
    await world.append(600)
    await world.publisher().publish()
    await world.append(5)
    for with_payloads in (True, False):
        lines = [line async for line in proofs(world).export(with_payloads=with_payloads)]
        assert len(lines) == 1 + 603
        assert (b"payload" in lines[1]) == with_payloads
        assert convinces(tmp_path, "export", b"".join(lines))


async def test_a_log_without_a_head_exports_nothing_and_says_so(world: World) -> None:
    await world.append(3)
    with pytest.raises(Malformed, match="nothing to show"):
        [line async for line in proofs(world).export(with_payloads=False)]


async def test_a_changed_tile_or_entry_is_found_by_us_and_not_by_a_stranger(world: World) -> None:
    await world.append(300)
    await world.publisher().publish()
    tile = world.root / "tile/0/000"
    tile.write_bytes(tile.read_bytes()[:-1] + b"\0")
    with pytest.raises(Unavailable, match="do not fit"):
        await proofs(world).prove(3, with_payload=False)
    tile.write_bytes(tile.read_bytes()[:-40])
    with pytest.raises(Unavailable, match="too short"):
        await proofs(world).prove(255, with_payload=False)
    tile.unlink()
    with pytest.raises(Unavailable, match="lacks"):
        await proofs(world).prove(3, with_payload=False)
    (world.root / "checkpoint").write_bytes(b"nonsense")
    with pytest.raises(Unavailable, match="not ours"):
        await proofs(world).head()


async def test_a_store_that_lost_entries_shows_none_of_them(world: World) -> None:
    await world.append(9)
    await world.publisher().publish()
    other = World(world.root)
    await other.append(4)
    with pytest.raises(Unavailable, match="lacks entries"):
        await proofs(other).prove(7, with_payload=False)
    with pytest.raises(Unavailable, match="lacks entries"):
        [line async for line in proofs(other).export(with_payloads=False)]
    other = World(world.root)
    await other.append(9, text='{"type":"other"}')
    with pytest.raises(Unavailable, match="do not fit"):
        await proofs(other).prove(7, with_payload=False)


async def test_memory_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("citywatch.service.proofs.CACHED_TILES", 3)
    assert CACHED_TILES <= 1024
    await world.append(2000)
    await world.publisher().publish()
    shown = proofs(world)
    for index in range(0, 2000, 100):
        await shown.prove(index, with_payload=False)
        assert len(shown._cache) <= 3
