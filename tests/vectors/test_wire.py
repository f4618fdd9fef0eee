"""Our own vectors for JSON-RPC messages: each names its verdict, some the bytes that may be forwarded."""

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from citywatch.core.errors import Malformed
from citywatch.core.wire.jsonrpc import FROM_AGENT, Notification, Request, Response, parse_message

FILE = Path(__file__).parents[2] / "spec/vectors/wire/messages.json"
KINDS = {"request": Request, "notification": Notification, "response": Response}
CASES = json.loads(FILE.read_bytes())["cases"]
assert len(CASES) >= 92


@pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in CASES])
def test_vector(case: dict[str, Any]) -> None:
    raw = b64decode(case["bytes"])
    if case["verdict"] == "malformed":
        with pytest.raises(Malformed):
            parse_message(raw, FROM_AGENT)
        return
    message = parse_message(raw, FROM_AGENT)
    assert type(message) is KINDS[case["verdict"]]
    if "body" in case:
        assert message.body == b64decode(case["body"])
