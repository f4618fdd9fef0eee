"""The witness's side of C2SP tlog-witness: a bare ASGI app with one address, `POST /add-checkpoint`.

Decides nothing; it reads a bounded request, has it judged against the witness's memory, and signs only after the new
head is on the disk. There is no authentication of requests beyond the log's own signature, as the specification says.
INVARIANTS: nothing is signed that is not remembered; a request is bounded in size and time; what goes wrong refuses.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

import uvicorn

from citywatch.adapters.witness.heads import WitnessHeads
from citywatch.core.errors import Malformed, Unavailable
from citywatch.core.log.checkpoint import Kind, Note, NoteKey, cosignature, cosigned_message, format_signature
from citywatch.core.log.witness import (
    MAX_SUBMISSION_BYTES,
    Declined,
    Head,
    Submission,
    judge_submission,
    parse_submission,
    submitted_origin,
)
from citywatch.service.ports import Clock, Signer

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

PATH = "/add-checkpoint"
BODY_TIME_S = 10.0
_TEXT = b"text/plain; charset=utf-8"


class WitnessApp:
    """One witness: `key` and `signer` are its own, `logs` the keys it trusts, each for the origin that is its name."""

    def __init__(
        self, *, key: NoteKey, signer: Signer, logs: Sequence[NoteKey], heads: WitnessHeads, clock: Clock
    ) -> None:
        """Raises `Malformed` if there is no log to witness, or a key is not of the kind that its place asks for."""
        if not logs or key.kind is not Kind.WITNESS or any(log.kind is not Kind.LOG for log in logs):
            raise Malformed("a witness has a witness's key, and the keys of the logs it is to watch")
        self._key = key
        self._signer = signer
        self._logs: dict[str, list[NoteKey]] = {}
        for log in logs:
            self._logs.setdefault(log.name, []).append(log)
        self._heads = heads
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # `ws="none"` and `lifespan="off"`: nothing else is spoken
        try:
            status, media, body = await self._answer(scope, receive)
        except Exception:
            status, media, body = 500, _TEXT, b"the witness failed\n"
        headers = [(b"content-type", media), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, bytes, bytes]:
        if scope["path"] != PATH:
            return 404, _TEXT, b"there is only POST /add-checkpoint here\n"
        if scope["method"] != "POST":
            return 405, _TEXT, b"a checkpoint is added with POST\n"
        try:
            async with asyncio.timeout(BODY_TIME_S):
                body = await _read(receive)
        except TimeoutError:
            return 408, _TEXT, b"the request took too long\n"
        if body is None:
            return 413, _TEXT, b"the request is too long\n"
        try:
            return await asyncio.to_thread(self._decide, body)
        except Malformed as error:
            return 400, _TEXT, f"{error}\n".encode(errors="replace")
        except Unavailable as error:
            return 503, _TEXT, f"{error}\n".encode(errors="replace")

    def _decide(self, body: bytes) -> tuple[int, bytes, bytes]:
        submission = parse_submission(body)
        result = self._heads.replace(submitted_origin(submission), lambda seen: self._judge(submission, seen))
        if isinstance(result, Declined):
            if result.size is not None:
                return result.status, b"text/x.tlog.size", b"%d\n" % result.size
            return result.status, _TEXT, f"{result.reason}\n".encode()
        # INVARIANT: the head is on the disk by now; only then does a signature over it exist.
        time = self._clock.now_ms() // 1000
        signature = self._signer.sign(cosigned_message(result.text, time))
        return 200, _TEXT, format_signature(cosignature(self._key, time, signature)).encode()

    def _judge(self, submission: Submission, seen: Head) -> tuple[Head, Note] | Declined:
        signed = judge_submission(submission, self._logs, seen)
        if isinstance(signed, Declined):
            return signed
        return Head(signed.checkpoint.size, signed.checkpoint.root), signed.note


async def _read(receive: Receive) -> bytes | None:
    """The whole body, None if it is longer than any request may be."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b""
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_SUBMISSION_BYTES:
            return None
        if not message.get("more_body"):
            return b"".join(parts)


async def serve_witness(
    app: WitnessApp, sockets: Sequence[socket.socket], protocol: type[asyncio.Protocol] | None = None
) -> None:
    """Serve on sockets that are bound already, until SIGTERM or SIGINT.

    `protocol` takes uvicorn's place, which bounds neither the number of headers nor their time, and whose bound on
    connections lets silent ones keep everybody out.
    """
    config = uvicorn.Config(
        app,
        http=protocol or "auto",
        interface="asgi3",
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=64 if protocol is None else None,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=5,
    )
    await uvicorn.Server(config).serve(sockets=list(sockets))
