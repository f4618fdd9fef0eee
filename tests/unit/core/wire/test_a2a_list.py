"""Which tasks a page of `ListTasks` holds, in which order, and how much of each."""

from __future__ import annotations

from typing import Any

import pytest

from citywatch.core.errors import Malformed
from citywatch.core.wire.a2a_list import page, read_filter


def task(name: str, state: str = "WORKING", at: str | None = None, **more: Any) -> dict[str, Any]:
    status = {"state": f"TASK_STATE_{state}", **({} if at is None else {"timestamp": at})}
    return {"id": name, "contextId": "c", "status": status, **more}


TASKS = [
    task("old", at="2026-01-01T00:00:00Z"),
    task("never"),
    task("new", "COMPLETED", at="2026-01-03T00:00:00.123456789Z", artifacts=[{"parts": []}]),
    task("middle", at="2026-01-02T01:00:00+01:00"),
]


def listed(**params: Any) -> dict[str, Any]:
    return page(read_filter(params), TASKS)


def ids(found: dict[str, Any]) -> list[str]:
    return [one["id"] for one in found["tasks"]]


def test_the_newest_status_is_first_and_artifacts_are_left_out() -> None:
    found = listed()
    assert ids(found) == ["new", "middle", "old", "never"]
    assert (found["nextPageToken"], found["totalSize"], found["pageSize"]) == ("", 4, 4)
    assert not any("artifacts" in one for one in found["tasks"])
    assert "artifacts" in listed(includeArtifacts=True)["tasks"][0]


def test_pages_follow_each_other_to_the_end() -> None:
    seen, token = [], ""
    for _ in range(4):
        found = listed(pageSize=3, pageToken=token)
        seen += ids(found)
        assert found["totalSize"] == 4
        token = found["nextPageToken"]
        if not token:
            break
    assert seen == ["new", "middle", "old", "never"]
    assert ids(listed(pageToken="99")) == []
    assert listed(pageToken="99")["nextPageToken"] == ""


def test_a_state_a_conversation_and_a_time_are_kept_to() -> None:
    assert ids(listed(status="TASK_STATE_COMPLETED")) == ["new"]
    assert ids(listed(status="TASK_STATE_UNSPECIFIED")) == ["new", "middle", "old", "never"]
    assert ids(listed(contextId="other")) == []
    assert ids(listed(statusTimestampAfter="2026-01-02T00:00:00Z")) == ["new", "middle"]


@pytest.mark.parametrize(
    "params",
    [
        {"status": "working"},
        {"pageSize": 0},
        {"pageSize": 101},
        {"pageToken": "-1"},
        {"pageToken": "dDE="},
        {"historyLength": -1},
        {"statusTimestampAfter": "yesterday"},
        {"statusTimestampAfter": "2026-13-01T00:00:00Z"},
        {"statusTimestampAfter": "2026-01-01T00:00:00"},
    ],
)
def test_what_is_no_filter_is_said_so(params: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        read_filter(params)
