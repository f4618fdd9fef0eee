"""The approvals API does what its document says, whatever it is sent: schemathesis, with a key that signs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import settings
from schemathesis.checks import load_all_checks
from schemathesis.config import SchemathesisConfig

from citywatch.adapters.approvals_api.operations import ANYBODY, OPERATIONS, openapi
from tests.front_end import ORIGIN, FrontEnd
from tests.simulation.api import Api, api
from tests.simulation.test_answers import WANTED, asked

# What fits the document can still be no answer that counts: in another's name, without a reason, unread.
CONFIG = SchemathesisConfig.from_dict(
    {
        "checks": {
            "positive_data_acceptance": {"expected-statuses": [200, 403, 404, 409, 422]},
            "ignored_auth": {"enabled": False},  # what is not signed is tests/simulation/test_approvals_api.py's
        }
    }
)
Case = schemathesis.Case[Any]
schema = schemathesis.openapi.from_dict(openapi(), config=CONFIG)
load_all_checks()


class Served:
    """One city for all that is drawn, with a call that waits."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._here: Api = runner.run(api())
        self.ticket = runner.run(asked(self._here.here, **WANTED)).id
        self._front: FrontEnd = self._here.of("anna")
        self.codes: dict[str, set[int]] = {}

    def ask(self, case: Case) -> httpx.Response:
        """Send it, signed if it is drawn so."""
        self._here.here.clock.advance(4_000)  # nobody asks faster
        told = requests.Request(**case.as_transport_kwargs(base_url=ORIGIN)).prepare()
        method, target = told.method or "", told.path_url
        body = told.body if isinstance(told.body, bytes) else str(told.body or "").encode()
        headers = {name.lower(): str(value) for name, value in told.headers.items()}
        if {"signature", "signature-input"} <= headers.keys():
            headers |= self._front.headers(method, target, body)
        reply = self._runner.run(self._front.send(method, target, body, headers))
        self.codes.setdefault(case.operation.definition.raw["operationId"], set()).add(reply.status_code)
        return reply


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with asyncio.Runner() as runner:
        yield Served(runner)


def operation(name: str) -> Any:
    """One operation, as a test with a name of its own: tests that are called alike are one test to pytest-xdist."""

    @schema.include(operation_id=name).parametrize()
    @settings(max_examples=20)
    def test(case: Case, served: Served) -> None:
        holds(case, served)

    return test


globals().update({f"test_{one.name}_answers_as_its_document_says": operation(one.name) for one in OPERATIONS})


def holds(case: Case, served: Served) -> None:
    if case.path_parameters and str(case.path_parameters.get("ticket", ""))[:1] in "0123456789abcdefgh":
        case.path_parameters["ticket"] = served.ticket
    if isinstance(case.body, dict):  # to JSON Schema 1.0 is whole; here it is not
        whole = {name: int(one) for name, one in case.body.items() if isinstance(one, float) and one.is_integer()}
        case.body.update(whole)
    case.validate_response(served.ask(case))


def test_each_operation_was_asked_with_and_without_a_signature(served: Served) -> None:
    assert served.codes.keys() == {one.name for one in OPERATIONS}
    for one in OPERATIONS:
        if one.needs != ANYBODY:
            assert 401 in served.codes[one.name], one.name
        if one.name not in ("vote", "lend"):  # what is drawn is no statement and no loan that anybody signed
            assert 200 in served.codes[one.name], one.name
