"""How the demo looks in a terminal: a page of at most 100 columns, colour only where a terminal shows it.

Decides nothing but looks. INVARIANT: without colour (no terminal, or NO_COLOR set) the output is plain text, line for
line the same, so that a pipe, a log and a test read what a person reads. Nothing shown can move the cursor.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TextIO

WIDEST = 100
MARGIN = "   "
STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36", "alarm": "1;31"}


class Screen:
    """Writes one thing after another; `width` is what the lines are cut to."""

    def __init__(self, out: TextIO, environment: Mapping[str, str] = os.environ) -> None:
        self._out = out
        self._colour = out.isatty() and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"
        self.width = min(WIDEST, max(72, shutil.get_terminal_size((WIDEST, 40)).columns))

    def style(self, text: str, *styles: str) -> str:
        codes = ";".join(STYLES[style] for style in styles)
        return f"\x1b[{codes}m{text}\x1b[0m" if self._colour and codes else text

    def line(self, text: str = "") -> None:
        self._out.write(f"{text}\n")
        self._out.flush()

    def title(self, left: str, right: str) -> None:
        space = " " * max(2, self.width - len(left) - len(right))
        self.line(f"{self.style(left, 'bold')}{space}{self.style(right, 'dim')}")
        self.line(self.style("─" * self.width, "dim"))

    def heading(self, number: int, text: str) -> None:
        self.line()
        self.line(f"{self.style(f'{number}', 'cyan', 'bold')}  {self.style(text, 'bold')}")
        self.line()

    def say(self, text: str, *styles: str, indent: str = MARGIN) -> None:
        for line in textwrap.wrap(_visible(" ".join(text.split())), self.width - len(indent), break_on_hyphens=False):
            self.line(f"{indent}{self.style(line, *styles)}")

    def quote(self, text: str, alarming: str) -> None:
        """Somebody's words, with a bar beside them; the part that is an attack stands out."""
        for paragraph in text.split("\n"):
            alarm = bool(alarming) and alarming in paragraph
            for line in textwrap.wrap(_visible(paragraph), self.width - 8, break_on_hyphens=False) or [""]:
                bar = self.style("┃" if alarm else "│", *(("alarm",) if alarm else ("dim",)))
                self.line(f"{MARGIN}{bar} {self.style(line, 'red') if alarm else line}".rstrip())

    def command(self, words: Sequence[str]) -> None:
        self.line(f"{MARGIN}{self.style('$', 'dim')} {self.style(' '.join(words), 'cyan')}")

    def output(self, text: str, *styles: str, most: int = 40) -> None:
        """What a command printed, indented and cut to the page."""
        lines = text.rstrip("\n").split("\n")
        shown = lines if len(lines) <= most else [*lines[: most - 1], f"… {len(lines) - most + 1} more lines"]
        for line in shown:
            self.line(f"{MARGIN}  {self.style(self._cut(_visible(line), self.width - 5), *(styles or ('dim',)))}")

    def ran(self, words: Sequence[str], output: str) -> None:
        """A command with what it printed."""
        self.command(words)
        if output.strip():
            self.output(output)

    def row(self, row: Row) -> None:
        self.line(f"{MARGIN}{self._cell(row, self.width - len(MARGIN))}".rstrip())

    def side_by_side(self, left: Iterable[Row], right: Iterable[Row]) -> None:
        """Two lists of lines, each line a list of (text, style) pieces."""
        half = (self.width - len(MARGIN) - 3) // 2
        lefts, rights = list(left), list(right)
        for index in range(max(len(lefts), len(rights))):
            one = self._cell(lefts[index] if index < len(lefts) else (), half)
            two = self._cell(rights[index] if index < len(rights) else (), half)
            self.line(f"{MARGIN}{one} {self.style('│', 'dim')} {two}".rstrip())

    def _cell(self, row: Row, width: int) -> str:
        text, used = "", 0
        for piece, style in row:
            cut = self._cut(_visible(piece), width - used)
            text += self.style(cut, style) if style and cut.strip() else cut
            used += len(cut)
        return text + " " * (width - used)

    @staticmethod
    def _cut(text: str, width: int) -> str:
        return text if len(text) <= width else f"{text[: max(0, width - 1)]}…"[:width]


Row = Sequence[tuple[str, str]]


def _visible(text: str) -> str:
    # A customer or a model wrote much of what is shown: its control characters must not drive the reader's terminal.
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def standard() -> Screen:
    """The screen of this process; what its encoding cannot show becomes a question mark, never an error."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")
    return Screen(sys.stdout)
