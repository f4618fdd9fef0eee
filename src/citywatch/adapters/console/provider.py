"""Signing in at a provider of OpenID Connect: authorization code with PKCE, state and nonce.

Decides that the browser which comes back is the one that was sent, and asks the provider at the addresses it publishes;
what its token says is `core.identity.login`'s. What has begun is sealed in that browser's hands and kept nowhere, so
nobody's place is taken by who begins many. INVARIANTS: a sign-in is answered once, by the browser that began it, in ten
minutes; code and secret go to the token endpoint and nowhere else, over TLS that is verified (or to loopback);
nothing follows a redirection; answers are bounded in bytes and in time; no token of the provider is kept.
SPEC: OpenID Connect Core §3.1, RFC 7636, RFC 9207, RFC 9700.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from hashlib import sha256
from hmac import compare_digest
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from citywatch.core.identity.foreign import ForeignKey, parse_key_set
from citywatch.core.identity.login import CHALLENGE, Provider, Vouched, parse_provider, verify_id_token
from citywatch.core.identity.token import parse_object, text_claim
from citywatch.service.ports import Clock

WELL_KNOWN: Final = "/.well-known/openid-configuration"
CALLBACK: Final = "/login/callback"
PENDING_MS: Final = 600_000
MOST_ANSWERED: Final = 10_000
FRESH_MS: Final = 600_000
LEEWAY_MS: Final = 30_000
MAX_ANSWER: Final = 262_144
FETCH_S: Final = 10.0
NUMBER_BYTES: Final = 12
OVER: Final = "that sign-in was begun in another browser, was answered before, or its ten minutes are over"


class _Begun(msgspec.Struct, frozen=True):
    """A sign-in that the provider has not answered yet, as the browser that began it holds it."""

    state: str
    nonce: str
    verifier: str
    until: int


class SignIn:
    """One provider, as a client of ours knows it."""

    def __init__(
        self, *, issuer: str, client: str, secret: Callable[[], str] | None, ca: str | None, origin: str, clock: Clock
    ) -> None:
        """`secret` reads the client's secret; None: a public client, which PKCE alone holds to its browser."""
        self.issuer = issuer
        self._client = client
        self._secret = secret
        self._ca = ca
        self._redirect = f"{origin}{CALLBACK}"
        self._clock = clock
        self._seal = AESGCM(AESGCM.generate_key(256))
        self._answered: dict[str, int] = {}
        """By state, until when it could be brought again; past `MOST_ANSWERED` the provider alone takes a code once."""
        self._known: tuple[int, Provider, dict[str, ForeignKey]] | None = None

    async def begin(self) -> tuple[str, str]:
        """Where to send a browser, and what it is to hold meanwhile. `Unavailable` if the provider does not answer."""
        provider, _ = await self._provider()
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        begun = msgspec.json.encode(_Begun(state, nonce, verifier, self._clock.now_ms() + PENDING_MS))
        number = secrets.token_bytes(NUMBER_BYTES)
        held = urlsafe_b64encode(number + self._seal.encrypt(number, begun, None)).decode()
        challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": self._client,
            "redirect_uri": self._redirect,
            "scope": "openid",
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": CHALLENGE,
        }
        mark = "&" if "?" in provider.authorization else "?"
        return f"{provider.authorization}{mark}{urlencode(asked)}", held

    async def finish(self, answer: Mapping[str, str], held: str) -> Vouched:
        """Whom the provider vouches for, by its answer and what the browser held. `Refused` for what does not fit."""
        begun = self._open(answer.get("state", ""), held)
        provider, keys = await self._provider()
        if answer.get("iss", self.issuer) != self.issuer or (provider.names_itself and "iss" not in answer):
            raise _refused("another provider answered")
        code = answer.get("code", "")
        if "error" in answer or not code:
            raise _refused("the provider did not vouch for you")
        token = await self._exchange(provider, code, begun.verifier)
        now = self._clock.now_ms()
        try:
            return verify_id_token(token, self.issuer, self._client, keys, begun.nonce, now, LEEWAY_MS)
        except Malformed:
            _, keys = await self._provider(anew=True)  # it may have changed its keys since
        try:
            return verify_id_token(token, self.issuer, self._client, keys, begun.nonce, now, LEEWAY_MS)
        except Malformed as failure:
            raise _refused(str(failure)) from None

    def _open(self, state: str, held: str) -> _Begun:
        """# INVARIANT: once, by that browser, in time. The sign-in that this browser holds, if it is of this state."""
        now = self._clock.now_ms()
        try:
            sealed = urlsafe_b64decode(held.encode("ascii"))
            opened = self._seal.decrypt(sealed[:NUMBER_BYTES], sealed[NUMBER_BYTES:], None)
            begun = msgspec.json.decode(opened, type=_Begun)
        except (ValueError, InvalidTag):
            raise _refused(OVER) from None
        self._answered = {one: until for one, until in self._answered.items() if until > now}
        right = compare_digest(begun.state.encode(), state.encode("utf-8", "replace"))
        if not right or begun.state in self._answered or now >= begun.until:
            raise _refused(OVER)
        while len(self._answered) >= MOST_ANSWERED:
            del self._answered[next(iter(self._answered))]
        self._answered[begun.state] = begun.until
        return begun

    async def _exchange(self, provider: Provider, code: str, verifier: str) -> str:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect,
            "code_verifier": verifier,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if self._secret is None:
            form["client_id"] = self._client
        else:  # SPEC: RFC 6749 §2.3.1: both are encoded as a form before they are joined
            pair = f"{quote(self._client, safe='')}:{quote(self._secret(), safe='')}"
            headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        try:
            answer = await self._fetch(provider.token, headers, urlencode(form).encode())
            return text_claim(parse_object(answer), "id_token")
        except Malformed:
            raise _refused("the provider's answer holds no ID token") from None

    async def _provider(self, *, anew: bool = False) -> tuple[Provider, dict[str, ForeignKey]]:
        now = self._clock.now_ms()
        if not anew and self._known is not None and self._known[0] <= now < self._known[0] + FRESH_MS:
            return self._known[1:]
        try:
            found = parse_provider(await self._fetch(f"{self.issuer.rstrip('/')}{WELL_KNOWN}"), self.issuer)
            keys = parse_key_set(await self._fetch(found.keys))
        except Malformed as failure:
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, f"the provider of logins: {failure}") from None
        self._known = now, found, keys
        return found, keys

    async def _fetch(self, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> bytes:
        try:
            async with asyncio.timeout(FETCH_S):
                return await _ask(url, headers or {}, body, self._tls(url))
        except TimeoutError:
            raise Unavailable(Code.UPSTREAM_TIMEOUT, "the provider of logins did not answer in time") from None
        except OSError as failure:
            why = (failure.strerror or type(failure).__name__).lower()
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, f"the provider of logins cannot be reached: {why}") from None

    def _tls(self, url: str) -> ssl.SSLContext | None:
        if urlsplit(url).scheme == "http":
            return None
        context = ssl.create_default_context(cafile=self._ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context


async def _ask(url: str, headers: Mapping[str, str], body: bytes | None, tls: ssl.SSLContext | None) -> bytes:
    """One request of HTTP/1.0: no chunks and no connection to keep, so that the whole client is these lines."""
    parts = urlsplit(url)
    port = parts.port or (443 if tls else 80)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    method = "GET" if body is None else "POST"
    lines = [f"{method} {target} HTTP/1.0", f"Host: {parts.netloc}", "Accept: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [] if body is None else [f"Content-Length: {len(body)}"]
    head = "\r\n".join([*lines, "", ""]).encode("ascii")
    reader, writer = await asyncio.open_connection(
        parts.hostname, port, ssl=tls, server_hostname=parts.hostname if tls else None
    )
    try:
        writer.write(head + (body or b""))
        await writer.drain()
        data = bytearray()
        while part := await reader.read(65_536):
            data += part
            if len(data) > MAX_ANSWER:
                raise Unavailable(Code.UPSTREAM_UNAVAILABLE, "the answer of the provider of logins is too long")
    finally:
        writer.transport.abort()
    status, _, rest = bytes(data).partition(b"\r\n")
    header, blank, found = rest.partition(b"\r\n\r\n")
    if not blank or b"transfer-encoding" in header.lower() or status.split(b" ")[1:2] != [b"200"]:
        said = status.split(b" ")[1:2]
        told = said[0].decode("latin-1")[:3] if said else "nothing"
        raise Unavailable(Code.UPSTREAM_UNAVAILABLE, f"the provider of logins answered with {told}")
    return found


def _refused(why: str) -> Refused:
    return Refused(Code.CREDENTIAL_UNTRUSTED, why)
