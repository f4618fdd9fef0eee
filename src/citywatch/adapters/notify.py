"""Where notices go: an HTTP address (a signed webhook, or one like Slack's), a mail server. `service.ports.Notifier`.

Decides nothing. INVARIANTS: a server is proved over TLS, but for one on loopback; no redirect is followed, no proxy
asked; what is sent is bounded in time; a secret stands in no error.
"""

from __future__ import annotations

import asyncio
import http.client
import smtplib
import ssl
from collections.abc import Callable
from email.message import EmailMessage
from ipaddress import ip_address
from urllib.parse import urlsplit

from citywatch.core.approvals.notice import HEADER, Notice, sign_header, slack_body, text_of, webhook_body
from citywatch.core.errors import Code, Malformed, Unavailable

TIMEOUT_S = 10.0
SUBMISSIONS = 465
"""The port on which TLS comes first; on any other it begins with STARTTLS."""
Secret = Callable[[], str]
"""Gives it whenever it is needed, so that it can be rotated; raises `Unavailable`."""


class Webhook:
    """Posts notices to an address: signed with `secret`, or in Slack's form to the address that *is* the secret."""

    def __init__(self, *, url: str = "", secret: Secret, slack: bool = False, ca: str | None = None) -> None:
        self._url = url
        self._secret = secret
        self._slack = slack
        self._ca = ca

    async def send(self, notice: Notice) -> None:
        """Raises `Unavailable` unless the other side took it."""
        secret = self._secret()
        url = secret if self._slack else self._url
        body = slack_body(notice) if self._slack else webhook_body(notice)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
        if not self._slack:
            try:
                headers[HEADER] = sign_header(secret.encode(), notice, body)
            except Malformed as fault:
                raise Unavailable(Code.UPSTREAM_UNAVAILABLE, str(fault)) from None
        await _bounded(lambda: self._post(url, headers, body))

    def _post(self, url: str, headers: dict[str, str], body: bytes) -> None:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme == "https":
            tls = ssl.create_default_context(cafile=self._ca)
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, parts.port, timeout=TIMEOUT_S, context=tls
            )
        elif parts.scheme == "http" and _is_loopback(host):
            connection = http.client.HTTPConnection(host, parts.port, timeout=TIMEOUT_S)
        else:
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, "notices go over https, or to this machine")
        try:
            connection.request("POST", parts.path or "/", body, headers)
            status = connection.getresponse().status
        finally:
            connection.close()
        if not 200 <= status < 300:  # a redirect is none that was configured
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, f"status {status}")


class Mail:
    """Sends notices by mail, over TLS, or in plain to a server on loopback."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        sender: str,
        to: tuple[str, ...],
        user: str = "",
        secret: Secret | None = None,
        ca: str | None = None,
    ) -> None:
        self._host, self._port = host, port
        self._sender, self._to = sender, to
        self._user, self._secret = user, secret
        self._ca = ca

    async def send(self, notice: Notice) -> None:
        """Raises `Unavailable` unless the server took it for everybody."""
        message = EmailMessage()
        message["From"], message["To"] = self._sender, ", ".join(self._to)
        message["Subject"] = f"citywatch: {notice.waiting} to answer"
        message["Message-ID"] = f"<{notice.id}@citywatch.invalid>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(text_of(notice) + "\n")
        password = None if self._secret is None else self._secret()
        await _bounded(lambda: self._submit(message, password))

    def _submit(self, message: EmailMessage, password: str | None) -> None:
        tls = ssl.create_default_context(cafile=self._ca)
        if self._port == SUBMISSIONS:
            server: smtplib.SMTP = smtplib.SMTP_SSL(self._host, self._port, timeout=TIMEOUT_S, context=tls)
        else:
            server = smtplib.SMTP(self._host, self._port, timeout=TIMEOUT_S)
        with server:
            if self._port != SUBMISSIONS and (self._ca is not None or not _is_loopback(self._host)):
                server.starttls(context=tls)
            if password is not None:
                server.login(self._user, password)
            if server.send_message(message):
                raise Unavailable(Code.UPSTREAM_UNAVAILABLE, "the mail server took it not for everybody")


async def _bounded(act: Callable[[], None]) -> None:
    try:
        async with asyncio.timeout(3 * TIMEOUT_S):
            await asyncio.to_thread(act)
    except TimeoutError:
        raise Unavailable(Code.UPSTREAM_TIMEOUT, "no answer in time") from None
    except (OSError, http.client.HTTPException, smtplib.SMTPException, ValueError) as failure:
        # Its name alone: what a server writes back may repeat what it was sent
        raise Unavailable(Code.UPSTREAM_UNAVAILABLE, type(failure).__name__) from None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
