"""Ask a server what it is as a resource server, before a person approves what it offers.

Decides nothing of its own: `core.wire.oauth` compares. INVARIANT: it is asked at the one address that follows from the
file, and whatever it answers changes nothing of what it will be sent.
"""

from __future__ import annotations

import asyncio
from typing import Final

from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from citywatch.core.wire.jsonrpc import FROM_SERVER, parse_json
from citywatch.core.wire.oauth import check_resource
from citywatch.service.ports import Upstream

FETCH_S: Final = 10.0


async def check_metadata(upstream: Upstream, caller: str, resource: str, issuer: str) -> str:
    """Compare what is published with the file; return a remark if nothing is. Raises `Refused` where they differ.

    `upstream` is where the metadata would be.
    """
    try:
        async with asyncio.timeout(FETCH_S):
            answer = await upstream.listen(caller, {}, None)
            try:
                if answer.status == 404:
                    return "it publishes no protected-resource metadata: the file alone says which resource it is"
                if answer.status != 200 or answer.media != "json" or answer.body is None:
                    raise Unavailable(Code.UPSTREAM_UNAVAILABLE, f"no metadata: status {answer.status}")
                value, _ = parse_json(answer.body, FROM_SERVER)
                check_resource(value, resource, issuer)
            except Malformed as failure:
                raise Refused(Code.REPLY_MALFORMED, str(failure)) from None
            finally:
                await answer.close()
    except TimeoutError:
        raise Unavailable(Code.UPSTREAM_TIMEOUT, "the metadata took too long") from None
    return ""
