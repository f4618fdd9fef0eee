"""The `notices` part of the file: where it is said that something waits for a person.

Decides which declarations make sense. INVARIANTS: no secret stands in the file, and neither does an address that is one
(Slack's); what leaves this machine leaves it over TLS.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlunsplit

from citywatch.config.addresses import loopback
from citywatch.config.document import Node
from citywatch.config.reader import Notes, one_of, shown, some, text, url, where
from citywatch.config.servers import credential
from citywatch.config.settings import NoticeChannel
from citywatch.config.table import Section

KINDS = ("webhook", "slack", "mail")
_SERVER = re.compile(r"([A-Za-z0-9.-]{1,253}|\[[0-9a-fA-F:]+\]):([0-9]{1,5})\Z")
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,253}\Z")
_OF = {
    "webhook": ("url", "credential"),
    "slack": ("credential",),
    "mail": ("server", "sender", "to"),
}
_MORE = {"webhook": ("ca",), "slack": (), "mail": ("ca", "user", "credential")}
_WRITTEN = {
    "url": "https://hooks.acme.example/citywatch",
    "credential": "{env: NAME}",
    "server": "mail.acme.example:465",
    "sender": "citywatch@acme.example",
    "to": "[oncall@acme.example]",
}


def notice(console: str) -> Callable[[Notes, Node, str, str], NoticeChannel | None]:
    """One channel, of a city whose console is at that address (empty: nobody says); None after a mistake."""
    return lambda notes, node, path, name: _notice(notes, node, path, console)


def _notice(notes: Notes, node: Node, path: str, console: str) -> NoticeChannel | None:
    section, before = Section(notes, node, path, "notices.*"), len(notes.mistakes)
    kind = section.need("kind", one_of(KINDS), "webhook")
    of_console = console and not section.has("link")
    link = None if of_console else section.need("link", url, "https://console.acme.example/tickets")
    address = section.maybe("url", url)
    secret = credential(notes, *section.at("credential"), "notices.*.credential") if section.has("credential") else None
    server = section.get("server", _server, "")
    sender, to = section.get("sender", _address, ""), section.get("to", some(_address), ())
    user, ca = section.get("user", text, ""), section.maybe("ca", where)
    if kind is None or len(notes.mistakes) > before:
        return None
    for key in _OF[kind]:
        if not section.has(key):
            section.wrong(key, f"a channel of kind `{kind}` needs it", f"write `{key}: {_WRITTEN[key]}`")
    for key in ("url", "credential", "server", "sender", "to", "user", "ca"):
        if section.has(key) and key not in (*_OF[kind], *_MORE[kind]):
            section.wrong(key, f"a channel of kind `{kind}` has no use for it", "remove it")
    if address is not None and address.scheme == "http" and not loopback(address.hostname or ""):
        section.wrong("url", "notices go over https, or to this machine", "write https")
    if kind == "mail" and section.has("user") is not section.has("credential"):
        section.wrong("user", "a mail server is told a user and a password, or neither", "write both, or neither")
    if len(notes.mistakes) > before:
        return None
    return NoticeChannel(
        kind=kind,
        link=f"{console}/tickets" if link is None else urlunsplit(link),
        url="" if address is None else urlunsplit(address),
        credential=secret,
        server=server,
        sender=sender,
        to=to,
        user=user,
        ca=ca,
    )


def _server(notes: Notes, node: Node, path: str) -> str | None:
    word = text(notes, node, path)
    if word is None:
        return None
    found = _SERVER.match(word)
    if found is None or not 0 < int(found[2]) < 65_536:
        notes.wrong(node, path, f"{shown(word)} is not a mail server", "write it as mail.acme.example:465")
        return None
    return word


def _address(notes: Notes, node: Node, path: str) -> str | None:
    word = text(notes, node, path)
    if word is not None and not _ADDRESS.match(word):
        notes.wrong(node, path, f"{shown(word)} is not a mail address", "write it as oncall@acme.example")
        return None
    return word
