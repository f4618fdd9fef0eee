"""An identity provider's token beside a call: recorded, seen by policy, followed as its keys change, never sent on."""

from __future__ import annotations

import json
import time
from typing import Any

from joserfc import jwk, jwt

from tests.e2e.gateway.desk import Desk, wait_for
from tests.e2e.gateway.test_grants import look

IDP = "https://idp.example"
US = "https://gateway.t.example"
POLICY = """
@id("staff-only") forbid(principal is Agent, action == Action::"desk/look", resource)
unless { context has asserted && context.asserted.actors.contains("portal") };
"""


def test_a_provider_s_word_is_recorded_and_its_token_reaches_no_server(new_desk: Desk) -> None:
    desk = new_desk
    keys = [jwk.RSAKey.generate_key(2048, {"kid": f"k{number}"}) for number in range(2)]

    def publish(key: Any) -> None:
        (desk.folder / "idp.json").write_text(json.dumps({"keys": [key.as_dict(private=False)]}))

    def word(key: Any, **claims: Any) -> str:
        now = int(time.time())
        said = {"iss": IDP, "aud": US, "sub": "anna@corp", "iat": now, "exp": now + 300, "act": {"sub": "portal"}}
        header = {"alg": "RS256", "typ": "at+jwt", "kid": key.kid}
        return jwt.encode(header, {**said, **claims}, key, algorithms=["RS256"])

    file = desk.folder / "citywatch.yaml"
    issuers = f"issuers:\n  corp: {{issuer: '{IDP}', audience: '{US}', keys: idp.json}}\n"
    file.write_text(file.read_text().replace("agents:\n", issuers + "agents:\n"))
    (desk.folder / "policies" / "word.cedar").write_text(POLICY)
    publish(keys[0])
    desk.start_upstream()
    desk.run("agent", "add", "clerk")
    desk.run("tools", "approve", "--yes")
    desk.up()
    clerk = desk.token()

    def does(assertion: str | None) -> str:
        return look(desk, clerk, "orders", {} if assertion is None else {"citywatch/assertion": assertion})

    good = word(keys[0])
    assert does(None) == "forbidden"
    assert does(good) == "looked at orders"
    assert does(word(keys[0], act={"sub": "somebody"})) == "forbidden"
    assert does(word(keys[0], aud="https://other.example")) == "assertion_refused"
    assert does(word(keys[1])) == "assertion_refused"
    assert does("no.good.token") == "assertion_refused"
    heard = [event["asserted"] for event in desk.events() if event["type"] == "decided" and event["asserted"]]
    assert heard == [[IDP, "anna@corp", "portal"], [IDP, "anna@corp", "somebody"]]
    database = b"".join(path.read_bytes() for path in (desk.folder / ".citywatch").glob("citywatch.db*"))
    assert good.split(".")[2].encode() not in database

    publish(keys[1])
    wait_for(lambda: does(word(keys[1])) == "looked at orders", "the gateway to follow the provider's keys")
    assert does(good) == "assertion_refused"
    (desk.folder / "idp.json").write_text("{}")
    assert does(word(keys[1])) == "looked at orders"
    assert "keys of the issuer `corp`" in desk.run("check", check=False).stderr
