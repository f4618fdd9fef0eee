"""A mapping of the file, read key by key.

Decides which keys there are: `KEYS` is the one list of them, and `docs/reference/configuration.md` has a row for each
(a test compares). INVARIANTS: a key that is not in `KEYS`, is written twice, or is not plain text, is a mistake with
its own line; nothing is skipped in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from citywatch.config.document import Node, Scalar, Table, Unread
from citywatch.config.reader import Notes, Reader, instead, shown

T = TypeVar("T")
D = TypeVar("D")

KEYS: dict[str, tuple[str, ...]] = {
    "": (
        "trust_domain",
        "listen",
        "names",
        "state",
        "policies",
        "temporal_rules",
        "plan_templates",
        "boilerplate",
        "origin",
        "issuer",
        "resources",
        "issuers",
        "agents",
        "servers",
        "peers",
        "federation",
        "authority",
        "bundle_endpoint",
        "attestors",
        "principals",
        "people",
        "approvals",
        "notices",
        "audiences",
        "reader",
        "content",
        "limits",
        "witnesses",
        "witness_quorum",
        "console",
        "unsafe_observe",
    ),
    "agents.*": (
        "spiffe_id",
        "roles",
        "attributes",
        "budgets",
        "isolation",
        "delegated_only",
        "push",
        "attested_by",
        "audience",
        "content",
        "handles",
        "svid_ttl",
        "token_ttl",
    ),
    "agents.*.budgets.*": ("calls", "per"),
    "servers.*": (
        "url",
        "credential",
        "ca",
        "spiffe_id",
        "owner",
        "unsafe_plain_http",
        "command",
        "env",
        "cwd",
        "sandbox",
        "unsafe_same_user",
        "timeout",
        "envelope",
        "envelope_for",
        "tools",
    ),
    "servers.*.credential": ("env", "file", "exchange"),
    "servers.*.credential.exchange": ("resource", "scopes", "at"),
    "servers.*.credential.exchange.at": ("issuer", "token_endpoint", "client_id", "grant", "ca"),
    "servers.*.env.*": ("from",),
    "servers.*.sandbox": ("user",),
    "servers.*.tools.*": ("effect", "audience", "disclosure", "impact", "parameters", "output", "parts"),
    "servers.*.tools.*.parameters.*": ("type", "scale", "currency", "role", "party", "adds"),
    "servers.*.tools.*.output.*": ("label", "party", "key", "readers", "handle", "deliver"),
    "servers.*.tools.*.parts": ("label", "readers"),
    "issuers.*": ("issuer", "audience", "keys"),
    "resources.*": ("resource", "scopes", "audience"),
    "authority": ("spire",),
    "bundle_endpoint": ("listen", "certificate", "key"),
    "authority.spire": ("socket", "spiffe_id"),
    "federation.*": (
        "bundle",
        "endpoint",
        "profile",
        "endpoint_id",
        "ca",
        "refresh",
        "max_age",
        "ceiling",
        "speaks_for",
        "chains",
    ),
    "federation.*.chains": ("tools", "skills", "arguments", "readers", "origins", "calls", "longest"),
    "peers.*": (
        "url",
        "binding",
        "card",
        "agent",
        "envelope_for",
        "envelope",
        "push",
        "links",
        "extensions",
        "callers",
        "skills",
        "audience",
        "credential",
        "ca",
        "spiffe_id",
        "owner",
        "unsafe_plain_http",
        "timeout",
        "messages",
        "free_text",
    ),
    "peers.*.messages.*": ("schema",),
    "attestors.*": ("key",),
    "principals.*": ("may", "own"),
    "people.*": ("roles", "as", "answers", "keys", "oidc", "per_hour", "deputies"),
    "people.*.oidc": ("issuer", "subject"),
    "approvals": (
        "quorum",
        "not_own",
        "expires",
        "reason_required",
        "one_denies",
        "uninspectable",
        "passkeys",
        "unsafe_unsigned",
        "unsafe_hasty",
        "canaries",
        "asks_per_agent",
        "asks_per_root",
        "batch",
        "escalate_after",
        "escalate_to",
    ),
    "approvals.quorum[]": ("acts", "need", "of", "blinded"),
    "notices.*": ("kind", "link", "url", "credential", "server", "sender", "to", "user", "ca"),
    "notices.*.credential": ("env", "file"),
    "approvals.passkeys": ("rp_id", "origins"),
    "reader.credential": ("env", "file"),
    "reader": ("url", "model", "credential", "ca", "audience", "timeout", "unsafe_plain_http"),
    "limits": (
        "request_bytes",
        "reply_bytes",
        "depth",
        "nodes",
        "headers",
        "header_bytes",
        "header_time",
        "body_time",
        "max_staleness",
        "connections",
        "sessions_per_agent",
        "max_in_flight",
        "max_hops",
        "hop_memory",
        "push_memory",
        "card_interval",
        "task_calls",
        "calls_per_caller",
        "calls_per_upstream",
        "call_wait",
        "breaker_failures",
        "breaker_rest",
    ),
    "witnesses[]": ("name", "url", "key"),
    "console": ("listen", "address", "oidc"),
    "console.oidc": ("issuer", "client_id", "credential", "ca"),
    "console.oidc.credential": ("env", "file"),
}


def pairs(notes: Notes, node: Node, path: str) -> Iterator[tuple[Scalar, Node]]:
    """Each pair whose key is text and new; every other pair is noted."""
    if not isinstance(node, Table):
        if not isinstance(node, Unread):
            notes.wrong(node, path, "expected a mapping", "write `key: value` lines, indented below this key")
        return
    seen: dict[str, int] = {}
    for key, value in node.pairs:
        if isinstance(key, Unread):
            continue
        if not isinstance(key, Scalar) or key.kind != "str" or not key.value.isprintable():
            notes.wrong(key, path, "this key is not text", "write a word, in quotes if it looks like a number or a yes")
        elif key.value in seen:
            notes.wrong(key, path, f"{shown(key.value)} stands here twice, first on line {seen[key.value]}", "keep one")
        else:
            seen[key.value] = key.line
            yield key, value


class Section:
    """A mapping with a fixed set of keys, `KEYS[shape]`."""

    def __init__(self, notes: Notes, node: Node, path: str, shape: str, *, secret: bool = False) -> None:
        """With `secret`, an unknown key is not echoed: where a secret is expected, people write it anywhere."""
        self.notes, self.node, self.path, self._shape = notes, node, path, shape
        self._values: dict[str, tuple[Scalar, Node, str]] = {}
        for key, value in pairs(notes, node, path):
            if key.value in KEYS[shape]:
                self._values[key.value] = (key, value, f"{path}.{key.value}" if path else key.value)
            elif secret:
                notes.wrong(key, path, "an unknown key", f"write {' or '.join(f'`{k}`' for k in KEYS[shape])}")
            else:
                notes.wrong(key, path, f"unknown key {shown(key.value)}", instead(key.value, KEYS[shape]))

    def has(self, key: str) -> bool:
        assert key in KEYS[self._shape], key
        return key in self._values

    def at(self, key: str) -> tuple[Node, str]:
        """Value and path of a key that is there."""
        return self._values[key][1:]

    def wrong(self, key: str, message: str, advice: str) -> None:
        """Note a mistake at a key that is there."""
        self.notes.wrong(self._values[key][0], self._values[key][2], message, advice)

    def get(self, key: str, read: Reader[T], default: D) -> T | D:
        """The value of a key that may be absent. A wrong value is noted and replaced: nobody will see the result."""
        if not self.has(key):
            return default
        _, value, path = self._values[key]
        found = read(self.notes, value, path)
        return default if found is None else found

    def maybe(self, key: str, read: Reader[T]) -> T | None:
        """The value of a key that may be absent and has no default."""
        return self.need(key, read, "") if self.has(key) else None

    def need(self, key: str, read: Reader[T], example: str) -> T | None:
        """The value of a key that must be there; None after a mistake."""
        if not self.has(key):
            if isinstance(self.node, Table):
                self.notes.wrong(self.node, self.path, f"`{key}` is missing", f"write `{key}: {example}`")
            return None
        _, value, path = self._values[key]
        return read(self.notes, value, path)


def table(accept: Reader[str], read: Callable[[Notes, Node, str, str], T | None]) -> Reader[dict[str, T]]:
    """A mapping whose keys are the operator's own names; `read` is given the name besides."""

    def inner(notes: Notes, node: Node, path: str) -> dict[str, T]:
        found: dict[str, T] = {}
        for key, value in pairs(notes, node, path):
            name = accept(notes, key, path)
            # A name that was refused is not repeated as part of a path: it may be long, or a secret gone astray.
            item = read(notes, value, f"{path}.{'?' if name is None else name}", key.value)
            if name is not None and item is not None:
                found[name] = item
        return found

    return inner
