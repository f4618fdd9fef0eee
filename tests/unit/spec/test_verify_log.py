"""The stranger's verifier: what it accepts, what it catches, and what it says when there was nothing to check.

Everything here goes through the command line's `main`; the last tests run it as a stranger would, with no `src/`.
"""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from argparse import Namespace
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from citywatch.core.errors import Malformed
from citywatch.core.events import Erased, Lost
from citywatch.core.log.checkpoint import format_note_key
from citywatch.core.log.entry import encode_event, payload_digest
from citywatch.core.log.export import export_entry, export_header, growth_bundle, proof_bundle
from citywatch.core.log.merkle import EMPTY_ROOT, consistency_proof, inclusion_proof
from citywatch.core.log.tiles import Edge, expanded, format_tile_path, grow, nodes, partial_tiles
from citywatch.core.signature import parse_ed25519_key, verify_ed25519
from spec import verify_log
from tests.log_world import LOG, ORIGIN, WITNESS, edge_of, event, export, head_of, leaves, signed, with_payloads

KEY, WITNESS_KEY = format_note_key(LOG), format_note_key(WITNESS)
SCRIPT = Path(verify_log.__file__)

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Check `data` as a file (or a path) with the given options; return the exit code and what was printed."""

    def check(verb: str, data: bytes | Path, *options: str) -> tuple[int, str]:
        path = tmp_path / "given" if isinstance(data, bytes) else data
        if isinstance(data, bytes):
            path.write_bytes(data)
        code = verify_log.main([verb, str(path), "--key", KEY, *options])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return check


def node_of(entries: list[bytes]) -> Any:
    edge, full = grow(Edge(), entries)
    files = dict(full + partial_tiles(edge))
    return nodes(len(entries), lambda tile: expanded(files[tile]))


def proof(entries: list[bytes], index: int, payload: tuple[bytes, bytes] | None = None, time: int | None = 9) -> bytes:
    path = inclusion_proof(index, len(entries), node_of(entries))
    return proof_bundle(entries[index], index, len(entries), path, head_of(entries, time), payload)


def edit(line: bytes, **changes: Any) -> bytes:
    return json.dumps({**json.loads(line), **changes}).encode() + b"\n"


def test_a_good_export_is_good_and_each_check_is_named(run: Run) -> None:
    entries, payloads = with_payloads(5)
    code, said = run("export", export(entries, payloads), "--witness", WITNESS_KEY)
    assert code == 0, said
    for line in ("5 entries, signed by the log", "give the signed root", "5 payloads match", "cosigned by `witness"):
        assert line in said


def test_payloads_may_be_kept_back_and_that_is_said(run: Run) -> None:
    entries, payloads = with_payloads(5)
    code, said = run("export", export(entries, {2: payloads[2]}))
    assert (code, "1 payloads match" in said, "4 are not in the export" in said) == (0, True, True)
    assert "no witness was asked" in said


@pytest.mark.parametrize("data", [b"", b"\n", b"{}\n", b"[]\n", b"null\n", b"\xff\n", b"x" * 99, b"[" * 99_999 + b"\n"])
def test_bytes_that_are_no_export_are_wrong(run: Run, data: bytes) -> None:
    assert run("export", data)[0] == 1


@pytest.mark.parametrize(
    "leaf",
    [
        b'{"at":1,"decision":"deny","decision":"allow","type":"decided"}',
        b'{"at":NaN,"type":"x"}',
        b'{"at":Infinity,"type":"x"}',
        b'{"at":1e999,"type":"x"}',
        b'{"at":9007199254740992,"type":"x"}',
        b'{"at":1.0,"type":"x"}',
        b'{"at":-0,"type":"x"}',
        b'{"at":1, "type":"x"}',
        b'{"type":"x","at":1}',
        b'{"at":1,"type":"x"}\n',
        b'{"a\\u0074":1,"type":"x"}',
        b'{"at":"\\ud800","type":"x"}',
        b'{"at":"\\/","type":"x"}',
        b'{"at":' + b"[" * 20_000 + b"]" * 20_000 + b',"type":"x"}',
    ],
    ids=lambda leaf: leaf[:50].decode(),
)
def test_bytes_that_two_readers_could_read_in_two_ways_are_no_entry(run: Run, leaf: bytes) -> None:
    """SPEC: log.md §1.3: whoever keeps the log could otherwise show one reader an allow and the other a deny."""
    code, said = run("export", export([*leaves(1), leaf]))
    assert (code, "WRONG entry 1" in said or "WRONG an entry" in said) == (1, True), said
    assert run("proof", proof([leaf], 0))[0] == 1


def test_an_entry_that_fits_no_bundle_is_none(run: Run) -> None:
    for length, code in ((65_535, 0), (65_536, 1)):
        leaf = b'{"at":"%s","type":"x"}' % (b"x" * (length - 20))
        assert (len(leaf), run("export", export([leaf]))[0]) == (length, code)


def test_an_event_of_a_later_version_is_an_entry_in_its_one_form(run: Run) -> None:
    leaf = '{"at":1,"for":[1.5,1e-7,1e+21,"\u20ac\\n\u007f"],"in":{},"type":"later","\U0001f600":true,"\ufb33":null}'
    code, said = run("export", export([leaf.encode()]))
    assert code == 0, said


def test_an_erasure_names_its_entry_by_a_number(run: Run) -> None:
    at = {"type": "erased", "index": True}
    assert run("export", export([*leaves(2), json.dumps(at, separators=(",", ":"), sort_keys=True).encode()]))[0] == 1


def test_an_export_of_nothing_is_wrong(run: Run) -> None:
    code, said = run("export", export_header(ORIGIN, signed(0, EMPTY_ROOT)))
    assert (code, "nothing was checked" in said) == (1, True)


def test_an_export_with_an_entry_more_or_less_or_moved_is_wrong(run: Run) -> None:
    header, *lines = export(leaves(4)).splitlines(keepends=True)
    for broken in (
        [header, *lines[:3]],
        [header, *lines, export_entry(4, leaves(5)[4])],
        [header, lines[1], lines[0], *lines[2:]],
        [header, *lines[1:]],
        [header, lines[0], *lines],
        lines,
        [header],
        [header, *lines[:3], lines[3][:-1]],
        [header, header, *lines],
    ):
        assert run("export", b"".join(broken))[0] == 1
    swapped = [edit(lines[1], index=0), edit(lines[0], index=1)]
    code, said = run("export", b"".join([header, *swapped, *lines[2:]]))
    assert (code, "something was changed" in said) == (1, True)


def test_every_flipped_bit_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them, in header, entries and payload; signatures judged by the library, for speed."""

    def fast(public: bytes, message: bytes, signature: bytes) -> None:
        try:
            verify_ed25519(parse_ed25519_key(public), message, signature)
        except Malformed as error:
            raise verify_log.Wrong(str(error)) from None

    monkeypatch.setattr(verify_log, "check_ed25519", fast)
    payload = (bytes(16), b"{}")
    entries = [encode_event(Lost(at=1, replica="g", call="c")), encode_event(event(0, payload_digest(*payload)))]
    good, path = export(entries, {1: payload}), tmp_path / "export"
    log, witnesses = verify_log.read_key(KEY, 1), [verify_log.read_key(WITNESS_KEY, 4)]
    arguments = Namespace(path=str(path), previous=[])
    path.write_bytes(good)
    verify_log.check_export(arguments, log, witnesses, 1)
    for at in range(len(good) * 8):
        flipped = bytearray(good)
        flipped[at // 8] ^= 1 << at % 8
        path.write_bytes(flipped)
        with pytest.raises(verify_log.Wrong):
            verify_log.check_export(arguments, log, witnesses, 1)


def test_another_log_or_another_key_is_wrong(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    entries = leaves(3)
    elsewhere = signed(3, edge_of(entries).frontier.root(), origin="other.example/log")
    assert run("export", export(entries, note=elsewhere))[0] == 1
    assert run("export", export_header("other.example/log", head_of(entries)) + b"")[0] == 1
    other = format_note_key(LOG).split("+")[1]
    with pytest.raises(SystemExit) as stop:
        verify_log.main(["export", "x"])
    assert stop.value.code == 2
    for key in ("", other, WITNESS_KEY, KEY + "A", "a+00000000+AA==", "é+b+c"):
        assert verify_log.main(["export", "x", "--key", key]) == 2
    capsys.readouterr()


@pytest.mark.parametrize(
    "change",
    [
        {"citywatch-export": 2},
        {"citywatch-export": 1.0},
        {"citywatch-export": True},
        {"origin": "other"},
        {"origin": None},
        {"checkpoint": 7},
        {"checkpoint": "a\n1\nAA==\n"},
        {"checkpoint": "\ud800\n1\nAA==\n\n— a AAAA\n"},
        {"extra": 1},
    ],
    ids=repr,
)
def test_a_header_that_is_not_as_the_law_says_is_wrong(run: Run, change: dict[str, Any]) -> None:
    header, *lines = export(leaves(2)).splitlines(keepends=True)
    assert run("export", edit(header, **change) + b"".join(lines))[0] == 1


@pytest.mark.parametrize(
    "change",
    [
        {"index": 1},
        {"index": 0.0},
        {"index": False},
        {"index": "0"},
        {"leaf": 7},
        {"leaf": "A"},
        {"leaf": b64encode(b"[]").decode()},
        {"leaf": b64encode(b"{}").decode()},
        {"payload": None},
        {"payload": {}},
        {"payload": {"salt": "", "body": ""}},
        {"payload": {"salt": b64encode(bytes(16)).decode(), "body": "eA=="}},
        {"extra": 1},
    ],
    ids=repr,
)
def test_an_entry_that_is_not_as_the_law_says_is_wrong(run: Run, change: dict[str, Any]) -> None:
    header, first, second = export(leaves(2)).splitlines(keepends=True)
    assert run("export", header + edit(first, **change) + second)[0] == 1
    assert run("export", header + edit(first) + second)[0] == 0


def test_a_member_twice_is_wrong(run: Run) -> None:
    header, first, second = export(leaves(2)).splitlines(keepends=True)
    assert run("export", header + first.replace(b'"index":0', b'"index":7,"index":0') + second)[0] == 1


def test_a_payload_is_held_to_its_entry(run: Run) -> None:
    entries, payloads = with_payloads(3)
    swapped = {0: payloads[1], 1: payloads[0]}
    code, said = run("export", export(entries, swapped))
    assert (code, "not the one that was recorded" in said) == (1, True)
    none = [encode_event(event(0))]
    assert run("export", export(none, {0: payloads[0]}))[0] == 1


def test_an_erased_payload_is_gone_and_counted_and_its_entry_stands(run: Run) -> None:
    entries, payloads = with_payloads(3)
    entries.append(encode_event(Erased(at=1, replica="gw", index=1, by="op", reason="asked")))
    code, said = run("export", export(entries, {0: payloads[0], 2: payloads[2]}))
    assert (code, "1 payloads were erased, 0 are not in the export" in said) == (0, True), said
    code, said = run("export", export(entries, payloads))
    assert (code, "still there" in said) == (1, True)
    for nowhere in (3, 4, -1):
        entries[3] = encode_event(Erased(at=1, replica="gw", index=nowhere, by="op", reason=""))
        assert run("export", export(entries))[0] == 1


def test_a_checkpoint_kept_from_before_must_still_be_how_the_log_begins(run: Run, tmp_path: Path) -> None:
    entries, kept = leaves(9), tmp_path / "kept"
    for old in (1, 5, 9):
        kept.write_bytes(head_of(entries[:old]))
        assert run("export", export(entries), "--previous", str(kept))[0] == 0
    rewritten = [encode_event(event(99)), *entries[1:]]
    code, said = run("export", export(rewritten), "--previous", str(kept))
    assert (code, "history was rewritten" in said) == (1, True)
    code, said = run("export", export(entries[:7]), "--previous", str(kept))
    assert (code, "did not only grow" in said) == (1, True)
    kept.write_bytes(signed(0, EMPTY_ROOT))
    assert run("export", export(entries), "--previous", str(kept))[0] == 1
    kept.write_bytes(b"nonsense")
    assert run("export", export(entries), "--previous", str(kept))[0] == 1
    kept.write_bytes(b"\xff")
    assert run("export", export(entries), "--previous", str(kept))[0] == 1
    assert run("export", export(entries), "--previous", str(tmp_path / "absent"))[0] == 2


def test_witnesses_are_counted_and_a_quorum_of_none_is_no_question(run: Run) -> None:
    entries = leaves(2)
    plain = export(entries, note=head_of(entries))
    stranger = format_note_key(LOG).split("+")
    assert run("export", plain, "--witness", WITNESS_KEY)[0] == 1
    assert run("export", export(entries), "--witness", WITNESS_KEY, "--witness", WITNESS_KEY, "--quorum", "2")[0] == 1
    assert run("export", export(entries), "--witness", WITNESS_KEY, "--quorum", "1")[0] == 0
    for quorum in ("0", "2", "-1"):
        assert run("export", export(entries), "--witness", WITNESS_KEY, "--quorum", quorum)[0] == 2
    assert run("export", export(entries), "--witness", KEY)[0] == 2
    assert run("export", export(entries), "--witness", "+".join(stranger))[0] == 2


def test_a_bad_cosignature_is_wrong_even_without_a_quorum_of_it(run: Run) -> None:
    entries = leaves(2)
    other = head_of(leaves(3), time=9).split(b"\n\n")[1].split(b"\n")[1]  # the witness's line for another head
    note = head_of(entries) + other + b"\n"
    assert run("export", export(entries, note=note))[0] == 0
    assert run("export", export(entries, note=note), "--witness", WITNESS_KEY)[0] == 1


def tiles(folder: Path, entries: list[bytes]) -> None:
    edge, full = grow(Edge(), entries)
    for tile, data in full + partial_tiles(edge):
        path = folder / format_tile_path(tile)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (folder / "checkpoint").write_bytes(head_of(entries))


def test_a_directory_of_tiles_is_checked_file_by_file(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "log"
    tiles(folder, leaves(600))
    code, said = run("export", folder)
    assert (code, "600 entries give the signed root" in said) == (0, True), said
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            good = path.read_bytes()
            path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
            assert run("export", folder)[0] == 1, path
            path.write_bytes(good[:-3])
            assert run("export", folder)[0] == 1, path
            path.rename(path.with_suffix(".away"))
            assert run("export", folder)[0] in (1, 2), path
            path.with_suffix(".away").rename(path)
            path.write_bytes(good)
    assert run("export", folder)[0] == 0


def test_a_full_tile_stands_for_its_partial_one(run: Run, tmp_path: Path) -> None:
    """A log may delete a partial tile once the full one is there: C2SP tlog-tiles."""
    folder, entries = tmp_path / "log", leaves(600)
    for size in (300, 600):
        tiles(folder, entries[:size])
    for kind in ("0", "entries"):
        shutil.rmtree(folder / "tile" / kind / "001.p")
    (folder / "checkpoint").write_bytes(head_of(entries[:300]))
    assert run("export", folder)[0] == 0


def test_a_proof_is_good_and_says_which_event_it_is(run: Run) -> None:
    entries, payloads = with_payloads(7)
    code, said = run("proof", proof(entries, 4, payloads[4]), "--witness", WITNESS_KEY)
    assert (code, "entry 4 is in the log" in said, "'settled'" in said, "payload matches" in said) == (0, *[True] * 3)
    assert run("proof", proof(entries, 6))[0] == 0
    assert run("proof", proof(leaves(1), 0))[0] == 0


@pytest.mark.parametrize(
    "change",
    [
        {"index": 3},
        {"index": True},
        {"index": -1},
        {"index": 7},
        {"tree_size": 8},
        {"tree_size": 7.0},
        {"citywatch-proof": 2},
        {"citywatch-proof": True},
        {"leaf": b64encode(encode_event(event(99))).decode()},
        {"hashes": []},
        {"hashes": None},
        {"hashes": ["AA=="]},
        {"hashes": [7]},
        {"hashes": "abc"},
        {"payload": {"salt": "", "body": ""}},
        {"payload": None},
        {"extra": 1},
        {"checkpoint": head_of(leaves(7)).decode()},
    ],
    ids=repr,
)
def test_a_proof_of_anything_else_is_wrong(run: Run, change: dict[str, Any]) -> None:
    entries, _ = with_payloads(7)
    assert run("proof", edit(proof(entries, 4)))[0] == 0
    assert run("proof", edit(proof(entries, 4), **change))[0] == 1


def test_growth_between_two_heads(run: Run) -> None:
    entries = leaves(9)
    path = consistency_proof(5, 9, node_of(entries))
    good = growth_bundle(head_of(entries[:5]), head_of(entries), path)
    code, said = run("growth", good)
    assert (code, "9 entries begins with the log of 5" in said) == (0, True)
    assert run("growth", growth_bundle(head_of(entries), head_of(entries), []))[0] == 0
    fork = [encode_event(event(99)), *entries[1:]]
    for wrong in (
        growth_bundle(head_of(entries), head_of(entries[:5]), path),
        growth_bundle(head_of(fork[:5]), head_of(entries), path),
        growth_bundle(head_of(entries[:5]), head_of(fork), path),
        growth_bundle(head_of(entries[:5]), head_of(entries), path[:-1]),
        growth_bundle(head_of(entries[:5]), head_of(entries), [*path, bytes(32)]),
        growth_bundle(signed(0, EMPTY_ROOT), head_of(entries), []),
        growth_bundle(head_of(entries), head_of(fork), []),
        edit(good, **{"citywatch-growth": True}),
        edit(good, more=1),
    ):
        assert run("growth", wrong)[0] == 1


def test_what_cannot_be_read_is_not_called_wrong(run: Run, tmp_path: Path) -> None:
    for verb in ("export", "proof", "growth"):
        assert run(verb, tmp_path / "absent")[0] == 2
    assert run("proof", tmp_path)[0] == 2
    assert run("proof", proof(leaves(2), 0), "--previous", "x")[0] == 2


def test_a_hostile_entry_writes_nothing_of_its_own_on_the_terminal(run: Run) -> None:
    hostile = ['{"type":"\\u001b[2J\u009b2J\u202egood"}'.encode()]
    code, said = run("proof", proof(hostile, 0))
    assert (code, said.isascii()) == (0, True)


def test_it_imports_nothing_but_the_standard_library() -> None:
    found = set()
    for node in ast.walk(ast.parse(SCRIPT.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found.add((node.module or "").split(".")[0])
    assert found
    assert found <= set(sys.stdlib_module_names)


@pytest.mark.parametrize(("change", "code"), [(None, 0), (b"X", 1)])
def test_a_stranger_runs_the_one_file_alone(tmp_path: Path, change: bytes | None, code: int) -> None:
    shutil.copy(SCRIPT, tmp_path / "verify_log.py")
    entries, payloads = with_payloads(3)
    data = export(entries, payloads)
    (tmp_path / "log.jsonl").write_bytes(data if change is None else data[:-30] + change + data[-29:])
    done = subprocess.run(
        [sys.executable, "-I", "-S", "verify_log.py", "export", "log.jsonl", "--key", KEY, "--witness", WITNESS_KEY],
        cwd=tmp_path,
        env={},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert ("good  everything" in done.stdout) == (code == 0)
