"""What is known of an approver, by definition: counted from the log's entries as they are written. Slow and obvious.

The law that `citywatch.core.approvals.vigilance` is held to; it shares no line with `src/`. Entries are the JSON
objects of the log, in its order. Anybody who has the log can run it: `python -m spec.vigilance FILE`, one a line.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

Entry = dict[str, Any]


def kinds(entries: list[Entry]) -> dict[str, str]:
    """What each ticket was, as far as it was unsealed and its first seal fits."""
    seals: dict[str, str] = {}
    found: dict[str, str] = {}
    for entry in entries:
        if entry["type"] == "ticket_sealed":
            seals.setdefault(entry["ticket"], entry["seal"])
        elif entry["type"] == "ticket_unsealed" and entry["ticket"] not in found:
            lines = ["citywatch/seal/v1", entry["salt"], entry["ticket"], entry["kind"], entry["category"]]
            fits = hashlib.sha256("\n".join(lines).encode()).hexdigest() == seals.get(entry["ticket"])
            if fits and len(entry["salt"]) == 32 and entry["kind"] in ("call", "canary", "clean"):
                found[entry["ticket"]] = entry["kind"]
    return found


def answers(entries: list[Entry]) -> list[tuple[str, str, bool]]:
    """Who answered which ticket how, the first time."""
    found: dict[tuple[str, str], bool] = {}
    signed = {entry["ticket"] for entry in entries if entry["type"] == "ticket_signed"}
    for entry in entries:
        if entry["type"] == "ticket_signed":
            found.setdefault((entry["by"], entry["ticket"]), entry["answer"] == "approve")
        elif entry["type"] == "ticket_answered" and entry["ticket"] not in signed:
            found.setdefault((entry["by"], entry["ticket"]), entry["answer"] == "approved")
    return [(who, ticket, yes) for (who, ticket), yes in found.items()]


def counts(entries: list[Entry], who: str) -> dict[str, int]:
    """Targets and how many were seen, honest ones and how many were denied, escapes."""
    what = kinds(entries)
    reversed_ = {entry["ticket"] for entry in entries if entry["type"] == "approval_reversed"}
    mine = [(ticket, yes) for by, ticket, yes in answers(entries) if by == who]
    return {
        "answered": len(mine),
        "targets": sum(what.get(ticket) == "canary" for ticket, _ in mine),
        "hits": sum(what.get(ticket) == "canary" and not yes for ticket, yes in mine),
        "clean": sum(what.get(ticket) == "clean" for ticket, _ in mine),
        "false_denials": sum(what.get(ticket) == "clean" and not yes for ticket, yes in mine),
        "escapes": sum(
            yes and ticket in reversed_ and what.get(ticket) not in ("canary", "clean") for ticket, yes in mine
        ),
        "expired": sum(_left(entries, who, ticket) for ticket in expired(entries)),
    }


def expired(entries: list[Entry]) -> set[str]:
    """What nobody answered in time."""
    return {entry["ticket"] for entry in entries if entry["type"] == "ticket_expired" and entry["state"] == "pending"}


def _left(entries: list[Entry], who: str, ticket: str) -> bool:
    """Whether somebody had opened a ticket, and not answered it, when it expired."""
    of = [entry for entry in entries if entry.get("ticket") == ticket]
    over = [entry["type"] == "ticket_expired" and entry["state"] == "pending" for entry in of].index(True)
    before = of[:over]
    opened = any(entry["type"] == "ticket_sealed" and entry["by"] == who for entry in before)
    return opened and not any(by == who for by, _, _ in answers(before))


def waits(entries: list[Entry]) -> dict[str, int]:
    """Of all that was asked: how many were answered, expired, and expired without anybody having opened them."""
    asked = {entry["ticket"] for entry in entries if entry["type"] == "ticket_asked"}
    over = asked & expired(entries)
    opened = {entry["ticket"] for entry in entries if entry["type"] == "ticket_sealed"}
    answered = {entry["ticket"] for entry in entries if entry["type"] == "ticket_answered"}
    return {
        "asked": len(asked),
        "answered": len(asked & answered),
        "expired": len(over),
        "unopened": len(over - opened),
    }


def weight(entries: list[Entry], who: str, bar: float = 0.6) -> bool:
    """Whether an approver's yes counts, after all of these entries."""
    counted = True
    seen: list[bool] = []
    exercise: list[tuple[str, bool]] = []
    for length, entry in enumerate(entries, start=1):
        if entry["type"] != "ticket_unsealed":
            continue
        ticket, before = entry["ticket"], kinds(entries[: length - 1])
        kind = kinds(entries[:length]).get(ticket)
        mine = {each: yes for by, each, yes in answers(entries[:length]) if by == who}
        if kind not in ("canary", "clean") or ticket in before or ticket not in mine:
            continue
        yes = mine[ticket]
        if kind == "canary":
            seen = [*seen, not yes][-20:]
        if counted:
            if len(seen) >= 4 and _upper(sum(seen), len(seen)) < bar:
                counted, exercise = False, []
            continue
        exercise.append((kind, yes))
        if len(exercise) == 8:
            targets = [not said for what, said in exercise if what == "canary"]
            honest = [not said for what, said in exercise if what == "clean"]
            if len(targets) >= 4 and sum(targets) >= bar * len(targets) and 2 * sum(honest) <= len(honest):
                counted, seen = True, []
            exercise = []
    return counted


def _upper(hits: int, n: int) -> float:
    """The share p above `hits / n` at which (hits / n - p)^2 = z^2 p (1 - p) / n, found by halving."""
    low, high = hits / n, 1.0
    for _ in range(80):
        middle = (low + high) / 2
        if (hits / n - middle) ** 2 > 1.959963984540054**2 * middle * (1 - middle) / n:
            high = middle
        else:
            low = middle
    return low


def main() -> None:
    entries = [json.loads(line) for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()]
    for who in sorted({by for by, _, _ in answers(entries)}):
        print(json.dumps({"who": who, **counts(entries, who), "counts": weight(entries, who)}))


if __name__ == "__main__":
    main()
