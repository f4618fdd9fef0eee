"""What is hidden in a text and how deep we look; what only looks encoded stays what it is."""

from __future__ import annotations

import base64
import urllib.parse

import pytest

from citywatch.core.flow.encodings import MAX_CHARS, MAX_DEPTH, MAX_TEXTS, decodings

SECRET = "alice@example.com"


@pytest.mark.parametrize(
    "hidden",
    [
        base64.b64encode(SECRET.encode()).decode(),
        base64.b64encode(SECRET.encode()).decode().rstrip("="),
        base64.urlsafe_b64encode(b"alice@example.com ~~~???").decode(),
        "see: " + base64.b64encode(SECRET.encode()).decode() + ".",
        SECRET.encode().hex(),
        "0x" + SECRET.encode().hex().upper(),
        SECRET.encode().hex(" "),
        SECRET.encode().hex(":"),
        "".join(f"%{byte:02x}" for byte in SECRET.encode()),
        "".join(f"\\x{byte:02x}" for byte in SECRET.encode()),
        "".join(f"\\u{byte:04x}" for byte in SECRET.encode()),
        "".join(f"&#{byte};" for byte in SECRET.encode()),
        "alice=40example=2Ecom",
        "alice@exam=\nple.com",
        "\u200b".join(SECRET),
        "ali\u00adce@exa\u2060mple.com",
        base64.b64encode(base64.b64encode(SECRET.encode())).decode(),
        base64.b64encode(SECRET.encode().hex().encode()).decode(),
        urllib.parse.quote(urllib.parse.quote(SECRET)),
        base64.encodebytes(f"{'x' * 70} {SECRET}".encode()).decode(),
    ],
)
def test_what_is_hidden_is_found(hidden: str) -> None:
    assert any(SECRET in text for text in decodings(hidden)), hidden


def test_no_deeper_than_said() -> None:
    text = SECRET
    for _ in range(MAX_DEPTH):
        text = base64.b64encode(text.encode()).decode()
    assert any(SECRET in found for found in decodings(text))
    text = base64.b64encode(text.encode()).decode()
    assert not any(SECRET in found for found in decodings(text))


@pytest.mark.parametrize("text", ["", "an ordinary sentence about passwords", "1200", "100 % sure", "a = b", SECRET])
def test_what_hides_nothing_has_no_decoding(text: str) -> None:
    assert decodings(text) == ()


def test_bytes_that_are_no_text_are_no_decoding() -> None:
    assert decodings(base64.b64encode(bytes(range(128, 256))).decode()) == ()
    assert decodings(bytes(range(32)).hex()) == ()


def test_there_is_never_more_than_said() -> None:
    for unit in ("%2525", "QUJDREVGRw== ", "68656c6c6f ", "&#37;", "\u200ba"):
        found = decodings(unit * 200_000)
        assert len(found) <= MAX_TEXTS
        assert sum(map(len, found)) <= MAX_CHARS
