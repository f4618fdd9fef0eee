"""The MCP conformance suite, direct and through the gateway: what conforms directly conforms through us."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conformance.conftest import DENIED, REVISIONS, Everything


@pytest.mark.parametrize("revision", REVISIONS)
def test_no_scored_scenario_is_lost(everything: Everything, revision: str, capsys: pytest.CaptureFixture[str]) -> None:
    direct, through = everything.direct(revision), everything.through(revision)
    with capsys.disabled():
        print(
            f"\n{revision}: {len(direct.passing)} scored scenarios pass direct, {len(through.passing)} through the "
            f"gateway; checks passed/failed in all scenarios {_checks(direct.scenarios)}, {_checks(through.scenarios)}"
        )
    assert direct.passing, "the suite passed nothing: there is nothing to compare"
    assert direct.passing <= through.passing, f"lost: {sorted(direct.passing - through.passing)}"


def test_denying_one_tool_fails_just_the_scenarios_that_use_it(tmp_path: Path, source: Path) -> None:
    """The control is real: the suite sees it, and only where it should."""
    with ExitStack() as stack:
        desk = Everything(tmp_path, stack, source)
        (tmp_path / "policies" / "denied.cedar").write_text(DENIED)
        desk.connect()
        for revision in REVISIONS:
            lost = desk.direct(revision).passing - desk.through(revision).passing
            assert lost == {"tools-call-image"}, revision


def _checks(scenarios: dict[str, tuple[int, int]]) -> str:
    return f"{sum(passed for passed, _ in scenarios.values())}/{sum(failed for _, failed in scenarios.values())}"
