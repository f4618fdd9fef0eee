"""What an agent's author imports: a client of the gateway, what it raises, and hooks for agent frameworks (`hooks`).

Knows only the wire. INVARIANT: nothing here is a control. An agent that does without it is held to the same policies at
the gateway; what this adds is that its author is told in types what was refused and why. Needs `citywatch[sdk]`.
"""

from __future__ import annotations

from citywatch.sdk.chain import Chain
from citywatch.sdk.client import Client, Reply, Tool
from citywatch.sdk.errors import ApprovalRequired, Denied, Failed, Refused, Unavailable
from citywatch.sdk.papers import Certificate, Token
from citywatch.sdk.peers import Answer, Peers
from citywatch.sdk.sync import SyncClient
from citywatch.sdk.sync_peers import SyncPeers

__all__ = [
    "Answer",
    "ApprovalRequired",
    "Certificate",
    "Chain",
    "Client",
    "Denied",
    "Failed",
    "Peers",
    "Refused",
    "Reply",
    "SyncClient",
    "SyncPeers",
    "Token",
    "Tool",
    "Unavailable",
]
