"""The SPIFFE Workload API from its other side: our own papers, where another authority than ours issues them.

Decides nothing; what comes is held against what it should be by `service.outside`. INVARIANTS: only a Unix socket is
asked, the one of the configuration, whose owner is whoever can give a gateway its identity; a reply is bounded; the
private half of our key goes nowhere but into the value that is handed on.
SPEC: SPIFFE Workload API §4 to §6, SPIFFE Workload Endpoint §4 and §5.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from citywatch.adapters.workload.messages import MAX_REPLY, parse_certificate_reply, parse_token_bundles
from citywatch.adapters.workload.server import HEADER, SERVICE
from citywatch.core.errors import Code, Malformed, Unavailable
from citywatch.service.outside import OwnPapers

CONNECT_S: Final = 10.0


class WorkloadClient:
    """What stands behind one socket, as `service.outside.Identity`."""

    def __init__(self, socket: str, spiffe_id: str = "") -> None:
        """`socket` is the path of the socket; `spiffe_id` says which papers are ours, if it gives us several."""
        self._spiffe_id = spiffe_id
        self.name = f"unix://{socket}"
        self._target = f"unix:{socket}"
        try:
            self._grpc: Any = importlib.import_module("grpc")
        except ImportError:
            raise Malformed("the Workload API needs gRPC: `pip install 'citywatch[workload]'`") from None

    async def papers(self) -> AsyncIterator[OwnPapers]:
        """Our certificate, key and authorities, and each change of them; `Unavailable` when the stream ends."""
        async with self._stream("FetchX509SVID") as replies:
            async for reply in replies:
                yield parse_certificate_reply(reply, self._spiffe_id)

    async def token_bundles(self) -> AsyncIterator[Mapping[str, bytes]]:
        """The keys that verify tokens, by trust domain, and each change of them."""
        async with self._stream("FetchJWTBundles") as replies:
            async for reply in replies:
                yield parse_token_bundles(reply)

    @asynccontextmanager
    async def _stream(self, method: str) -> AsyncIterator[AsyncIterator[bytes]]:
        options = (("grpc.max_receive_message_length", MAX_REPLY), ("grpc.enable_http_proxy", 0))
        async with self._grpc.aio.insecure_channel(self._target, options=options) as channel:
            call = channel.unary_stream(f"/{SERVICE}/{method}")(b"", metadata=(HEADER,))
            try:
                yield call
                raise Unavailable(Code.UPSTREAM_UNAVAILABLE, f"{self.name} has ended the stream")
            except self._grpc.aio.AioRpcError as failure:
                why = f"{self.name} gives no papers: {failure.code().name.lower()}"
                raise Unavailable(Code.UPSTREAM_UNAVAILABLE, why) from None
            finally:
                call.cancel()
