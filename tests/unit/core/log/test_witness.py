"""A witness's judgement, in the order of C2SP tlog-witness, and the request it is made on."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citywatch.core.errors import Malformed
from citywatch.core.log.checkpoint import SignedCheckpoint
from citywatch.core.log.merkle import EMPTY_ROOT, consistency_proof
from citywatch.core.log.tiles import Edge, expanded, grow, nodes, partial_tiles
from citywatch.core.log.witness import (
    MAX_PROOF_LINES,
    MAX_SUBMISSION_BYTES,
    Declined,
    Head,
    Submission,
    format_submission,
    judge_submission,
    parse_submission,
    submitted_origin,
)
from tests.log_world import LOG, ORIGIN, WITNESS_PRIVATE, edge_of, head_of, leaves, note_key, signed

ENTRIES = leaves(20)
LOGS = {ORIGIN: [LOG]}


def head(size: int) -> Head:
    return Head(size, edge_of(ENTRIES[:size]).frontier.root())


def proof(old: int, size: int) -> tuple[bytes, ...]:
    edge, full = grow(Edge(), ENTRIES[:size])
    files = dict(full + partial_tiles(edge))
    return tuple(consistency_proof(old, size, nodes(size, lambda tile: expanded(files[tile]))))


def submission(old: int, size: int) -> Submission:
    return Submission(old, proof(old, size) if old else (), head_of(ENTRIES[:size]))


def status(result: SignedCheckpoint | Declined) -> tuple[int, int | None]:
    return (result.status, result.size) if isinstance(result, Declined) else (200, None)


def test_a_log_never_seen_is_cosigned_without_a_proof_and_then_only_as_it_grows() -> None:
    first = judge_submission(submission(0, 5), LOGS, Head())
    assert isinstance(first, SignedCheckpoint)
    assert first.checkpoint.size == 5
    assert status(judge_submission(submission(5, 20), LOGS, head(5))) == (200, None)
    assert status(judge_submission(submission(5, 5), LOGS, head(5))) == (200, None)
    empty = Submission(0, (), signed(0, EMPTY_ROOT))
    assert status(judge_submission(empty, LOGS, Head())) == (200, None)


def test_an_unknown_log_is_not_found_and_a_known_one_must_have_signed() -> None:
    assert status(judge_submission(submission(0, 5), {}, Head())) == (404, None)
    assert status(judge_submission(submission(0, 5), {ORIGIN: []}, Head())) == (404, None)
    stranger = note_key(ORIGIN, LOG.kind, WITNESS_PRIVATE)
    assert status(judge_submission(submission(0, 5), {ORIGIN: [stranger]}, Head())) == (403, None)
    assert status(judge_submission(submission(0, 5), {ORIGIN: [stranger, LOG]}, Head())) == (200, None)
    forged = Submission(0, (), head_of(ENTRIES[:5]).replace(b"\n5\n", b"\n6\n"))
    assert status(judge_submission(forged, LOGS, Head())) == (403, None)


def test_the_old_size_must_be_what_was_cosigned_last() -> None:
    assert status(judge_submission(submission(6, 7), LOGS, head(5))) == (409, 5)
    assert status(judge_submission(submission(0, 7), LOGS, head(5))) == (409, 5)
    assert status(judge_submission(submission(3, 7), LOGS, Head())) == (409, 0)
    assert status(judge_submission(Submission(8, (), head_of(ENTRIES[:7])), LOGS, head(8))) == (400, None)


def test_a_rollback_is_refused_whatever_old_size_it_names() -> None:
    for old in range(1, 6):
        answer = status(judge_submission(submission(old, 5), LOGS, head(9)))
        assert answer == (409, 9)
    assert status(judge_submission(Submission(9, (), head_of(ENTRIES[:5])), LOGS, head(9)))[0] == 400


def test_a_fork_is_refused_at_the_same_size_and_above() -> None:
    fork = [b"{}", *ENTRIES[1:]]
    assert status(judge_submission(Submission(5, (), head_of(fork[:5])), LOGS, head(5))) == (409, 5)
    for path in (proof(5, 9), (), (bytes(32),)):
        assert status(judge_submission(Submission(5, path, head_of(fork[:9])), LOGS, head(5))) == (422, None)
    assert status(judge_submission(Submission(0, (), signed(0, bytes(32))), LOGS, Head())) == (409, 0)


def test_a_proof_must_be_there_be_right_and_be_empty_where_none_is_needed() -> None:
    good = submission(5, 9)
    for path in ((), good.proof[:-1], (*good.proof, bytes(32)), good.proof[::-1], (good.proof[0][:31],)):
        assert status(judge_submission(Submission(5, path, good.note), LOGS, head(5))) == (422, None)
    assert status(judge_submission(Submission(0, (bytes(32),), good.note), LOGS, Head())) == (422, None)
    assert status(judge_submission(Submission(9, (bytes(32),), good.note), LOGS, head(9))) == (422, None)


def test_the_request_is_that_of_the_specification() -> None:
    note = (
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
        "— example.com/behind-the-sofa "
        "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    ).encode()
    body = (
        b"old 20852014\nPlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\njrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n\n"
    )
    parsed = parse_submission(body + note)
    assert (parsed.old, len(parsed.proof), parsed.note) == (20852014, 2, note)
    assert submitted_origin(parsed) == "example.com/behind-the-sofa"
    assert format_submission(parsed) == body + note


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"old 1\n",
        b"old 01\n\nnote",
        b"old -1\n\nnote",
        b"old  1\n\nnote",
        b"new 1\n\nnote",
        b"old 1 \n\nnote",
        b"old 99999999999999999999\n\nnote",
        b"old 1\nAA\n\nnote",
        b"old 1\nAB==\n\nnote",
        b"old 1\n\xff\n\nnote",
        b"\n\nnote",
        b"old 1\n" + b"AA==\n" * (MAX_PROOF_LINES + 1) + b"\nnote",
        b"old 1\n\n" + b"x" * MAX_SUBMISSION_BYTES,
    ],
    ids=lambda body: repr(body[:24]),
)
def test_bytes_that_are_no_request(body: bytes) -> None:
    with pytest.raises(Malformed):
        parse_submission(body)
    assert len(parse_submission(b"old 1\n" + b"AA==\n" * MAX_PROOF_LINES + b"\nnote").proof) == 63


@given(st.binary(max_size=300) | st.binary(max_size=100).map(lambda tail: b"old 0\n\n" + head_of(ENTRIES[:2]) + tail))
def test_any_bytes_give_a_judgement_or_malformed(body: bytes) -> None:
    with contextlib.suppress(Malformed):
        judge_submission(parse_submission(body), LOGS, Head())


@given(st.integers(0, 2**62), st.lists(st.binary(min_size=1, max_size=40), max_size=63), st.binary(max_size=60))
def test_a_request_and_its_bytes_are_one(old: int, path: list[bytes], note: bytes) -> None:
    one = Submission(old, tuple(path), note)
    assert parse_submission(format_submission(one)) == one
