"""Where one event ends and the next begins; the rest is in `tests/property/test_wire.py`."""

from __future__ import annotations

import tracemalloc

import pytest

from citywatch.core.errors import Malformed
from citywatch.core.wire.sse import Event, EventParser, format_event


def events(*chunks: bytes, limit: int = 1000) -> list[Event]:
    parser = EventParser(limit)
    return [event for chunk in chunks for event in parser.feed(chunk)]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: {}\n\n", [Event(b"{}")]),
        (b"data:{}\r\n\r\n", [Event(b"{}")]),
        (b"data: a\rdata: b\r\r", [Event(b"a\nb")]),
        (b"event: ping\ndata: 1\n\n", [Event(b"1", None, "ping")]),
        (b"id: 7\ndata: \n\n", [Event(b"", "7")]),
        (b"id: 7\n\n", [Event(b"", "7")]),
        (b"retry: 500\n\n", [Event(b"", None, "message", 500)]),
        (b"retry: 5s\n\n", []),
        (b": comment\n\n", []),
        (b"unknown: x\n\n", []),
        (b"event: lost\n\ndata: 1\n\n", [Event(b"1")]),
        (b"data: unfinished\n", []),
        (b"data: 1\n\ndata: 2\n\n", [Event(b"1"), Event(b"2")]),
        (b"id: 1\ndata: a\n\ndata: b\n\n", [Event(b"a", "1"), Event(b"b")]),
        (b"id: a\0b\ndata: 1\n\n", [Event(b"1")]),
        (b"id: \xff\ndata: 1\n\n", [Event(b"1")]),
        (b"\xef\xbb\xbfdata: 1\n\n", [Event(b"1")]),
        (b"\n\xef\xbb\xbfdata: 1\n\n", []),
        (b"data:  two\n\n", [Event(b" two")]),
        (b"data\n\n", [Event(b"")]),
    ],
)
def test_a_stream_is_read_as_the_standard_says(stream: bytes, expected: list[Event]) -> None:
    assert events(stream) == expected


def test_a_break_of_two_characters_may_be_cut_in_two() -> None:
    assert events(b"data: a\r", b"\n\r", b"\n") == [Event(b"a")]


@pytest.mark.parametrize("chunk", [b"data: " + b"x" * 2000, b"data: x\n" * 200, b": " + b"x" * 2000, b"data\n" * 100])
def test_an_event_that_grows_too_large_is_malformed(chunk: bytes) -> None:
    with pytest.raises(Malformed, match="larger than 1000 bytes"):
        events(chunk)


def test_many_small_events_are_not_one_large_one() -> None:
    assert len(events(b"data: x\n\n" * 500)) == 500


def test_a_long_line_in_small_chunks_costs_no_more_than_its_size() -> None:
    """A million bytes in pieces of five once took eleven megabytes; joined at each piece they would take for ever."""
    tracemalloc.start()
    try:
        parser = EventParser(1 << 20)
        for _ in range(200_000):
            parser.feed(bytes(bytearray(b"xxxxx")))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 2 * 1_000_000
    (event,) = parser.feed(b"\ndata: y\n\n")
    assert event == Event(b"y")


@pytest.mark.parametrize(
    "event", [Event(b"a\nb"), Event(b"a\rb"), Event(b"", "a\nb"), Event(b"", "a\0"), Event(b"", None, "a\rb")]
)
def test_nothing_that_breaks_a_line_is_written(event: Event) -> None:
    with pytest.raises(ValueError, match="line break"):
        format_event(event)
