"""Which values are cards of an agent at a known address, and what of one its callers are shown."""

from __future__ import annotations

from typing import Any

import pytest

from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.wire.a2a_card import check_card, check_spoken, served

URL = "https://billing.example/a2a"
SKILL = {"id": "invoice", "name": "Invoice", "description": "Tells what is owed.", "tags": ["money"], "examples": []}
CARD: dict[str, Any] = {
    "name": "billing",
    "description": "Knows what is owed.",
    "version": "1",
    "defaultInputModes": ["text/plain"],
    "capabilities": {"streaming": True, "pushNotifications": True, "extensions": [{"uri": "https://x"}]},
    "supportedInterfaces": [
        {"url": "https://billing.example/grpc", "protocolBinding": "GRPC", "protocolVersion": "1.0"},
        {"url": URL, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"},
    ],
    "skills": [SKILL, SKILL | {"id": "refund"}],
    "securitySchemes": {"key": {}},
    "signatures": [{"protected": "a", "signature": "b"}],
    "provider": {"url": "https://elsewhere.example"},
    "unheard": "of",
}


def test_a_card_is_shown_with_our_address_and_nothing_that_leads_around_us() -> None:
    told = served(check_card(CARD, URL), "https://gate.example/a2a/billing", ("invoice",))
    assert told == {
        "name": "billing",
        "description": "Knows what is owed.",
        "version": "1",
        "defaultInputModes": ["text/plain"],
        "capabilities": {"streaming": True},
        "supportedInterfaces": [
            {"url": "https://gate.example/a2a/billing", "protocolBinding": one, "protocolVersion": "1.0"}
            for one in ("JSONRPC", "HTTP+JSON")
        ],
        "skills": [{key: value for key, value in SKILL.items() if value}],
    }
    assert [one["id"] for one in served(CARD, URL, ())["skills"]] == ["invoice", "refund"]
    assert "capabilities" not in served(CARD | {"capabilities": {}}, URL, ())


def test_a_card_of_0_3_is_read_and_its_agent_is_not_spoken_to() -> None:
    old = {key: value for key, value in CARD.items() if key != "supportedInterfaces"} | {"protocolVersion": "0.3.0"}
    for said in (
        {"url": URL + "/"},
        {"url": URL, "preferredTransport": "GRPC"},
        {"url": "https://billing.example/grpc", "additionalInterfaces": [{"url": URL, "transport": "HTTP+JSON"}]},
    ):
        card = check_card(old | said, URL)
        with pytest.raises(
            Refused, match=r"speaks A2A 1\.0 over JSONRPC there; the agent's card offers .*0\.3\.0"
        ) as found:
            check_spoken(card, URL, "JSONRPC")
        assert found.value.code is Code.REVISION_UNSUPPORTED
    with pytest.raises(Malformed, match="leads elsewhere"):
        check_card(old | {"url": "https://evil.example"}, URL)
    with pytest.raises(Malformed, match="additionalInterfaces"):
        check_card(old | {"url": URL, "additionalInterfaces": 1}, URL)


def test_an_agent_is_spoken_to_in_the_binding_that_its_card_names_for_the_address() -> None:
    check_spoken(CARD, URL, "JSONRPC")
    with pytest.raises(Refused):
        check_spoken(CARD, URL, "HTTP+JSON")
    rest = CARD | {"supportedInterfaces": [{"url": URL, "protocolBinding": "HTTP+JSON", "protocolVersion": "1.0"}]}
    check_spoken(rest, URL, "HTTP+JSON")
    told = served(rest, "https://gate.example/a2a/billing", (), "HTTP+JSON")
    assert [one["protocolBinding"] for one in told["supportedInterfaces"]] == ["HTTP+JSON", "JSONRPC"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"name": ""}, "`name`"),
        ({"skills": {}}, "`skills`"),
        ({"skills": [SKILL, SKILL]}, "one id"),
        ({"skills": [SKILL | {"id": "a b"}]}, "plain word"),
        ({"skills": [SKILL | {"tags": [1]}]}, "`tags`"),
        ({"skills": [{"id": "x"}]}, "no id, name or description"),
        ({"skills": [1]}, "no object"),
        ({"capabilities": []}, "`capabilities`"),
        ({"defaultInputModes": "text"}, "`defaultInputModes`"),
        ({"supportedInterfaces": {}}, "`supportedInterfaces`"),
        ({"supportedInterfaces": [1]}, "an interface"),
        ({"supportedInterfaces": []}, "nowhere where the agent is"),
        (
            {
                "supportedInterfaces": [
                    {"url": "https://evil.example", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
                ]
            },
            "leads elsewhere",
        ),
    ],
)
def test_what_is_no_card_or_leads_elsewhere_is_said_so(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(Malformed, match=why):
        check_card(CARD | changes, URL)


def test_what_is_no_object_is_no_card() -> None:
    with pytest.raises(Malformed):
        check_card([], URL)
