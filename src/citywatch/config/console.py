"""The `console` part of the file: where people see the city, and who vouches for them.

Decides which declarations make sense. INVARIANTS: plain HTTP is served on literal loopback addresses only, whatever
stands before it for browsers elsewhere; no secret stands in the file.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import urlunsplit

from citywatch.config.addresses import loopback
from citywatch.config.document import Node
from citywatch.config.issuing import Exchanged
from citywatch.config.reader import Notes, shown, text, url, where
from citywatch.config.servers import credential
from citywatch.config.settings import Console, Oidc
from citywatch.config.table import Section

PORT = 8470
_ORIGIN = re.compile(r"https?://[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[0-9]{1,5})?\Z")


def console(notes: Notes, node: Node, path: str) -> Console | None:
    """Where the console is; each key has a default."""
    section = Section(notes, node, path, "console")
    plain = Console()
    host, port = section.get("listen", _listen, (plain.host, plain.port))
    address: str = section.get("address", _address, "")
    return Console(host=host, port=port, address=address, oidc=section.maybe("oidc", _oidc))


def _listen(notes: Notes, node: Node, path: str) -> tuple[str, int] | None:
    word = text(notes, node, path)
    if word is None:
        return None
    match = re.match(r"(?:http://)?(\[[0-9a-fA-F:.]+\]|[0-9.]+):([0-9]{1,5})/?\Z", word)
    try:
        host = str(ip_address(match[1].strip("[]"))) if match else ""
    except ValueError:
        host = ""
    if match is None or int(match[2]) > 65_535 or not loopback(host):
        advice = f"write 127.0.0.1:{PORT}; for browsers elsewhere put a proxy with TLS before it, and name it `address`"
        notes.wrong(node, path, f"{shown(word)} is not a loopback address to serve on", advice)
        return None
    return host, int(match[2])


def _address(notes: Notes, node: Node, path: str) -> str | None:
    word = text(notes, node, path)
    if word is None:
        return None
    name = word.partition("://")[2].partition(":")[0]
    near = name == "localhost" or name.endswith(".localhost")
    if not _ORIGIN.match(word) or (word.startswith("http:") and not near):
        advice = "write it as https://city.acme.example, without a path"
        notes.wrong(node, path, f"{shown(word)} is not where browsers can safely reach the console", advice)
        return None
    return word


def _oidc(notes: Notes, node: Node, path: str) -> Oidc | None:
    section = Section(notes, node, path, "console.oidc")
    issuer = section.need("issuer", url, "https://login.acme.example")
    client = section.need("client_id", text, "citywatch")
    before = len(notes.mistakes)
    secret = None
    if section.has("credential"):
        secret = credential(notes, *section.at("credential"), "console.oidc.credential")
    ca = section.maybe("ca", where)
    if issuer is None or client is None or isinstance(secret, Exchanged) or len(notes.mistakes) > before:
        return None
    if issuer.scheme != "https" and not loopback(issuer.hostname or ""):
        section.wrong("issuer", "a provider that is reached in plain can be anybody", "write its https address")
        return None
    return Oidc(issuer=urlunsplit(issuer), client=client, credential=secret, ca=ca)
