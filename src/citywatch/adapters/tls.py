"""TLS at both ends: the gateway shows its SVID and asks for an agent's; an agent checks the gateway's.

Decides which handshakes succeed: TLS 1.3, and of client certificates only such as an authority issued whose trust
domain is believed. The library knows no trust domains and would take one authority's word for any name: so what a
certificate says is held against its own domain's bundle as soon as the handshake is done (`gateway.secure`), before
anything is read. Whom it names, and whether that one still may act, is asked again of each request (`core.identity`).

INVARIANTS: only trust bundles are trusted, never the system's authorities; a connection lives under the certificate
and the bundle that were installed when it began, and the next one under today's, without a restart; no session is
resumed, so that every connection has shown its papers; the gateway's own key is drawn here for one certificate, lives
as long as that one is shown, and is on no disk that anybody could copy.
"""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, NoReturn

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.identity.bundle import TrustBundle
from citywatch.core.identity.certificate import format_certificate
from citywatch.core.identity.credential import GatewayCredential, check_time
from citywatch.core.identity.x509 import verify_gateway_svid, verify_leaf

_DER = 2
"""What the library's own certificates are asked for; its name for it is as private as the method on 3.11 and 3.12."""


def shown_chain(handshake: ssl.SSLObject) -> tuple[bytes, ...]:
    """What the other end showed in a handshake, in DER and in its order, leaf first; empty if it showed nothing.

    The leaf alone, where the library does not say more: who stands below an authority in between is refused then.
    """
    leaf = handshake.getpeercert(binary_form=True)
    if not leaf:
        return ()
    listed = getattr(handshake, "get_unverified_chain", None)
    if listed is None:
        inner: Any = getattr(handshake, "_sslobj", None)
        listed = getattr(inner, "get_unverified_chain", None)
    found = [] if listed is None else (listed() or [])
    chain = tuple(one if isinstance(one, bytes) else bytes(one.public_bytes(_DER)) for one in found)
    return chain if chain[:1] == (leaf,) else (leaf,)


class TlsKey:
    """A key on P-256 for one certificate. `public` is its DER; the private half goes into a TLS context only."""

    __slots__ = ("_key", "public")

    def __init__(self, given: bytes | None = None) -> None:
        """`given` is a key (PKCS#8 in DER) that an authority outside drew for us."""
        self._key = ec.generate_private_key(ec.SECP256R1()) if given is None else _read_key(given)
        self.public = self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def load(self, context: ssl.SSLContext, chain: Sequence[bytes]) -> None:
        """Put certificate and key into a context; `Malformed` if they do not belong together.

        The library takes keys from a file only. So what lies there for a moment is encrypted, with a password that is
        nowhere else: neither a backup nor a crash in that moment leaves the key behind.
        """
        password = secrets.token_hex(32).encode("ascii")
        pem = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password))
        with _written(chain, pem.decode("ascii")) as file:
            try:
                context.load_cert_chain(file, password=password)
            except (ssl.SSLError, OSError, ValueError):
                raise Malformed("the key is not that of the certificate") from None

    def __repr__(self) -> str:
        return "TlsKey()"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is not copied")


def _read_key(data: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_der_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Malformed("the key that came with the certificate cannot be read") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Malformed("the key that came with the certificate is not on P-256")
    return key


class GatewayTls:
    """The gateway's side. `context` is what a listener is given, once; `install` changes what is inside."""

    def __init__(self) -> None:
        self._current: ssl.SSLContext | None = None
        self._shown: tuple[Sequence[bytes], TlsKey] | None = None
        self.context = _server_context()
        # Called in each handshake, also of clients that name no host. What the listener holds has no certificate at
        # all: a handshake before the first `install` fails.
        self.context.sni_callback = self._show_current

    def install(
        self, chain: Sequence[bytes], key: TlsKey, bundle: TrustBundle, others: Sequence[TrustBundle] = ()
    ) -> None:
        """Show this certificate (DER, leaf first) and believe these bundles from the next connection on.

        `key` is the leaf's. Raises `Malformed` if they do not belong together; then everything stays as it was.
        """
        context = _server_context()
        _trust(context, bundle)
        for other in others:
            if other.certificates:
                _trust(context, other)
        key.load(context, chain)
        self._current, self._shown = context, (chain, key)

    def believe(self, bundle: TrustBundle, others: Sequence[TrustBundle]) -> None:
        """Believe these bundles from the next connection on, and show what was shown before."""
        if self._shown is not None:
            self.install(*self._shown, bundle, others)

    def lend(self, context: ssl.SSLContext) -> None:
        """Put what is shown now into a context in which we are the client; `Malformed` before anything is shown."""
        if self._shown is None:
            raise Malformed("there is no certificate to show yet")
        chain, key = self._shown
        key.load(context, chain)

    def _show_current(self, handshake: ssl.SSLObject, host: str | None, outer: ssl.SSLContext) -> int | None:
        if self._current is None:
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        handshake.context = self._current
        return None


class GatewayPin:
    """An agent's side: it talks to its trust domain's gateway and to nobody else.

    With a certificate the agent also proves itself in the handshake (mTLS).
    """

    def __init__(
        self,
        bundle: TrustBundle,
        now: Callable[[], int],
        leeway_ms: int,
        *,
        certificate: tuple[Sequence[bytes], Path] | None = None,
    ) -> None:
        """`now` gives milliseconds since the epoch; `certificate` is a chain (DER) and the file of its key (PEM)."""
        self._bundle = bundle
        self._now = now
        self._leeway = leeway_ms
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _harden(self.context)
        _trust(self.context, bundle)
        if certificate is not None:
            _load(self.context, *certificate)

    def check(self, handshake: ssl.SSLObject) -> GatewayCredential:
        """Return the gateway's credential after a handshake; `Refused` if it was another's.

        Any agent holds a certificate of the same authority: only the SPIFFE ID tells the gateway from them.
        """
        chain = shown_chain(handshake)
        if not chain:
            raise Refused(Code.CREDENTIAL_MISSING, "the gateway showed no certificate")
        gateway = verify_gateway_svid(chain, self._bundle)
        check_time(gateway, self._now(), self._leeway)
        return gateway


class SpiffePin:
    """Our side where we are the client of somebody in another trust domain: it must prove one SPIFFE ID.

    `context` trusts that domain's bundle and nothing else; with `shown` we prove ourselves as well.
    """

    def __init__(
        self,
        bundle: TrustBundle,
        spiffe_id: str,
        now: Callable[[], int],
        leeway_ms: int,
        *,
        shown: GatewayTls | None = None,
    ) -> None:
        """`now` gives milliseconds since the epoch; `shown` is our own side, whose present certificate is shown."""
        self._bundle = bundle
        self._spiffe_id = spiffe_id
        self._now = now
        self._leeway = leeway_ms
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname = False  # a SPIFFE ID is asked for, wherever it is reached
        _harden(self.context)
        _trust(self.context, bundle)
        if shown is not None:
            shown.lend(self.context)

    def check(self, handshake: ssl.SSLObject) -> None:
        """Return after a handshake with whom was meant; `Refused` if it was another's."""
        chain = shown_chain(handshake)
        if not chain:
            raise Refused(Code.CREDENTIAL_MISSING, "the other end showed no certificate")
        leaf = verify_leaf(chain, self._bundle)
        if leaf.name != self._spiffe_id:  # anybody of that domain holds a certificate of the same authority
            raise Refused(Code.CREDENTIAL_BAD_NAME, f"the other end is not `{self._spiffe_id}`")
        if not leaf.not_before - self._leeway <= self._now() < leaf.not_after + self._leeway:
            raise Refused(Code.CREDENTIAL_EXPIRED, "the other end's certificate is not valid now")


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.num_tickets = 0
    return context


def _harden(context: ssl.SSLContext) -> None:
    # 1.2 would resume sessions by their id, past the check of the certificate, and Python cannot switch that off.
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_TICKET
    # What a bundle holds is where a path ends, whoever signed that: SPIRE below another authority has such bundles.
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    context.set_alpn_protocols(["http/1.1"])


def _trust(context: ssl.SSLContext, bundle: TrustBundle) -> None:
    if not bundle.certificates:
        raise Malformed(f"the bundle of `{bundle.domain}` has no authority for certificates")
    for certificate in bundle.certificates:
        context.load_verify_locations(cadata=format_certificate(certificate))


def _load(context: ssl.SSLContext, chain: Sequence[bytes], key_file: Path) -> None:
    with _written(chain) as file:
        try:
            # A password would be asked of the terminal: a key file that wants one is refused instead.
            context.load_cert_chain(file, key_file, password=_no_password)
        except (ssl.SSLError, OSError, ValueError):
            raise Malformed(f"`{key_file}` does not hold the key of the certificate") from None


@contextmanager
def _written(chain: Sequence[bytes], key: str = "") -> Iterator[Path]:
    """The library takes certificates from a file only; they are public, and the file is gone at once."""
    with NamedTemporaryFile("w", suffix=".pem", encoding="ascii") as file:
        file.writelines([*map(ssl.DER_cert_to_PEM_cert, chain), key])
        file.flush()
        yield Path(file.name)


def _no_password() -> str:
    return ""
