"""What every test shares: how properties draw, what a run may not do, and loopback ports.

INVARIANT: in CI (`CI` is set) a test that skips or is expected to fail fails the run, and a run that tested nothing
fails everywhere (pytest's exit code 5). Warnings are errors (pyproject.toml), so a coroutine nobody awaited, a socket
nobody closed and an exception nobody saw fail the test that left them behind.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

from tests import draws, ports

# A slow machine is no finding, so nothing is timed; in CI every run draws the same, so a red run stays red (`draws.py`;
# `.ci/run` also sets the seed of hashes).
_COMMON = settings(deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("dev", _COMMON)
settings.register_profile("ci", _COMMON, derandomize=True, database=None)
settings.register_profile("long", _COMMON, max_examples=5_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))
if settings.get_current_profile_name() == "ci":
    draws.keep_still()


class NoSkips:
    """Turns every test that was skipped or expected to fail into a failed one, so that the summary itself says so."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        excused = vars(report).pop("wasxfail", None)
        if report.skipped or excused is not None:
            report.outcome, report.longrepr = "failed", f"did not run to a verdict: {excused or _why(report.longrepr)}"
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        report = yield
        if report.skipped:
            report.outcome, report.longrepr = "failed", f"was not collected: {_why(report.longrepr)}"
        return report


def _why(longrepr: object) -> str:
    return str(longrepr[-1] if isinstance(longrepr, tuple) else longrepr)


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("CI"):
        config.pluginmanager.register(NoSkips(), "citywatch-no-skips")


@pytest.fixture
def free_port() -> int:
    """See `ports.py`."""
    return ports.free_port()
