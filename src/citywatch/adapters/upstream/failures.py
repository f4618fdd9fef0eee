"""Why an upstream was not reached, as whoever asked is told it.

Decides the code and the words. INVARIANT: whoever asked is told that nobody answers, that nothing proves who does, or
that it took too long; what the machine and its libraries say of it is the operator's.
"""

from __future__ import annotations

import socket
import ssl

from citywatch.adapters.upstream.resolve import PrivateAddressError
from citywatch.core.errors import Code, Refused, Unavailable


def unreached(name: str, failure: OSError) -> Unavailable:
    """The failure of a connection that was to be opened."""
    if isinstance(failure, ssl.SSLCertVerificationError):
        told = f"whoever answers as `{name}` shows no certificate that proves it; nothing was sent there"
        return Unavailable(Code.UPSTREAM_UNPROVEN, told, operator=f"{told}: {failure.verify_message}")
    told = f"`{name}` cannot be reached: {_why(failure)}"
    return Unavailable(Code.UPSTREAM_UNAVAILABLE, told, operator=f"{told} ({type(failure).__name__}: {failure})")


def unproven(name: str, failure: Refused) -> Unavailable:
    """Somebody answers with papers, and they are not those of whom the file names."""
    why = failure.detail or failure.code.value
    return Unavailable(Code.UPSTREAM_UNPROVEN, f"whoever answers as `{name}` is another: {why}; nothing was sent there")


def _why(failure: OSError) -> str:
    if isinstance(failure, TimeoutError):
        return "it took too long"
    if isinstance(failure, PrivateAddressError):
        return "its name leads to no public address"
    if isinstance(failure, socket.gaierror):
        return "its name leads nowhere"
    if isinstance(failure, ssl.SSLError):
        return "no TLS that we take is spoken there"
    return "nobody answers there" if isinstance(failure, ConnectionRefusedError) else "the connection was not made"
