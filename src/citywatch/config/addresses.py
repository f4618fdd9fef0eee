"""Addresses that the file gives, where what is sent must not be read on the way.

Decides which are on this machine, and where pushes may go. INVARIANT: plain HTTP is for a literal loopback address.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from urllib.parse import urlunsplit

from citywatch.config.document import Items, Node
from citywatch.config.reader import Notes, some, text, url
from citywatch.core.errors import Malformed
from citywatch.core.wire.destination import number_of, parse_destination


def loopback(host: str) -> bool:
    """Whether this is a literal loopback address; a name is not, it may resolve to anything."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def push_address(notes: Notes, node: Node, path: str) -> str | None:
    """An address that is pushed to: over https, or on this machine by its number."""
    return _address(notes, node, path, loopback)


def push_places(notes: Notes, node: Node, path: str) -> tuple[str, ...] | None:
    """Where an agent takes pushes: one address, or a list of addresses and of patterns."""
    if isinstance(node, Items):
        return some(_place)(notes, node, path)
    one = _place(notes, node, path)
    return None if one is None else (one,)


def link_place(notes: Notes, node: Node, path: str) -> str | None:
    """Where a link may lead that a peer sends: an address, or a pattern of them."""
    word = text(notes, node, path)
    if word is None or "*" not in word:
        parts = None if word is None else url(notes, node, path)
        return None if parts is None else urlunsplit(parts)
    try:
        parse_destination(word)
    except Malformed as failure:
        notes.wrong(node, path, str(failure), "write it as https://files.example/* or https://*.files.example/*")
        return None
    return word


def _here(host: str) -> bool:
    """Whether this is loopback by its number, `localhost` standing for it: that name is not looked up for a push."""
    return loopback(number_of(host) or "")


def _address(notes: Notes, node: Node, path: str, local: Callable[[str], bool]) -> str | None:
    parts = url(notes, node, path)
    if parts is None:
        return None
    if parts.scheme == "http" and not local(parts.hostname or ""):
        notes.wrong(node, path, "pushes would go out in plain text", "write https, or http://127.0.0.1:port/")
        return None
    return urlunsplit(parts)


def _place(notes: Notes, node: Node, path: str) -> str | None:
    word = text(notes, node, path)
    if word is None or "*" not in word:
        return None if word is None else _address(notes, node, path, _here)
    try:
        place = parse_destination(word)
    except Malformed as failure:
        notes.wrong(node, path, str(failure), "write it as https://hooks.example/* or https://*.hooks.example/*")
        return None
    if place.scheme == "http" and (place.hosts or not _here(place.host)):
        notes.wrong(node, path, "pushes would go out in plain text", "write https, or http://127.0.0.1:*/*")
        return None
    return word
