"""A chain of grants in an agent's hands: read it, see what it leaves, hand on less of it, all without a gateway.

Decides nothing that the gateway does not decide again. INVARIANTS: what is read was signed link by link; what is handed
on was read back as it will be read; the key signs a grant and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from citywatch.core.delegation.chain import read_chain
from citywatch.core.delegation.grant import format_link, parse_link, signing_input
from citywatch.core.delegation.handing import Holder, next_grant
from citywatch.core.delegation.wording import format_caveats, parse_caveats
from citywatch.core.errors import Malformed
from citywatch.core.signature import P256Key, parse_spki

MAX_FILE = 262_144


class Chain:
    """The links, root first, as `citywatch task start --grant` writes them and each holder hands them on."""

    __slots__ = ("_whole", "links")

    def __init__(self, links: tuple[str, ...]) -> None:
        """`Refused` if they are no chain; whether it was withdrawn meanwhile, only a gateway knows."""
        self.links = links
        self._whole = read_chain(links)

    @classmethod
    def load(cls, file: Path) -> Chain:
        """A chain in a file: a JSON list of links."""
        try:
            with file.open("rb") as source:
                value = json.loads(source.read(MAX_FILE))
        except (OSError, ValueError) as failure:
            raise Malformed(f"`{file}` cannot be read as JSON: {failure}") from None
        if type(value) is not list or not all(type(one) is str for one in value):
            raise Malformed(f"`{file}` holds no chain: expected a JSON list of links")
        return cls(tuple(value))

    def save(self, file: Path) -> None:
        """The inverse of `load`."""
        file.write_text(json.dumps(self.links, indent=2) + "\n", encoding="ascii")

    @property
    def task(self) -> str:
        """The task that it is for: each call under the chain names it."""
        return self._whole.task

    @property
    def principal(self) -> str:
        """In whose name the task was started."""
        return self._whole.principal

    @property
    def left(self) -> Mapping[str, Any]:
        """What all links leave together, in the words of a caveats file."""
        return format_caveats(self._whole.caveats)

    @property
    def until(self) -> int:
        """When it ends, in milliseconds since the epoch."""
        return self._whole.caveats.not_after or 0

    def hand_on(
        self,
        key: Path,
        to: str,
        thumb: str,
        left: Mapping[str, Any] | None = None,
        *,
        until: datetime | None = None,
        depth: int | None = None,
    ) -> Chain:
        """The same chain and one link more: for the agent `to` (its SPIFFE ID) and its key (`thumb`), leaving `left`.

        `key` is the file of the holder's own key. What `left` does not say stays as it was; without `until` it ends
        with this chain, without `depth` it goes one hop less far. `Malformed` for more than there is.
        """
        caveats = msgspec.structs.replace(
            parse_caveats(dict(left or {}), not_after=0, depth=0),
            not_after=None if until is None else _ms(until),
            depth=depth,
        )
        payload = next_grant(self.links, Holder(to, thumb), caveats)
        return Chain((*self.links, _signed(payload, key)))


def _ms(at: datetime) -> int:
    if at.tzinfo is None:
        raise Malformed("`until` is a time without a zone")
    return int(at.timestamp() * 1000)


def _signed(payload: bytes, file: Path) -> str:
    try:
        key = load_pem_private_key(file.read_bytes(), None)
    except (OSError, ValueError, TypeError):
        raise Malformed(f"`{file}` holds no key: it is the `key.pem` of the agent's folder") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Malformed(f"`{file}` holds no key of an agent")
    public = parse_spki(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    if not isinstance(public, P256Key):
        raise Malformed(f"`{file}` holds no key of an agent")
    r, s = decode_dss_signature(key.sign(signing_input(payload), ec.ECDSA(SHA256())))
    text = format_link(payload, public, r.to_bytes(32) + s.to_bytes(32))
    parse_link(text)
    return text
