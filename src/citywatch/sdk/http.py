"""HTTP to the gateway under the agent's papers; also the hook for whoever speaks MCP by other means.

Decides nothing. INVARIANT: a gateway that cannot be reached is an answer that says so, to the one who asked: the tasks
that carry other calls of the same client go on.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from citywatch.core.errors import Code
from citywatch.sdk.papers import Papers, Token, check_place


def http_client(url: str, papers: Papers, timeout_s: float = 300.0) -> Any:
    """An `httpx2.AsyncClient` for the gateway at this URL that shows these papers; `Malformed` if anybody would see
    them. MCP clients take one (`streamable_http_client(url, http_client=…)`)."""
    import httpx2

    context = check_place(urlsplit(url), papers)
    plain = httpx2.AsyncHTTPTransport(verify=context or True, trust_env=False)

    class Transport(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            if isinstance(papers, Token):
                request.headers["Authorization"] = papers.shown()
            try:
                return await plain.handle_async_request(request)
            except httpx2.TransportError as failure:
                headers = {"content-type": "application/json"}
                return httpx2.Response(503, headers=headers, content=_away(type(failure).__name__), request=request)

        async def aclose(self) -> None:
            await plain.aclose()

    return httpx2.AsyncClient(transport=Transport(), timeout=timeout_s, trust_env=False)


def _away(why: str) -> bytes:
    detail = f"the gateway cannot be reached: {why}"
    data = {"code": Code.UPSTREAM_UNAVAILABLE.value, "detail": detail}
    return json.dumps({"jsonrpc": "2.0", "id": None, "error": {"code": 1503, "message": detail, "data": data}}).encode()
