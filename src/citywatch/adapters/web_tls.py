"""TLS with a certificate of the Web's: a file of somebody else's, who renews it under a running gateway.

Decides nothing about readers: none is asked for papers. INVARIANTS: only TLS 1.3; a key file that others could read, or
change, is refused; a pair that does not belong together, or cannot be read, leaves the one before.
"""

from __future__ import annotations

import hashlib
import os
import ssl
import stat
from pathlib import Path

from citywatch.core.errors import Malformed

MOST = 1 << 18


class WebTls:
    """`context` is what a listener is given, once; `look` changes what is inside."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Read both; `Malformed` if they cannot be shown."""
        self._certificate, self._key = certificate, key
        self._current: ssl.SSLContext | None = None
        self._read = b""
        self.context = _context()
        self.context.sni_callback = self._show_current
        self.look()

    def look(self) -> bool:
        """Show what is in the files now, from the next connection on; whether it is another than before."""
        certificate, key = _content(self._certificate), _content(self._key, secret=True)
        read = hashlib.sha256(certificate + b"\0" + key).digest()
        if read == self._read:
            return False
        context = _context()
        try:
            # A password would be asked of the terminal: a key file that wants one is refused instead.
            context.load_cert_chain(self._certificate, self._key, password=lambda: "")
        except (ssl.SSLError, OSError, ValueError):
            why = f"`{self._certificate}` and `{self._key}` are no certificate and its key"
            raise Malformed(why) from None
        self._current, self._read = context, read
        return True

    def _show_current(self, handshake: ssl.SSLObject, host: str | None, outer: ssl.SSLContext) -> int | None:
        if self._current is None:
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        handshake.context = self._current
        return None


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    return context


def _content(path: Path, *, secret: bool = False) -> bytes:
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if secret and (stat.S_IMODE(found.st_mode) & 0o077 or found.st_uid not in (0, os.geteuid())):
                raise Malformed(f"`{path}` is open to others: it has to be the gateway's alone, with mode 0600")
            return file.read(MOST)
    except OSError as failure:
        raise Malformed(f"`{path}` cannot be read: {(failure.strerror or 'no file').lower()}") from None
