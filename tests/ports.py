"""Loopback ports for programs that can only be told a number.

A port that is free now is anybody's a moment later: the system hands it to the next one who asks for any port, and a
client that polls it may even be connected to itself. So each port given out here stays bound by a socket that never
listens, as long as this process lives. On Linux that keeps it from everyone who asks for any port, and lets a server
listen that asks for this one with `SO_REUSEADDR`, as servers do; whoever connects meanwhile is refused.
"""

from __future__ import annotations

import socket


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, and that nobody gets who does not ask for it."""
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    port: int = held.getsockname()[1]
    held.detach()  # bound until this process ends, and nobody's to close
    return port
