"""What it costs to read typed values out of replies: microseconds a kilobyte, beside finding bare words in one run.

The replies are drawn by a seed: a mailbox, a list of payments, a calendar, prose with links; 4 kB each, one in five
not ASCII. The floor is `re.findall(r"\\w+")`, which knows words and nothing else. All of it is computing, so the
thread's own time is taken and a busy machine is no finding. Run it: `python -m bench.tokens`.
"""

from __future__ import annotations

import gc
import random
import re
import time
from collections.abc import Callable
from typing import Any

from bench.decide import row
from bench.policies import SEED
from citywatch.core.flow.index import index_text, met
from citywatch.core.flow.tokens import decodings, find_tokens, fold

SIZE = 4096
REPLIES = 40
ROUNDS = 7
WORDS = (
    "the invoice for our meeting was sent to you yesterday please confirm that it arrived and tell Alice or Bob Smith "
    "in New York about the Hawaii Trip before we leave since nobody has written back with a list of what is open"
).split()
IBAN = "GB29NWBK60161331926819"
ARGUMENTS = ("alice@example.com", 1200, "2024-05-26", "Hawaii Trip", "https://www.example.com/a", IBAN)


def replies() -> list[str]:
    """The texts that are measured."""
    rng = random.Random(SEED)
    makers = (mail, payment, event, prose)
    return [reply(rng, makers[n % len(makers)], foreign=n % 5 == 4) for n in range(REPLIES)]


def reply(rng: random.Random, maker: Callable[[random.Random], str], foreign: bool) -> str:
    parts: list[str] = []
    while sum(map(len, parts)) < SIZE:
        parts.append(maker(rng))
    text = "".join(parts)[:SIZE]
    return text.replace("the", "thé").replace('"', "“") if foreign else text


def sentence(rng: random.Random, length: int = 14) -> str:
    return " ".join(rng.choices(WORDS, k=length)).capitalize() + "."


def mail(rng: random.Random) -> str:
    when = f"2024-05-{rng.randrange(10, 29)} {rng.randrange(10, 24)}:00:00"
    head = f"- id: '{rng.randrange(99)}'\n  sender: {rng.choice(WORDS)}@example.com\n  date: {when}\n"
    return f"{head}  body: {sentence(rng, 40)} {sentence(rng, 30)}\n"


def payment(rng: random.Random) -> str:
    fields = f'"id": {rng.randrange(10**4)}, "amount": {rng.randrange(10**6) / 100}, "recipient": "{IBAN}"'
    return f'{{{fields}, "date": "2024-0{rng.randrange(1, 9)}-11", "subject": "{sentence(rng, 8)}"}}, '


def event(rng: random.Random) -> str:
    when = f"May {rng.randrange(1, 28)}th, {rng.randrange(1, 12)}pm to 18:30, room {rng.randrange(99)}"
    what = f"call +49 30 {rng.randrange(10**6, 10**7)}, costs 1,{rng.randrange(100, 999)}.00 EUR"
    return f"{sentence(rng, 4)} {when}, {what}. {sentence(rng, 20)}\n"


def prose(rng: random.Random) -> str:
    link = f"https://www.example.com/{rng.choice(WORDS)}?q={rng.randrange(99)}"
    return f"{sentence(rng, 60)} See {link}. {sentence(rng, 30)} "


def timed(function: Callable[[str], Any], texts: list[str]) -> float:
    """Microseconds a kilobyte over all texts, the collector held off."""
    gc.collect()
    gc.disable()
    before = time.thread_time_ns()
    for text in texts:
        function(text)
    taken = time.thread_time_ns() - before
    gc.enable()
    return taken / 1000 / (sum(map(len, texts)) / 1024)


def whole_step(text: str) -> int:
    """A reply is indexed, and the six arguments of a call are looked up in it."""
    index = index_text(text)
    return sum(len(met(argument, index)) for argument in ARGUMENTS)


def run() -> list[dict[str, Any]]:
    """The rows; each ratio is against the floor of the same rounds."""
    texts = replies()
    bare = re.compile(r"\w+").findall
    parts: dict[str, Callable[[str], Any]] = {
        "flow.floor_us_per_kb": bare,
        "flow.tokens_us_per_kb": lambda text: find_tokens(text, names=False),
        "flow.tokens_and_names_us_per_kb": find_tokens,
        "flow.index_us_per_kb": index_text,
        "flow.index_and_six_arguments_us_per_kb": whole_step,
        "flow.fold_us_per_kb": fold,
        "flow.decodings_us_per_kb": decodings,
    }
    taken: dict[str, list[float]] = {name: [] for name in parts}
    for number in range(ROUNDS + 1):
        for name, function in parts.items():
            one = timed(function, texts)
            if number:  # the first round warms up
                taken[name].append(one)
    floor = taken["flow.floor_us_per_kb"]
    rows = [row(name, each, "us", REPLIES, "bare words", floor) for name, each in taken.items()]
    found = sum(len(find_tokens(text, names=False)) for text in texts) / len(texts)
    return [*rows, row("flow.tokens_per_reply", [found], "", REPLIES)]


if __name__ == "__main__":
    for found in run():
        print(found)
