"""The `reader` part of the file: the model that answers typed questions about texts which agents hold as handles.

Decides which declarations make sense. INVARIANTS: no secret stands in the file; hidden texts leave this machine over
TLS unless the file says `unsafe_plain_http: true`.
"""

from __future__ import annotations

from urllib.parse import urlunsplit

from citywatch.config.addresses import loopback
from citywatch.config.document import Node
from citywatch.config.reader import Notes, duration, flag, some, text, url, where
from citywatch.config.servers import credential
from citywatch.config.settings import Reader
from citywatch.config.table import Section
from citywatch.core.manifest import EVERYBODY


def reader(notes: Notes, node: Node, path: str) -> Reader | None:
    """The one reader; None after a mistake in what it cannot do without."""
    section = Section(notes, node, path, "reader")
    parts = section.need("url", url, "http://127.0.0.1:11434/v1")
    model = section.need("model", text, "qwen3:4b")
    plain = section.get("unsafe_plain_http", flag, False)
    found = credential(notes, *section.at("credential"), "reader.credential") if section.has("credential") else None
    audience = section.get("audience", some(text), (EVERYBODY,))
    timeout, ca = section.get("timeout", duration("100ms", "10m"), 30_000), section.maybe("ca", where)
    if parts is None or model is None:
        return None
    if parts.scheme == "http" and not plain and not loopback(parts.hostname or ""):
        advice = "write https, or add `unsafe_plain_http: true`"
        section.wrong("url", "plain http to another machine shows every hidden text on the way", advice)
    return Reader(
        url=urlunsplit(parts),
        model=model,
        credential=found,
        ca=ca,
        audience=audience,
        timeout_ms=timeout,
        unsafe_plain_http=plain,
    )
