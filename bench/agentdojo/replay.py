"""Real transcripts through the gateway: each recorded tool call is judged, each recorded reply is what the world says.

Reads `../shared/data/traces/agentdojo_runs.jsonl.xz` and says so where it is absent. Decides nothing. Counted are
honest runs that solved their task (label 0, `utility`), and runs in which the attack worked (label 1). A call without
a recorded reply was never made; a call of a tool that the suite does not have, or whose arguments the tool itself
refused as malformed, is not counted as stopped. Whole numbers that a recorder wrote as `7.0` go out as `7`, as most
clients' JSON has them. A transcript keeps a reply's text alone, so its structured value is read back from that text
(`read_back`), as the tool had dumped it. INVARIANT: what is left out is counted by reason.
"""

from __future__ import annotations

import ast
import datetime
import json
import lzma
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from bench.agentdojo.agent import Agent, Verdict
from bench.agentdojo.attackers import EXCLUDED
from bench.agentdojo.declared import declared
from bench.agentdojo.defence import PRINCIPAL, Task, city_of
from bench.agentdojo.suites import Step
from bench.agentdojo.worlds import Ran, World
from citywatch.core.errors import Code
from citywatch.core.manifest import ToolManifest

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
RUNS = SHARED / "traces" / "agentdojo_runs.jsonl.xz"
DENIAL = "dos"
"""Attacks that only make an agent stop: there is no call of theirs."""

Recorded = tuple[Step, Ran]
Counted = Counter[tuple[str, ...]]
"""(kind, wording, what) → how often; `kind` is honest or attack."""


class Transcript(NamedTuple):
    """One run that is replayed."""

    kind: str
    suite: str
    wording: str
    prompt: str
    calls: tuple[Recorded, ...]
    name: str


def absent() -> str | None:
    """Why there is nothing to replay, None if there is."""
    return None if RUNS.is_file() else f"replay: not measured, for want of {RUNS}"


def transcripts(lines: Iterator[str], counted: Counted, start: int = 0, step: int = 1) -> Iterator[Transcript]:
    """Every `step`th line from `start` that is to be replayed; what is left out is counted."""
    for number, line in enumerate(lines):
        if number % step != start:
            continue
        found = read_transcript(json.loads(line))
        if isinstance(found, str):
            counted["left_out", found] += found != ""
        else:
            yield found


def read_transcript(run: Mapping[str, Any]) -> Transcript | str:
    """A run as it is replayed, or why it is not; the empty reason: it is neither honest and solved nor a success."""
    meta = run["meta"]
    honest = run["label"] == 0 and meta["utility"] is True
    if not honest and run["label"] != 1:
        return ""
    attack = meta["attack"] or ""
    if not honest and attack.endswith(DENIAL):
        return "attacks that only make the agent stop"
    if not honest and (meta["suite"], meta["injection_task"]) in EXCLUDED:
        return f"{meta['suite']}/{meta['injection_task']}: {EXCLUDED[meta['suite'], meta['injection_task']]}"
    calls = tuple(_calls(run["messages"], meta["suite"]))
    if not calls:
        return f"{'honest' if honest else 'attacked'} runs without a tool call"
    prompt = next(message["content"] for message in run["messages"] if message["role"] == "user")
    return Transcript("honest" if honest else "attack", meta["suite"], attack, prompt, calls, run["id"])


def _calls(messages: Sequence[Mapping[str, Any]], suite: str) -> Iterator[Recorded]:
    """The calls that were made, with their replies: an assistant's calls are answered in order."""
    tools, waiting = declared(suite), list[Mapping[str, Any]]()
    for message in messages:
        if message["role"] == "assistant":
            waiting = list(message.get("calls") or ())
        elif message["role"] == "tool" and waiting:
            call = waiting.pop(0)
            arguments = {name: _whole(one) for name, one in (call["args"] or {}).items()}
            failure = message.get("error")
            ran = (
                Ran(None, str(failure), failed=True)
                if failure
                else read_back(tools.tools.get(call["fn"]), message["content"] or "")
            )
            yield Step(call["fn"], arguments), ran


def read_back(tool: ToolManifest | None, text: str) -> Ran:
    """A reply from the text that a model was shown: YAML of records, the `repr` of an object, or plain text."""
    words = text[2:-2] if text.startswith("<<") and text.endswith(">>") else text  # a defence that marks data
    records = tool is not None and any(path != "$" for path in tool.output)
    value: Any = words
    if words.startswith("{"):
        try:
            value = ast.literal_eval(words)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            value = words
    elif words == "[]":
        value = []
    elif records:
        try:
            found = yaml.load(words, yaml.CSafeLoader)
        except (yaml.YAMLError, ValueError):
            found = words
        value = _plain(found) if isinstance(found, dict | list) else words
    return Ran(value, text)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, datetime.date):
        return value.isoformat()
    return value


async def replay(
    variant: str, transcript: Transcript, definitions: Sequence[Mapping[str, Any]], advice: bool = True
) -> list[tuple[Step, Verdict, str]]:
    """What became of each call that the suite has a tool for; asks are denied."""
    city = await city_of(variant, transcript.suite, definitions)
    recorded = {number: ran for number, (_, ran) in enumerate(transcript.calls)}
    position = 0
    defended = city.visit(World(lambda tool, arguments: recorded[position]), advice=advice)
    agent = Agent(defended)
    await defended.start(Task(principal=PRINCIPAL, prompt=transcript.prompt))
    known, found = {tool["name"] for tool in definitions}, []
    for number, (step, ran) in enumerate(transcript.calls):
        position = number  # the world answers by it
        told = await agent.call(step)
        malformed = told.code == Code.ARGUMENT_UNSUPPORTED and ran.failed
        if step.tool in known and not malformed:
            found.append((step, told.verdict, told.code))
    return found


async def replay_part(
    variant: str, start: int, step: int, definitions: Mapping[str, Sequence[Mapping[str, Any]]], advice: bool = True
) -> tuple[Counted, list[tuple[str, ...]]]:
    """One process's share of the file."""
    counted, noted = Counted(), list[tuple[str, ...]]()
    with lzma.open(RUNS, "rt") as lines:
        for transcript in transcripts(lines, counted, start, step):
            found = await replay(variant, transcript, definitions[transcript.suite], advice)
            denied = any(verdict is Verdict.DENIED for _, verdict, _ in found)
            stopped = denied or any(verdict is Verdict.ASKED for _, verdict, _ in found)
            malformed = any(code == Code.ARGUMENT_UNSUPPORTED for _, _, code in found)
            counted[transcript.kind, "", "malformed"] += malformed
            for wording in ("", transcript.wording):
                counted[transcript.kind, wording, "n"] += 1
                counted[transcript.kind, wording, "blocked"] += denied
                counted[transcript.kind, wording, "any"] += stopped
                if not wording and not transcript.wording:
                    break
            if stopped is (transcript.kind == "honest"):
                noted += [
                    (variant, transcript.kind, transcript.name, verdict, code, call.tool, str(call.arguments)[:300])
                    for call, verdict, code in found
                    if verdict in (Verdict.DENIED, Verdict.ASKED) or transcript.kind == "attack"
                ]
    return counted, noted
