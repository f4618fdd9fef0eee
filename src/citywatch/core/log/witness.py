"""May a witness cosign this head? The request a log makes, and the one judgement.

Decides whether a submitted head grew from the last one that this witness cosigned, and if not, what the log is told.
Does not remember that head: whoever calls loads it, and stores the new one in the same transaction in which it was
judged, before anything is signed.

INVARIANTS: a head is cosigned only if the log signed it and a proof leads to it from the very head that was cosigned
last; a smaller size, or another root for the same size, never is; any bytes give a judgement or `Malformed`.
SPEC: C2SP tlog-witness (add-checkpoint).
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence

import msgspec

from citywatch.core.errors import Malformed
from citywatch.core.log.checkpoint import (
    MAX_NOTE_BYTES,
    NoteKey,
    SignedCheckpoint,
    parse_base64,
    parse_checkpoint,
    parse_note,
    verify_checkpoint,
)
from citywatch.core.log.merkle import EMPTY_ROOT, verify_consistency

MAX_PROOF_LINES = 63
MAX_SUBMISSION_BYTES = MAX_NOTE_BYTES + 4096
_OLD = re.compile(r"old (0|[1-9][0-9]{0,18})\Z", re.ASCII)


class Head(msgspec.Struct, frozen=True):
    """Size and root of a log, as a witness remembers it; the default is that of a log it has never seen."""

    size: int = 0
    root: bytes = EMPTY_ROOT


class Submission(msgspec.Struct, frozen=True):
    """What a log asks a witness to cosign: a signed note, and a proof of growth from the size `old`."""

    old: int
    proof: tuple[bytes, ...]
    note: bytes


class Declined(msgspec.Struct, frozen=True):
    """Why a head is not cosigned, in HTTP's terms. `size` is told with a 409: the size last cosigned."""

    status: int
    reason: str
    size: int | None = None


def format_submission(submission: Submission) -> bytes:
    """The body of `POST add-checkpoint`."""
    lines = [f"old {submission.old}", *(b64encode(each).decode() for each in submission.proof), "", ""]
    return "\n".join(lines).encode() + submission.note


def parse_submission(body: bytes) -> Submission:
    """Read the body of `POST add-checkpoint`; the inverse of `format_submission`."""
    if len(body) > MAX_SUBMISSION_BYTES:
        raise Malformed("the request is too long")
    head, blank, note = body.partition(b"\n\n")
    try:
        first, *lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise Malformed("the request does not begin with an old size and a proof") from None
    match = _OLD.match(first)
    if not match or not blank or len(lines) > MAX_PROOF_LINES:
        raise Malformed(f"the request does not begin with an old size and at most {MAX_PROOF_LINES} hashes")
    return Submission(int(match[1]), tuple(parse_base64(line) for line in lines), note)


def submitted_origin(submission: Submission) -> str:
    """The log that the note claims to be of; nothing is verified yet."""
    return parse_checkpoint(parse_note(submission.note).text).origin


def judge_submission(
    submission: Submission, logs: Mapping[str, Sequence[NoteKey]], seen: Head
) -> SignedCheckpoint | Declined:
    """Decide on a submission, in the order of the specification. `seen` is the head last cosigned for its origin.

    `logs` has the keys that are trusted for each origin. Raises `Malformed` for a note that is none (a 400).
    """
    origin = submitted_origin(submission)
    if not logs.get(origin):
        return Declined(404, "the log is not one that this witness knows")
    signed = _signed(submission.note, logs[origin])
    if signed is None:
        return Declined(403, "no key that is trusted for this log has signed the checkpoint")
    new = signed.checkpoint
    if submission.old > new.size:
        return Declined(400, "the old size is above the checkpoint's")
    if submission.old != seen.size:
        return Declined(409, "another size was cosigned last", seen.size)
    if new.size == seen.size and new.root != seen.root:
        return Declined(409, "another root was cosigned for this size", seen.size)
    try:
        if seen.size:
            verify_consistency(seen.size, new.size, submission.proof, seen.root, new.root)
        elif submission.proof:
            raise Malformed("a proof leads from an empty log")
    except Malformed as error:
        return Declined(422, str(error))
    return signed


def _signed(note: bytes, keys: Sequence[NoteKey]) -> SignedCheckpoint | None:
    for key in keys:
        try:
            return verify_checkpoint(note, key)
        except Malformed:
            continue
    return None
