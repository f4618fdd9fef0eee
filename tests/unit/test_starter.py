"""What `citywatch init` writes: an example without a mistake, in its comments too, and a server that works."""

from __future__ import annotations

import importlib.util
import re
import threading
import types
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path

import pytest

from citywatch.config import FromFile, Http, Program, parse_settings
from citywatch.core.call import Effect

STARTER = files("citywatch") / "starter"
TEXT = (STARTER / "citywatch.yaml").read_text(encoding="utf-8")


def load(name: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(name, str(STARTER / f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def notes() -> types.ModuleType:
    return load("notes_server")


@pytest.fixture
def url(notes: types.ModuleType) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), notes.Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/mcp"
        server.shutdown()
        thread.join()


def test_the_example_is_without_a_mistake_and_switches_nothing_unsafe_on() -> None:
    settings = parse_settings(TEXT, "/srv/gate")
    assert settings.trust_domain == "acme.example"
    assert settings.policies == "/srv/gate/policies"
    assert set(settings.agents) == {"assistant"}
    assert isinstance(settings.servers["notes"].reach, Http)
    assert settings.unsafe == ()


def test_what_is_commented_out_is_without_a_mistake_too() -> None:
    """Only commented lines that hold a key or a list item are configuration; the others are prose."""
    shown = re.sub(r"^( *)# ((?:  )*(?:- \{|\w+:( |$)).*)", r"\1\2", TEXT, flags=re.MULTILINE)
    shown = shown.replace(
        "<what `citywatch witness` prints>", "north+9ab90cf2+BNdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea"
    )
    settings = parse_settings(shown, "/srv/gate")
    assert isinstance(settings.servers["documents"].reach, Program)
    assert settings.witness_quorum == 1
    notes = settings.servers["notes"].reach
    assert isinstance(notes, Http)
    assert notes.credential is not None


def test_every_line_of_the_example_is_explained() -> None:
    for block in re.split(r"\n\n", TEXT):
        assert "#" in block, block


def test_the_notes_server_wants_its_token_unless_it_is_open(
    notes: types.ModuleType, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = load("ask")
    monkeypatch.chdir(tmp_path)
    token = notes.read_token()
    assert len(token) > 40
    assert notes.read_token() == token
    assert (tmp_path / "notes.token").stat().st_mode & 0o777 == 0o600
    assert "result" in ask.ask(url, "tools/list", {})
    monkeypatch.setattr(notes.Handler, "token", token)
    for shown in (None, "guessed"):
        assert "token" in ask.ask(url, "tools/list", {}, shown)["error"]["message"]
    assert "result" in ask.ask(url, "tools/list", {}, token)
    credential = parse_settings(TEXT, str(tmp_path)).servers["notes"].reach.credential  # type: ignore[union-attr]
    assert credential == FromFile(str(tmp_path / "notes.token"))


def test_the_example_declares_exactly_the_tools_that_its_server_has(notes: types.ModuleType) -> None:
    tools = parse_settings(TEXT, "/").servers["notes"].tools
    assert set(tools) == {tool["name"] for tool in notes.answer("tools/list", {})["tools"]}
    assert tools["send_note"].effect is Effect.IRREVERSIBLE
    for tool in notes.answer("tools/list", {})["tools"]:
        assert set(tools[tool["name"]].parameters) <= set(tool["inputSchema"]["properties"])


def test_the_notes_server_does_what_its_tools_say(notes: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    def call(name: str, **arguments: str) -> tuple[str, bool]:
        result = notes.answer("tools/call", {"name": name, "arguments": arguments})
        return result["content"][0]["text"], result["isError"]

    assert call("write_note", title="t", text="hello") == ("written", False)
    assert call("read_note", title="t") == ("hello", False)
    assert call("list_notes") == ("plan\nt", False)
    assert call("send_note", title="t", to="a@b.example") == ("sent", False)
    assert capsys.readouterr().out == "sent `t` to a@b.example: hello\n"
    assert call("read_note", title="none") == ("there is no 'none'", True)
    assert call("erase", title="t")[1] is True
    with pytest.raises(LookupError):
        notes.answer("resources/list", {})


def test_the_stand_in_agent_lists_calls_and_says_what_was_refused(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    ask = load("ask")
    assert ask.main([url]) == 0
    assert capsys.readouterr().out.startswith("list_notes: The titles of all notes.\n")
    assert ask.main([url, "write_note", "title=t", "text=a=b"]) == 0
    assert ask.main([url, "read_note", "title=t"]) == 0
    assert capsys.readouterr().out == "written\na=b\n"
    assert ask.main([url, "erase"]) == 1
    assert capsys.readouterr().out == "there is no 'erase'\n"
    assert ask.ask(url, "resources/list", {})["error"]["code"] == -32601
    with pytest.raises(SystemExit):
        ask.ask("file:///etc/passwd", "tools/list", {})
