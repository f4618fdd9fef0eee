"""The light injection model: how much a window of words is worded like an injection.

Decides a score between 0 and 1 for each window, by one linear head for each channel; the heads share nothing, and a
text is read by the head of its channel alone. Decides nothing about the text: it knows wordings, not goals
(`docs/reference/content-model.md`), so a low score says nothing, and a high one is advice.

The score is a logistic function of the sum of the weights of all features, over the root of their number, as the
Euclidean length is if none comes twice: so it is a plain sum, and costs one look-up a feature.
INVARIANTS: weights come in as bytes and are named by their digest, so a replay can tell which ones were used; no head
is read by default; inference is exact: integers are summed, and every machine gets the same score.
"""

from __future__ import annotations

import hashlib
import math
from binascii import crc32
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec

from citywatch.core.content.signals import Channel
from citywatch.core.content.words import GRAM, STRIDE, WINDOW, begin_pair, pair, plain, spans
from citywatch.core.errors import Malformed

MAGIC = b"citywatch content model 1\n"
MAX_KNOWN = 1 << 14
"""How many words are remembered as a head has them; at most a few megabytes."""
ZERO = 128
"""A weight is a byte; this one is none."""


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands beside the weights of one head. `scale` is what one step of a byte is worth."""

    bias: float
    scale: float
    threshold: float


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands before the weights."""

    bits: int
    heads: dict[Channel, Calibration]


_Spelt = tuple[bytes, int, int, int]
"""One word as the head has it: itself, the weight and number of its features, and half the hash of a pair."""


class Head(NamedTuple):
    """The weights of one channel."""

    weights: bytes
    mask: int
    calibration: Calibration
    known: dict[str, _Spelt]
    """Words as this head has them, worked out once: what people write in, they write in again and again."""


class Model(NamedTuple):
    """Both heads, and the digest of the bytes they came from."""

    heads: Mapping[Channel, Head]
    digest: str


class Scored(NamedTuple):
    """Words from `first` up to `last`, and how much they are worded like an injection."""

    first: int
    last: int
    score: float


def parse_model(data: bytes) -> Model:
    """Read weights: the magic line, the header's length in four bytes, the header, then a table for each channel."""
    if not data.startswith(MAGIC):
        raise Malformed("not the weights of a content model")
    begin = len(MAGIC) + 4
    length = int.from_bytes(data[len(MAGIC) : begin], "big")
    try:
        header = msgspec.json.decode(data[begin : begin + length], type=Header)
    except msgspec.DecodeError as error:
        raise Malformed("the content model has no readable header") from error
    if not 8 <= header.bits <= 24 or set(header.heads) != set(Channel):
        raise Malformed("the content model does not have one head for each channel")
    size = 1 << header.bits
    tables = data[begin + length :]
    if len(tables) != size * len(Channel):
        raise Malformed("the content model's tables are not as long as its header says")
    heads = {
        channel: Head(tables[place * size : (place + 1) * size], size - 1, header.heads[channel], {})
        for place, channel in enumerate(Channel)
    }
    return Model(heads, hashlib.sha256(data).hexdigest())


def format_model(bits: int, heads: Mapping[Channel, tuple[Calibration, bytes]]) -> bytes:
    """Write weights, as `parse_model` reads them."""
    header = msgspec.json.encode(Header(bits, {channel: heads[channel][0] for channel in Channel}))
    return MAGIC + len(header).to_bytes(4, "big") + header + b"".join(heads[channel][1] for channel in Channel)


def score_windows(head: Head, words: Sequence[str], closed: bool = True, again: bool = False) -> Iterator[Scored]:
    """The score of each window over these words; what is left over at the end only if the text has ended.

    `again` as in `words.spans`.
    """
    before: tuple[int, _Half] | None = None
    for first, last in spans(len(words), closed, again):
        middle = min(first + STRIDE, last)
        half = before[1] if before and before[0] == first else _half(head, words[first:middle])
        total, count = half.total, half.features
        if last > middle:
            other = _half(head, words[middle:last])
            before = (middle, other)
            total += other.total + head.weights[pair(half.last, other.first) & head.mask]
            count += other.features + 1
        yield Scored(first, last, _score(head, total, count))


class _Half(NamedTuple):
    """The sum of the weights of half a window's features, their number, and the words at its ends."""

    total: int
    features: int
    first: bytes
    last: bytes


def _half(head: Head, words: Sequence[str]) -> _Half:
    weights, mask, known = head.weights, head.mask, head.known
    if len(known) > MAX_KNOWN:
        known.clear()
    spelt = []
    for word in words:
        if (one := known.get(word)) is None:
            one = known[word] = _spell(head, plain(word))
        spelt.append(one)
    pairs = {crc32(other[0], one[3]) for one, other in pairwise(spelt)}
    total, count = sum([weights[code & mask] for code in pairs]), len(pairs)
    for _, value, features, _ in {one[0]: one for one in spelt}.values():
        total += value
        count += features
    return _Half(total, count, spelt[0][0], spelt[-1][0])


def _spell(head: Head, word: bytes) -> _Spelt:
    """The sum over `words.spelling(word)`, in one pass: most of a scan's time is spent here, so it is a plain loop."""
    weights, mask, edged = head.weights, head.mask, b"^" + word + b"$"
    total, pieces = weights[crc32(word) & mask], len(edged) - GRAM + 1
    for at in range(pieces):
        total += weights[crc32(edged[at : at + GRAM], 1) & mask]
    return word, total, max(pieces, 0) + 1, begin_pair(word)


def _score(head: Head, total: int, count: int) -> float:
    """The sum of the weights over the root of their number, through the logistic function."""
    bias, scale, _ = msgspec.structs.astuple(head.calibration)
    value = bias + scale * (total - ZERO * count) / math.sqrt(count)
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, value))))


def loudest(head: Head, words: Sequence[str]) -> float:
    """The highest score of any window of a short text."""
    return loudness(head, words[: 8 * WINDOW])


def loudness(head: Head, words: Sequence[str]) -> float:
    """The highest score of any window of a whole text; most texts are no longer than half of one."""
    if 0 < len(words) <= STRIDE:
        half = _half(head, words)
        return _score(head, half.total, half.features)
    return max([one.score for one in score_windows(head, words)], default=0.0)
