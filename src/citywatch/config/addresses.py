"""Addresses that the file gives, where what is sent must not be read on the way.

Decides which are on this machine, and where pushes may go. INVARIANT: plain HTTP is for a literal loopback address.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlunsplit

from citywatch.config.document import Node
from citywatch.config.reader import Notes, url


def loopback(host: str) -> bool:
    """Whether this is a literal loopback address; a name is not, it may resolve to anything."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def push_address(notes: Notes, node: Node, path: str) -> str | None:
    """An address that is pushed to: over https, or on this machine by its number."""
    parts = url(notes, node, path)
    if parts is None:
        return None
    if parts.scheme == "http" and not loopback(parts.hostname or ""):
        notes.wrong(node, path, "pushes would go out in plain text", "write https, or http://127.0.0.1:port/")
        return None
    return urlunsplit(parts)
