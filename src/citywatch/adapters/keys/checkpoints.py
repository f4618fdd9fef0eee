"""The log's signer: it signs heads of one log, and never two different ones of one size.

Decides whether a head may still be signed. It is the last guard, behind the publisher's compare-and-set, for the one
mistake that cannot be taken back: witnesses refuse a log that showed two roots for one size, for good.

INVARIANTS: what was signed last is on the disk before the signature exists; a smaller size than that, or another root
of that size, is refused by every process that uses the key file; nothing but a checkpoint of this log is ever signed.
A restored backup brings back an older memory: only a witness sees through that.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from citywatch.adapters.keys.files import SecretDirectory
from citywatch.adapters.keys.signers import KeySigner
from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from citywatch.core.log.checkpoint import Checkpoint, parse_checkpoint


class _Last(msgspec.Struct, frozen=True):
    size: int
    root: bytes


class CheckpointSigner:
    """`service.ports.Signer` for the texts of checkpoints; `name` is the key's file, `origin` the log's name."""

    def __init__(self, directory: SecretDirectory, name: str, key: KeySigner, origin: str) -> None:
        self._directory = directory
        self._key = key
        self._origin = origin
        self._memory = f"{name}.last"
        self.public = key.public

    def sign(self, message: bytes) -> bytes:
        """Sign a checkpoint's text; `Refused(CONFLICT)` if a head that contradicts it was signed before."""
        try:
            checkpoint = parse_checkpoint(message.decode("utf-8"))
        except UnicodeDecodeError:
            raise Malformed("a checkpoint's text is UTF-8") from None
        if checkpoint.origin != self._origin:
            raise Malformed(f"the checkpoint is not of the log `{self._origin}`")
        with self._alone():
            self._remember(checkpoint)
            return self._key.sign(message)

    def _remember(self, checkpoint: Checkpoint) -> None:
        last = self._last()
        if last is not None:
            if checkpoint.size < last.size:
                raise Refused(Code.CONFLICT, f"a head of {last.size} entries was signed: {checkpoint.size} is fewer")
            if checkpoint.size == last.size and checkpoint.root != last.root:
                raise Refused(Code.CONFLICT, f"another head of {last.size} entries was signed")
            if checkpoint.size == last.size:
                return
        self._directory.replace(self._memory, msgspec.json.encode(_Last(checkpoint.size, checkpoint.root)))

    def _last(self) -> _Last | None:
        if not self._directory.exists(self._memory):
            return None
        try:
            return msgspec.json.decode(self._directory.read(self._memory), type=_Last)
        except msgspec.DecodeError:
            raise Malformed(f"`{self._directory.path / self._memory}` cannot be read: nothing is signed") from None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time: a lock on the directory, which the kernel gives back when a process dies."""
        try:
            descriptor = os.open(self._directory.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise Unavailable(Code.STORE_UNAVAILABLE, f"the log's key: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
