"""The whole disk of the gateway is restored from yesterday; the witness, a process with a disk of its own, refuses.

Nothing on the restored disk can tell: store, tiles, checkpoint and the log key's own memory all agree with each other.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from citywatch.adapters.files import LogDirectory
from citywatch.adapters.keys import CheckpointSigner, KeyKind, SecretDirectory, open_key
from citywatch.adapters.sqlite import open_store
from citywatch.adapters.witness import HttpWitness
from citywatch.core.errors import Refused
from citywatch.core.log.checkpoint import NoteKey, format_note_key, parse_note_key, verify_checkpoint
from citywatch.service.ports import Append, NewEntry
from citywatch.service.publisher import Health, Publisher, log_note_key
from citywatch.service.witnessing import Witnesses
from spec import verify_log
from tests.log_world import ORIGIN, leaves


class Gateway:
    """What stands on one disk, and nothing else."""

    def __init__(self, disk: Path) -> None:
        self.disk = disk
        (disk / "log").mkdir(parents=True, exist_ok=True)
        keys = SecretDirectory(disk / "keys")
        self.signer = CheckpointSigner(keys, "log.pem", open_key(keys, "log.pem", KeyKind.ED25519), ORIGIN)
        self.key = log_note_key(ORIGIN, self.signer)

    async def lives(self, entries: list[bytes], witness: tuple[NoteKey, str]) -> Health:
        """One day: begin, write these entries, publish, end."""
        store = open_store(self.disk / "citywatch.db")
        try:
            publisher = Publisher(
                store=store,
                files=LogDirectory(self.disk / "log"),
                signer=self.signer,
                origin=ORIGIN,
                witnesses=Witnesses([(witness[0], HttpWitness(witness[1], timeout_s=10))], quorum=1),
            )
            await publisher.resume()
            await store.append(Append(entries=tuple(NewEntry(leaf) for leaf in entries)))
            return await publisher.publish()
        finally:
            await store.close()


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return Gateway(tmp_path / "gateway")


@pytest.fixture
def witness(tmp_path: Path, gateway: Gateway) -> Iterator[tuple[NoteKey, str]]:
    (tmp_path / "witness").mkdir()
    command = [sys.executable, "-m", "tests.witness_process", str(tmp_path / "witness"), format_note_key(gateway.key)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        key, port = child.stdout.readline().split()
        yield parse_note_key(key), f"http://127.0.0.1:{port}"
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) in (0, -signal.SIGTERM)


@pytest.mark.parametrize("busy", [0, 1, 40], ids=["idle", "a little", "more than was lost"])
async def test_a_log_restored_from_yesterdays_disk_is_refused(
    gateway: Gateway, witness: tuple[NoteKey, str], tmp_path: Path, busy: int
) -> None:
    monday, tuesday, other = leaves(300)[:260], leaves(300)[260:], [b'{"type":"other"}'] * busy
    assert (await gateway.lives(monday, witness)).cosigned == 1
    shutil.copytree(gateway.disk, tmp_path / "backup")
    today = await gateway.lives(tuesday, witness)
    assert (today.size, today.cosigned) == (300, 1)
    told = (gateway.disk / "log/checkpoint").read_bytes()

    shutil.rmtree(gateway.disk)
    shutil.copytree(tmp_path / "backup", gateway.disk)
    with pytest.raises(Refused, match="refuses"):
        await Gateway(gateway.disk).lives(other, witness)
    restored = verify_checkpoint((gateway.disk / "log/checkpoint").read_bytes(), gateway.key, [witness[0]])
    assert restored.checkpoint.size == 260, "what was published yesterday stands, and nothing after it"

    # A stranger who kept today's head sees it too, with the one file.
    (tmp_path / "kept").write_bytes(told)
    options = ["--key", format_note_key(gateway.key), "--previous", str(tmp_path / "kept")]
    assert verify_log.main(["export", str(gateway.disk / "log"), *options]) == 1


async def test_the_same_disk_goes_on_day_after_day(gateway: Gateway, witness: tuple[NoteKey, str]) -> None:
    for day in range(4):
        health = await Gateway(gateway.disk).lives(leaves(90 * (day + 1))[90 * day :], witness)
        assert (health.size, health.cosigned) == (90 * (day + 1), 1)
    options = ["--key", format_note_key(gateway.key), "--witness", format_note_key(witness[0])]
    assert verify_log.main(["export", str(gateway.disk / "log"), *options]) == 0
