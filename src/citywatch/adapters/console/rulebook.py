"""The policies: the files as they stand, whether their cases hold, and what each rule did this week.

Decides nothing and changes nothing: policies are files, and whoever may change them does it where they are reviewed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from citywatch.adapters.console.access import Door
from citywatch.adapters.console.desk import Desk
from citywatch.adapters.console.render import Pages
from citywatch.core.approvals.people import Right
from citywatch.core.errors import CitywatchError
from citywatch.service.decisions import Decisions

WEEK_MS: Final = 7 * 86_400_000
MOST: Final = 500


class Rule(msgspec.Struct, frozen=True):
    """One policy of the files, and what it did: how many calls it let through, and how many it stopped."""

    id: str
    file: str
    line: int
    permits: bool
    allowed: int
    denied: int
    ever: int


class RulePages:
    """The one page."""

    def __init__(self, desk: Desk, pages: Pages) -> None:
        self._desk = desk
        self._pages = pages

    def doors(self) -> Sequence[Door]:
        return (Door("GET", "/policy", Right.SEE, self.page),)

    async def page(self, request: Request) -> Response:
        index = self._desk.seen_by(request.scope["session"].visitor).decisions
        rules, problem, digest = await self._rules(index)
        codes = sorted(
            ((code, index.count("code", code, self._week())) for code, _ in index.values("code")),
            key=lambda one: -one[1],
        )
        return self._pages.show(
            request, "policy.html", active="policy", rules=rules, problem=problem, digest=digest,
            files=self._desk.policy_files(), tested=await self._desk.policy_tests(),
            codes=[one for one in codes if one[1]][:12],
        )  # fmt: skip

    def _week(self) -> int:
        return self._desk.clock.now_ms() - WEEK_MS

    async def _rules(self, index: Decisions) -> tuple[list[Rule], str, str]:
        try:
            policies = (await self._desk.rules()).policies
        except CitywatchError as failure:
            return [], str(failure), ""
        since = self._week()
        found = [
            Rule(
                one.id, one.file.rpartition("/")[2], one.line, one.permits,
                index.both(("policy", one.id), ("decision", "allow"), since),
                index.both(("policy", one.id), ("decision", "deny"), since),
                index.count("policy", one.id),
            )
            for one in policies.policies[:MOST]
        ]  # fmt: skip
        return sorted(found, key=lambda one: (-(one.allowed + one.denied), one.id)), "", policies.digest
