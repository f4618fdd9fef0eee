"""Bytes that are no text: found in what a server sends, known again in one spelling, and in no other."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citywatch.core.flow.blob import LEAST, MAX_BLOBS, digest_of, find_blobs, sent_blob

RAW = bytes(range(61))
DATA = base64.b64encode(RAW).decode()


def test_parts_of_every_kind_are_found_with_their_type() -> None:
    image = {"type": "image", "data": DATA, "mimeType": "image/png"}
    embedded = {"type": "resource", "resource": {"uri": "a://b", "blob": DATA}}
    found, more = find_blobs({"content": [image, embedded, {"type": "text", "text": DATA}]}, "reply")
    assert [(one.path, one.media) for one in found] == [
        ("reply.content[0].data", "image/png"),
        ("reply.content[1].resource.blob", ""),
    ]
    assert {one.digest for one in found} == {digest_of(DATA)}
    assert not more


def test_what_is_only_called_data_is_none() -> None:
    assert find_blobs({"level": "info", "data": DATA, "blob": 7}, "$") == ((), False)


def test_more_than_are_told_apart_is_said() -> None:
    found, more = find_blobs([{"blob": DATA}] * (MAX_BLOBS + 5), "$")
    assert len(found) == MAX_BLOBS
    assert more


def test_bytes_and_data_uris_are_known_again() -> None:
    assert sent_blob(DATA) == (digest_of(DATA), None)
    assert sent_blob(f"data:image/png;base64,{DATA}") == (digest_of(DATA), "image/png")


@pytest.mark.parametrize(
    "other",
    [
        DATA + "\n",
        f"{DATA[:40]}\n{DATA[40:]}", DATA.rstrip("="), base64.urlsafe_b64encode(RAW + b"\xff\xfe").decode(),
        f"data:image/png,{DATA}", f"data:;charset=x;base64,{DATA}!", DATA[:-4] + "????", "x" * (LEAST - 4), 7, None,
    ],
)  # fmt: skip
def test_another_dress_is_no_bytes(other: object) -> None:
    found = sent_blob(other)
    assert found is None or found[0] != digest_of(DATA)


def test_only_the_one_spelling_of_bytes_is_met() -> None:
    raw = RAW[:31]
    data = base64.b64encode(raw).decode()
    place = len(data.rstrip("=")) - 1
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    same = [one for letter in letters if base64.b64decode(one := data[:place] + letter + data[place + 1 :]) == raw]
    assert len(same) > 1
    assert [one for one in same if digest_of(one)] == [data]


@given(st.binary(min_size=LEAST, max_size=400))
def test_any_bytes_are_known_by_their_digest(raw: bytes) -> None:
    data = base64.b64encode(raw).decode()
    (one,), _ = find_blobs({"blob": data}, "$")
    assert one.digest
    assert sent_blob(data) == (one.digest, None)
    changed = raw[:-1] + bytes([raw[-1] ^ 1])
    assert sent_blob(base64.b64encode(changed).decode()) != (one.digest, None)


@given(
    st.recursive(
        st.none() | st.text() | st.integers(),
        lambda one: st.lists(one) | st.dictionaries(st.sampled_from(["data", "blob", "type", "mimeType", "x"]), one),
    )
)
def test_any_message_gives_blobs_or_none(value: object) -> None:
    found, _ = find_blobs(value, "$")
    assert len(found) <= MAX_BLOBS
