"""`citywatch policy try` over the log of a gateway that has worked: what other policies would have decided."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.e2e.gateway.desk import POLICY, Desk
from tests.e2e.gateway.test_observe import post


@pytest.fixture
def worked(desk: Desk) -> Desk:
    """One payment was let through, one was refused."""
    token = {"authorization": f"Bearer {desk.token()}"}
    for amount in (100, 101):
        assert post(desk, token, amount) == 200
    desk.down()
    return desk


def attempt(desk: Desk, policy: str, *options: str, check: bool = True) -> str:
    folder = desk.folder / "new"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "new.cedar").write_text(policy)
    return desk.run("policy", "try", str(folder), *options, check=check).stdout


def test_each_changed_decision_is_listed_with_what_decides_it_now(worked: Desk) -> None:
    same = json.loads(attempt(worked, POLICY, "--json"))
    assert (same["calls"], same["same"], same["calls_changed"], same["changed"]) == (2, 2, 0, [])
    wider = json.loads(attempt(worked, POLICY.replace("<= 100", "<= 1000"), "--json"))
    (changed,) = wider["changed"]
    assert (changed["from"], changed["to"], changed["policies"]) == ("deny", "allow", ["paying"])
    assert wider["moves"] == {"deny -> allow": 1}
    said = attempt(worked, POLICY.replace("<= 100", "<= 1"))
    assert "clerk  desk/pay  allow → deny  no_permit" in said
    assert "       1 as recorded" in said
    assert "people would have been asked 0 times more and 0 times less" in said


def test_another_file_is_tried_with_what_it_declares(worked: Desk) -> None:
    other = worked.folder / "other.yaml"
    other.write_text((worked.folder / "citywatch.yaml").read_text().replace("roles: [payer]", "roles: []"))
    told = json.loads(worked.run("policy", "try", str(other), "--json").stdout)
    assert told["moves"] == {"allow -> deny": 1}
    other.write_text(other.read_text().replace("t.example", "u.example"))
    assert "is of the trust domain `u.example`" in worked.run("policy", "try", str(other), check=False).stderr


def test_what_cannot_be_judged_is_not_agreed_to(worked: Desk) -> None:
    decided = [number for number, one in enumerate(worked.events()) if one["type"] == "decided"]
    worked.run("log", "erase", str(decided[0]), "--reason", "asked to")
    told = json.loads(attempt(worked, POLICY, "--json"))
    assert (told["same"], told["unverifiable"]) == (1, 1)
    assert told["not_judged"] == {"its payload was erased, or never kept": 1}
    worked.run("log", "erase", str(decided[1]), "--reason", "asked to")
    done = worked.run("policy", "try", str(worked.folder / "new"), check=False)
    assert done.returncode == 1
    assert "no recorded call could be judged" in done.stderr


def test_only_calls_from_then_on_are_reported(worked: Desk) -> None:
    assert json.loads(attempt(worked, POLICY, "--since", "1h", "--json"))["calls"] == 2
    assert json.loads(attempt(worked, POLICY, "--since", "2999-01-01T00:00", "--json", check=False))["calls"] == 0
    done = worked.run("policy", "try", "new", "--since", "yesterday", check=False)
    assert done.returncode == 2
    assert "write 90m, 24h, 7d" in done.stderr
