"""Texts that the content model is trained and measured with, each in exactly one of three parts.

Decides which source goes where, so that no figure is of a text, or of an attack family, that the model has learnt:

    train  fits the weights      held  sets thresholds and strengths      test  is only measured

Left out of training: AgentDojo and InjecAgent, which are benchmarks here; everything under a share-alike licence (the
table and code contexts of BIPIA); what has no wording of its own (PoisonedRAG, bare instructions), since a model that
learnt those would learn to find honest requests suspicious. INVARIANTS: the part of a text depends on its source, its
family and its own hash alone; the data are read only, and the project ships none of them.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tools.content_wrappers import HONEST, NAMES, WRAPPERS

TEST_TEMPLATES = ("fake_completion",)
TEST_FAMILIES = ("tool_result_injection", "data_boundary_abuse", "tool_abuse", "memory_poisoning")
TEST_BENIGN = ("support_urgency", "research_blog_excerpt", "tool_policy_documentation", "docs_code_comment")
OBFUSCATED = re.compile("leet|spaced|rot13|encoding|compact|chunked")


class Text(NamedTuple):
    """One text: its channel, its part, the source it is counted under, and where in it the attack is, if it is one."""

    channel: str
    part: str
    source: str
    attack: bool
    text: str
    begin: int = 0
    end: int = -1


def load(data: Path, seed: int) -> list[Text]:
    """All texts, in a fixed order."""
    chance = random.Random(seed)
    carriers = list(_carriers(data))
    texts = [*_data_channel(data, carriers, chance), *_user_channel(data)]
    return [one for one in texts if one.text.strip()]


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of one file of the data, packed or not."""
    with lzma.open(path, "rt") if path.suffix == ".xz" else path.open() as file:
        for line in file:
            yield json.loads(line)


def bucket(text: str) -> int:
    """A number from 0 to 99 that depends on the text alone."""
    return int(hashlib.sha256(text.encode("utf-8", "replace")).hexdigest(), 16) % 100


def _part(text: str) -> str:
    place = bucket(text)
    return "test" if place < 20 else "held" if place < 35 else "train"


# The data channel.


def _carriers(data: Path) -> Iterator[tuple[str, str]]:
    """Honest replies and documents, with their source."""
    for row in rows(data / "text/bipia_contexts.jsonl"):
        if row["label"] == 0 and row["meta"]["task"] == "email":
            yield "bipia e-mail", row["text"]
    seen: set[str] = set()
    for row in rows(data / "traces/taubench.jsonl.xz"):
        for message in row["messages"]:
            text = message.get("content") or ""
            if message["role"] == "tool" and len(text) > 60 and text not in seen:
                seen.add(text)
                yield "tau-bench replies", text[:6000]
    for row in rows(data / "multiagent/whowhen_algorithm.jsonl"):
        for message in row.get("messages") or ():
            text = message.get("content") or ""
            if isinstance(text, str) and len(text) > 60 and text not in seen:
                seen.add(text)
                yield "who&when messages", text[:6000]


def _data_channel(data: Path, carriers: Sequence[tuple[str, str]], chance: random.Random) -> Iterator[Text]:
    for source, text in carriers:
        yield Text("data", _part(text), source, False, text)
    for row in rows(data / "memory/asb_memory.jsonl"):
        if row["label"] == 0 and bucket(row["text"]) % 2:
            steps = re.findall(r'"message": "([^"]+)"', row["text"])
            for text in (row["text"], "\n  - ".join(steps)):
                yield Text("data", _part(row["meta"]["agent"] + row["text"]), "asb plans", False, text)
    for row in rows(data / "text/benign_tools.jsonl"):
        if row["split"] == "tool_description" or bucket(row["text"]) % 3 == 0:
            yield Text("data", _part(row["text"]), "bfcl descriptions and turns", False, row["text"])
    for row in rows(data / "text/bipia_contexts.jsonl"):
        task = row["meta"]["task"]
        if row["label"] == 0 and task != "email":
            yield Text("data", "test", f"bipia {task} (never trained)", False, row["text"])
        elif row["label"] == 1:
            yield Text("data", "test", f"bipia {task}, bare goals", True, row["text"])
    homes = [text for _, text in carriers if _part(text) == "train"]
    asked = _asked(data)
    goals = [row["text"] for row in rows(data / "text/asb_attack_instructions.jsonl") if _template(row) == "naive"]
    goals += [row["text"] for row in rows(data / "text/bipia_attacks.jsonl") if row["meta"]["kind"] == "text"]
    goals += chance.sample(asked["train"], min(len(goals), len(asked["train"])))
    yield from _messages(asked, chance)
    yield from _wrapped(data, carriers, homes, goals, chance)
    yield from _smoke(data, "data")
    yield from _benchmarks(data)


def _template(row: dict[str, Any]) -> str | None:
    found: str | None = row["meta"].get("template")
    return found


def _asked(data: Path) -> dict[str, list[str]]:
    """Honest requests, by part. They are goals of attacks too: what tells the two apart must be the wording around."""
    asked: dict[str, list[str]] = {"train": [], "held": [], "test": []}
    for row in rows(data / "text/benign_prompts.jsonl"):
        if (row.get("meta") or {}).get("tool"):
            asked[_part(row["meta"]["tool"])].append(row["text"])
    return asked


def _messages(asked: dict[str, list[str]], chance: random.Random) -> Iterator[Text]:
    """What people ask of each other: a request in a message is no injection."""
    for part, most in (("train", 2400), ("held", 600), ("test", 400)):
        for text in chance.sample(asked[part], min(most, len(asked[part]))):
            more = chance.choice(asked[part]) if chance.random() < 0.5 else ""
            message = chance.choice(HONEST).format(goal=text, more=more, name=chance.choice(NAMES))
            yield Text("data", part, "requests in messages", False, _dressed(message, chance))


def _dressed(text: str, chance: random.Random) -> str:
    """The same in one of the notations that tools answer in."""
    match chance.randrange(4):
        case 0:
            fields = {"id": chance.randrange(10_000), "from": chance.choice(NAMES).lower(), "body": text, "read": True}
            return json.dumps(fields)
        case 1:
            body = text.replace("\n", "\n\n    ")
            return (
                f"- id_: '{chance.randrange(100)}'\n  body: '{body}'\n  read: false\n  sender: {chance.choice(NAMES)}\n"
            )
        case 2:
            return repr({"results": [{"title": text[:24], "content": text}]})
    return text


def _wrapped(
    data: Path, carriers: Sequence[tuple[str, str]], homes: Sequence[str], goals: Sequence[str], chance: random.Random
) -> Iterator[Text]:
    test_homes = [text for _, text in carriers if _part(text) == "test"]
    for row in rows(data / "text/asb_attack_instructions.jsonl"):
        template = _template(row)
        if template == "naive":
            yield _placed("test", "asb, bare goals", row["text"], test_homes, chance)
        elif template in TEST_TEMPLATES:
            yield _placed("test", f"asb {template} (family held out)", row["text"], test_homes, chance)
        elif template == "combined":
            yield _placed("test", "asb combined (of a seen and a held-out one)", row["text"], test_homes, chance)
        elif row["label"] == 1:
            yield _placed("train", f"asb {template}", row["text"], homes, chance)
    for row in rows(data / "text/tasktracker.jsonl"):
        if row["meta"]["kind"].startswith("saved_injections"):
            test = row["split"] == "test"
            text = f"{row['text']} {chance.choice(goals)}"
            where, source = (
                ("test", "tasktracker lead-ins (its test split)") if test else ("train", "tasktracker lead-ins")
            )
            yield _placed(where, source, text, test_homes if test else homes, chance)
    for place, wrapper in enumerate(WRAPPERS):
        part = "held" if place % 5 == 2 else "train"
        for _ in range(40):
            text = wrapper.format(goal=chance.choice(goals))
            yield _placed(part, "wordings of ours", text, homes, chance)


def _placed(part: str, source: str, attack: str, homes: Sequence[str], chance: random.Random) -> Text:
    """An attack in an honest text, alone one time in six."""
    if not homes or chance.random() < 1 / 6:
        return Text("data", part, source, True, attack, 0, len(attack))
    home = _dressed(chance.choice(homes)[:2500], chance)
    breaks = [0, len(home), *(match.end() for match in re.finditer(r"[.!?}\]]\s|\n|: ['\"]", home))]
    at = chance.choice(breaks)
    joint = chance.choice(("\n", " ", "\n\n"))
    text = f"{home[:at]}{joint}{attack}{joint}{home[at:]}"
    return Text("data", part, source, True, text, at, at + len(attack) + 2)


def _smoke(data: Path, channel: str) -> Iterator[Text]:
    """The template corpus: attacks by family, benign texts by kind; what is obfuscated is only measured."""
    for row in rows(data / "text/agt_smoke.jsonl"):
        meta, attack = row["meta"], row["label"] == 1
        family = meta["attack"] if attack else meta["sub"]
        if attack and (family in ("direct_override", "prompt_leakage")) != (channel == "user"):
            continue
        if OBFUSCATED.search(str(meta["bypass"])) or "obfuscation" in family:
            if attack:
                yield Text(channel, "test", "agt templates, obfuscated", True, row["text"])
            continue
        held_out = family in (TEST_FAMILIES if attack else TEST_BENIGN)
        part = "test" if held_out or (channel == "user" and family == "prompt_leakage") else "train"
        yield Text(
            channel,
            part,
            "agt templates (families held out)" if part == "test" else "agt templates",
            attack,
            row["text"],
        )


def _benchmarks(data: Path) -> Iterator[Text]:
    """Only measured: no word of these has been trained on."""
    for row in rows(data / "text/agentdojo_tool_outputs.jsonl"):
        attack = row["meta"].get("attack")
        source = f"agentdojo {attack}" if attack else "agentdojo clean replies"
        yield Text("data", "test", source, bool(attack), row["text"])
    for row in rows(data / "text/injecagent.jsonl"):
        setting = row["meta"].get("setting")
        yield Text("data", "test", f"injecagent {setting or 'clean'}", row["label"] == 1, row["text"])
    for row in rows(data / "memory/poisonedrag.jsonl"):
        yield Text("data", "test", "poisonedrag, planted facts", True, row["text"])


# The user channel.


def _user_channel(data: Path) -> Iterator[Text]:
    templates = [row["text"] for row in rows(data / "text/gptfuzzer_templates.jsonl")]
    known = {shingle for text in templates for shingle in shingles(text)}
    for text in templates:
        yield Text("user", "test", "gptfuzzer templates", True, text)
    for row in rows(data / "text/jailbreak_itw.jsonl"):
        text, platform = row["text"], row["meta"]["platform"]
        if platform == "website":
            yield Text("user", "test", "jailbreaks of websites (platform held out)", True, text)
            known |= shingles(text)
    for row in rows(data / "text/jailbreak_itw.jsonl"):
        if row["meta"]["platform"] != "website" and not near(row["text"], known):
            yield Text("user", "train", "jailbreaks in the wild", True, row["text"])
    for row in rows(data / "text/tasktracker.jsonl"):
        if row["meta"]["kind"] in ("jailbreaks_pair_attack", "llm_adaptive_attacks"):
            yield Text("user", "test", "pair and adaptive jailbreaks (family held out)", True, row["text"])
    for row in rows(data / "text/deepset.jsonl"):
        part = "test" if row["split"] == "test" else "train"
        yield Text("user", part, f"deepset ({row['split']})", row["label"] == 1, row["text"])
    yield from _smoke(data, "user")
    yield from _requests(data)


def _requests(data: Path) -> Iterator[Text]:
    """What people ask of agents."""
    for row in rows(data / "text/benign_prompts.jsonl"):
        family = str((row.get("meta") or {}).get("tool") or row["text"])
        yield Text("user", _part(family), "metatool requests (tools held out)", False, row["text"])
    for row in rows(data / "text/benign_tools.jsonl"):
        if row["split"] == "user_turn":
            yield Text("user", _part(row["text"]), "bfcl turns", False, row["text"])
    for row in rows(data / "traces/taubench.jsonl.xz"):
        for message in row["messages"]:
            if message["role"] == "user":
                yield Text("user", _part(row["id"]), "tau-bench turns", False, message.get("content") or "")
    for source, text in _carriers(data):
        if bucket(text) % 2:
            yield Text("user", _part(text), f"pasted: {source}", False, text)
    prompts = {row["prompt"] for row in rows(data / "traces/agentdojo_oracle.jsonl.xz") if not row["injection_task"]}
    for prompt in sorted(prompts):
        yield Text("user", "test", "agentdojo user tasks", False, prompt)


def shingles(text: str, size: int = 8) -> set[str]:
    """Every run of eight words."""
    words = re.findall(r"\w+", text.lower())
    return {" ".join(words[at : at + size]) for at in range(max(1, len(words) - size + 1))}


def near(text: str, known: Iterable[str], share: float = 0.1) -> bool:
    """Is a tenth of this text among the known ones? Jailbreaks are copied from each other."""
    own = shingles(text)
    return len(own & set(known) if not isinstance(known, set) else own & known) > share * len(own)
