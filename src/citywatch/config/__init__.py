"""The operator's file as frozen `Settings`, or every mistake in it at once: `parse_settings`.

Reads no file, looks at no environment, knows no adapter: `main` does, and `main` alone imports this package.
"""

from citywatch.config.attestors import attestor_keys
from citywatch.config.chains import ceiling_of
from citywatch.config.draft import Draft, draft_manifests
from citywatch.config.file import parse_settings
from citywatch.config.issuing import Exchanged
from citywatch.config.neighbours import Neighbour
from citywatch.config.settings import (
    Agent,
    ConfigError,
    Console,
    FromEnvironment,
    FromFile,
    Http,
    Limits,
    Listen,
    Mistake,
    Oidc,
    PeerAgent,
    Program,
    Reader,
    Server,
    Settings,
    Spire,
    Witness,
    manifest_digest,
)
from citywatch.config.table import KEYS

__all__ = [
    "KEYS",
    "Agent",
    "ConfigError",
    "Console",
    "Draft",
    "Exchanged",
    "FromEnvironment",
    "FromFile",
    "Http",
    "Limits",
    "Listen",
    "Mistake",
    "Neighbour",
    "Oidc",
    "PeerAgent",
    "Program",
    "Reader",
    "Server",
    "Settings",
    "Spire",
    "Witness",
    "attestor_keys",
    "ceiling_of",
    "draft_manifests",
    "manifest_digest",
    "parse_settings",
]
