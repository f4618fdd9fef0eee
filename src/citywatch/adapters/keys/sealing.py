"""Texts that we hand out and want back unchanged and unread: sealed under keys drawn from the authority's own.

Decides which sealed texts are ours. INVARIANTS: a key is drawn for this one use and signs nothing; a sealed text names
the generation that it was sealed under, and opens only while that one is believed; whatever else comes back is None,
never another error; a nonce is drawn for each text.
SPEC: RFC 8439 (ChaCha20-Poly1305), RFC 5869 (HKDF).
"""

from __future__ import annotations

import os
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Collection
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

_NONCE: Final = 12
_SEALED: Final = re.compile(r"([1-9][0-9]{0,8})\.([A-Za-z0-9_-]{38,})")


class GenerationSealer:
    """`service.pausing.Sealer` under the keys of the authority's generations."""

    def __init__(
        self, active: Callable[[], int], believed: Callable[[], Collection[int]], key: Callable[[int], bytes]
    ) -> None:
        """`active` is the generation to seal under, `believed` are those to open with, `key` gives 32 bytes of one."""
        self._active = active
        self._believed = believed
        self._key = key
        self._ciphers: dict[int, ChaCha20Poly1305] = {}

    def seal(self, text: bytes, about: bytes) -> str:
        number, nonce = self._active(), os.urandom(_NONCE)
        sealed = nonce + self._cipher(number).encrypt(nonce, text, _bound(number, about))
        return f"{number}.{urlsafe_b64encode(sealed).rstrip(b'=').decode()}"

    def open(self, sealed: str, about: bytes) -> bytes | None:
        match = _SEALED.fullmatch(sealed)
        if match is None or (number := int(match[1])) not in self._believed():
            return None
        raw = urlsafe_b64decode(match[2] + "=" * (-len(match[2]) % 4)) if len(match[2]) % 4 != 1 else b""
        if urlsafe_b64encode(raw).rstrip(b"=").decode() != match[2]:
            return None  # one sealed text has one way to be written
        try:
            return self._cipher(number).decrypt(raw[:_NONCE], raw[_NONCE:], _bound(number, about))
        except InvalidTag:
            return None

    def _cipher(self, number: int) -> ChaCha20Poly1305:
        found = self._ciphers.get(number)
        if found is None:
            found = self._ciphers[number] = ChaCha20Poly1305(self._key(number))
        return found


def _bound(number: int, about: bytes) -> bytes:
    return b"%d\n" % number + about
