"""What is on file of an agent: its keys, and whether its papers are void.

Decides nothing; `enforce.verify` reads the row for each request and `service.admin` writes it. One row per agent, under
`("agent", name)`; and one per key that was ever registered, under `("key", thumbprint)`.
INVARIANTS: `parse_x(format_x(row)) == row`; a key belongs to one agent for good, so that neither a second name nor a
new registration brings a revoked key back.

Evolution rule: never rename, remove or re-type a field; new fields get a default.
"""

from __future__ import annotations

import msgspec

from citywatch.core.errors import Code, Malformed
from citywatch.core.identity.attestation import Attestation
from citywatch.core.identity.vc import Claims


class AgentRow(msgspec.Struct, frozen=True, kw_only=True):
    """One agent. `agent` is its SPIFFE ID, `keys` are RFC 7638 thumbprints; a revoked row stays and never revives.

    Where another authority than ours vouches for its keys, `keys` is the SPIFFE ID that it vouches for and nothing
    else (`Credential.key`).

    `claims` are those of the credential that is held of it, verified, `attestation` is what a builder says of its
    program; `vouched_at` is when either last changed.
    `void` are keys that were revoked alone. `halted` and `quarantined` are taken back by whoever said so.
    """

    agent: str
    keys: tuple[str, ...]
    added_at: int
    revoked: bool = False
    reason: str = ""
    claims: Claims | None = None
    vouched_at: int = 0
    void: tuple[str, ...] = ()
    halted: bool = False
    quarantined: bool = False
    attestation: Attestation | None = None

    @property
    def elsewhere(self) -> bool:
        """Whether another authority than ours says which keys are this agent's."""
        return bool(self.keys) and self.keys[0].startswith("spiffe://")

    def holds(self, key: str) -> bool:
        """Whether a link of a chain may name this key (a thumbprint) as the agent's."""
        return key in self.keys or (self.elsewhere and key not in self.void)

    @property
    def refusal(self) -> Code | None:
        """Why nothing is done for this agent, whatever it proves; None in good standing."""
        if self.revoked:
            return Code.AGENT_REVOKED
        if self.quarantined:
            return Code.AGENT_QUARANTINED
        return Code.HALTED if self.halted else None


class KeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """Whose key this is, or was."""

    agent: str


def agent_key(name: str) -> tuple[str, str]:
    """Where an agent's row lies."""
    return ("agent", name)


def issuer_key(key: str) -> tuple[str, str]:
    """Where it lies that nobody believes this key (a Multikey) of an issuer of credentials any more."""
    return ("issuer", key)


def key_key(thumbprint: str) -> tuple[str, str]:
    """Where a key's row lies."""
    return ("key", thumbprint)


def format_row(row: AgentRow | KeyRow) -> bytes:
    """The row as JSON."""
    return msgspec.json.encode(row)


def parse_agent_row(value: bytes) -> AgentRow:
    """The inverse of `format_row` for an agent."""
    try:
        return msgspec.json.decode(value, type=AgentRow)
    except msgspec.DecodeError:
        raise Malformed("the row of an agent cannot be read") from None
