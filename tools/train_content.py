"""Train the two heads of the content model, and measure them on what they have not seen.

    train_content.py DATA            fit, write the weights, then measure (needs requirements/train.txt)
    train_content.py DATA --measure  measure the weights that ship; needs nothing but what citywatch runs with

Decides weights and thresholds; which text is in which part is `content_texts`', what a text looks like to the model is
`citywatch.core.content.words`'. The same data and seed give the same bytes. INVARIANTS: nothing of the part `test` is
fitted or calibrated on; figures come from the shipped inference, not from the training library.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from citywatch.core.content.fold import encodable, fold
from citywatch.core.content.model import ZERO, Calibration, Model, format_model, parse_model, score_windows
from citywatch.core.content.signals import Channel
from citywatch.core.content.words import WORD, features, plain, spans
from tools.content_texts import Text, load
from tools.findings import ROOT

WEIGHTS = ROOT / "src" / "citywatch" / "weights" / "content.bin"
SEED = 20261125
BITS = 18
STRENGTH = 10.0
"""The best of 3, 10, 30, 100 on the held-out wordings; no test text was asked."""
MOST_WINDOWS = 12
TOLERATED = 0.005
"""False alarms among held-out honest texts at the threshold."""


def examples(texts: Iterable[Text]) -> tuple[list[list[int]], list[int]]:
    """Windows as hashed features, and whether each shows the attack. Windows that show a little of one are left out."""
    seen: list[list[int]] = []
    labels: list[int] = []
    for one in texts:
        matches = list(WORD.finditer(fold(encodable(one.text), len(one.text))[0]))
        words = [plain(match.group()) for match in matches]
        end = one.end if one.end >= 0 else len(one.text)
        shown = [one.attack and one.begin <= match.start() < end for match in matches]
        wanted = min(15, sum(shown) // 2)
        for first, last in list(spans(len(words), True))[:MOST_WINDOWS]:
            overlap = sum(shown[first:last])
            if overlap and overlap < wanted:
                continue
            seen.append(features(words[first:last]))
            labels.append(int(overlap > 0))
    return seen, labels


def fit(texts: Sequence[Text], strength: float) -> tuple[float, Any]:
    """Bias and weights of one head: logistic regression on counts over the root of their number."""
    numpy, sparse = importlib.import_module("numpy"), importlib.import_module("scipy.sparse")
    linear = importlib.import_module("sklearn.linear_model")
    seen, labels = examples(texts)
    lengths = numpy.array([len(one) for one in seen])
    columns = numpy.fromiter((code for one in seen for code in one), dtype=numpy.int64) & ((1 << BITS) - 1)
    values = numpy.repeat(1 / numpy.sqrt(lengths), lengths)
    starts = numpy.concatenate(([0], numpy.cumsum(lengths)))
    matrix = sparse.csr_matrix((values, columns, starts), shape=(len(seen), 1 << BITS))
    matrix.sum_duplicates()
    model = linear.LogisticRegression(C=strength, class_weight="balanced", max_iter=300, tol=1e-4)
    model.fit(matrix, numpy.array(labels))
    print(f"  {len(seen)} windows, {sum(labels)} of them of attacks, {int(model.n_iter_[0])} rounds", file=sys.stderr)
    return float(model.intercept_[0]), model.coef_[0]


def pack(bias: float, weights: Any) -> tuple[Calibration, bytes]:
    """Weights as bytes around `ZERO`; the few largest are cut, so that the many small ones keep their sizes."""
    numpy = importlib.import_module("numpy")
    most = float(numpy.quantile(numpy.abs(weights[weights != 0]), 0.9995))
    scale = most / 127
    steps = numpy.clip(numpy.rint(weights / scale), -127, 127).astype(numpy.int64) + ZERO
    return Calibration(round(bias, 6), round(scale, 9), 1.0), bytes(steps.astype(numpy.uint8))


def train(texts: Sequence[Text]) -> bytes:
    """Fit both heads, then set each threshold on held-out honest texts of its channel."""
    heads: dict[Channel, tuple[Calibration, bytes]] = {}
    for channel in Channel:
        own = [one for one in texts if one.channel == channel and one.part == "train"]
        print(f"{channel}: {len(own)} texts", file=sys.stderr)
        heads[channel] = pack(*fit(own, STRENGTH))
    model = parse_model(format_model(BITS, heads))
    for channel in Channel:
        attacks = [score(model, one) for one in texts if one.channel == channel and one.part == "held" and one.attack]
        honest = [one for one in texts if one.channel == channel and one.part == "held" and not one.attack]
        scores = [score(model, one) for one in honest]
        threshold = cut(scores, TOLERATED)
        if attacks:
            print(
                f"{channel}: held-out AUC {auc(attacks, scores):.4f}, recall {share(attacks, threshold)}",
                file=sys.stderr,
            )
        calibration, table = heads[channel]
        heads[channel] = (Calibration(calibration.bias, calibration.scale, round(threshold, 4)), table)
    return format_model(BITS, heads)


def score(model: Model, one: Text) -> float:
    """The highest score of any window of a text, by the head of its channel."""
    words = WORD.findall(fold(encodable(one.text), len(one.text))[0])
    return max((found.score for found in score_windows(model.heads[Channel(one.channel)], words)), default=0.0)


def cut(honest: Sequence[float], tolerated: float) -> float:
    """The score that at most so many of the honest texts reach."""
    ranked = sorted(honest, reverse=True)
    return ranked[int(tolerated * len(ranked))] + 1e-4


def auc(attacks: Sequence[float], honest: Sequence[float]) -> float:
    """How often an attack scores above an honest text."""
    ranked = sorted([(value, 0) for value in honest] + [(value, 1) for value in attacks])
    below = total = at = 0.0
    index = 0
    while index < len(ranked):
        end = index
        while end < len(ranked) and ranked[end][0] == ranked[index][0]:
            end += 1
        same = [label for _, label in ranked[index:end]]
        at = len(same) - sum(same)
        total += sum(same) * (below + at / 2)
        below += at
        index = end
    return total / (len(attacks) * len(honest))


def measure(model: Model, texts: Sequence[Text]) -> list[str]:
    """The card's tables: for each channel each source of attacks, then each source of honest texts."""
    lines: list[str] = []
    for channel in Channel:
        threshold = model.heads[channel].calibration.threshold
        scores: dict[tuple[bool, str], list[float]] = defaultdict(list)
        for one in texts:
            if one.channel == channel and one.part == "test":
                scores[one.attack, one.source].append(score(model, one))
        honest = [value for (attack, _), values in scores.items() if not attack for value in values]
        one_percent, two_percent = cut(honest, 0.01), cut(honest, 0.02)
        lines += [
            f"Channel `{channel}`, {len(honest)} honest test texts; threshold that ships: {threshold:.3f}.",
            "",
            "| attacks, each source alone | texts | AUC | recall at 1 % | at 2 % | at the threshold |",
            "|---|---|---|---|---|---|",
        ]
        for (attack, source), values in sorted(scores.items()):
            if attack:
                parts = [share(values, limit) for limit in (one_percent, two_percent, threshold)]
                lines.append(f"| {source} | {len(values)} | {auc(values, honest):.3f} | {' | '.join(parts)} |")
        lines += ["", "| honest texts, each source alone | texts | false alarms at the threshold |", "|---|---|---|"]
        for (attack, source), values in sorted(scores.items()):
            if not attack:
                lines.append(f"| {source} | {len(values)} | {share(values, threshold)} |")
        lines.append("")
    return lines


def share(values: Sequence[float], limit: float) -> str:
    """How many of these reach the limit."""
    return f"{100 * sum(value >= limit for value in values) / len(values):.1f} %"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="train_content", description="Train or measure the content model.")
    parser.add_argument("data", type=Path, help="the folder with the data, ../shared/data")
    parser.add_argument("--measure", action="store_true", help="measure the weights that ship, fit nothing")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    chosen = parser.parse_args(arguments)
    texts = load(chosen.data, SEED)
    if not chosen.measure:
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        chosen.out.write_bytes(train(texts))
    data = chosen.out.read_bytes()
    print(f"sha256 {hashlib.sha256(data).hexdigest()}, {len(data)} bytes\n")
    print("\n".join(measure(parse_model(data), texts)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
