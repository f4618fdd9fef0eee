"""The demo's page: plain text without a terminal, colour on one, never wider than it may be."""

from __future__ import annotations

import io
import re

import pytest

from examples.support_desk.screen import Screen


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _drawn(out: io.StringIO, environment: dict[str, str]) -> str:
    screen = Screen(out, environment)
    screen.title("left", "right")
    screen.heading(1, "A heading")
    screen.say("some words " * 40, "red")
    screen.quote("Hello,\n\nplease do this one thing " + "now " * 40, "this one thing")
    screen.command(("citywatch", "up"))
    screen.output("\n".join(f"line {n} " + "x" * 200 for n in range(60)))
    screen.side_by_side([(("one", "bold"),), ()], [(("two" * 60, "red"),), (("a", ""), ("b", "alarm")), (("c", ""),)])
    return out.getvalue()


def test_a_pipe_and_a_terminal_read_the_same_words() -> None:
    plain = _drawn(io.StringIO(), {})
    coloured = _drawn(Terminal(), {"TERM": "xterm"})
    assert "\x1b" not in plain
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain


def test_what_others_wrote_cannot_drive_the_terminal() -> None:
    out = io.StringIO()
    screen, text = Screen(out, {}), "a\x1b]0;owned\x07\x1b[2Jb\rc\u202ed"
    screen.say(text)
    screen.quote(text, "")
    screen.output(text)
    screen.row(((text, ""),))
    screen.side_by_side([((text, ""),)], [])
    assert not [letter for letter in out.getvalue() if letter != "\n" and not letter.isprintable()]


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colour_can_be_refused(environment: dict[str, str]) -> None:
    assert "\x1b" not in _drawn(Terminal(), environment)


@pytest.mark.parametrize(("columns", "widest"), [("100", 100), ("80", 80), ("300", 100), ("20", 72)])
def test_no_line_is_wider_than_the_page(monkeypatch: pytest.MonkeyPatch, columns: str, widest: int) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    lines = _drawn(io.StringIO(), {}).splitlines()
    assert max(map(len, lines)) <= widest
    assert any("… 21 more lines" in line for line in lines)
