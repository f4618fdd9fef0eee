"""Keys lie in files that nobody else could have read, appear whole, and never leave in any other way."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import stat
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from citywatch.adapters.keys import (
    CheckpointSigner,
    KeyKind,
    KeySigner,
    SecretDirectory,
    create_key,
    load_key,
    open_key,
    replace_key,
)
from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from citywatch.core.log.checkpoint import Checkpoint, format_checkpoint

ORIGIN = "acme.example/log"


@pytest.fixture
def directory(tmp_path: Path) -> SecretDirectory:
    return SecretDirectory(tmp_path / "keys")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_a_key_is_readable_by_its_owner_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask if umask != 0o777 else 0o022)
    try:
        directory = SecretDirectory(tmp_path / "keys")
        os.umask(umask)
        create_key(directory, "a.key", KeyKind.P256)
    finally:
        os.umask(before)
    assert mode(directory.path) == 0o700
    assert mode(directory.path / "a.key") == 0o600


@pytest.mark.parametrize("kind", KeyKind)
def test_a_key_is_the_same_after_a_restart(directory: SecretDirectory, kind: KeyKind) -> None:
    created = create_key(directory, "a.key", kind)
    assert load_key(directory, "a.key", kind).public == created.public == open_key(directory, "a.key", kind).public


def test_a_key_is_never_overwritten(directory: SecretDirectory) -> None:
    first = create_key(directory, "a.key", KeyKind.P256)
    with pytest.raises(Malformed):
        create_key(directory, "a.key", KeyKind.P256)
    assert load_key(directory, "a.key", KeyKind.P256).public == first.public
    assert [path.name for path in directory.path.iterdir()] == ["a.key"]


def test_a_key_may_be_replaced_on_purpose(directory: SecretDirectory) -> None:
    first = create_key(directory, "a.key", KeyKind.P256)
    second = replace_key(directory, "a.key", KeyKind.P256)
    assert load_key(directory, "a.key", KeyKind.P256).public == second.public != first.public
    assert mode(directory.path / "a.key") == 0o600


def spoil_mode(path: Path) -> None:
    path.chmod(0o640)


def spoil_mode_others(path: Path) -> None:
    path.chmod(0o604)


def spoil_execute(path: Path) -> None:
    path.chmod(0o700)


def spoil_directory(path: Path) -> None:
    path.parent.chmod(0o750)


def spoil_directory_write(path: Path) -> None:
    path.parent.chmod(0o702)


def spoil_link(path: Path) -> None:
    path.rename(path.with_name("b.key"))
    path.symlink_to("b.key")


def spoil_directory_link(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))
    path.parent.symlink_to("elsewhere")


def spoil_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def spoil_folder(path: Path) -> None:
    path.unlink()
    path.mkdir(0o600)


def spoil_empty(path: Path) -> None:
    path.write_bytes(b"")


def spoil_length(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n" * 70_000)


def spoil_text(path: Path) -> None:
    path.write_bytes(b"-----BEGIN PRIVATE KEY-----\nnonsense\n-----END PRIVATE KEY-----\n")


def write_pem(path: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, password: bytes | None = None) -> None:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))


def spoil_kind(path: Path) -> None:
    write_pem(path, rsa.generate_private_key(65537, 2048))


def spoil_curve(path: Path) -> None:
    write_pem(path, ec.generate_private_key(ec.SECP384R1()))


def spoil_encrypted(path: Path) -> None:
    write_pem(path, ec.generate_private_key(ec.SECP256R1()), b"password")


SPOILERS = (
    spoil_mode,
    spoil_mode_others,
    spoil_execute,
    spoil_directory,
    spoil_directory_write,
    spoil_link,
    spoil_directory_link,
    spoil_fifo,
    spoil_folder,
    spoil_empty,
    spoil_length,
    spoil_text,
    spoil_kind,
    spoil_curve,
    spoil_encrypted,
)


@pytest.mark.parametrize("spoil", SPOILERS, ids=lambda spoil: spoil.__name__)
def test_a_key_that_others_may_know_or_that_is_none_is_refused(
    directory: SecretDirectory, spoil: Callable[[Path], None]
) -> None:
    create_key(directory, "a.key", KeyKind.P256)
    load_key(directory, "a.key", KeyKind.P256)
    spoil(directory.path / "a.key")
    with pytest.raises((Malformed, Unavailable)) as caught:
        load_key(directory, "a.key", KeyKind.P256)
    assert "a.key" in str(caught.value) or str(directory.path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_link, "is a link"),
        (spoil_directory_link, "is a link"),
        (spoil_fifo, "not a regular file"),
        (spoil_folder, "not a regular file"),
        (spoil_mode, "open to others"),
        (spoil_directory, "chmod 700"),
    ],
)
def test_the_operator_is_told_what_is_wrong(
    directory: SecretDirectory, spoil: Callable[[Path], None], words: str
) -> None:
    create_key(directory, "a.key", KeyKind.P256)
    spoil(directory.path / "a.key")
    with pytest.raises(Malformed, match=words):
        load_key(directory, "a.key", KeyKind.P256)


def test_a_key_of_somebody_else_is_refused(directory: SecretDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    create_key(directory, "a.key", KeyKind.P256)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(Malformed, match="another user"):
        load_key(directory, "a.key", KeyKind.P256)
    with pytest.raises(Malformed, match="another user"):
        SecretDirectory(directory.path)


def test_a_file_of_somebody_else_is_refused(directory: SecretDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    create_key(directory, "a.key", KeyKind.P256)
    answers = iter((os.getuid(), os.getuid() + 1))  # the directory is ours, the file is not
    monkeypatch.setattr(os, "geteuid", lambda: next(answers))
    with pytest.raises(Malformed, match=r"a\.key` belongs to another user"):
        load_key(directory, "a.key", KeyKind.P256)


def test_a_missing_key_is_not_there(directory: SecretDirectory) -> None:
    assert not directory.exists("a.key")
    with pytest.raises(Unavailable) as missing:
        load_key(directory, "a.key", KeyKind.P256)
    assert "no such file" in missing.value.operator
    assert str(directory.path) not in str(missing.value) + missing.value.detail, (
        "where it would be, strangers do not learn"
    )


def test_a_key_that_was_removed_is_gone_and_may_be_removed_again(directory: SecretDirectory) -> None:
    create_key(directory, "a.key", KeyKind.P256)
    directory.remove("a.key")
    directory.remove("a.key")
    assert list(directory.path.iterdir()) == []


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/b", "/etc/passwd", "a\0b"])
def test_a_name_does_not_leave_the_directory(directory: SecretDirectory, name: str) -> None:
    for act in (directory.read, directory.exists, directory.remove, lambda name: directory.create(name, b"x")):
        with pytest.raises(Malformed):
            act(name)


def test_one_kind_is_not_taken_for_another(directory: SecretDirectory) -> None:
    create_key(directory, "a.key", KeyKind.P256)
    with pytest.raises(Malformed):
        load_key(directory, "a.key", KeyKind.ED25519)


@pytest.mark.parametrize("kind", KeyKind)
def test_a_private_key_is_not_shown(directory: SecretDirectory, kind: KeyKind) -> None:
    signer = create_key(directory, "a.key", kind)
    secret = directory.read("a.key").splitlines()[1].decode()
    assert secret not in repr(signer)
    assert not hasattr(signer, "__dict__")
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            copied(signer)
    (directory.path / "a.key").write_text(secret)
    with pytest.raises(Malformed) as caught:
        load_key(directory, "a.key", kind)
    assert secret not in "".join(traceback.format_exception(caught.value))


def _open(path: Path, pipe: object) -> None:
    pipe.send(open_key(SecretDirectory(path), "a.key", KeyKind.P256).public)  # type: ignore[attr-defined]


def test_of_processes_that_start_at_once_all_get_the_same_key(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(3)]
    children = [context.Process(target=_open, args=(tmp_path / "keys", end)) for _, end in pipes]
    for child in children:
        child.start()
    keys = {end.recv() for end, _ in pipes}
    for child in children:
        child.join()
    for pair in pipes:
        for end in pair:
            end.close()
    assert len(keys) == 1
    assert len(list((tmp_path / "keys").iterdir())) == 1


def test_a_full_disk_leaves_no_half_file(directory: SecretDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    directory.create("old", b"old")
    monkeypatch.setattr(os, "fsync", full)
    for act, name in ((directory.create, "new"), (directory.replace, "old")):
        with pytest.raises(Unavailable) as caught:
            act(name, b"new")
        assert caught.value.code is Code.STORE_UNAVAILABLE
    monkeypatch.undo()
    assert [path.name for path in directory.path.iterdir()] == ["old"]
    assert directory.read("old") == b"old"


# -- the log's signer ------------------------------------------------------------------------------------------------


def text(size: int, root: bytes = b"r", origin: str = ORIGIN) -> bytes:
    return format_checkpoint(Checkpoint(origin, size, root * 32)).encode()


@pytest.fixture
def key(directory: SecretDirectory) -> KeySigner:
    return create_key(directory, "log.key", KeyKind.ED25519)


@pytest.fixture
def log(directory: SecretDirectory, key: KeySigner) -> CheckpointSigner:
    return CheckpointSigner(directory, "log.key", key, ORIGIN)


def test_the_log_signs_as_it_grows_and_the_same_head_again(log: CheckpointSigner, key: KeySigner) -> None:
    assert log.sign(text(1)) == key.sign(text(1))
    assert log.sign(text(1)) == key.sign(text(1))
    assert log.sign(text(9)) == key.sign(text(9))
    assert log.public == key.public


@pytest.mark.parametrize("other", [text(5, b"s"), text(4), text(0)])
def test_no_size_gets_a_second_root_and_the_log_never_shrinks(log: CheckpointSigner, other: bytes) -> None:
    log.sign(text(5))
    with pytest.raises(Refused) as caught:
        log.sign(other)
    assert caught.value.code is Code.CONFLICT
    log.sign(text(5))


def test_the_memory_outlives_the_process(directory: SecretDirectory, log: CheckpointSigner) -> None:
    log.sign(text(5))
    again = CheckpointSigner(directory, "log.key", load_key(directory, "log.key", KeyKind.ED25519), ORIGIN)
    with pytest.raises(Refused):
        again.sign(text(5, b"s"))


def test_what_is_signed_is_remembered_before_the_signature_exists(directory: SecretDirectory) -> None:
    class Watching:
        public = b""

        def sign(self, message: bytes) -> bytes:
            assert directory.exists("log.key.last")
            return b"signed"

    log = CheckpointSigner(directory, "log.key", cast(KeySigner, Watching()), ORIGIN)
    assert log.sign(text(5)) == b"signed"


def test_what_cannot_be_remembered_is_not_signed(
    log: CheckpointSigner, directory: SecretDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unavailable):
        log.sign(text(5))
    monkeypatch.undo()
    log.sign(text(5, b"s"))


@pytest.mark.parametrize(
    "message",
    [b"", b"a message", text(5, origin="another/log"), text(5) + b"\n", b"\xff", b"cosignature/v1\ntime 1\n" + text(5)],
)
def test_nothing_but_a_head_of_this_log_is_signed(log: CheckpointSigner, message: bytes) -> None:
    with pytest.raises(Malformed):
        log.sign(message)


def test_without_its_memory_readable_nothing_is_signed(log: CheckpointSigner, directory: SecretDirectory) -> None:
    log.sign(text(5))
    (directory.path / "log.key.last").write_bytes(b"{}")
    with pytest.raises(Malformed):
        log.sign(text(6))
