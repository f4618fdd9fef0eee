"""The little of Markdown that the documentation's checks read: headings, links, and blocks of commands.

Decides nothing about them. Code, fenced or inline, holds no links and no headings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})\s*(\S*)")
_HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*#*\s*$")
_LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)|^\[[^\]]+\]:\s*(\S+)")
_INLINE_CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)")


class Line(NamedTuple):
    """One line of prose, by its number from 1."""

    number: int
    text: str


class Block(NamedTuple):
    """A fenced block: where it opens, its language, its lines."""

    number: int
    language: str
    lines: tuple[str, ...]

    def commands(self) -> list[Line]:
        """What a person would paste: the lines after `$ `, a trailing backslash joining the next."""
        found: list[Line] = []
        joining = False
        for number, text in enumerate(self.lines, self.number + 1):
            if joining:
                found[-1] = Line(
                    found[-1].number, found[-1].text[:-1].rstrip() + " " + text.strip().removeprefix(">").strip()
                )
            elif text.startswith("$ "):
                found.append(Line(number, text[2:].strip()))
            else:
                continue
            joining = found[-1].text.endswith("\\")
        return found


def split(text: str) -> tuple[list[Line], list[Block]]:
    """Tell prose from fenced blocks."""
    prose: list[Line] = []
    blocks: list[Block] = []
    fence, opened, language, inside = "", 0, "", list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        mark = _FENCE.match(line)
        if fence and mark and mark[1].startswith(fence) and not mark[2]:
            blocks.append(Block(opened, language, tuple(inside)))
            fence, inside = "", []
        elif fence:
            inside.append(line)
        elif mark:
            fence, opened, language = mark[1], number, mark[2]
        else:
            prose.append(Line(number, line))
    return prose, blocks


def links(prose: list[Line]) -> Iterator[Line]:
    """Every link's target, with the line it stands on."""
    for number, text in prose:
        for match in _LINK.finditer(_INLINE_CODE.sub("", text)):
            yield Line(number, match[1] or match[2])


def sections(prose: list[Line]) -> list[tuple[Line, list[str]]]:
    """Each heading, with the lines of text below it until the next one."""
    found: list[tuple[Line, list[str]]] = []
    for number, text in prose:
        if match := _HEADING.match(text):
            found.append((Line(number, match[2]), []))
        elif found and text.strip():
            found[-1][1].append(text)
    return found


def anchors(prose: list[Line]) -> set[str]:
    """The fragments that headings can be linked by, as the common hosts make them."""
    made: set[str] = set()
    for heading, _ in sections(prose):
        plain = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.text).lower()).replace(" ", "-")
        made.add(next(name for name in (plain, *(f"{plain}-{n}" for n in range(1, 1000))) if name not in made))
    return made
