"""Patterns for the detectors, of re2, over Latin-1 bytes: one byte a character, so that offsets are characters.

Decides how patterns are compiled and how many of them are asked at once. A character beyond Latin-1 is `?` to them.
INVARIANT: a set that ran out of memory and found nothing is not taken for a text without anchors: `triage` holds a
pattern that every text matches, and where that one is missing all detectors run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import re2  # type: ignore[import-untyped]

from citywatch.core.content.tape import Detector

_MEMORY = 32 << 20


def _options(case: bool = True) -> Any:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.max_mem = _MEMORY
    options.log_errors = False
    options.case_sensitive = case
    return options


def pattern(text: str) -> Any:
    """Compile a pattern; no part of it may be unbounded (`tape`, invariant 1)."""
    return re2.compile(text.encode("latin-1"), _options())


class Triage:
    """Which of these detectors have an anchor in a text, asked in one pass."""

    def __init__(self, detectors: Sequence[Detector]) -> None:
        self._detectors = tuple(detectors)
        self._set = re2.Set.SearchSet(_options())
        for detector in self._detectors:
            self._set.Add(detector.anchor.pattern)
        self._always = self._set.Add(b"")
        self._none = [self._always]
        self._set.Compile()

    def __call__(self, text: bytes) -> Sequence[Detector]:
        found = self._set.Match(text)
        if found == self._none:
            return ()
        if self._always not in found:
            return self._detectors
        return [self._detectors[index] for index in found if index != self._always]
