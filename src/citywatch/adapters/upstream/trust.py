"""What makes a TLS connection a server's: an authority of its own, those of a trust domain, or one SPIFFE ID.

Decides nothing. INVARIANT: where it is said who alone has to answer, no authority of the Web's is trusted.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Protocol


class Pin(Protocol):
    """What makes a TLS connection the server's: a context, and a check that raises `Refused` after the handshake."""

    context: ssl.SSLContext

    def check(self, handshake: ssl.SSLObject) -> object: ...


def tls(ca: str | None) -> ssl.SSLContext:
    """One context for the server's life: to make one takes tens of milliseconds."""
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def tls_of(authorities: Sequence[bytes]) -> ssl.SSLContext:
    """TLS to who is known by a SPIFFE ID, which no host's name stands for. SPEC: X509-SVID §5."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False  # `shown` asks whom the certificate names
    context.set_alpn_protocols(["http/1.1"])
    if authorities:
        context.load_verify_locations(cadata=b"".join(authorities))
    return context
