"""The signed head of the log: its text, its note, the log's signature and the witnesses' cosignatures.

Decides that a note was signed by the log whose key we hold and cosigned by which of the witnesses whose keys we hold.
Does not decide that one head grew from another (`log.merkle`), nor how many witnesses are enough, and signs nothing:
it says which bytes a signer signs.

INVARIANTS: `parse_x` and `format_x` are inverse, for every text that is accepted; the origin a log signs is the name of
its key, so a head of one log is never one of another's; signatures of unknown keys are ignored and a bad one of a known
key condemns the note; a witness counts once per public key; any bytes give a value or `Malformed`.
SPEC: C2SP signed-note, tlog-checkpoint, tlog-cosignature (cosignature/v1).
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Sequence
from enum import IntEnum
from hashlib import sha256

import msgspec

from citywatch.core.errors import Malformed
from citywatch.core.log.merkle import HASH_BYTES
from citywatch.core.signature import Ed25519Key, parse_ed25519_key, verify_ed25519

MAX_NOTE_BYTES = 131_072
MAX_SIGNATURES = 64
_SIZE = re.compile(r"(?:0|[1-9][0-9]{0,18})\Z", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


class Kind(IntEnum):
    """What a note key signs; the number is the algorithm byte of its key id."""

    LOG = 1  # Ed25519 over the note's text
    WITNESS = 4  # Ed25519 over "cosignature/v1", the time, and the text


class Checkpoint(msgspec.Struct, frozen=True):
    """What a head says: the first `size` entries of the log `origin` have the root `root`."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()


class NoteKey(msgspec.Struct, frozen=True):
    """A public key with the name it signs notes under."""

    name: str
    kind: Kind
    key: Ed25519Key

    @property
    def id(self) -> bytes:
        """Four bytes that pick this key's lines out of a note; a hint, not an identity."""
        return sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.key.raw).digest()[:4]


class NoteSignature(msgspec.Struct, frozen=True):
    """One signature line, unverified."""

    name: str
    id: bytes
    signature: bytes


class Note(msgspec.Struct, frozen=True):
    """A text and its signature lines, unverified. The text ends in a newline."""

    text: str
    signatures: tuple[NoteSignature, ...]


class Cosignature(msgspec.Struct, frozen=True):
    """A witness has seen no other history than this one, up to `time` (seconds since the epoch)."""

    witness: str
    time: int


class SignedCheckpoint(msgspec.Struct, frozen=True):
    """A head that the log signed, with those of its cosignatures that we can vouch for."""

    checkpoint: Checkpoint
    note: Note
    cosignatures: tuple[Cosignature, ...] = ()


def verify_checkpoint(data: bytes, log: NoteKey, witnesses: Sequence[NoteKey] = ()) -> SignedCheckpoint:
    """Return the head that `log` signed, with the cosignatures that these witnesses made; `Malformed` otherwise."""
    note = parse_note(data)
    checkpoint = parse_checkpoint(note.text)
    if checkpoint.origin != log.name or log.kind is not Kind.LOG:
        raise Malformed(f"the checkpoint is not of the log `{log.name}`")
    signed = False
    for line in note.signatures:
        if (line.name, line.id) == (log.name, log.id):
            verify_ed25519(log.key, note.text.encode(), line.signature)
            signed = True
    if not signed:
        raise Malformed(f"the checkpoint is not signed by the log `{log.name}`")
    return SignedCheckpoint(checkpoint, note, verify_cosignatures(note, witnesses))


def verify_cosignatures(note: Note, witnesses: Sequence[NoteKey]) -> tuple[Cosignature, ...]:
    """Return the cosignatures of those of `witnesses` that signed this note, each public key once."""
    found: dict[bytes, Cosignature] = {}
    for witness in witnesses:
        for line in note.signatures:
            if (line.name, line.id) == (witness.name, witness.id) and witness.kind is Kind.WITNESS:
                time = int.from_bytes(line.signature[:8])
                verify_ed25519(witness.key, cosigned_message(note.text, time), line.signature[8:])
                found.setdefault(witness.key.raw, Cosignature(witness.name, time))
    return tuple(found.values())


def cosigned_message(text: str, time: int) -> bytes:
    """The bytes that a witness signs for a checkpoint's text at `time`, in seconds since the epoch."""
    if not 0 <= time < 2**63:
        raise Malformed("a cosignature's time is out of range")
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def log_signature(key: NoteKey, signature: bytes) -> NoteSignature:
    """The line for a log's 64-byte signature over a note's text."""
    return NoteSignature(key.name, key.id, signature)


def cosignature(key: NoteKey, time: int, signature: bytes) -> NoteSignature:
    """The line for a witness's 64-byte signature over `cosigned_message(text, time)`."""
    return NoteSignature(key.name, key.id, time.to_bytes(8) + signature)


def format_checkpoint(checkpoint: Checkpoint) -> str:
    """The text that a log signs. SPEC: C2SP tlog-checkpoint."""
    lines = (checkpoint.origin, str(checkpoint.size), b64encode(checkpoint.root).decode(), *checkpoint.extensions)
    return "".join(f"{line}\n" for line in lines)


def parse_checkpoint(text: str) -> Checkpoint:
    """Read a checkpoint's text, of whatever log; the inverse of `format_checkpoint`."""
    lines = text.split("\n")
    if len(lines) < 4 or lines.pop() != "" or "" in lines:
        raise Malformed("a checkpoint has three lines and no empty one")
    if not _SIZE.match(lines[1]) or int(lines[1]) >= 2**63:
        raise Malformed("a checkpoint's size is not a decimal number")
    root = parse_base64(lines[2])
    if len(root) != HASH_BYTES:
        raise Malformed(f"a checkpoint's root has {HASH_BYTES} bytes")
    return Checkpoint(lines[0], int(lines[1]), root, tuple(lines[3:]))


def format_note(note: Note) -> bytes:
    """The signed note: text, an empty line, signature lines. SPEC: C2SP signed-note."""
    return f"{note.text}\n{''.join(map(format_signature, note.signatures))}".encode()


def parse_note(data: bytes) -> Note:
    """Read a signed note; the inverse of `format_note`."""
    if len(data) > MAX_NOTE_BYTES:
        raise Malformed("a note is too long")
    try:
        whole = data.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("a note is not UTF-8") from None
    text, blank, lines = whole.rpartition("\n\n")
    if not blank or not text or _CONTROL.search(whole):
        raise Malformed("a note is a text, an empty line and signature lines")
    return Note(text + "\n", parse_signatures(lines))


def format_signature(line: NoteSignature) -> str:
    """One signature line, with its newline."""
    return f"— {line.name} {b64encode(line.id + line.signature).decode()}\n"


def parse_signatures(text: str) -> tuple[NoteSignature, ...]:
    """Read one or more signature lines, as a witness answers them or as they end a note."""
    lines = text.split("\n")
    if len(lines) < 2 or lines.pop() != "" or len(lines) > MAX_SIGNATURES:
        raise Malformed(f"a note has 1 to {MAX_SIGNATURES} signature lines")
    return tuple(_parse_signature(line) for line in lines)


def format_note_key(key: NoteKey) -> str:
    """The verifier key: `name+id+base64`, as an operator hands it to whoever is to check. SPEC: C2SP signed-note."""
    return f"{key.name}+{key.id.hex()}+{b64encode(bytes([key.kind]) + key.key.raw).decode()}"


def parse_note_key(text: str) -> NoteKey:
    """Read a verifier key; the inverse of `format_note_key`."""
    parts = text.split("+", 2)  # base64 may hold a plus, names may not
    if len(parts) != 3:
        raise Malformed(f"`{text[:80]}` is not a verifier key: expected name+id+base64")
    material = parse_base64(parts[2])
    if material[:1] not in (b"\x01", b"\x04"):
        raise Malformed("a verifier key is neither a log's nor a witness's")
    key = NoteKey(parse_key_name(parts[0]), Kind(material[0]), parse_ed25519_key(material[1:]))
    if parts[1] != key.id.hex():
        raise Malformed("a verifier key's id is not that of its name and key")
    return key


def parse_key_name(text: str) -> str:
    """Return `text` if it may name a key in a note, and so be a log's origin: no space, no plus, no control."""
    if not text or "+" in text or any(c.isspace() or ord(c) < 32 for c in text) or len(text) > 255:
        raise Malformed(f"`{text[:80]}` is not a key's name: no spaces, no plus")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Malformed("a key's name holds a lone surrogate") from None
    return text


def parse_base64(text: str) -> bytes:
    """Decode padded base64; every byte string has exactly one text, and only that is taken."""
    try:
        data = b64decode(text, validate=True)
    except (Base64Error, ValueError):
        raise Malformed("a text is not base64") from None
    if b64encode(data).decode() != text:
        raise Malformed("a text is not base64 in its one form")
    return data


def _parse_signature(line: str) -> NoteSignature:
    dash, _, rest = line.partition(" ")
    name, _, text = rest.partition(" ")
    material = parse_base64(text)
    if dash != "—" or len(material) < 5:
        raise Malformed("a signature line is a dash, a name and base64 of key id and signature")
    return NoteSignature(parse_key_name(name), material[:4], material[4:])
