"""The authority's keys are away: who has papers goes on, nobody gets new ones, and it is said.

That papers end when they end, whatever is away, is `test_clock_skew`'s.
"""

from __future__ import annotations

import http.client
import os
import time
from contextlib import closing

from citywatch.adapters.keys import KeyKind, SecretDirectory, load_key
from citywatch.core.identity.x509 import gateway_id
from citywatch.core.names import AgentId
from citywatch.service.renewal import prove_renewal
from tests.e2e.gateway.desk import Desk
from tests.fault.test_killed_gateway import ask

DOMAIN = "t.example"


def renew(desk: Desk) -> tuple[int, str]:
    """Ask the gateway for new papers, as `connect` does."""
    key = load_key(SecretDirectory(desk.folder / "agents" / "clerk"), "key.pem", KeyKind.P256)
    body = prove_renewal(
        AgentId(DOMAIN, "clerk"), gateway_id(DOMAIN), key, now=int(time.time() * 1000), nonce=os.urandom(16).hex()
    )
    with closing(http.client.HTTPConnection("127.0.0.1", desk.port, timeout=30)) as connection:
        connection.request("POST", "/citywatch/renew", body, {"content-type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read().decode()


def looks(desk: Desk, token: str) -> bool:
    told = ask(desk, token, "look", {})
    return told is not None and not told["result"].get("isError", False)


def issued(desk: Desk) -> int:
    return sum(event["type"] == "credential_issued" for event in desk.events())


def test_live_papers_go_on_and_nothing_new_is_issued(ready_desk: Desk) -> None:
    desk = ready_desk
    desk.up()
    token = desk.token()
    assert renew(desk)[0] == 200
    keys = sorted((desk.folder / ".citywatch" / "keys").glob("authority-*"))
    assert keys
    for file in keys:
        file.rename(file.with_suffix(".away"))
    before = issued(desk)
    assert looks(desk, token), "what was issued is verified without the authority's keys"
    status, told = renew(desk)
    assert (status, "store_unavailable" in told) == (503, True), told
    assert str(desk.folder) not in told, "where the keys would be is the operator's business"
    for words in (
        ("agent", "token", "clerk"),
        ("agent", "certificate", "clerk"),
        ("agent", "token", "clerk", "--kind", "wit"),
    ):
        refused = desk.run(*words, check=False)
        assert refused.returncode == 1, words
        assert "authority-1" in refused.stderr
    assert issued(desk) == before
    for file in keys:
        file.with_suffix(".away").rename(file)
    assert renew(desk)[0] == 200
    assert looks(desk, desk.token())
