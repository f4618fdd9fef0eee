"""The program's socket is put where only we put things, or not at all."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from citywatch.adapters.workload.door import is_ours, listen_at


def test_a_folder_that_others_could_have_made_is_not_ours(tmp_path: Path) -> None:
    ours = tmp_path / "ours"
    ours.mkdir(mode=0o711)
    assert is_ours(ours)
    led = tmp_path / "led"
    led.symlink_to(ours)
    assert not is_ours(led), "whoever made the link chooses where it leads"
    (tmp_path / "file").write_text("")
    assert not is_ours(tmp_path / "file")
    for mode in (0o731, 0o713, 0o777):
        ours.chmod(mode)
        assert not is_ours(ours)
    with pytest.raises(FileNotFoundError):
        is_ours(tmp_path / "gone")


def test_a_folder_of_another_account_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o711)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert not is_ours(folder)


def test_a_socket_is_the_accounts_alone_and_no_other_file_is_touched(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with listen_at(str(path), os.geteuid()) as listener:
        assert listener.family is socket.AF_UNIX
        assert path.stat().st_mode & 0o777 == 0o600
    (tmp_path / "taken").write_text("x")
    with pytest.raises(OSError, match="in use"):
        listen_at(str(tmp_path / "taken"), os.geteuid())
    assert (tmp_path / "taken").read_text() == "x"
