"""MCP servers, reached over HTTP or as programs, and agents: the port `Upstream`, three times.

Decides nothing about messages; `core.wire` reads them and `core.enforce` judges them.
"""

from __future__ import annotations

from citywatch.adapters.upstream.credential import Credential, from_environment, from_file
from citywatch.adapters.upstream.http import HttpUpstream
from citywatch.adapters.upstream.recipient import HttpRecipient
from citywatch.adapters.upstream.rest import RestUpstream
from citywatch.adapters.upstream.sandbox import check_apart
from citywatch.adapters.upstream.settings import Bounds, HttpServer, Patience, StdioServer
from citywatch.adapters.upstream.stdio import StdioUpstream
from citywatch.adapters.upstream.token_endpoint import HttpTokenEndpoint

__all__ = [
    "Bounds",
    "Credential",
    "HttpRecipient",
    "HttpServer",
    "HttpTokenEndpoint",
    "HttpUpstream",
    "Patience",
    "RestUpstream",
    "StdioServer",
    "StdioUpstream",
    "check_apart",
    "from_environment",
    "from_file",
]
