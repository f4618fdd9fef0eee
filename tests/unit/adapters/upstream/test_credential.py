"""Where our credential for a server comes from, and that it is never part of a message."""

from __future__ import annotations

from pathlib import Path

import pytest

from citywatch.adapters.upstream import from_environment, from_file
from citywatch.core.errors import Unavailable


@pytest.mark.parametrize(
    ("text", "header"),
    [("abc", "Bearer abc"), (" abc\n", "Bearer abc"), ("Basic YTpi", "Basic YTpi"), ("Bearer a.b.c", "Bearer a.b.c")],
)
def test_a_token_is_a_bearer_token_unless_it_says_otherwise(
    text: str, header: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text(text)
    monkeypatch.setenv("CW_TEST_TOKEN", text)
    assert from_file(str(tmp_path / "token"))() == header
    assert from_environment("CW_TEST_TOKEN")() == header


@pytest.mark.parametrize("text", ["a\r\nx: y", "a\x00b", "sécret", "a  b", "x" * 20_000])
def test_what_does_not_fit_a_header_is_refused_without_being_shown(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text(text)
    credentials = [from_file(str(tmp_path / "token"))]
    if "\0" not in text:
        monkeypatch.setenv("CW_TEST_TOKEN", text)
        credentials.append(from_environment("CW_TEST_TOKEN"))
    for credential in credentials:
        with pytest.raises(Unavailable) as caught:
            credential()
        for said in (str(caught.value), caught.value.operator):
            assert text not in said
            assert "\n" not in said


def test_a_missing_credential_is_no_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CW_TEST_TOKEN", raising=False)
    (tmp_path / "empty").write_text("\n")
    for credential in (
        from_environment("CW_TEST_TOKEN"),
        from_file(str(tmp_path / "none")),
        from_file(str(tmp_path / "empty")),
        from_file(str(tmp_path)),
    ):
        with pytest.raises(Unavailable) as caught:
            credential()
        assert str(tmp_path) in caught.value.operator or "CW_TEST_TOKEN" in caught.value.operator
        # An agent and the log are told nothing of this machine.
        assert str(caught.value) == caught.value.detail == "the gateway has no credential for this server"


def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one")
    credential = from_file(str(path))
    assert credential() == "Bearer one"
    (tmp_path / "next").write_text("three")
    (tmp_path / "next").replace(path)
    assert credential() == "Bearer three"
    path.unlink()
    with pytest.raises(Unavailable):
        credential()


def test_the_environment_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CW_TEST_TOKEN", "one")
    credential = from_environment("CW_TEST_TOKEN")
    monkeypatch.setenv("CW_TEST_TOKEN", "two")
    assert credential() == "Bearer one"
