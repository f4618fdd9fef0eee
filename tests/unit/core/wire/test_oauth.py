"""What a server says of itself as a resource is compared with the file, and leads nowhere."""

from __future__ import annotations

from typing import Any

import pytest

from citywatch.core.errors import Malformed
from citywatch.core.wire.oauth import check_resource, metadata_url

RESOURCE, ISSUER = "https://ledger.example/mcp", "https://gateway.example"
GOOD = {"resource": RESOURCE, "authorization_servers": ["https://idp.example", ISSUER], "scopes_supported": ["mcp"]}


def test_a_server_that_agrees_with_the_file_is_taken() -> None:
    check_resource(GOOD, RESOURCE, ISSUER)
    check_resource({**GOOD, "authorization_servers": [f"{ISSUER}/"]}, RESOURCE, ISSUER)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ([], "no object"),
        (None, "no object"),
        (
            {**GOOD, "resource": "https://other.example/mcp"},
            "the resource `https://other.example/mcp`, and",
        ),
        ({**GOOD, "resource": RESOURCE + "/"}, "of the resource"),
        ({**GOOD, "resource": "\x1b[2J"}, r"of the resource \(no plain text\)"),
        ({"authorization_servers": [ISSUER]}, "of the resource"),
        ({"resource": RESOURCE}, "names nobody"),
        ({**GOOD, "authorization_servers": []}, "names nobody"),
        ({**GOOD, "authorization_servers": ISSUER}, "names nobody"),
        ({**GOOD, "authorization_servers": ["https://evil.example", 7]}, "`https://evil.example`, .no plain text. as"),
    ],
)
def test_a_server_that_differs_is_not(said: Any, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        check_resource(said, RESOURCE, ISSUER)


@pytest.mark.parametrize(
    ("reached", "resource", "at"),
    [
        (
            "https://a.example/mcp",
            "https://a.example/mcp",
            "https://a.example/.well-known/oauth-protected-resource/mcp",
        ),
        ("http://127.0.0.1:9/x", "https://a.example/", "http://127.0.0.1:9/.well-known/oauth-protected-resource"),
        (
            "https://a.example",
            "https://a.example/r?t=1",
            "https://a.example/.well-known/oauth-protected-resource/r?t=1",
        ),
    ],
)
def test_it_is_asked_where_the_file_says_that_the_server_is(reached: str, resource: str, at: str) -> None:
    assert metadata_url(reached, resource) == at
