"""Signed heads: what is accepted, and each reason for which one is not."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from citywatch.core.errors import Malformed
from citywatch.core.log.checkpoint import (
    MAX_NOTE_BYTES,
    MAX_SIGNATURES,
    Checkpoint,
    Cosignature,
    Kind,
    Note,
    NoteKey,
    cosignature,
    cosigned_message,
    format_checkpoint,
    format_note,
    format_note_key,
    format_signature,
    log_signature,
    parse_base64,
    parse_checkpoint,
    parse_key_name,
    parse_note,
    parse_note_key,
    parse_signatures,
    verify_checkpoint,
    verify_cosignatures,
)
from tests.log_world import LOG, LOG_PRIVATE, ORIGIN, WITNESS, WITNESS_PRIVATE, note_key, signed

ROOT = bytes(range(32))
HEAD = Checkpoint(ORIGIN, 7, ROOT)
TEXT = format_checkpoint(HEAD)
LINE = log_signature(LOG, LOG_PRIVATE.sign(TEXT.encode()))


def test_the_example_of_the_specification_is_read() -> None:
    """C2SP tlog-cosignature prints this note; the key that signed it is not ours to check."""
    note = parse_note(
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
        "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+"
        "zyWE+xeMcTOAYQ8=\n"
        "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0"
        "xUe+mbIUBkBIfZ+qnA==\n".encode()
    )
    head = parse_checkpoint(note.text)
    assert (head.origin, head.size, len(head.root)) == ("example.com/behind-the-sofa", 20852163, 32)
    assert [len(line.signature) for line in note.signatures] == [64, 72]
    assert int.from_bytes(note.signatures[1].signature[:8]) == 1679315147
    assert cosigned_message(note.text, 1679315147).startswith(b"cosignature/v1\ntime 1679315147\nexample.com/")


def test_the_bytes_are_pinned() -> None:
    assert TEXT == "gateway.example/log\n7\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"
    assert LOG.id.hex() == format_note_key(LOG).split("+")[1] == "786e0fb7"
    assert format_note_key(WITNESS).startswith("witness.example/w1+")


def test_a_head_is_verified_with_its_witnesses() -> None:
    head = verify_checkpoint(signed(7, ROOT, time=1234), LOG, [WITNESS])
    assert (head.checkpoint, head.cosignatures) == (HEAD, (Cosignature(WITNESS.name, 1234),))
    assert verify_checkpoint(signed(7, ROOT), LOG, [WITNESS]).cosignatures == ()


def test_a_key_of_another_name_or_kind_is_not_the_logs() -> None:
    for other in (
        NoteKey("other.example/log", Kind.LOG, LOG.key),
        NoteKey(LOG.name, Kind.WITNESS, LOG.key),
        note_key(LOG.name, Kind.LOG, WITNESS_PRIVATE),
    ):
        with pytest.raises(Malformed):
            verify_checkpoint(signed(7, ROOT), other)


def test_a_witnesss_key_signs_no_head_though_it_signed_the_text() -> None:
    witness = NoteKey(LOG.name, Kind.WITNESS, LOG.key)
    with pytest.raises(Malformed, match="not of the log"):
        verify_checkpoint(signed(7, ROOT, key=witness), witness)


def test_a_cosignatures_time_is_within_63_bits() -> None:
    """C2SP tlog-cosignature: it MUST NOT exceed 2**63 - 1, whatever was signed."""
    late = cosignature(WITNESS, 2**63, WITNESS_PRIVATE.sign(f"cosignature/v1\ntime {2**63}\n{TEXT}".encode()))
    with pytest.raises(Malformed):
        verify_cosignatures(Note(TEXT, (late,)), [WITNESS])


def test_a_head_of_another_origin_is_refused_though_the_log_signed_it() -> None:
    with pytest.raises(Malformed, match="not of the log"):
        verify_checkpoint(signed(7, ROOT, origin="other.example/log"), LOG)


def test_one_bad_signature_of_a_known_key_condemns_the_note() -> None:
    bad = log_signature(LOG, bytes(64))
    for lines in ((LINE, bad), (bad, LINE), (bad,)):
        with pytest.raises(Malformed):
            verify_checkpoint(format_note(Note(TEXT, lines)), LOG)
    broken = cosignature(WITNESS, 5, bytes(64))
    short = log_signature(WITNESS, b"short")
    late = cosignature(WITNESS, 2**63, WITNESS_PRIVATE.sign(b""))
    for line in (broken, short, late):
        with pytest.raises(Malformed):
            verify_checkpoint(format_note(Note(TEXT, (LINE, line))), LOG, [WITNESS])
        assert verify_checkpoint(format_note(Note(TEXT, (LINE, line))), LOG).checkpoint == HEAD


def test_a_note_that_only_strangers_signed_is_refused() -> None:
    stranger = note_key("stranger.example", Kind.LOG, LOG_PRIVATE)
    with pytest.raises(Malformed, match="not signed"):
        verify_checkpoint(format_note(Note(TEXT, (log_signature(stranger, LOG_PRIVATE.sign(TEXT.encode())),))), LOG)


def test_a_cosignature_covers_its_time_and_the_text() -> None:
    signature = WITNESS_PRIVATE.sign(cosigned_message(TEXT, 1000))
    for time, text in ((1001, TEXT), (1000, format_checkpoint(Checkpoint(ORIGIN, 8, ROOT)))):
        with pytest.raises(Malformed):
            verify_cosignatures(Note(text, (cosignature(WITNESS, time, signature),)), [WITNESS])


def test_a_logs_signature_is_no_cosignature_and_a_witness_counts_once() -> None:
    as_log = note_key(WITNESS.name, Kind.LOG, WITNESS_PRIVATE)
    line = log_signature(as_log, WITNESS_PRIVATE.sign(TEXT.encode()))
    assert verify_cosignatures(Note(TEXT, (line,)), [as_log, WITNESS]) == ()
    twin = note_key("witness.example/w2", Kind.WITNESS, WITNESS_PRIVATE)
    lines = [cosignature(key, 9, WITNESS_PRIVATE.sign(cosigned_message(TEXT, 9))) for key in (WITNESS, twin, WITNESS)]
    assert len(verify_cosignatures(Note(TEXT, tuple(lines)), [WITNESS, twin])) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\n1\n",
        TEXT[:-1],
        TEXT + "\n",
        "\n" + TEXT,
        TEXT.replace("7", "07"),
        TEXT.replace("\n7\n", "\n+7\n"),
        TEXT.replace("\n7\n", "\n7 \n"),
        TEXT.replace("\n7\n", "\n-7\n"),
        TEXT.replace("\n7\n", "\n٧\n"),
        TEXT.replace("\n7\n", "\n9223372036854775808\n"),
        TEXT.replace("=", ""),
        TEXT.replace("Hh8=", "Hh9="),
        TEXT.replace("Hh8=", "HQ=="),
        TEXT.replace("Hh8=", "Hh8=\n\next"),
    ],
    ids=repr,
)
def test_a_text_that_is_no_checkpoint(text: str) -> None:
    with pytest.raises(Malformed):
        parse_checkpoint(text)


def test_a_checkpoint_may_be_empty_or_large_and_have_extensions() -> None:
    for head in (Checkpoint("a b", 0, ROOT), Checkpoint("x", 2**63 - 1, ROOT, ("one", "two"))):
        assert parse_checkpoint(format_checkpoint(head)) == head


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"text\n",
        b"\n\n\xe2\x80\x94 a AAAAAAA=\n",
        b"text\n\n",
        b"text\n\n\n",
        "text\n\n— a AAAAAAA=".encode(),
        b"text\n\n- a AAAAAAA=\n",
        "text\n\n— a AAAAAAA=\nmore\n".encode(),
        "text\n\n— a AAAAAAA\n".encode(),
        "text\n\n— a AAAAAAB=\n".encode(),
        "text\n\n— a AAAA\n".encode(),
        "text\n\n— a+b AAAAAAA=\n".encode(),
        "text\n\n— a  AAAAAAA=\n".encode(),
        "text\n\n—  AAAAAAA=\n".encode(),
        "text\n\n— a\u00a0b AAAAAAA=\n".encode(),
        "te\rxt\n\n— a AAAAAAA=\n".encode(),
        "te\0xt\n\n— a AAAAAAA=\n".encode(),
        b"\xfftext\n\n\xe2\x80\x94 a AAAAAAA=\n",
        b"x" * MAX_NOTE_BYTES + "\n\n— a AAAAAAA=\n".encode(),
        b"x\n\n" + "— a AAAAAAA=\n".encode() * (MAX_SIGNATURES + 1),
    ],
    ids=lambda data: repr(data[:30]),
)
def test_bytes_that_are_no_note(data: bytes) -> None:
    with pytest.raises(Malformed):
        parse_note(data)


def test_sixteen_signatures_and_more_are_taken() -> None:
    data = b"x\n\n" + "— a AAAAAAA=\n".encode() * MAX_SIGNATURES
    assert len(parse_note(data).signatures) == MAX_SIGNATURES >= 16
    assert format_note(parse_note(data)) == data


def test_the_text_ends_at_the_last_empty_line() -> None:
    note = parse_note("one\n\ntwo\n\n— a AAAAAAA=\n".encode())
    assert note.text == "one\n\ntwo\n"


def test_signature_lines_stand_alone_in_a_witness_answer() -> None:
    assert parse_signatures(format_signature(LINE) * 2) == (LINE, LINE)
    for text in ("", "\n", format_signature(LINE) + "\n", format_signature(LINE)[:-1]):
        with pytest.raises(Malformed):
            parse_signatures(text)


@pytest.mark.parametrize("key", [LOG, WITNESS], ids=["log", "witness"])
def test_a_verifier_key_is_read_back(key: NoteKey) -> None:
    assert parse_note_key(format_note_key(key)) == key


def test_a_verifier_keys_base64_may_hold_a_plus() -> None:
    keys = (note_key("a", Kind.LOG, Ed25519PrivateKey.from_private_bytes(bytes([i] * 32))) for i in range(256))
    key = next(key for key in keys if "+" in format_note_key(key).split("+", 2)[2])
    assert parse_note_key(format_note_key(key)) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a+b",
        format_note_key(LOG).replace("gateway", "gatewax"),
        format_note_key(LOG).replace("+", "++", 1),
        format_note_key(LOG).upper(),
        format_note_key(LOG) + "=",
        "a+00000000+AA==",
        "a+00000000+",
        "+" + format_note_key(LOG).split("+", 1)[1],
    ],
)
def test_a_text_that_is_no_verifier_key(text: str) -> None:
    with pytest.raises(Malformed):
        parse_note_key(text)


def test_a_verifier_key_of_small_order_is_refused() -> None:
    from base64 import b64encode
    from hashlib import sha256

    raw = b"\x01" + (1).to_bytes(32, "little")
    key_id = sha256(b"a\n" + raw).hexdigest()[:8]
    with pytest.raises(Malformed, match="small order"):
        parse_note_key(f"a+{key_id}+{b64encode(raw).decode()}")


@pytest.mark.parametrize("name", ["", "a b", "a\tb", "a+b", "a\u2003b", "a\x1fb", "\ud800", "x" * 256])
def test_a_text_that_may_not_name_a_key(name: str) -> None:
    with pytest.raises(Malformed):
        parse_key_name(name)


@pytest.mark.parametrize("text", ["A", "AA", "AA=", "AA==\n", " AA==", "AB==", "AA-_", "é", "===="])
def test_base64_has_one_form(text: str) -> None:
    with pytest.raises(Malformed):
        parse_base64(text)
    assert parse_base64("AA==") == b"\0"
