"""The publisher: what is covered, what a crash at each step leaves, and when it stops for good."""

from __future__ import annotations

import asyncio
import shutil
from argparse import Namespace
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from citywatch.adapters.memory import MemoryStore
from citywatch.core.errors import Malformed, Refused, Unavailable
from citywatch.core.log.checkpoint import Kind, NoteKey, SignedCheckpoint, format_note_key
from citywatch.core.log.tiles import Edge, format_tile_path, tiles_upto
from citywatch.service.ports import Append
from citywatch.service.publisher import FENCE, SLICE, Fence, Health, Publisher, log_note_key
from spec import verify_log
from tests.log_city import Killed, SteppedStore, Steps, World, refusing_signer
from tests.log_world import LOG, ORIGIN, edge_of, leaves

KEY = verify_log.read_key(format_note_key(LOG), 1)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "log")


async def holds(world: World) -> None:
    """The stranger's verifier accepts the directory, and the head covers synced entries of the store, in order."""
    head = world.checkpoint()
    assert head is not None
    verify_log.check_export(Namespace(path=str(world.root), previous=[]), KEY, [], 0)
    synced = world.store.after_power_loss()
    covered = await synced.entries(0, head.checkpoint.size)
    assert len(covered) == head.checkpoint.size, "a head covers what a loss of power would undo"
    assert edge_of(list(covered)).frontier.root() == head.checkpoint.root
    assert world.signer.heads[head.checkpoint.size] == head.checkpoint.root


async def test_an_empty_log_has_no_head(world: World) -> None:
    publisher = world.publisher()
    assert await publisher.resume() == 0
    assert await publisher.publish() == Health()
    assert (world.checkpoint(), world.signer.heads) == (None, {})


@pytest.mark.parametrize("sizes", [[1], [1, 2, 3], [255, 256, 257], [700], [300, 300, 513], [256, 512, 65], [1100, 2]])
async def test_each_head_covers_all_that_is_synced_and_a_stranger_agrees(world: World, sizes: list[int]) -> None:
    publisher, total = world.publisher(), 0
    for size in sizes:
        await world.append(size - total if size > total else size)
        total = world.written
        assert await publisher.publish() == Health(size=total)
        await holds(world)
    assert await world.publisher().resume() == total


async def test_nothing_is_signed_twice_while_nothing_grows_but_a_new_process_shows_its_head_again(world: World) -> None:
    world.witnesses, world.quorum = World(world.root, 1, 1).witnesses, 1
    await world.append(5)
    publisher = world.publisher()
    await publisher.publish()
    await publisher.publish()
    assert world.witnesses[0].asked == 1
    await world.publisher().publish()
    assert world.witnesses[0].asked > 1
    await holds(world)


async def test_only_what_is_synced_is_covered(world: World) -> None:
    """Ten entries are committed, and the disk has seven of them: a head of ten could lose its entries, not its root."""

    class Behind(SteppedStore):
        async def sync(self) -> int:
            return min(7, await super().sync())

    await world.append(10)
    publisher = world.publisher()
    publisher._store = Behind(world.store, Steps())
    assert (await publisher.publish()).size == 7
    await holds(world)
    assert (await world.publisher().publish()).size == 10
    await world.append(5)  # committed after it asked
    await holds(world)


async def test_partial_tiles_stay_until_the_full_one_is_there(world: World) -> None:
    publisher = world.publisher()
    for _ in range(3):
        await world.append(100)
        await publisher.publish()
    names = {str(path.relative_to(world.root)) for path in world.root.rglob("*") if path.is_file()}
    assert names == {"checkpoint", *map(format_tile_path, tiles_upto(300))}


async def test_it_gives_way_between_small_slices(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even over a store that answers at once."""

    async def at_once() -> None:
        pass

    await world.append(4000)
    monkeypatch.setattr(world.store, "_give_way", at_once)
    turns, reads = 0, []

    class Watched(SteppedStore):
        async def entries(self, start: int, stop: int) -> Sequence[bytes]:
            reads.append((turns, stop - start))
            return await super().entries(start, stop)

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    publisher = world.publisher()
    publisher._store = Watched(world.store, Steps())
    task = asyncio.create_task(others())
    await publisher.publish()
    task.cancel()
    assert [size for _, size in reads] == [SLICE] * 7 + [4000 - 7 * SLICE]
    assert SLICE <= 512
    assert all(later > earlier for (earlier, _), (later, _) in pairwise(reads)), "somebody else ran after each slice"


async def test_a_restart_takes_up_the_log_from_its_tiles(world: World) -> None:
    for size in (1, 255, 256, 300, 1000, 1024, 1100):
        await world.append(size - world.written)
        publisher = world.publisher()
        await publisher.publish()
        assert await world.publisher().resume() == size
    await holds(world)


async def steps_of(root: Path, begun: int, grown: int) -> list[str]:
    world, steps = World(root, witnesses=2, quorum=2), Steps()
    await world.append(begun)
    await world.publisher().publish()
    await world.append(grown)
    await world.publisher(steps).publish()
    return steps.names


@pytest.mark.parametrize("power", [False, True], ids=["killed", "power lost"])
@pytest.mark.parametrize(("begun", "grown"), [(1, 1), (250, 20), (200, 330)])
async def test_a_crash_at_any_step_leaves_a_log_that_goes_on_and_no_size_ever_has_two_roots(
    tmp_path: Path, begun: int, grown: int, power: bool
) -> None:
    names = await steps_of(tmp_path / "rehearsal", begun, grown)
    assert {name.split(":")[0] for name in names} == {"sync", "tiles", "fence", "witness", "swap", "prune"}
    for fatal, name in enumerate(names):
        world = World(tmp_path / f"{fatal}", witnesses=2, quorum=2)
        await world.append(begun)
        await world.publisher().publish()
        await world.append(grown)
        with pytest.raises(Killed, match=name.split(":")[0]):  # two witnesses are asked at once, in any order
            await world.publisher(Steps(fatal)).publish()
        world.store = world.store.after_power_loss() if power else world.store.after_crash()
        left = world.checkpoint()
        assert left is not None
        assert left.checkpoint.size in (begun, begun + grown)
        await world.append(3)  # what is written next must not change what was signed
        publisher = world.publisher()
        assert await publisher.resume() == left.checkpoint.size
        health = await publisher.publish()
        size = len(await world.store.entries(0, 10_000))
        assert (health.size, health.cosigned, health.refused) == (size, 2, None), name
        await holds(world)


async def test_two_publishers_never_sign_two_roots_and_one_of_them_always_gets_on(world: World) -> None:
    first, second = world.publisher(), world.publisher()
    for turn in range(30):
        await world.append(turn % 5 + 1)
        await asyncio.gather(first.publish(), second.publish())
        await holds(world)
    await first.publish()
    await second.publish()
    await first.publish()
    head = world.checkpoint()
    assert head is not None
    assert head.checkpoint.size == world.written
    await holds(world)


class Held:
    """Stops a publisher before one of its steps until it is let go."""

    def __init__(self, step: str) -> None:
        self._step = f"{step}: before"
        self.reached, self.let_go = asyncio.Event(), asyncio.Event()

    def publisher(self, world: World) -> Publisher:
        steps = Steps()
        take = steps.take

        async def held(name: str, touch: Any) -> Any:
            if f"{name}: before" == self._step and not self.reached.is_set():
                self.reached.set()
                await self.let_go.wait()
            return await take(name, touch)

        steps.take = held  # type: ignore[method-assign]
        return world.publisher(steps)


@pytest.mark.parametrize("step", ["sync", "tiles", "fence", "swap", "prune"])
async def test_a_publisher_that_was_overtaken_at_any_step_takes_nothing_back(world: World, step: str) -> None:
    """It stood still for an hour (a paused machine), and another process went on in the meantime."""
    await world.append(250)
    await world.publisher().publish()
    await world.append(20)
    held = Held(step)
    slow, fast = held.publisher(world), world.publisher()
    task = asyncio.create_task(slow.publish())
    await held.reached.wait()
    await world.append(10)
    await fast.publish()
    held.let_go.set()
    health = await task
    assert health.refused is None
    head = world.checkpoint()
    assert head is not None
    assert head.checkpoint.size == 280
    row = (await world.store.load([FENCE], [])).rows[FENCE]
    assert msgspec.json.decode(row.value, type=Fence).size == 280
    await holds(world)
    await world.append(5)
    for _ in range(2):
        health = await slow.publish()
    assert health == Health(size=285)
    await holds(world)


async def test_a_publisher_that_is_overtaken_between_fence_and_signature_is_not_refused_for_good(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.append(5)
    slow, fast = world.publisher(), world.publisher()
    signing, let_go = asyncio.Event(), asyncio.Event()
    sign = slow._sign

    async def late(edge: Edge) -> SignedCheckpoint:
        signing.set()
        await let_go.wait()
        return await sign(edge)

    monkeypatch.setattr(slow, "_sign", late)
    task = asyncio.create_task(slow.publish())
    await signing.wait()
    await world.append(3)
    await fast.publish()
    let_go.set()
    await task
    assert slow.health.refused is None
    await world.append(1)
    assert (await slow.publish()).size == 9
    await holds(world)


async def test_a_publisher_whose_swap_failed_does_not_say_that_it_published(world: World) -> None:
    await world.append(5)
    held = Held("swap")
    slow = held.publisher(world)
    task = asyncio.create_task(slow.publish())
    await held.reached.wait()
    await world.append(3)
    await world.publisher().publish()
    held.let_go.set()
    assert (await task).size == 0
    assert (await slow.publish()).size == 8


async def test_what_was_integrated_is_not_read_again_when_witnesses_are_away(tmp_path: Path) -> None:
    world = World(tmp_path / "log", witnesses=1, quorum=1)
    world.witnesses[0].away = True
    await world.append(2000)
    publisher = world.publisher()
    store = SteppedStore(world.store, Steps())
    publisher._store = store
    for turn in range(5):
        with pytest.raises(Unavailable):
            await publisher.publish()
        await world.append(1)
        assert store.read == 2000 + turn
    world.witnesses[0].away = False
    assert (await publisher.publish()).size == 2005
    await holds(world)


async def test_a_fence_with_another_root_than_the_published_head_is_refused(world: World) -> None:
    await world.append(5)
    await world.publisher().publish()
    row = (await world.store.load([FENCE], [])).rows[FENCE]
    forged = msgspec.json.encode(Fence(5, bytes(32)))
    await world.store.append(Append(reads=((FENCE, row.version),), puts=((FENCE, forged),)))
    with pytest.raises(Refused, match="another head of 5"):
        await world.publisher().publish()


async def test_tiles_of_another_log_under_our_checkpoint_are_noticed(world: World) -> None:
    await world.append(300)
    await world.publisher().publish()
    ours = (world.root / "checkpoint").read_bytes()
    other = World(world.root.parent / "other")
    await other.append(300, text='{"type":"other"}')
    await other.publisher().publish()
    shutil.rmtree(world.root)
    shutil.copytree(other.root, world.root)
    (world.root / "checkpoint").write_bytes(ours)
    with pytest.raises(Unavailable, match="do not give the root"):
        await world.publisher().resume()


async def test_a_damaged_fence_is_unavailable(world: World) -> None:
    await world.append(5)
    await world.store.append(Append(puts=((FENCE, b"nonsense"),)))
    with pytest.raises(Unavailable, match="damaged"):
        await world.publisher().resume()


async def test_a_log_shorter_than_what_was_signed_is_not_published(world: World) -> None:
    await world.append(10)
    await world.publisher().publish()
    row = (await world.store.load([FENCE], [])).rows[FENCE]
    world.store, world.written = MemoryStore(), 0
    await world.store.append(Append(puts=((FENCE, row.value),)))
    await world.append(9)
    publisher = world.publisher()
    with pytest.raises(Unavailable, match="the store holds 9 entries, 10 were signed"):
        await publisher.resume()
    with pytest.raises(Unavailable):
        await publisher.publish()
    assert "9 entries" in (publisher.health.failed or "")
    assert (publisher.health.size, list(world.signer.heads)) == (10, [10])


async def test_an_old_store_put_back_is_noticed_even_after_it_has_grown_again(world: World) -> None:
    """Without this the tiles of one history would be continued with entries of another."""
    await world.append(5)
    await world.publisher().publish()
    backup = world.store.after_power_loss()
    await world.append(5)
    await world.publisher().publish()
    world.store = backup
    for count in (1, 30):
        await world.append(count)
        with pytest.raises(Unavailable, match="the store remembers 5: an old one"):
            await world.publisher().publish()
    world.store = MemoryStore()
    await world.append(50)
    with pytest.raises(Unavailable, match="the store remembers 0"):
        await world.publisher().publish()
    assert sorted(world.signer.heads) == [5, 10]


async def test_a_history_that_does_not_pass_through_the_last_signed_head_is_refused_for_good(world: World) -> None:
    """Signed, fenced, then killed before the checkpoint: the store must still hold just these entries."""
    await world.append(5)
    await world.publisher().publish()
    await world.append(4)
    names = await steps_of(world.root.parent / "rehearsal", 5, 4)
    world.witnesses, world.quorum = [], 0
    with pytest.raises(Killed):
        await world.publisher(Steps(names.index("fence: after"))).publish()
    row = (await world.store.load([FENCE], [])).rows[FENCE]
    forged = MemoryStore()
    world.store, world.written = forged, 0
    await world.append(5)
    await world.append(9, text='{"type":"other"}')
    await forged.append(Append(puts=((FENCE, row.value),)))
    publisher = world.publisher()
    with pytest.raises(Refused, match="another head of 9 entries was signed"):
        await publisher.publish()
    asked = world.store.syncs
    with pytest.raises(Refused, match="another head"):
        await publisher.publish()
    assert world.store.syncs == asked, "it does not even try again"
    assert list(world.signer.heads) == [5]


async def test_the_keys_own_guard_stops_it_for_good(world: World) -> None:
    refusing_signer(world, "a head of 99 entries was signed: 3 is fewer")
    await world.append(3)
    publisher = world.publisher()
    with pytest.raises(Refused, match="99 entries"):
        await publisher.publish()
    assert "99 entries" in (publisher.health.refused or "")
    assert world.checkpoint() is None


async def test_a_signature_of_another_key_is_never_published(world: World) -> None:
    await world.append(3)
    world.signer.sign = lambda message: bytes(64)  # type: ignore[method-assign]
    publisher = world.publisher()
    with pytest.raises(Malformed):
        await publisher.publish()
    assert publisher.health.refused
    assert world.checkpoint() is None


@pytest.mark.parametrize("broken", ["checkpoint", "tile/0/000.p/44", "tile/entries/000.p/44"])
async def test_files_that_do_not_fit_their_head_stop_it(world: World, broken: str) -> None:
    await world.append(44)
    await world.publisher().publish()
    path = world.root / broken
    good = path.read_bytes()
    for bad in (good[:-1] + bytes([good[-1] ^ 1]), good[:-32], b""):
        path.write_bytes(bad)
        with pytest.raises(Unavailable):
            await world.publisher().resume()
    path.unlink()
    if broken != "checkpoint":
        with pytest.raises(Unavailable, match="the log lacks"):
            await world.publisher().resume()
        path.write_bytes(good)
        assert await world.publisher().resume() == 44


async def test_another_logs_checkpoint_in_our_place_stops_it(world: World) -> None:
    await world.append(4)
    await world.publisher().publish()
    other = World(world.root)
    with pytest.raises(Unavailable, match="remembers 0"):  # the same directory, another store
        await other.publisher().publish()


async def test_a_full_disk_fails_and_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.append(600)
    publisher = world.publisher()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("os.fsync", full)
        for _ in range(2):
            with pytest.raises(Unavailable, match="no space left"):
                await publisher.publish()
        assert "no space left" in (publisher.health.failed or "")
    assert (await publisher.publish()) == Health(size=600)
    await holds(world)


async def test_a_store_that_is_away_fails_and_is_tried_again(world: World) -> None:
    from citywatch.core.errors import Code

    await world.append(6)
    publisher = world.publisher()
    world.store.broken = Unavailable(Code.STORE_UNAVAILABLE, "away")
    with pytest.raises(Unavailable):
        await publisher.publish()
    world.store.broken = None
    assert await publisher.publish() == Health(size=6)


async def test_it_goes_on_by_itself_and_health_says_how(world: World) -> None:
    publisher = world.publisher()
    task = asyncio.create_task(publisher.run(0.0))
    await world.append(3)
    while publisher.health.size < 3:
        await asyncio.sleep(0)
    publisher.health = Health(size=3, refused="a witness refuses")
    await world.append(3)
    for _ in range(50):
        await asyncio.sleep(0)
    assert not task.done(), "a refusal does not end it: health says what an operator has to look at"
    assert publisher.health.size == 3
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_the_origin_is_the_keys_name(world: World) -> None:
    assert log_note_key(ORIGIN, world.signer) == NoteKey(ORIGIN, Kind.LOG, LOG.key) == LOG
    for origin in ("", "a b", "a+b"):
        with pytest.raises(Malformed):
            log_note_key(origin, world.signer)


def test_a_log_signs_with_ed25519() -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    class P256:
        public = (
            ec.generate_private_key(ec.SECP256R1())
            .public_key()
            .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        )

        def sign(self, message: bytes) -> bytes:
            raise NotImplementedError

    with pytest.raises(Malformed, match="Ed25519"):
        log_note_key(ORIGIN, P256())


def test_the_world_of_these_tests_can_tell_a_fork() -> None:
    """The judge must be awake: a second root for a size fails."""
    from citywatch.core.log.checkpoint import Checkpoint, format_checkpoint
    from tests.log_city import RecordingSigner

    signer = RecordingSigner()
    signer.sign(format_checkpoint(Checkpoint(ORIGIN, 1, bytes(32))).encode())
    with pytest.raises(AssertionError, match="two roots"):
        signer.sign(format_checkpoint(Checkpoint(ORIGIN, 1, bytes([1]) * 32)).encode())
    assert len(leaves(1)) == 1
