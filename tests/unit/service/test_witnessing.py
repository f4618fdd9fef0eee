"""A round of cosigning: who counts, who stops the log for good, and what a lying witness can do."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence
from pathlib import Path

import pytest

from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from citywatch.core.log.checkpoint import Kind, NoteKey, cosignature, cosigned_message, format_signature
from citywatch.core.log.witness import Head
from citywatch.service.ports import Cosigned, Witness, WitnessedSize, WitnessRefused
from citywatch.service.witnessing import ATTEMPTS, Witnesses
from tests.log_city import HonestWitness, World
from tests.log_world import WITNESS_PRIVATE, note_key

Answer = Cosigned | WitnessedSize | WitnessRefused


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "log", witnesses=3, quorum=2)


class Scripted:
    """A witness that answers what it was told to, again and again."""

    def __init__(self, *answers: Answer | Unavailable) -> None:
        self.answers = list(answers)
        self.asked: list[int] = []

    async def add_checkpoint(self, old: int, proof: Sequence[bytes], note: bytes) -> Answer:
        answer = self.answers[len(self.asked) % len(self.answers)]
        self.asked.append(old)
        if isinstance(answer, Unavailable):
            raise answer
        return answer


SCRIPTED = note_key("witness.example/w1", Kind.WITNESS, WITNESS_PRIVATE)


async def test_all_witnesses_follow_a_log_that_grows(world: World) -> None:
    publisher = world.publisher()
    for count in (1, 5, 300, 1):
        await world.append(count)
        health = await publisher.publish()
        assert (health.cosigned, health.silent) == (3, ())
        head = world.checkpoint()
        assert head is not None
        assert len(head.cosignatures) == 3
        assert {each.head.size for each in world.witnesses} == {world.written}
    assert {each.asked for each in world.witnesses} == {4}, "each is asked once, from where it stood"


async def test_a_quorum_is_enough_and_the_silent_are_named(world: World) -> None:
    await world.append(3)
    world.witnesses[1].away = True
    health = await world.publisher().publish()
    assert health.cosigned == 2
    assert len(health.silent) == 1
    assert "witness.example/1" in health.silent[0]


async def test_without_a_quorum_nothing_is_published_until_there_is_one_again(world: World) -> None:
    publisher = world.publisher()
    await world.append(3)
    await publisher.publish()
    for witness in world.witnesses[:2]:
        witness.away = True
    for _ in range(3):
        await world.append(2)
        with pytest.raises(Unavailable, match="1 of 2 cosignatures"):
            await publisher.publish()
    head = world.checkpoint()
    assert head is not None
    assert (head.checkpoint.size, publisher.health.size) == (3, 3)
    assert "does not answer" in (publisher.health.failed or "")
    assert publisher.health.refused is None
    for witness in world.witnesses:
        witness.away = False
    health = await publisher.publish()
    assert (health.size, health.cosigned, health.failed) == (9, 3, None)


async def test_a_witness_that_was_away_is_shown_all_that_it_missed(world: World) -> None:
    publisher = world.publisher()
    for away in (False, True, True, False):
        world.witnesses[0].away = away
        await world.append(10)
        await publisher.publish()
    assert world.witnesses[0].head.size == 40


async def test_yesterdays_log_is_refused_at_once_and_after_it_has_grown_past_today(tmp_path: Path) -> None:
    """The whole disk is put back, store and tiles and the key's memory: only the witnesses know better."""
    for grown in (0, 1, 5, 30):
        world = World(tmp_path / f"log{grown}", witnesses=3, quorum=2)
        await world.append(5)
        await world.publisher().publish()
        yesterday = copy.deepcopy((world.store, world.signer, (world.root / "checkpoint").read_bytes()))
        await world.append(5)
        await world.publisher().publish()
        world.store, world.signer, checkpoint = yesterday
        (world.root / "checkpoint").write_bytes(checkpoint)
        if grown:
            await world.append(grown, text='{"type":"another day"}')
        publisher = world.publisher()
        with pytest.raises(Refused, match="refuses"):
            await publisher.publish()
        assert publisher.health.refused
        assert {each.head.size for each in world.witnesses} == {10}
        assert (world.root / "checkpoint").read_bytes() == checkpoint
        with pytest.raises(Refused):
            await publisher.publish()


async def test_a_rewritten_history_of_the_same_size_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path / "one", witnesses=1, quorum=1)
    await world.append(5)
    await world.publisher().publish()
    other = World(tmp_path / "two", quorum=1)
    other.witnesses = world.witnesses
    await other.append(5, text='{"type":"rewritten"}')
    with pytest.raises(Refused, match="cosigned another log of 5 entries"):
        await other.publisher().publish()
    assert other.checkpoint() is None


async def test_one_refusal_stops_only_a_log_that_needs_that_witness(tmp_path: Path) -> None:
    for quorum, stops in ((2, False), (3, True)):
        world = World(tmp_path / f"{quorum}", witnesses=3, quorum=quorum)
        world.witnesses[0].head = Head(50, bytes(32))
        await world.append(7)
        publisher = world.publisher()
        if stops:
            with pytest.raises(Refused, match="it cosigned 50 entries, this log has 7"):
                await publisher.publish()
            assert world.checkpoint() is None
        else:
            health = await publisher.publish()
            assert (health.cosigned, len(health.silent)) == (2, 1)


@pytest.mark.parametrize(
    "answer",
    [
        Cosigned(b""),
        Cosigned(b"nonsense\n"),
        Cosigned(b"\xff"),
        Cosigned(format_signature(cosignature(SCRIPTED, 9, bytes(64))).encode()),
        Cosigned(
            format_signature(cosignature(SCRIPTED, 9, WITNESS_PRIVATE.sign(cosigned_message("a\n1\nb\n", 9)))).encode()
        ),
        WitnessedSize(0),
        WitnessedSize(2),
        WitnessedSize(3),
        WitnessedSize(10**18),
        WitnessRefused("no"),
        Unavailable(Code.UPSTREAM_TIMEOUT, "no answer in time"),
    ],
    ids=repr,
)
async def test_a_witness_that_lies_gives_no_cosignature(tmp_path: Path, answer: Answer | Unavailable) -> None:
    for quorum in (0, 1):
        world = World(tmp_path / f"{quorum}", quorum=quorum)
        witness = Scripted(answer)
        await world.append(3)
        publisher = world.publisher(asked=[(SCRIPTED, witness)])
        if quorum:
            with pytest.raises((Refused, Unavailable)):
                await publisher.publish()
            assert world.checkpoint() is None
        else:
            health = await publisher.publish()
            assert (health.size, health.cosigned, len(health.silent)) == (3, 0, 1)
        assert 1 <= len(witness.asked) <= ATTEMPTS


async def test_a_witness_that_keeps_changing_its_mind_is_not_asked_for_ever(tmp_path: Path) -> None:
    world = World(tmp_path / "log", quorum=1)
    witness = Scripted(WitnessedSize(1), WitnessedSize(2))
    await world.append(3)
    with pytest.raises(Unavailable, match="changing its mind"):
        await world.publisher(asked=[(SCRIPTED, witness)]).publish()
    assert witness.asked == [0, 1, 2][:ATTEMPTS]


async def test_another_witnesss_line_counts_for_nobody(tmp_path: Path) -> None:
    """A relay that hands on one witness's cosignature under two names must not make two of it."""
    honest = HonestWitness(1)

    class Relay:
        async def add_checkpoint(self, old: int, proof: Sequence[bytes], note: bytes) -> Answer:
            return await honest.add_checkpoint(old, proof, note)

    pairs: list[tuple[NoteKey, Witness]] = [(honest.key, honest), (SCRIPTED, Relay())]
    world = World(tmp_path / "log", quorum=2)
    await world.append(3)
    with pytest.raises(Unavailable, match="1 of 2"):
        await world.publisher(asked=pairs).publish()


async def test_a_head_that_another_publisher_has_overtaken_is_no_rollback(tmp_path: Path) -> None:
    """Two processes of one log: the slower one's head is behind what the witness has seen, and that is no crime."""
    world = World(tmp_path / "log", witnesses=1, quorum=1)
    await world.append(3)
    slow, fast = world.publisher(), world.publisher()
    await slow.publish()
    gate, held = asyncio.Event(), asyncio.Event()
    honest = world.witnesses[0]

    class Held:
        async def add_checkpoint(self, old: int, proof: Sequence[bytes], note: bytes) -> Answer:
            held.set()
            await gate.wait()
            return await honest.add_checkpoint(old, proof, note)

    slow._witnesses = Witnesses([(honest.key, Held())], 1)
    await world.append(1)
    task = asyncio.create_task(slow.publish())
    await held.wait()
    await world.append(1)
    await fast.publish()
    gate.set()
    with pytest.raises(Unavailable, match="has cosigned a later head"):
        await task
    assert slow.health.refused is None
    slow._witnesses = Witnesses([(honest.key, honest)], 1)
    await world.append(1)
    for _ in range(2):  # the first finds the checkpoint changed under it
        health = await slow.publish()
    assert (health.size, health.cosigned) == (6, 1)


async def test_a_key_that_signs_under_two_names_counts_once(tmp_path: Path) -> None:
    honest, away = HonestWitness(1), HonestWitness(2)
    away.away = True

    class Twin:
        """The same witness and the same key, listed again under another name."""

        def __init__(self) -> None:
            self.inner = HonestWitness(1)
            self.key = self.inner.key = note_key("witness.example/again", Kind.WITNESS, self.inner._private)

        async def add_checkpoint(self, old: int, proof: Sequence[bytes], note: bytes) -> Answer:
            return await self.inner.add_checkpoint(old, proof, note)

    twin = Twin()
    world = World(tmp_path / "log", quorum=2)
    await world.append(3)
    with pytest.raises(Unavailable, match="1 of 2"):
        await world.publisher(asked=[(honest.key, honest), (twin.key, twin), (away.key, away)]).publish()


@pytest.mark.parametrize("quorum", [-1, 2, 99])
def test_a_quorum_that_cannot_be_reached_is_refused(quorum: int) -> None:
    with pytest.raises(Malformed):
        Witnesses([(SCRIPTED, Scripted(WitnessRefused("")))], quorum)


def test_one_key_under_two_names_is_one_witness() -> None:
    twin = note_key("witness.example/w2", Kind.WITNESS, WITNESS_PRIVATE)
    with pytest.raises(Malformed):
        Witnesses([(SCRIPTED, Scripted(WitnessRefused(""))), (twin, Scripted(WitnessRefused("")))], 2)
