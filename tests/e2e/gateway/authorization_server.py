"""A server's own authorization server as others write one, on `joserfc`. Arguments: port, the gateway's issuer, folder.

It knows one client, the gateway, by the keys that the gateway publishes (`private_key_jwt`), believes what that says of
who acts for whom (RFC 8693, RFC 7523), and gives its own tokens for the resource that was asked about. With a file
`mischief` in the folder it does what it should not.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

port, gateway, folder = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
own = f"http://127.0.0.1:{port}"
key = ECKey.generate_key("P-256", {"kid": "as-1", "alg": "ES256", "use": "sig"}, private=True)
URN = "urn:ietf:params:oauth:"
seen: set[str] = set()


def fetched(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as response:
        return json.load(response)


def verified(token: str, typ: str, issuer: str) -> dict[str, Any]:
    """Signature by a key that the gateway publishes, type, issuer, audience (us), time, once."""
    keys = KeySet.import_key_set(fetched(f"{gateway}/oauth/jwks"))
    read = jwt.decode(token, keys, algorithms=["ES256"])
    assert read.header["typ"] == typ, "another type"
    needed: Any = {name: {"essential": True} for name in ("exp", "sub", "iat", "jti")}
    known: Any = {"iss": {"essential": True, "value": issuer}, "aud": {"essential": True, "value": own}}
    jwt.JWTClaimsRegistry(**needed, **known).validate(read.claims)
    assert read.claims["jti"] not in seen, "twice"
    seen.add(read.claims["jti"])
    return dict(read.claims)


def answered(form: dict[str, str]) -> dict[str, Any]:
    assert form["client_assertion_type"] == f"{URN}client-assertion-type:jwt-bearer"
    verified(form["client_assertion"], "client-authentication+jwt", "gateway-at-the-ledger")
    if form["grant_type"] == f"{URN}grant-type:token-exchange":
        assert form["subject_token_type"] == f"{URN}token-type:jwt"
        stated = verified(form["subject_token"], "JWT", gateway)
    else:
        assert form["grant_type"] == f"{URN}grant-type:jwt-bearer"
        stated = verified(form["assertion"], "oauth-id-jag+jwt", gateway)
        assert stated["client_id"] == "gateway-at-the-ledger"
    assert stated["resource"] == form["resource"]
    now, mischief = int(time.time()), folder / "mischief"
    trick = mischief.read_text() if mischief.exists() else ""
    claims = {
        "iss": own, "aud": "https://other.example/mcp" if trick == "resource" else form["resource"],
        "sub": stated["sub"], "client_id": stated["client_id"], "scope": form["scope"], "iat": now, "exp": now + 600,
        "jti": f"as-{len(seen)}", **({"act": stated["act"]} if "act" in stated else {}),
    }  # fmt: skip
    text = jwt.encode({"alg": "ES256", "kid": "as-1", "typ": "at+jwt"}, claims, key)
    if trick == "echo":
        text = form.get("subject_token") or form["assertion"]
    kind = {"issued_token_type": f"{URN}token-type:access_token", "token_type": "Bearer", "expires_in": 600}
    return {"access_token": text, **kind}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/.well-known/oauth-authorization-server":
            self._say(200, {"issuer": own, "jwks_uri": f"{own}/jwks", "token_endpoint": f"{own}/token"})
        else:
            self._say(200, {"keys": [key.as_dict(private=False)]})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with (folder / "asked").open("a") as asked:
            asked.write(f"{self.path}\n")
        if self.path != "/token" or (
            (folder / "mischief").exists() and (folder / "mischief").read_text() == "redirect"
        ):
            self.send_response(307)
            self.send_header("Location", f"{own}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        try:
            self._say(200, answered({name: values[0] for name, values in parse_qs(body).items()}))
        except Exception as failure:
            print("refused", type(failure).__name__, failure, flush=True)
            self._say(400, {"error": "invalid_grant", "error_description": body})

    def _say(self, status: int, value: Any) -> None:
        text = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is said of requests."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
