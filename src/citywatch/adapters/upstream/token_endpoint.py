"""The token endpoint of somebody else's authorization server, behind its one address.

Decides nothing about tokens. INVARIANTS: it is asked at the address of the configuration and no redirection is
followed, so that an assertion reaches nobody else; an answer is bounded in bytes and in time; what is sent and what
comes back stands in no error.
SPEC: RFC 6749 §3.2.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from typing import Final
from urllib.parse import urlsplit

from citywatch.core.errors import Code, Malformed, Unavailable
from citywatch.core.wire.token_grant import MAX_ANSWER

MAX_HEAD: Final = 16_384
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")
_LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length:[ \t]*(\d{1,9})[ \t]*\r\n")
_CODED: Final = re.compile(rb"(?i)\r\n(transfer|content)-encoding:")


class HttpTokenEndpoint:
    """`service.borrowed.TokenEndpoint` over HTTP/1.0: one form, one answer, one connection."""

    def __init__(self, url: str, *, ca: str | None, timeout_s: float) -> None:
        """`ca` is a PEM file that alone is trusted for it. Raises `Malformed` for what is no address to ask."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or not url.isascii():
            raise Malformed(f"`{url}` is no token endpoint")
        self._name = f"{parts.scheme}://{parts.netloc}"
        self._host, self._port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._head = (
            f"POST {target} HTTP/1.0\r\nHost: {parts.netloc}\r\nAccept: application/json\r\nUser-Agent: citywatch\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n"
        )
        try:
            self._tls = ssl.create_default_context(cafile=ca) if parts.scheme == "https" else None
        except (OSError, ssl.SSLError):
            raise Malformed(f"`{ca}` holds no certificates to trust") from None
        self._timeout_s = timeout_s

    async def ask(self, form: bytes) -> tuple[int, bytes]:
        """Send the form; `Unavailable` where no whole answer comes, or one that leads elsewhere."""
        try:
            async with asyncio.timeout(self._timeout_s):
                status, body = await self._post(form)
        except TimeoutError:
            raise Unavailable(Code.UPSTREAM_TIMEOUT, f"{self._name} did not answer in time") from None
        except ssl.SSLCertVerificationError as failure:
            why = f"{self._name} did not prove itself: {failure.verify_message.lower()}"
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, why) from None
        except OSError as failure:
            why = (failure.strerror or type(failure).__name__).lower()
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, f"{self._name} cannot be reached: {why}") from None
        if 300 <= status < 400:
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, f"{self._name} leads elsewhere, where nobody is asked")
        return status, body

    async def _post(self, form: bytes) -> tuple[int, bytes]:
        host = self._host if self._tls is not None else None
        reader, writer = await asyncio.open_connection(
            self._host, self._port, ssl=self._tls, server_hostname=host, limit=MAX_HEAD
        )
        try:
            writer.write(f"{self._head}Content-Length: {len(form)}\r\n\r\n".encode("ascii") + form)
            await writer.drain()
            data = bytearray()
            while part := await reader.read(MAX_ANSWER):
                data += part
                if len(data) > MAX_HEAD + MAX_ANSWER:
                    raise Unavailable(Code.UPSTREAM_UNAVAILABLE, f"the answer of {self._name} is too long")
        finally:
            writer.transport.abort()
        return self._read(bytes(data))

    def _read(self, answer: bytes) -> tuple[int, bytes]:
        head, blank, body = answer.partition(b"\r\n\r\n")
        status, length = _STATUS.match(answer), _LENGTH.search(head + b"\r\n")
        whole = bool(blank) and status is not None and (length is None or int(length[1]) == len(body))
        if not whole or status is None or _CODED.search(head + b"\r\n"):
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, f"the answer of {self._name} is not whole")
        return int(status[1]), body
