"""`citywatch why`, `blast` and `reach` on what a real gateway wrote, while it runs."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.e2e.gateway.desk import Desk
from tests.fault.test_killed_gateway import ask

PRINCIPALS = "principals:\n  alice: {may: ['desk/*']}\n"
SILENT = "pay: {effect: irreversible}"
SPOKEN = "pay: {effect: irreversible, parameters: {to: {role: destination}, amount: {role: amount}}}"


def pay(desk: Desk, to: str, amount: int) -> dict[str, Any]:
    answer = ask(desk, desk.token(), "pay", {"to": to, "amount": amount})
    assert answer is not None
    result: dict[str, Any] = answer["result"]
    return result


def test_a_night_with_a_hijacked_clerk(tmp_path: Path) -> None:
    with ExitStack() as stack:
        desk = Desk(tmp_path, stack)
        file = tmp_path / "citywatch.yaml"
        file.write_text(file.read_text().replace(SILENT, SPOKEN) + PRINCIPALS)
        desk.start_upstream()
        desk.run("agent", "add", "clerk")
        desk.run("tools", "approve", "--yes")
        desk.up()
        desk.run("task", "start", "clerk", "--as", "alice", "Look at the desk and pay ann 50")
        looked = ask(desk, desk.token(), "look", {})
        assert looked is not None
        assert pay(desk, "ann", 50)["isError"] is False
        assert pay(desk, "mallory", 50)["isError"] is True
        asked = next(event for event in reversed(desk.events()) if event.get("name") == "pay")

        why = desk.run("why", asked["call"]).stdout
        assert "a person must be asked (approval_required)" in why
        assert "!! to" in why
        assert "let through as named" in why, "the amount is alice's"
        assert "after it had read desk/look" in why
        assert "the same decision, in the same words" in why
        passed = next(event for event in desk.events() if event.get("name") == "pay" and event["type"] == "decided")
        assert "let through" in desk.run("why", passed["call"]).stdout

        look = next(event for event in desk.events() if event.get("name") == "look" and event["type"] == "decided")
        blast = json.loads(desk.run("blast", look["call"], "--json").stdout)
        assert blast["counts"]["calls_let_through_with_an_effect"] == 1
        assert {one["call"] for one in blast["touched"] if one["kind"] == "call"} == {
            look["call"],
            passed["call"],
            asked["call"],
        }

        reach = json.loads(desk.run("reach", "clerk", "--context", "--json").stdout)
        ways = {(row["argument"], row["way"]) for row in reach["rows"] if row["act"] == "desk/pay"}
        assert ("to", "entitled") in ways
        assert ("to", "anything") not in ways
        fresh = json.loads(desk.run("reach", "clerk", "--json").stdout)
        assert "desk/pay" not in {row["act"] for row in fresh["rows"]}
        over = desk.run("reach", "clerk", "--max", "0", check=False)
        assert over.returncode == 1
        assert "more than 0" in over.stderr
