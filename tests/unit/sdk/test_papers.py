"""Where papers are shown, and where they never are."""

from __future__ import annotations

from pathlib import Path

import pytest

from citywatch.core.errors import Malformed
from citywatch.sdk import Certificate, Chain, Client, Token
from tests.unit.sdk.chains import Hand

FOLDER = Path("nowhere")


@pytest.mark.parametrize("host", ["gateway.example", "10.0.0.7", "127.0.0.1.evil.example", "localhost.evil.example"])
def test_nothing_is_shown_on_a_network_in_the_clear(host: str) -> None:
    for papers in (Token("secret"), None, Certificate(FOLDER)):
        with pytest.raises(Malformed, match=r"use https|over https alone"):
            Client(f"http://{host}/mcp/desk", papers=papers)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_this_machine_is_no_network(host: str) -> None:
    Client(f"http://{host}:8460/mcp/desk", papers=Token("secret"))
    Client(f"http://{host}:8480/mcp/desk")


def test_https_needs_somebody_to_believe() -> None:
    for papers in (None, Token("secret")):
        with pytest.raises(Malformed, match="the bundle that proves the gateway"):
            Client("https://gateway.example/mcp/desk", papers=papers)
    with pytest.raises(Malformed, match="holds no trust bundle"):
        Client("https://gateway.example/mcp/desk", papers=Token("secret", FOLDER / "bundle.pem"))
    with pytest.raises(Malformed, match="holds no trust bundle"):
        Client("https://gateway.example/mcp/desk", papers=Certificate(FOLDER))


@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1/mcp/desk", "http://127.0.0.1/desk", "http://127.0.0.1", "http://me:it@127.0.0.1/mcp/desk"]
)
def test_what_is_no_server_of_a_gateway_is_no_url(url: str) -> None:
    with pytest.raises(Malformed, match="is no server of a gateway"):
        Client(url)


def test_a_token_is_asked_for_each_time() -> None:
    given = iter(["one", "two"])
    token = Token(lambda: next(given))
    assert (token.shown(), token.shown()) == ("Bearer one", "Bearer two")


def test_a_chain_is_for_its_own_task() -> None:
    chain = Chain((Hand().root("t-1"),))
    Client("http://127.0.0.1/mcp/desk", chain=chain, task="t-1")
    with pytest.raises(Malformed, match="no other"):
        Client("http://127.0.0.1/mcp/desk", chain=chain, task="t-2")
