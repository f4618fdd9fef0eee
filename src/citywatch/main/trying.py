"""`citywatch policy try`: what other policies, or another configuration, would have decided of what the log recorded.

Decides nothing: `service.rehearsal` folds the log, here it is counted and shown. INVARIANT: a try that could judge
nothing fails; what could not be judged is counted apart.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from citywatch.config import Settings
from citywatch.core.errors import Malformed
from citywatch.main.place import Place, read_place
from citywatch.main.policy import policy

if TYPE_CHECKING:
    from citywatch.service.rehearsal import Rehearsed

_AGO = re.compile(r"([1-9][0-9]{0,5}) ?(s|m|h|d)\Z")
_UNIT_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
MAX_WHYS = 12


def register(cli: click.Group) -> None:
    policy.add_command(attempt)


@click.command("try")
@click.argument("new", type=click.Path(path_type=Path, exists=True))
@click.option("--since", help="Report calls from then on only: 90m, 24h, 7d ago, or 2026-11-26T08:00 (UTC).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, all but ASCII escaped.")
@click.pass_obj
def attempt(file: Path, new: Path, since: str | None, as_json: bool) -> None:
    """Judge the recorded calls again by NEW, and list each decision that changes.

    NEW is a folder of policies, or another citywatch.yaml with the policies that it names. Nothing is called,
    written or asked. Calls whose payload was erased, or that rest on what is no longer kept, are counted apart. Exit
    with 1 if no call could be judged.
    """
    place = read_place(file)
    settings = _settings(place, new)
    begin = None if since is None else _instant(since)
    found = asyncio.run(_rehearse(place, settings, begin))
    told = _counted(found)
    if as_json:
        click.echo(json.dumps({**told, "changed": [_plain(one) for one in found if one.status == "changed"]}))
    else:
        for line in _lines(found, told, new):
            click.echo(line)
    if not told["same"] and not told["calls_changed"]:
        click.echo("no recorded call could be judged", err=True)
        raise SystemExit(1)


def _settings(place: Place, new: Path) -> Settings:
    if new.is_dir():
        return msgspec.structs.replace(place.settings, policies=str(new.resolve()))
    other = read_place(new).settings
    if other.trust_domain != place.settings.trust_domain:
        raise Malformed(f"`{new}` is of the trust domain `{other.trust_domain}`, and the log is of another")
    return other


def _instant(since: str) -> int | tuple[int]:
    """Milliseconds since the epoch, or (in a tuple) milliseconds before now."""
    ago = _AGO.match(since)
    if ago:
        return (int(ago[1]) * _UNIT_MS[ago[2]],)
    try:
        when = datetime.fromisoformat(since)
    except ValueError:
        raise click.UsageError(f"`--since {since[:40]}`: write 90m, 24h, 7d, or 2026-11-26T08:00") from None
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000)


async def _rehearse(place: Place, settings: Settings, begin: int | tuple[int] | None) -> list[Rehearsed]:
    from citywatch.adapters.memory import MemoryStore
    from citywatch.adapters.weights import content_model
    from citywatch.main.assembly import load_rules, open_city
    from citywatch.main.replay import rebuild
    from citywatch.service.rehearsal import Rehearsal

    async with open_city(place) as city:
        rules = await load_rules(settings, city.store, city.roots())
        start = city.clock.now_ms() - begin[0] if isinstance(begin, tuple) else begin or 0
        rehearsal = Rehearsal(city.store, MemoryStore(), rules, rebuild, content_model())
        return [one async for one in rehearsal.run() if one.event.at >= start]


def _counted(found: list[Rehearsed]) -> dict[str, Any]:
    from citywatch.service.recorded import verdict
    from citywatch.service.unknowns import Status

    status = Counter(one.status for one in found)
    moves = Counter(
        f"{one.event.verdict} -> {verdict(one.decision)}"
        for one in found
        if one.status is Status.CHANGED and one.decision is not None
    )
    return {
        "calls": len(found),
        "same": status[Status.SAME],
        "calls_changed": status[Status.CHANGED],
        "unverifiable": status[Status.UNVERIFIABLE],
        "gone": status[Status.GONE],
        "moves": dict(sorted(moves.items())),
        "asks_saved": sum(count for move, count in moves.items() if move.startswith("ask ")),
        "asks_added": sum(count for move, count in moves.items() if move.endswith(" ask")),
        "not_judged": dict(Counter(one.why for one in found if one.decision is None).most_common(MAX_WHYS)),
    }


def _lines(found: list[Rehearsed], told: dict[str, Any], new: Path) -> list[str]:
    lines = [_line(one) for one in found if one.status == "changed"]
    lines.append(f"{told['calls']} recorded calls judged by {_shown(str(new))}:")
    lines.append(f"  {told['same']:>6} as recorded")
    lines += [f"  {count:>6} {move.replace('->', '→')}" for move, count in told["moves"].items()]
    lines.append(f"  {told['unverifiable']:>6} unverifiable")
    lines.append(f"  {told['gone']:>6} rest on what is not kept")
    lines += [f"           {count} because {_shown(why)}" for why, count in told["not_judged"].items()]
    lines.append(f"people would have been asked {told['asks_added']} times more and {told['asks_saved']} times less")
    return lines


def _line(one: Rehearsed) -> str:
    from citywatch.service.recorded import verdict

    event, decision = one.event, one.decision
    when = datetime.fromtimestamp(event.at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    act = _shown(f"{event.server}/{event.name}" if event.name else f"{event.server} {event.method}")
    move = f"{event.verdict} → {'?' if decision is None else verdict(decision)}"
    return f"{one.index:>8}  {when}  {event.agent.rpartition('/')[2]}  {act}  {move}  {_why(one)}  call {event.call}"


def _why(one: Rehearsed) -> str:
    """What the rules that are tried say: the permits, or the code and the detail."""
    from citywatch.core.call import Allow

    if isinstance(one.decision, Allow):
        return f"by {', '.join(map(_shown, one.decision.policies))}"
    if one.decision is None:
        return ""
    reason = one.decision.reason
    return " ".join(_shown(part) for part in (reason.code.value, *reason.policies, reason.detail[:200]) if part)


def _plain(one: Rehearsed) -> dict[str, Any]:
    from citywatch.core.call import Allow
    from citywatch.service.recorded import verdict

    assert one.decision is not None
    allowed = isinstance(one.decision, Allow)
    return {
        "index": one.index,
        "at": one.event.at,
        "call": one.event.call,
        "agent": one.event.agent,
        "server": one.event.server,
        "method": one.event.method,
        "name": one.event.name,
        "from": one.event.verdict,
        "from_code": one.event.code,
        "to": verdict(one.decision),
        "to_code": None if isinstance(one.decision, Allow) else one.decision.reason.code.value,
        "policies": list(one.decision.policies if isinstance(one.decision, Allow) else one.decision.reason.policies),
        "detail": "" if allowed else one.decision.reason.detail,  # type: ignore[union-attr]
    }


def _shown(text: str) -> str:
    """Agents and servers chose some of these words: nothing in them that a terminal obeys."""
    return json.dumps(text)[1:-1]
