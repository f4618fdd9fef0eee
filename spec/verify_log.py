#!/usr/bin/env python3
"""Check a citywatch log without trusting citywatch: one file, the standard library, nothing else.

    verify_log.py export PATH --key KEY [--witness KEY ...] [--quorum N] [--previous FILE ...]
    verify_log.py proof FILE --key KEY [--witness KEY ...] [--quorum N]
    verify_log.py growth FILE --key KEY

`export` checks a whole log: the file that `citywatch log export` writes, or a directory of C2SP tiles. Every entry must
be in its one form, is hashed again, and the root compared with the signed checkpoint; every payload that is there is
compared with its digest.
`--previous` names a checkpoint that you kept from an earlier day: the log must still begin with that history. `proof`
checks that one entry is in the log under a signed checkpoint. `growth` checks that one signed checkpoint grew out of
another. Each `--witness` must have cosigned, or `--quorum` of them.

It says on each line what it found. Exit code 0: everything checked and good. 1: something is wrong, or there was
nothing to check. 2: the command itself could not be understood, or a file not be read.

Written from RFC 6962 §2.1, RFC 9162 §2.1, RFC 8032 §5.1, RFC 8785 §3.2 and C2SP signed-note, tlog-checkpoint,
tlog-cosignature and tlog-tiles, by their recursive definitions: slow, obvious, and sharing no line with `src/`.
`log.md` is the law it holds an export to. It is one thing because a stranger should have one file to read and to run.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import decimal
import hashlib
import json
import re
import sys
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any, NamedTuple

MAX_ENTRY = 65_535


class Wrong(Exception):
    """What was checked is not as it should be."""


class Unreadable(Exception):
    """We could not even begin: a bad command line, a file that is not there."""


# --- Merkle trees, RFC 6962 §2.1 ------------------------------------------------------------------------------------


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def leaf_hash(entry: bytes) -> bytes:
    """MTH({d(0)}) = SHA-256(0x00 || d(0))"""
    return sha256(b"\x00" + entry)


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right)


def split(n: int) -> int:
    """The largest power of two smaller than n."""
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def tree_hash(hashes: list[bytes], start: int, stop: int) -> bytes:
    """MTH(D[start:stop]), with D given as leaf hashes."""
    n = stop - start
    if n == 0:
        return sha256(b"")
    if n == 1:
        return hashes[start]
    k = split(n)
    return node_hash(tree_hash(hashes, start, start + k), tree_hash(hashes, start + k, stop))


def root_by_path(m: int, n: int, entry: bytes, path: list[bytes]) -> bytes:
    """The root that PATH(m, D[n]) leads to, undoing its definition from the outermost step, which stands last."""
    if n == 1:
        if path:
            raise Wrong("the inclusion proof has hashes that it does not need")
        return entry
    if not path:
        raise Wrong("the inclusion proof ends too early")
    *inner, last = path
    k = split(n)
    if m < k:
        return node_hash(root_by_path(m, k, entry, inner), last)
    return node_hash(last, root_by_path(m - k, n - k, entry, inner))


def roots_by_growth(m: int, n: int, known: bool, old: bytes, path: list[bytes]) -> tuple[bytes, bytes]:
    """The two roots that SUBPROOF(m, D[n], known) leads to: of the first m leaves, and of all n."""
    if m == n:
        if known:
            if path:
                raise Wrong("the consistency proof has hashes that it does not need")
            return old, old
        if len(path) != 1:
            raise Wrong("the consistency proof has the wrong length")
        return path[0], path[0]
    if not path:
        raise Wrong("the consistency proof ends too early")
    *inner, last = path
    k = split(n)
    if m <= k:
        first, whole = roots_by_growth(m, k, known, old, inner)
        return first, node_hash(whole, last)
    first, whole = roots_by_growth(m - k, n - k, False, old, inner)
    return node_hash(last, first), node_hash(last, whole)


def check_inclusion(m: int, n: int, entry_hash: bytes, path: list[bytes], root: bytes) -> None:
    if not 0 <= m < n:
        raise Wrong(f"entry {m} cannot be in a log of {n}")
    if root_by_path(m, n, entry_hash, path) != root:
        raise Wrong("the inclusion proof leads to another root")


def check_growth(m: int, n: int, path: list[bytes], old: bytes, new: bytes) -> None:
    if not 0 < m <= n:
        raise Wrong(f"a log of {m} cannot have grown to {n}")
    if roots_by_growth(m, n, True, old, path) != (old, new):
        raise Wrong("the consistency proof leads to other roots")


# --- Ed25519, RFC 8032 §5.1 -----------------------------------------------------------------------------------------

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P

Point = tuple[int, int, int]  # projective: x = X/Z, y = Y/Z


def add(a: Point, b: Point) -> Point:
    """The unified addition of §5.1.4, in projective coordinates without the auxiliary T."""
    x1, y1, z1 = a
    x2, y2, z2 = b
    zz, xx, yy = z1 * z2 % P, x1 * x2 % P, y1 * y2 % P
    cross = D * xx * yy % P
    minus, plus = (zz * zz - cross) % P, (zz * zz + cross) % P
    sides = ((x1 + y1) * (x2 + y2) - xx - yy) % P
    return zz * minus * sides % P, zz * plus * (yy + xx) % P, minus * plus % P


def multiply(n: int, point: Point) -> Point:
    total = (0, 1, 1)
    while n:
        if n & 1:
            total = add(total, point)
        point = add(point, point)
        n >>= 1
    return total


def encode_point(point: Point) -> bytes:
    x, y, z = point
    inverse = pow(z, P - 2, P)
    return ((y * inverse % P) | (x * inverse % P & 1) << 255).to_bytes(32, "little")


def decode_point(data: bytes) -> Point:
    """§5.1.3, refusing what is not the one encoding of its point."""
    number = int.from_bytes(data, "little")
    y, sign = number & (1 << 255) - 1, number >> 255
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    if y >= P or x * x % P != square or (x == 0 and sign):
        raise Wrong("a public key is not a point of edwards25519")
    return (x if x & 1 == sign else P - x), y, 1


BASE = decode_point(((4 * pow(5, P - 2, P)) % P).to_bytes(32, "little"))


def check_ed25519(public: bytes, message: bytes, signature: bytes) -> None:
    """§5.1.7, without the cofactor: S is in range, and R is the one encoding of [S]B - [k]A."""
    a = decode_point(public)
    if encode_point(multiply(8, a)) == encode_point((0, 1, 1)):
        raise Wrong("a public key is of small order: everybody can sign for it")
    s = int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or s >= L:
        raise Wrong("a signature is not in its one form")
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    minus_a = (P - a[0], a[1], 1)
    if encode_point(add(multiply(s, BASE), multiply(k, minus_a))) != signature[:32]:
        raise Wrong("a signature does not verify")


# --- Notes and checkpoints, C2SP ------------------------------------------------------------------------------------


class Key(NamedTuple):
    """A verifier key: the name it signs as, 1 for a log or 4 for a witness, and 32 bytes of Ed25519."""

    name: str
    kind: int
    public: bytes

    def key_id(self) -> bytes:
        return sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public)[:4]


class Head(NamedTuple):
    """A checkpoint that the log signed."""

    size: int
    root: bytes
    text: str
    signatures: list[tuple[str, bytes]]


def decode64(text: object, what: str) -> bytes:
    if not isinstance(text, str):
        raise Wrong(f"{what} is not a text")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Wrong(f"{what} is not base64") from None
    if base64.b64encode(data).decode() != text:
        raise Wrong(f"{what} is not base64 in its one form")
    return data


def read_key(text: str, kind: int) -> Key:
    name, _, rest = text.partition("+")
    key_id, _, material = rest.partition("+")
    try:
        data = decode64(material, "a verifier key")
        key = Key(name, kind, data[1:])
        if data[:1] != bytes([kind]) or len(data) != 33 or key.key_id().hex() != key_id or not name:
            raise Wrong("its type or its id is another")
        decode_point(key.public)
    except Wrong as error:
        raise Unreadable(
            f"`{text}` is not the verifier key of a {'log' if kind == 1 else 'witness'}: {error}"
        ) from None
    return key


def is_utf8(text: str) -> bool:
    """JSON can spell half of a surrogate pair, which no encoding has."""
    return not any(0xD800 <= ord(c) < 0xE000 for c in text)


def read_head(note: object, log: Key) -> Head:
    """Take a signed note apart and check the log's signature over its text."""
    if not isinstance(note, str) or not note.endswith("\n") or "\n\n" not in note or not is_utf8(note):
        raise Wrong("the checkpoint is not a signed note")
    text, _, rest = note[:-1].rpartition("\n\n")
    text += "\n"
    signatures = []
    for line in rest.split("\n"):
        match = re.fullmatch(r"— ([^\s+]+) ([A-Za-z0-9+/=]+)", line)
        if not match:
            raise Wrong("the checkpoint has a line that is no signature")
        signatures.append((match[1], decode64(match[2], "a signature")))
    lines = text[:-1].split("\n")
    if len(lines) < 3 or not re.fullmatch(r"0|[1-9][0-9]{0,18}", lines[1]) or "" in lines:
        raise Wrong("the checkpoint does not say origin, size and root")
    if lines[0] != log.name:
        raise Wrong(f"the checkpoint is of the log {lines[0]!a}, the key of `{log.name}`")
    head = Head(int(lines[1]), decode64(lines[2], "the root"), text, signatures)
    if len(head.root) != 32:
        raise Wrong("the root is not a SHA-256 hash")
    mine = [data[4:] for name, data in signatures if name == log.name and data[:4] == log.key_id()]
    for signature in mine:
        check_ed25519(log.public, text.encode(), signature)
    if not mine:
        raise Wrong(f"the checkpoint is not signed by `{log.name}`")
    return head


def cosigned_at(head: Head, witness: Key) -> int | None:
    """The time at which a witness cosigned, or None if it did not; a bad cosignature of its is wrong."""
    found = None
    for name, data in head.signatures:
        if name == witness.name and data[:4] == witness.key_id():
            found = int.from_bytes(data[4:12], "big")
            message = f"cosignature/v1\ntime {found}\n{head.text}".encode()
            check_ed25519(witness.public, message, data[12:])
    return found


# --- The one form of a JSON value, RFC 8785 §3.2 ---------------------------------------------------------------------


def canonical(value: object) -> str:
    if isinstance(value, dict):  # §3.2.3: members in the order of their names' UTF-16 code units
        names = sorted(value, key=lambda name: name.encode("utf-16-be", "surrogatepass"))
        return (
            "{" + ",".join(f"{json.dumps(name, ensure_ascii=False)}:{canonical(value[name])}" for name in names) + "}"
        )
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number(value)
    return json.dumps(value, ensure_ascii=False)  # its escapes are those of §3.2.2.2


def number(value: float) -> str:
    """§3.2.2.3: as ECMAScript writes a number. Python finds the same shortest digits and puts the point elsewhere."""
    if (isinstance(value, int) and abs(value) >= 2**53) or value in (float("inf"), float("-inf")):
        raise Wrong("an entry holds a number from 2**53 on")
    if value == 0:
        return "0"
    parts = decimal.Decimal(repr(value)).as_tuple()
    sign, digits = "-" * parts.sign, "".join(map(str, parts.digits)).rstrip("0")
    point = len(parts.digits) + int(parts.exponent)
    if not -6 < point <= 21:
        mantissa = digits[0] + ("." + digits[1:] if digits[1:] else "")
        return f"{sign}{mantissa}e{point - 1:+d}"
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    if len(digits) <= point:
        return sign + digits + "0" * (point - len(digits))
    return f"{sign}{digits[:point]}.{digits[point:]}"


# --- The formats of log.md ------------------------------------------------------------------------------------------


def load_json(text: str, what: str) -> Any:
    """One JSON value in which no object has a member twice, and no number is none."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise Wrong(f"{what} has a member twice")
        return dict(pairs)

    def never(constant: str) -> None:
        raise Wrong(f"{what} holds {constant}, which is not JSON")

    try:
        return json.loads(text, object_pairs_hook=once, parse_constant=never)
    except (ValueError, RecursionError):
        raise Wrong(f"{what} is not JSON") from None


def read_json(line: str, what: str, required: Set[str], optional: Set[str] = frozenset()) -> dict[str, Any]:
    """One JSON object with exactly these members, none of them twice."""

    value = load_json(line, what)
    if not isinstance(value, dict) or not required <= set(value) <= required | optional:
        raise Wrong(f"{what} does not have exactly the members it should")
    return value


def check_version(value: object, what: str) -> None:
    if type(value) is not int or value != 1:
        raise Wrong(f"the {what} is of a version that this verifier does not know")


def read_event(leaf: bytes, index: int) -> dict[str, Any]:
    """An entry's event: a JSON object that says its type, in its one form. What it tells is for people to judge."""
    what = f"entry {index}"
    try:
        event = load_json(leaf.decode("utf-8"), what)
    except UnicodeDecodeError:
        raise Wrong(f"{what} is not JSON") from None
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise Wrong(f"{what} does not say which event it is")
    try:
        one_form = canonical(event).encode("utf-8")
    except (UnicodeEncodeError, RecursionError):
        raise Wrong(f"{what} holds what has no form in RFC 8785") from None
    if one_form != leaf or len(leaf) > MAX_ENTRY:
        raise Wrong(f"{what} is not in its one form: another reader could read it in another way")
    return event


def check_payload(index: int, event: dict[str, Any], payload: object) -> None:
    """SHA-256(0x02 || 16 bytes of salt || body), in hex, is what the entry calls `body`."""
    if not isinstance(payload, dict) or set(payload) != {"salt", "body"}:
        raise Wrong(f"the payload of entry {index} is not a salt and a body")
    salt, body = decode64(payload["salt"], "a salt"), decode64(payload["body"], "a body")
    if len(salt) != 16 or sha256(b"\x02" + salt + body).hex() != event.get("body"):
        raise Wrong(f"the payload of entry {index} is not the one that was recorded")


class Tally:
    """What a walk over all entries finds."""

    def __init__(self) -> None:
        self.hashes: list[bytes] = []
        self.payloads: set[int] = set()
        self.absent: set[int] = set()
        self.erased: dict[int, int] = {}

    def take(self, leaf: bytes, payload: object = None) -> None:
        index = len(self.hashes)
        event = read_event(leaf, index)
        if payload is not None:
            check_payload(index, event, payload)
            self.payloads.add(index)
        elif isinstance(event.get("body"), str):
            self.absent.add(index)
        if event["type"] == "erased":
            self.erased[index] = event.get("index", -1)
        self.hashes.append(leaf_hash(leaf))

    def check_erasures(self) -> None:
        for index, target in self.erased.items():
            if type(target) is not int or not 0 <= target < index:
                raise Wrong(f"entry {index} erases an entry that is not before it")
            if target in self.payloads:
                raise Wrong(f"the payload of entry {target} is still there, though entry {index} says it was erased")


def read_text(path: str) -> str:
    try:
        return Path(path).read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise Wrong(f"`{path}` is not UTF-8") from None
    except OSError as error:
        raise Unreadable(f"cannot read `{path}`: {error.strerror}") from None


def read_lines(path: str) -> Iterator[str]:
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    raise Wrong(f"line {number} is cut off")
                yield line[:-1].decode("utf-8")
    except UnicodeDecodeError:
        raise Wrong(f"line {number} is not UTF-8") from None
    except OSError as error:
        raise Unreadable(f"cannot read `{path}`: {error.strerror}") from None


def walk_file(path: str, log: Key) -> tuple[Head, Tally]:
    lines = read_lines(path)
    first = next(lines, None)
    if first is None:
        raise Wrong("the export is empty")
    header = read_json(first, "the export's first line", {"citywatch-export", "origin", "checkpoint"})
    check_version(header["citywatch-export"], "export")
    if header["origin"] != log.name:
        raise Wrong(f"the export is of another log than `{log.name}`")
    head, tally = read_head(header["checkpoint"], log), Tally()
    for index, line in enumerate(lines):
        entry = read_json(line, f"line {index + 2}", {"index", "leaf"}, {"payload"})
        if type(entry["index"]) is not int or entry["index"] != index:
            raise Wrong(f"line {index + 2} should be entry {index}")
        if "payload" in entry and entry["payload"] is None:
            raise Wrong(f"the payload of entry {index} is null")
        tally.take(decode64(entry["leaf"], f"entry {index}"), entry.get("payload"))
    return head, tally


def tile_path(index: int) -> str:
    digits = f"{index:03d}"
    digits = digits.zfill((len(digits) + 2) // 3 * 3)
    groups = [digits[i : i + 3] for i in range(0, len(digits), 3)]
    return "/".join(["x" + group for group in groups[:-1]] + [groups[-1]])


def read_tile(folder: str, kind: str, index: int, width: int) -> bytes:
    """A partial tile, or the full one that has taken its place since."""
    full = Path(folder, "tile", kind, tile_path(index))
    partial = Path(f"{full}.p", str(width))
    for path in (full,) if width == 256 else (partial, full):
        try:
            return path.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise Unreadable(f"cannot read `{path}`: {error.strerror}") from None
    raise Wrong(f"`{full}` is missing")


def walk_tiles(folder: str, log: Key) -> tuple[Head, Tally]:
    """All entry bundles up to the checkpoint, and all hash tiles against what they should hold."""
    head, tally = read_head(read_text(str(Path(folder, "checkpoint"))), log), Tally()
    for index in range((head.size + 255) // 256):
        width = min(256, head.size - index * 256)
        data = read_tile(folder, "entries", index, width)
        for _ in range(width):
            length = int.from_bytes(data[:2], "big")
            if len(data) < 2 + length or len(data) < 2:
                raise Wrong(f"entry bundle {index} is cut off")
            tally.take(data[2 : 2 + length])
            data = data[2 + length :]
    level, nodes = 0, tally.hashes
    while nodes:
        for index in range((len(nodes) + 255) // 256):
            expected = nodes[index * 256 : index * 256 + 256]
            found = read_tile(folder, str(level), index, len(expected))
            if found[: 32 * len(expected)] != b"".join(expected):
                raise Wrong(f"hash tile {index} of level {level} does not hold the hashes of the entries")
        nodes = [tree_hash(nodes, i, i + 256) for i in range(0, len(nodes) - 255, 256)]
        level += 1
    return head, tally


def check_witnesses(head: Head, witnesses: list[Key], quorum: int) -> None:
    seen = {}
    for witness in witnesses:
        time = cosigned_at(head, witness)
        if time is not None:
            seen[witness.public] = witness.name
            print(f"ok    cosigned by `{witness.name}`, time {time}")
        else:
            print(f"note  not cosigned by `{witness.name}`")
    if len(seen) < quorum:
        raise Wrong(f"{len(seen)} of the witnesses cosigned, {quorum} were asked for")
    if not witnesses:
        print("note  no witness was asked: nothing here excludes that others were shown another history")


def check_export(arguments: argparse.Namespace, log: Key, witnesses: list[Key], quorum: int) -> None:
    walk = walk_tiles if Path(arguments.path).is_dir() else walk_file
    head, tally = walk(arguments.path, log)
    print(f"ok    checkpoint of `{log.name}`, {head.size} entries, signed by the log")
    if not tally.hashes:
        raise Wrong("there is no entry: nothing was checked")
    if len(tally.hashes) != head.size:
        raise Wrong(f"there are {len(tally.hashes)} entries, the checkpoint is over {head.size}")
    root = tree_hash(tally.hashes, 0, head.size)
    if root != head.root:
        raise Wrong("the entries give another root than the one that was signed: something was changed")
    print(f"ok    {head.size} entries give the signed root {root.hex()}")
    tally.check_erasures()
    erased = set(tally.erased.values())
    print(f"ok    {len(tally.payloads)} payloads match their digests")
    print(
        f"note  {len(tally.absent & erased)} payloads were erased, {len(tally.absent - erased)} are not in the export"
    )
    for path in arguments.previous:
        old = read_head(read_text(path), log)
        if not 0 < old.size <= head.size:
            raise Wrong(f"`{path}` is over {old.size} entries, the log has {head.size}: it did not only grow")
        if tree_hash(tally.hashes, 0, old.size) != old.root:
            raise Wrong(f"the log no longer begins with the {old.size} entries of `{path}`: history was rewritten")
        print(f"ok    begins with the {old.size} entries of `{path}`")
    check_witnesses(head, witnesses, quorum)


def check_proof(arguments: argparse.Namespace, log: Key, witnesses: list[Key], quorum: int) -> None:
    members = {"citywatch-proof", "leaf", "index", "tree_size", "hashes", "checkpoint"}
    proof = read_json(read_text(arguments.path), "the proof", members, {"payload"})
    index, size, leaf = proof["index"], proof["tree_size"], decode64(proof["leaf"], "the entry")
    check_version(proof["citywatch-proof"], "proof")
    if type(index) is not int or type(size) is not int:
        raise Wrong("the proof's index and size are not numbers")
    head = read_head(proof["checkpoint"], log)
    if size != head.size:
        raise Wrong(f"the proof is for {size} entries, the checkpoint for {head.size}")
    print(f"ok    checkpoint of `{log.name}`, {head.size} entries, signed by the log")
    check_inclusion(index, size, leaf_hash(leaf), read_hashes(proof["hashes"]), head.root)
    event = read_event(leaf, index)
    print(f"ok    entry {index} is in the log: an event of the type {event['type']!a}")
    if "payload" in proof:
        check_payload(index, event, proof["payload"])
        print("ok    its payload matches the digest")
    check_witnesses(head, witnesses, quorum)


def check_two_heads(arguments: argparse.Namespace, log: Key, witnesses: list[Key], quorum: int) -> None:
    growth = read_json(read_text(arguments.path), "the proof", {"citywatch-growth", "old", "new", "hashes"})
    check_version(growth["citywatch-growth"], "proof")
    old, new = read_head(growth["old"], log), read_head(growth["new"], log)
    check_growth(old.size, new.size, read_hashes(growth["hashes"]), old.root, new.root)
    print(f"ok    the log of {new.size} entries begins with the log of {old.size}")
    check_witnesses(new, witnesses, quorum)


def read_hashes(value: object) -> list[bytes]:
    if not isinstance(value, list):
        raise Wrong("the proof has no list of hashes")
    hashes = [decode64(each, "a hash") for each in value]
    if any(len(each) != 32 for each in hashes):
        raise Wrong("the proof has a hash that is not SHA-256")
    return hashes


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Check a citywatch log without trusting citywatch.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, text in (
        ("export", "a whole log: an export file, or a directory of tiles"),
        ("proof", "that one entry is in the log"),
        ("growth", "that one checkpoint grew out of another"),
    ):
        sub = verbs.add_parser(verb, help=text, description=f"Check {text}.")
        sub.add_argument("path", metavar="PATH")
        sub.add_argument("--key", required=True, help="the log's verifier key: name+id+base64")
        sub.add_argument(
            "--witness", action="append", default=[], metavar="KEY", help="a witness that must have cosigned"
        )
        sub.add_argument("--quorum", type=int, metavar="N", help="how many of the witnesses are enough (all)")
        sub.add_argument(
            "--previous", action="append", default=[], metavar="FILE", help="a checkpoint kept from before"
        )
    arguments = parser.parse_args(argv)
    check = {"export": check_export, "proof": check_proof, "growth": check_two_heads}[arguments.verb]
    try:
        log = read_key(arguments.key, 1)
        witnesses = [read_key(text, 4) for text in arguments.witness]
        quorum = len(witnesses) if arguments.quorum is None else arguments.quorum
        if not 0 <= quorum <= len(witnesses) or (witnesses and not quorum):
            raise Unreadable(f"a quorum of {quorum} out of {len(witnesses)} witnesses checks nothing")
        if arguments.previous and arguments.verb != "export":
            raise Unreadable("`--previous` goes with `export` only")
        check(arguments, log, witnesses, quorum)
    except Wrong as error:
        print(f"WRONG {error}")
        return 1
    except Unreadable as error:
        print(f"error {error}", file=sys.stderr)
        return 2
    print("good  everything that was asked for was checked")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
