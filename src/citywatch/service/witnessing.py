"""One round of cosigning: a head is shown to every witness, and enough of them have to sign.

Decides whether a head may be published as far as witnesses are concerned. Does not decide that the log is sound: it
believes no witness either, for each cosignature is verified under the key that the operator configured.

INVARIANTS: fewer cosignatures than the quorum publish nothing; a witness counts once per public key; when so many have
refused that no quorum is left, the log is `Refused`, which only an operator can undo, and not merely `Unavailable`.
SPEC: C2SP tlog-witness, from the log's side.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from citywatch.core.log.checkpoint import (
    Cosignature,
    Note,
    NoteKey,
    NoteSignature,
    SignedCheckpoint,
    format_note,
    parse_signatures,
    verify_cosignatures,
)
from citywatch.service.ports import Cosigned, Witness, WitnessRefused

ProofFrom = Callable[[int], Awaitable[Sequence[bytes]]]
"""The consistency proof from an older size to the head that is shown."""

ATTEMPTS = 3


class Round(msgspec.Struct, frozen=True):
    """What came of it: the note with its cosignatures, and a line for each witness that gave none."""

    note: Note
    cosignatures: tuple[Cosignature, ...]
    silent: tuple[str, ...]


class _Answer(msgspec.Struct, frozen=True):
    line: NoteSignature | None = None
    cosignature: Cosignature | None = None
    problem: str = ""
    refused: bool = False


class Witnesses:
    """The witnesses of one log, and the size at which each of them last signed, as far as we know."""

    def __init__(self, witnesses: Sequence[tuple[NoteKey, Witness]], quorum: int) -> None:
        """Raises `Malformed` for a quorum that these witnesses cannot reach."""
        keys = {key.key.raw for key, _ in witnesses}
        if not 0 <= quorum <= len(keys):
            raise Malformed(f"a quorum of {quorum} out of {len(keys)} witnesses cannot be reached")
        self._witnesses = witnesses
        self._quorum = quorum
        self._sizes: dict[bytes, int] = {}

    async def cosign(
        self, head: SignedCheckpoint, prove: ProofFrom, signed_elsewhere: Callable[[], Awaitable[int]]
    ) -> Round:
        """Show a head to all witnesses at once; `Refused` or `Unavailable` if there are too few cosignatures.

        `signed_elsewhere` is the largest size that any publisher of this log has signed: a witness may have seen that.
        """
        answers = await asyncio.gather(
            *(self._ask(key, witness, head, prove, signed_elsewhere) for key, witness in self._witnesses)
        )
        lines = [answer.line for answer in answers if answer.line]
        keys = {key.key.raw for (key, _), answer in zip(self._witnesses, answers, strict=True) if answer.line}
        silent = tuple(answer.problem for answer in answers if answer.problem)
        if len(keys) < self._quorum:
            text = f"{len(keys)} of {self._quorum} cosignatures: {'; '.join(silent)}"
            refusing = {k.key.raw for (k, _), answer in zip(self._witnesses, answers, strict=True) if answer.refused}
            if len({key.key.raw for key, _ in self._witnesses} - refusing) < self._quorum:
                raise Refused(Code.CONFLICT, text)
            raise Unavailable(Code.STORE_UNAVAILABLE, text)
        cosignatures = tuple(answer.cosignature for answer in answers if answer.cosignature)
        return Round(Note(head.note.text, (*head.note.signatures, *lines)), cosignatures, silent)

    async def _ask(
        self,
        key: NoteKey,
        witness: Witness,
        head: SignedCheckpoint,
        prove: ProofFrom,
        signed_elsewhere: Callable[[], Awaitable[int]],
    ) -> _Answer:
        size, note = head.checkpoint.size, format_note(head.note)
        old = min(self._sizes.get(key.key.raw, 0), size)
        for _ in range(ATTEMPTS):
            try:
                answer = await witness.add_checkpoint(old, await prove(old) if old else (), note)
            except Unavailable as error:
                return _Answer(problem=f"`{key.name}` does not answer: {error}")
            if isinstance(answer, Cosigned):
                return self._accept(key, head, answer.lines)
            if isinstance(answer, WitnessRefused):
                return _Answer(problem=f"`{key.name}` refuses: {answer.reason}", refused=True)
            if answer.size > size and await signed_elsewhere() < answer.size:
                # INVARIANT: a witness that has seen more than anybody here has signed remembers what we have lost.
                return _Answer(
                    problem=f"`{key.name}` refuses: it cosigned {answer.size} entries, this log has {size}",
                    refused=True,
                )
            if answer.size > size:
                return _Answer(problem=f"`{key.name}` has cosigned a later head")
            if answer.size == old:
                return _Answer(problem=f"`{key.name}` refuses: it cosigned another log of {old} entries", refused=True)
            old = answer.size
        return _Answer(problem=f"`{key.name}` keeps changing its mind")

    def _accept(self, key: NoteKey, head: SignedCheckpoint, lines: bytes) -> _Answer:
        try:
            offered = parse_signatures(lines.decode())
            mine = tuple(line for line in offered if (line.name, line.id) == (key.name, key.id))
            (cosignature,) = verify_cosignatures(Note(head.note.text, mine), [key])
        except (Malformed, ValueError):
            return _Answer(problem=f"`{key.name}` answers with what is not its cosignature")
        self._sizes[key.key.raw] = head.checkpoint.size
        return _Answer(line=mine[0], cosignature=cosignature)
