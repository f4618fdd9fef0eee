"""Each code is one exception, and what nobody knows is a refusal."""

from __future__ import annotations

import pytest

from citywatch.core.errors import CitywatchError, Code
from citywatch.core.wire import mcp
from citywatch.sdk import ApprovalRequired, Denied, Failed, Refused, Unavailable
from citywatch.sdk.errors import raised

AWAY = {
    Code.UPSTREAM_UNAVAILABLE,
    Code.UPSTREAM_TIMEOUT,
    Code.UPSTREAM_UNPROVEN,
    Code.STORE_UNAVAILABLE,
    Code.CONFLICT,
    Code.DRAINING,
    Code.OVERLOADED,
    Code.UPSTREAM_CROWDED,
    Code.CIRCUIT_OPEN,
    Code.VIEW_STALE,
}


@pytest.mark.parametrize("code", Code)
def test_every_code_has_its_exception(code: Code) -> None:
    wanted: type[Failed] = Unavailable if code in AWAY else Refused
    wanted = {Code.APPROVAL_REQUIRED: ApprovalRequired, Code.APPROVAL_DENIED: Denied}.get(code, wanted)
    assert type(raised(mcp.Told(code=code.value))) is wanted


def test_a_later_gateways_code_is_a_refusal() -> None:
    found = raised(mcp.Told(code="of_tomorrow", detail="x", policies=("p",), ticket="t", decision="d"))
    assert type(found) is Refused
    assert isinstance(found, CitywatchError)
    assert (found.code, found.detail, found.rules, found.ticket, found.decision) == (
        "of_tomorrow",
        "x",
        ("p",),
        "t",
        "d",
    )
    assert str(found) == "of_tomorrow: x"
    assert str(raised(mcp.Told(code="of_tomorrow"))) == "of_tomorrow"
