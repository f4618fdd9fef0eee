"""The order of the queue by definition: everything recomputed from the whole history, for each look. Slow and obvious.

The law that `citywatch.core.approvals.queue` and `flood` are held to; it shares no line with `src/`. A history is a
list, in order, of `{"do": "ask", "at": ms, "id", "agent", "root", "act", "effect", "template", "resource",
"stake_parts"}`, `{"do": "shown", "at": ms, "id"}` and `{"do": "over", "id", "approved": bool or None}`.
"""

from __future__ import annotations

from typing import Any

HOUR = 3_600_000
WEIGHTS = {"read": 1, "write": 3, "irreversible": 10}
PER_AGENT, PER_ROOT, COOL = 8, 30, 600_000
Event = dict[str, Any]


def strikes(history: list[Event]) -> dict[tuple[str, str], list[tuple[int, int, dict[str, int]]]]:
    """For each agent and root the strikes: when, which number, and how often each agent had asked since the last."""
    found: dict[tuple[str, str], list[tuple[int, int, dict[str, int]]]] = {}
    asked: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for event in history:
        if event["do"] != "ask":
            continue
        for key, allowed in ((("agent", event["agent"]), PER_AGENT), (("root", event["root"]), PER_ROOT)):
            within = [one for one in asked.get(key, []) if one[0] > event["at"] - HOUR] + [
                (event["at"], event["agent"])
            ]
            if len(within) > allowed:
                counts: dict[str, int] = {}
                for _, agent in within:
                    counts[agent] = counts.get(agent, 0) + 1
                before = found.setdefault(key, [])
                fresh = not before or event["at"] - before[-1][0] > 24 * HOUR
                before.append((event["at"], 1 if fresh else before[-1][1] + 1, counts))
                within = []
            asked[key] = within
    return found


def held_until(history: list[Event], agent: str, root: str) -> int:
    """Before which instant this agent's questions under this root are shown to nobody."""
    latest = 0
    for kind, who in (("agent", agent), ("root", root)):
        until = 0
        for at, number, counts in strikes(history).get((kind, who), []):
            part = (PER_AGENT if kind == "agent" else PER_ROOT) // len(counts)
            if counts.get(agent, 0) > part:
                until = max(until, at) + COOL * 2 ** min(number - 1, 10)
        latest = max(latest, until)
    return latest


def recent(history: list[Event], agent: str, now: int) -> int:
    """How often an agent asked within the hour, since its last strike."""
    mine = strikes(history).get(("agent", agent), [])
    last_strike = mine[-1][0] if mine else None
    count, seen_strike = 0, last_strike is None
    number = 0
    for event in history:
        if event["do"] != "ask" or event["agent"] != agent:
            continue
        number += 1
        if not seen_strike:
            if _is_strike(history, agent, number):
                seen_strike = True
                count = 0
            continue
        count += event["at"] > now - HOUR
    return count


def _is_strike(history: list[Event], agent: str, number: int) -> bool:
    """Whether an agent's question of this number earned its last strike."""
    cut, seen = [], 0
    for event in history:
        cut.append(event)
        seen += event["do"] == "ask" and event["agent"] == agent
        if seen == number:
            break
    return len(strikes(cut).get(("agent", agent), [])) == len(strikes(history).get(("agent", agent), []))


def order(history: list[Event], now: int, capacity: int) -> list[str]:
    """The tickets that wait and are not held, in the order in which they are shown; folded ones behind their first."""
    standing: list[dict[str, Any]] = []
    familiar: list[tuple[str, ...]] = []
    shown: list[tuple[int, list[str]]] = []
    for at, event in enumerate(history):
        if event["do"] == "ask":
            alike = [one for one in standing if _fold(one["ask"]) == _fold(event)]
            if alike:
                alike[0]["behind"].append(event)
            else:
                standing.append(_new(event, familiar))
        elif event["do"] == "shown":
            one = next(each for each in standing if each["ask"]["id"] == event["id"])
            if one["tier"] is None:
                one["tier"] = _tier(one, standing, shown, history[: at + 1], event["at"], capacity)
            shown.append((event["at"], _dimensions(one)))
        else:
            head = [one for one in standing if one["ask"]["id"] == event["id"]]
            if not head:
                for each in standing:
                    each["behind"] = [ask for ask in each["behind"] if ask["id"] != event["id"]]
                continue
            standing.remove(head[0])
            if event["approved"]:
                ask = head[0]["ask"]
                familiar += [(ask["root"], ask["act"], ask["template"], ask["resource"]),
                             (ask["root"], ask["act"], ask["template"])]  # fmt: skip
            if event["approved"] is not False and head[0]["behind"]:
                first, *others = head[0]["behind"]
                standing.append({**_new(first, familiar), "behind": others})

    def place(one: dict[str, Any]) -> tuple[int, int, int, str]:
        tier = one["tier"]
        tier = _tier(one, standing, shown, history, now, capacity) if tier is None else min(tier, 1)
        ask = one["ask"]
        return (tier, -one["stake"] * (600_000 + max(0, now - ask["at"])), ask["at"], ask["id"])

    free = [one for one in standing if held_until(history, one["ask"]["agent"], one["ask"]["root"]) <= now]
    return [one["ask"]["id"] for one in sorted(free, key=place)]


def _new(ask: Event, familiar: list[tuple[str, ...]]) -> dict[str, Any]:
    whole = (ask["root"], ask["act"], ask["template"], ask["resource"])
    novelty = 0 if whole in familiar else 1 if whole[:3] in familiar else 2
    impact, untrusted, told = ask["stake_parts"]
    stake = impact * WEIGHTS[ask["effect"]] * (1 + min(untrusted, 3) + min(told, 3)) * (1 + novelty)
    return {"ask": ask, "novelty": novelty, "stake": stake, "tier": None, "behind": []}


def _fold(ask: Event) -> tuple[str, ...]:
    return (ask["agent"], ask["act"], ask["template"], ask["resource"])


def _dimensions(one: dict[str, Any]) -> list[str]:
    ask = one["ask"]
    return [ask["root"], ask["agent"], f"{ask['act']} {ask['effect']}", ask["resource"], str(one["novelty"])]


def _tier(
    one: dict[str, Any],
    standing: list[dict[str, Any]],
    shown: list[tuple[int, list[str]]],
    history: list[Event],
    now: int,
    capacity: int,
) -> int:
    """How many fair shares a question goes beyond, and how loud its agent is."""
    lately = [dimensions for at, dimensions in shown if at > now - HOUR]
    tier = 0
    for number, slack in enumerate((1, 2, 2, 1, 1)):
        present = {_dimensions(each)[number] for each in standing} | {each[number] for each in lately}
        share = max(4, slack * capacity // max(1, len(present)))
        tier += sum(each[number] == _dimensions(one)[number] for each in lately) >= share
    loud = recent(history, one["ask"]["agent"], now) // 3
    while loud:
        tier, loud = tier + 1, loud // 2
    return tier
