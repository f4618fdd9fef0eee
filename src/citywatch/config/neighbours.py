"""Other trust domains, as frozen values of the file: whose papers are believed, how far their words and chains reach.

Decides nothing and reads nothing (`federation` and `chains` do). INVARIANT: as in `settings`, each value is complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from citywatch.core.manifest import Ceiling


class Chains(msgspec.Struct, frozen=True, kw_only=True):
    """How far chains reach that another trust domain roots: `caveats` as a grant writes them, within which they stay.

    `longest` is how much of its life such a chain may have before it, in milliseconds; `calls` may be made for one
    task.
    """

    caveats: Mapping[str, Any]
    longest_ms: int
    calls: int


class Neighbour(msgspec.Struct, frozen=True, kw_only=True):
    """Another trust domain whose papers are believed, and where its bundle comes from.

    `bundle` is a file; with an `endpoint`, the one to begin with. `endpoint_id` is the SPIFFE ID that the endpoint has
    to prove (profile `https_spiffe`; empty: `https_web`), `ca` a PEM file that alone is trusted for `https_web`.
    `refresh_ms`: look at least so often, whatever the bundle's hint says (0: as the hint says). `max_age_ms`: after so
    long without a look that found it, its papers are refused. `ceiling`: how far its agents' words are believed;
    `chains`: how far chains that it roots reach, None: nowhere.
    """

    domain: str
    bundle: str | None = None
    endpoint: str | None = None
    endpoint_id: str = ""
    ca: str | None = None
    refresh_ms: int = 0
    max_age_ms: int = 86_400_000
    ceiling: Ceiling = Ceiling()
    chains: Chains | None = None
