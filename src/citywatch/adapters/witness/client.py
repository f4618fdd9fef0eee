"""The log's side of C2SP tlog-witness: one POST, its answer in the port's words.

Decides nothing: whether a cosignature is good is for `service.witnessing`. `HttpWitness` is `service.ports.Witness`.
INVARIANTS: an answer is bounded in size and time, and whoever drips it holds no thread of ours; no redirect is
followed, no proxy asked; an answer that was cut off is no answer.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Sequence
from urllib.parse import urlsplit

from citywatch.core.errors import Code, Malformed, Unavailable
from citywatch.core.log.witness import Submission, format_submission
from citywatch.service.ports import Cosigned, WitnessedSize, WitnessRefused

MAX_ANSWER_BYTES = 65_536
_SIZE = re.compile(rb"(0|[1-9][0-9]{0,18})\n\Z")
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: [^\r\n]*)?\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r\n", re.IGNORECASE)


class HttpWitness:
    """A witness at a URL: the submission prefix, without `/add-checkpoint`."""

    def __init__(self, url: str, *, timeout_s: float, ca: str | None = None) -> None:
        """`ca` is a file of certificates to trust instead of the system's. Raises `Malformed` for what is no URL."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise Malformed(f"`{url}` is not a witness's URL") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or not url.isascii():
            raise Malformed(f"`{url}` is not a witness's URL: expected http(s)://host[:port][/prefix]")
        if parts.query or parts.fragment or not url.isprintable() or " " in url:
            raise Malformed(f"`{url}` is not a witness's URL: expected http(s)://host[:port][/prefix]")
        self._host, self._port = parts.hostname, port or (443 if parts.scheme == "https" else 80)
        self._authority = parts.netloc
        self._tls = ssl.create_default_context(cafile=ca) if parts.scheme == "https" else None
        self._path = parts.path.rstrip("/") + "/add-checkpoint"
        self._timeout_s = timeout_s

    async def add_checkpoint(
        self, old: int, proof: Sequence[bytes], note: bytes
    ) -> Cosigned | WitnessedSize | WitnessRefused:
        """Ask for a cosignature. Raises `Unavailable` when the witness does not answer, or with what makes no sense."""
        body = format_submission(Submission(old, tuple(proof), note))
        try:
            async with asyncio.timeout(self._timeout_s):
                status, answer = await self._post(body)
        except TimeoutError:
            raise Unavailable(Code.UPSTREAM_TIMEOUT, "no answer in time") from None
        except OSError as error:
            text = error.strerror or type(error).__name__
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, text.lower()) from None
        if status == 200:
            return Cosigned(answer)
        size = _SIZE.match(answer)
        if status == 409 and size:
            return WitnessedSize(int(size[1]))
        if status in (409, 422):  # it has judged our history; 400, 403 and 404 are an operator's mistake, soon mended
            return WitnessRefused(f"status {status}, {_line(answer)}")
        raise Unavailable(Code.UPSTREAM_UNAVAILABLE, f"status {status}, {_line(answer)}")

    async def _post(self, body: bytes) -> tuple[int, bytes]:
        # HTTP/1.0: no chunks, no connection to keep, so that the whole client is these lines.
        head = (
            f"POST {self._path} HTTP/1.0\r\nHost: {self._authority}\r\nContent-Type: text/plain; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        name = self._host if self._tls else None
        reader, writer = await asyncio.open_connection(self._host, self._port, ssl=self._tls, server_hostname=name)
        try:
            writer.write(head.encode() + body)
            await writer.drain()
            data = await _read_all(reader)
        finally:
            writer.transport.abort()  # nothing more is to be said, and a slow peer is not waited for
        return _parse(data)


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    data = b""
    while len(data) <= MAX_ANSWER_BYTES:
        part = await reader.read(MAX_ANSWER_BYTES)
        if not part:
            return data
        data += part
    raise Unavailable(Code.UPSTREAM_UNAVAILABLE, "the answer is too long")


def _parse(data: bytes) -> tuple[int, bytes]:
    head, blank, body = data.partition(b"\r\n\r\n")
    status, length = _STATUS.match(data), _LENGTH.search(head + b"\r\n")
    if not blank or not status or (length and int(length[1]) != len(body)):
        raise Unavailable(Code.UPSTREAM_UNAVAILABLE, "the answer is not whole")
    return int(status[1]), body


def _line(answer: bytes) -> str:
    """What a stranger says, cut and made harmless for our own log lines."""
    return ascii(answer[:120].decode("utf-8", "replace").split("\n")[0])[1:-1]
