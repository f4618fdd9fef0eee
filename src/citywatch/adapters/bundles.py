"""Where another trust domain's bundle is: behind an HTTPS address, or in a file.

Decides nothing about bundles (`service.federation`); which certificate proves the address is the caller's, as a TLS
context and a question to ask after the handshake. INVARIANTS: only HTTPS, only the address of the configuration, and no
redirection from it; nothing is sent that is ours; an answer is bounded in bytes and in time, however it is dripped.
SPEC: SPIFFE Federation §5.2.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from citywatch.core.errors import Code, Malformed, Unavailable
from citywatch.core.identity.bundle import MAX_BUNDLE_BYTES, TrustBundle

MAX_HEAD = 16_384
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")
_LENGTH = re.compile(rb"(?i)\r\ncontent-length:[ \t]*(\d{1,9})[ \t]*\r\n")
_CODED = re.compile(rb"(?i)\r\n(transfer|content)-encoding:")
Proof = tuple[ssl.SSLContext, Callable[[ssl.SSLObject], object] | None]


class FileSource:
    """A file that somebody else keeps up to date."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self.name = path

    async def fetch(self, known: TrustBundle | None) -> bytes:
        """The file; `Unavailable` if it cannot be read."""
        return await asyncio.to_thread(read_bundle_file, self._path)


class HttpsSource:
    """A SPIFFE bundle endpoint."""

    def __init__(self, url: str, proof: Callable[[TrustBundle | None], Proof], timeout_s: float) -> None:
        """`proof` gives what the endpoint has to prove itself by, by the bundle that is known."""
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname or "@" in parts.netloc or not url.isascii():
            raise Malformed(f"`{url}` is not the address of a bundle")
        self.name = url
        self._host, self._port = parts.hostname, parts.port or 443
        self._authority = parts.netloc
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._proof = proof
        self._timeout_s = timeout_s

    async def fetch(self, known: TrustBundle | None) -> bytes:
        """What the endpoint answers; `Unavailable` if it does not, `Refused` if it is not the one."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._get(known)
        except TimeoutError:
            raise Unavailable(Code.UPSTREAM_TIMEOUT, f"{self.name} did not answer in time") from None
        except ssl.SSLCertVerificationError as failure:
            why = f"{self.name} did not prove itself: {failure.verify_message.lower()}"
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, why) from None
        except OSError as failure:
            why = (failure.strerror or type(failure).__name__).lower()
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, f"{self.name} cannot be reached: {why}") from None

    async def _get(self, known: TrustBundle | None) -> bytes:
        context, check = self._proof(known)
        reader, writer = await asyncio.open_connection(
            self._host, self._port, ssl=context, server_hostname=self._host, limit=MAX_HEAD
        )
        try:
            if check is not None:
                check(writer.get_extra_info("ssl_object"))
            # HTTP/1.0: no chunks and no connection to keep, so that the whole client is these lines.
            head = f"GET {self._target} HTTP/1.0\r\nHost: {self._authority}\r\nAccept: application/json\r\n\r\n"
            writer.write(head.encode("ascii"))
            await writer.drain()
            return self._body(await self._read(reader))
        finally:
            writer.transport.abort()  # nothing more is to be said, and a slow peer is not waited for

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        data = bytearray()
        while part := await reader.read(MAX_BUNDLE_BYTES):
            data += part
            if len(data) > MAX_HEAD + MAX_BUNDLE_BYTES:
                raise Unavailable(Code.UPSTREAM_UNAVAILABLE, f"the answer of {self.name} is too long")
        return bytes(data)

    def _body(self, answer: bytes) -> bytes:
        head, blank, body = answer.partition(b"\r\n\r\n")
        status, length = _STATUS.match(answer), _LENGTH.search(head + b"\r\n")
        if not blank or status is None or (length is not None and int(length[1]) != len(body)):
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, f"the answer of {self.name} is not whole")
        if status[1] != b"200" or _CODED.search(head + b"\r\n"):
            told = f"the status {status[1].decode()}" if status[1] != b"200" else "an encoding that was not asked for"
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, f"{self.name} answered with {told}")
        return body


def web_proof(ca: str | None) -> Callable[[TrustBundle | None], Proof]:
    """Profile `https_web`: a certificate for the host's name, from an authority of the Web's, or of the file `ca`."""
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError):
        raise Malformed(f"`{ca}` holds no certificates to trust") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return lambda known: (context, None)


def read_bundle_file(path: Path) -> bytes:
    """A bundle's text from a file; `Unavailable` if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BUNDLE_BYTES + 1)
    except OSError as failure:
        raise Unavailable(Code.STORE_UNAVAILABLE, f"`{path}` cannot be read: {failure.strerror}") from None
