"""How an agent shows who it is: a certificate over mTLS, a token, or nothing, where `citywatch connect` shows it.

Decides whom papers are shown to. INVARIANTS: over https only who the trust bundle's authority named as the URL's host
is spoken to: an agent's certificate names no host, so that no agent passes for the gateway; a token never crosses a
network in the clear; the system's authorities and proxies are not asked.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable
from pathlib import Path
from urllib.parse import SplitResult

import msgspec

from citywatch.core.errors import Malformed


class Certificate(msgspec.Struct, frozen=True):
    """The folder that `citywatch agent certificate` fills: `svid.pem`, `key.pem`, `bundle.pem`."""

    folder: Path

    def context(self) -> ssl.SSLContext:
        """What a connection is made under; the files are read now."""
        context = _trusting(self.folder / "bundle.pem")
        try:
            # A password would be asked of the terminal: a key that wants one is refused instead.
            context.load_cert_chain(self.folder / "svid.pem", self.folder / "key.pem", password=lambda: "")
        except (ssl.SSLError, OSError, ValueError):
            raise Malformed(
                f"`{self.folder}` holds no certificate with its key: `citywatch agent certificate` writes one"
            ) from None
        return context


class Token(msgspec.Struct, frozen=True):
    """A JWT-SVID: `value` is its text, or gives today's. `bundle` (PEM) proves the gateway over https."""

    value: str | Callable[[], str]
    bundle: Path | None = None

    def shown(self) -> str:
        """The header that shows it."""
        return f"Bearer {self.value if isinstance(self.value, str) else self.value()}"


Papers = Certificate | Token | None


def check_place(url: SplitResult, papers: Papers) -> ssl.SSLContext | None:
    """The TLS to speak to this gateway under, None without; `Malformed` where papers would be shown to anybody."""
    if url.scheme == "https":
        if isinstance(papers, Certificate):
            return papers.context()
        if isinstance(papers, Token) and papers.bundle is not None:
            return _trusting(papers.bundle)
        raise Malformed("https needs papers with the bundle that proves the gateway")
    if isinstance(papers, Certificate):
        raise Malformed("a certificate is shown over https alone")
    if not _is_loopback(url.hostname or ""):
        raise Malformed("plain http is for a gateway, or `citywatch connect`, on this machine: use https")
    return None


def _trusting(bundle: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks the name of the host
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        context.load_verify_locations(bundle)
    except (ssl.SSLError, OSError):
        raise Malformed(f"`{bundle}` holds no trust bundle") from None
    return context


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
