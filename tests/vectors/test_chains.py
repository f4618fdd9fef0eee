"""Our own vectors, for others to implement chains by: each names its verdict, so that adding one adds no code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from citywatch.core.delegation.chain import Asking, Trust, verify_chain
from citywatch.core.delegation.frontier import Frontier
from citywatch.core.delegation.holds import Act, beyond
from citywatch.core.delegation.wording import parse_caveats
from citywatch.core.errors import Refused
from spec import delegation as law

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parents[2] / "spec/vectors/chains.json").read_text("utf-8"))
NEVER = 2**53


def judged(case: dict[str, Any]) -> str:
    asked, act = case["request"], msgspec.convert(case["act"], Act)
    abroad = {
        domain: Frontier(
            principals=frozenset(one["principals"]),
            keys=frozenset(one["keys"]),
            longest=one["longest"],
            ceiling=parse_caveats(one["ceiling"], not_after=NEVER, depth=NEVER),
            calls=1,
            max_age=1,
        )
        for domain, one in asked["abroad"].items()
    }
    asking = Asking(agent=asked["agent"], key=asked["key"], task=asked["task"], called=asked["called"])
    trust = Trust(domain=asked["domain"], roots=asked["roots"], revoked=asked["revoked"], epoch=1, abroad=abroad)
    try:
        found = verify_chain(case["chain"], asking, trust, asked["now"])
    except Refused as refusal:
        return refusal.code.value
    return "permitted" if beyond(found.caveats, act) is None else "beyond_grant"


@pytest.mark.parametrize("case", CASES, ids=[one["name"] for one in CASES])
def test_each_chain_has_the_verdict_that_its_vector_names(case: dict[str, Any]) -> None:
    assert judged(case) == case["verdict"]
    assert law.permits(case["chain"], case["request"], case["act"]) == (case["verdict"] == "permitted")


def test_the_vectors_have_chains_of_both_kinds_and_every_refusal() -> None:
    verdicts = {one["verdict"] for one in CASES}
    assert verdicts == {
        "permitted", "beyond_grant", "chain_malformed", "chain_broken", "chain_wrong_task", "chain_wrong_audience",
        "chain_revoked", "chain_expired", "chain_untrusted", "chain_not_held",
    }  # fmt: skip
    good = [one for one in CASES if one["verdict"] == "permitted"]
    assert {bool(one["request"]["abroad"]) for one in good} == {True, False}
