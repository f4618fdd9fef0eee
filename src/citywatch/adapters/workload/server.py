"""The SPIFFE Workload API over gRPC, for one run of one program.

Decides which request is one: the header of the specification is demanded of each, so that a browser or a proxy that
was talked into connecting gets nothing. Who is on the other end was decided before (`door`).
INVARIANTS: every refusal has a gRPC status and one line that holds no secret; what is not ours to explain is `INTERNAL`
without a word. SPEC: SPIFFE Workload API; SPIFFE Workload Endpoint §4 to §6.
"""

from __future__ import annotations

import importlib
import json
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final

from citywatch.adapters.workload import messages
from citywatch.adapters.workload.key import WorkloadKey
from citywatch.core.errors import CitywatchError, Code, Malformed, Refused, Unavailable
from citywatch.core.identity.bundle import TrustBundle, format_bundle
from citywatch.core.identity.certificate import format_certificate
from citywatch.service.freshness import Freshness, Shown

SERVICE: Final = "SpiffeWorkloadAPI"
HEADER: Final = ("workload.spiffe.io", "true")
STREAMS: Final = 64
GRACE_S: Final = 1.0


class WorkloadApi:
    """The five methods of the API; each takes the bytes of a request and gives those of a reply."""

    def __init__(self, papers: Freshness, key: WorkloadKey) -> None:
        self._papers = papers
        self._key = key

    async def fetch_certificates(self, request: bytes) -> AsyncIterator[bytes]:
        """FetchX509SVID: the certificate, its key and the bundle; again whenever one of them changes."""
        messages.parse_empty(request)
        agent, key = str(self._papers.run.agent), self._key.hand_over()
        async for shown in self._papers.follow():
            own, others = _authorities(shown.bundle), _by_domain(_authorities, shown.others.values())
            yield messages.format_certificate_reply(agent, shown.certificate.value, key, own, others)

    async def fetch_certificate_bundles(self, request: bytes) -> AsyncIterator[bytes]:
        """FetchX509Bundles: whose certificates to believe; again whenever that changes."""
        messages.parse_empty(request)
        async for bundles in self._bundles():
            yield messages.format_certificate_bundles(_by_domain(_authorities, bundles))

    async def fetch_token_bundles(self, request: bytes) -> AsyncIterator[bytes]:
        """FetchJWTBundles: whose tokens to believe; again whenever that changes."""
        messages.parse_empty(request)
        async for bundles in self._bundles():
            yield messages.format_token_bundles(_by_domain(_token_keys, bundles))

    async def fetch_token(self, request: bytes) -> bytes:
        """FetchJWTSVID: a token for one audience."""
        asked = messages.parse_token_request(request)
        agent = str(self._papers.run.agent)
        if len(asked.audiences) != 1 or not asked.audiences[0]:
            raise Malformed("ask for a token for one audience: of two, the first could show it to the second")
        if asked.spiffe_id not in ("", agent):
            raise Refused(Code.CREDENTIAL_BAD_NAME, "this program has no other name than its own")
        self._papers.shown()
        try:
            token = await self._papers.run.token(asked.audiences[0])
        except Malformed:  # the authority's keys, not what was asked
            raise Unavailable(Code.STORE_UNAVAILABLE) from None
        return messages.format_token_reply(agent, token.value.decode("ascii"))

    async def validate_token(self, request: bytes) -> bytes:
        """ValidateJWTSVID: whose token this is, and what else it says."""
        asked = messages.parse_validate_request(request)
        if not asked.audience or not asked.token:
            raise Malformed("name the audience and the token")
        try:
            credential = await self._papers.run.validate(asked.token, asked.audience)
        except Refused as failure:  # SPEC: Workload API §6.2.3: what is no valid token is an invalid argument
            raise Malformed(f"the token is not good: {failure.code.value}") from None
        return messages.format_validate_reply(credential.agent, _claims(asked.token))

    async def _bundles(self) -> AsyncIterator[tuple[TrustBundle, ...]]:
        """Ours first, then each other domain's; again whenever one of them is another."""
        last: Shown | None = None
        async for shown in self._papers.follow():
            if last is None or (last.bundle.sequence, last.others) != (shown.bundle.sequence, shown.others):
                last = shown
                yield (shown.bundle, *shown.others.values())


@asynccontextmanager
async def open_server(api: WorkloadApi, path: str) -> AsyncIterator[None]:
    """Serve on a Unix socket that only we reach; streams end with it."""
    try:
        grpc: Any = importlib.import_module("grpc")
    except ImportError:
        raise Malformed("the Workload API needs gRPC: `pip install 'citywatch[workload]'`") from None
    server = grpc.aio.server(
        options=(
            ("grpc.max_receive_message_length", messages.MAX_REQUEST),
            ("grpc.max_metadata_size", 16_384),
            ("grpc.max_concurrent_streams", STREAMS),
            ("grpc.so_reuseport", 0),
        ),
        maximum_concurrent_rpcs=STREAMS,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, _handlers(api, grpc)),))
    if server.add_insecure_port(f"unix:{path}") == 0:
        raise Unavailable(Code.OVERLOADED, "the Workload API cannot listen", operator=f"cannot listen on `{path}`")
    await server.start()
    try:
        yield
    finally:
        await server.stop(GRACE_S)


def _handlers(api: WorkloadApi, grpc: Any) -> dict[str, Any]:
    def unary(serve: Callable[[bytes], Awaitable[bytes]]) -> Any:
        async def handle(request: bytes, context: Any) -> Any:
            try:
                _check_header(context)
                return await serve(request)
            except Exception as failure:  # the one broad except of this entry point; it refuses
                return await _abort(grpc, context, failure)

        return grpc.unary_unary_rpc_method_handler(handle)

    def stream(serve: Callable[[bytes], AsyncIterator[bytes]]) -> Any:
        async def handle(request: bytes, context: Any) -> AsyncIterator[bytes]:
            try:
                _check_header(context)
                async for reply in serve(request):
                    yield reply
            except Exception as failure:  # as above
                await _abort(grpc, context, failure)

        return grpc.unary_stream_rpc_method_handler(handle)

    return {
        "FetchX509SVID": stream(api.fetch_certificates),
        "FetchX509Bundles": stream(api.fetch_certificate_bundles),
        "FetchJWTSVID": unary(api.fetch_token),
        "FetchJWTBundles": stream(api.fetch_token_bundles),
        "ValidateJWTSVID": unary(api.validate_token),
    }


def _check_header(context: Any) -> None:
    """# INVARIANT: SPEC: Workload Endpoint §5: a request without the header is refused as an invalid argument."""
    name, value = HEADER
    if [one for key, one in context.invocation_metadata() if key == name] != [value]:
        raise Malformed(f"a request needs the metadata `{name}: {value}`")


async def _abort(grpc: Any, context: Any, failure: Exception) -> Any:
    match failure:
        case Malformed():
            status, told = grpc.StatusCode.INVALID_ARGUMENT, str(failure)
        case Refused():
            status, told = grpc.StatusCode.PERMISSION_DENIED, f"{failure.code.value}: {failure.detail}"
        case Unavailable():
            status, told = grpc.StatusCode.UNAVAILABLE, failure.code.value  # its detail may name places of ours
        case CitywatchError():
            status, told = grpc.StatusCode.UNAVAILABLE, "no papers can be issued now"
        case _:
            status, told = grpc.StatusCode.INTERNAL, ""
    return await context.abort(status, told)


def _by_domain(write: Callable[[TrustBundle], bytes], bundles: Iterable[TrustBundle]) -> dict[str, bytes]:
    """Each domain under its own name, and none joined with another; who has no such authority is left out."""
    written = {f"spiffe://{bundle.domain}": write(bundle) for bundle in bundles}
    return {name: one for name, one in written.items() if one}


def _authorities(bundle: TrustBundle) -> bytes:
    return b"".join(map(format_certificate, bundle.certificates))


def _token_keys(bundle: TrustBundle) -> bytes:
    if not bundle.keys:
        return b""
    document = json.loads(format_bundle(bundle))
    document["keys"] = [key for key in document["keys"] if key["use"] == "jwt-svid"]
    return json.dumps(document).encode("ascii")


def _claims(token: str) -> dict[str, Any]:
    body = token.split(".")[1]
    claims: dict[str, Any] = json.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return claims
