"""A resource server as others write one: `mcp` serves, `joserfc` verifies. Arguments: port, issuer, folder.

It finds the gateway's keys by RFC 8414 and publishes RFC 9728 metadata; `whoami` says whom it saw. A file `resource` in
the folder lets it say that it is another resource.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer
from pydantic import AnyHttpUrl

port, issuer, folder = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
own = f"http://127.0.0.1:{port}/mcp"
said = folder / "resource"


def fetched(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as response:
        return json.load(response)


def validated(token: str) -> dict[str, Any]:
    """# SPEC: RFC 9068 §4: type, issuer, audience, signature by a key that the issuer publishes, time."""
    metadata = fetched(f"{issuer}/.well-known/oauth-authorization-server")
    assert metadata["issuer"] == issuer
    read = jwt.decode(token, KeySet.import_key_set(fetched(metadata["jwks_uri"])), algorithms=["ES256"])
    if read.header["typ"] != "at+jwt":
        raise ValueError("another type")
    needed: Any = {name: {"essential": True} for name in ("exp", "sub", "client_id", "iat", "jti")}
    known: Any = {"iss": {"essential": True, "value": issuer}, "aud": {"essential": True, "value": own}}
    jwt.JWTClaimsRegistry(**needed, **known).validate(read.claims)
    return dict(read.claims)


class Verifier:
    """What the SDK asks of a token, answered by another library than ours."""

    async def verify_token(self, token: str) -> AccessToken | None:
        with (folder / "seen").open("a") as seen:
            seen.write(token + "\n")
        try:
            claims = validated(token)
        except (JoseError, ValueError, KeyError) as failure:
            print("refused", type(failure).__name__, flush=True)
            return None
        return AccessToken(
            token=token,
            client_id=claims["client_id"],
            scopes=claims["scope"].split(),
            expires_at=claims["exp"],
            resource=claims["aud"],
            subject=claims["sub"],
            claims=claims,
        )


server = MCPServer(
    "ledger",
    token_verifier=Verifier(),
    auth=AuthSettings(
        issuer_url=AnyHttpUrl(issuer),
        resource_server_url=AnyHttpUrl(said.read_text() if said.exists() else own),
        required_scopes=["mcp"],
    ),
)


@server.tool()
def whoami() -> str:
    """Say who acts for whom."""
    token = get_access_token()
    assert token is not None
    return json.dumps(token.claims)


if __name__ == "__main__":
    server.run(transport="streamable-http", port=port)
