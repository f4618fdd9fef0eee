"""What leaves to say that something waits: a link and numbers, signed for now and for once."""

from __future__ import annotations

import json

import pytest

from citywatch.core.approvals.notice import (
    TOLERANCE_MS,
    Notice,
    sign_header,
    slack_body,
    text_of,
    verify_header,
    webhook_body,
)
from citywatch.core.errors import Malformed

SECRET = b"a secret of the two of us"
NOTICE = Notice(id="0" * 32, at=1_000_000, waiting=3, fresh=2, expires=9_000_000, link="https://c.example/t?a=1&b=<2>")
BODY = webhook_body(NOTICE)
HEADER = sign_header(SECRET, NOTICE, BODY)


def test_a_receiver_takes_it_once_and_now() -> None:
    assert verify_header(SECRET, HEADER, BODY, NOTICE.at + TOLERANCE_MS, ()) == NOTICE.id
    for now in (NOTICE.at + TOLERANCE_MS + 1, NOTICE.at - TOLERANCE_MS - 1):
        with pytest.raises(Malformed, match="not of now"):
            verify_header(SECRET, HEADER, BODY, now, ())
    with pytest.raises(Malformed, match="taken before"):
        verify_header(SECRET, HEADER, BODY, NOTICE.at, {NOTICE.id})


@pytest.mark.parametrize(
    "header",
    [
        HEADER.replace("t=1000000", "t=1000001"),
        HEADER.replace("id=0", "id=1"),
        HEADER[:-1] + ("0" if HEADER[-1] != "0" else "1"),
    ],
    ids=["time", "id", "signature"],
)
def test_whatever_is_changed_is_not_ours(header: str) -> None:
    with pytest.raises(Malformed, match="not ours"):
        verify_header(SECRET, header, BODY, NOTICE.at, ())
    with pytest.raises(Malformed, match="not ours"):
        verify_header(SECRET, HEADER, BODY + b" ", NOTICE.at, ())
    with pytest.raises(Malformed, match="not ours"):
        verify_header(b"another secret of somebody", HEADER, BODY, NOTICE.at, ())


@pytest.mark.parametrize("header", ["", "t=1", HEADER + "\n", f"{HEADER},v2=x", HEADER.upper()])
def test_what_is_no_header_is_refused(header: str) -> None:
    with pytest.raises(Malformed):
        verify_header(SECRET, header, BODY, NOTICE.at, ())


def test_a_short_secret_signs_nothing() -> None:
    with pytest.raises(Malformed, match="at least 16 bytes"):
        sign_header(b"short", NOTICE, BODY)


def test_a_notice_holds_numbers_and_a_link_and_nothing_to_answer_with() -> None:
    """The fields are the whole of it: there is no room for a name, a value or a word of an agent."""
    assert set(json.loads(BODY)) == {"type", "id", "at", "waiting", "fresh", "expires", "link"}
    assert json.loads(slack_body(NOTICE)) == {
        "text": "3 calls wait for an answer, 2 of them new. Look and answer here: "
        "https://c.example/t?a=1&amp;b=&lt;2&gt;"
    }
    assert text_of(Notice(id="", at=0, waiting=1, fresh=1, expires=0, link="l")).startswith("1 call waits")
