"""A passkey: a WebAuthn credential that somebody enrolled, as a row; and the invitation to enrol one.

Decides the form of these rows. Whether an assertion is good is `webauthn`'s to say. INVARIANTS: a credential belongs to
one person for ever; one that was revoked is kept, so that what it signed can be checked; of an invitation only its
digest is kept.
"""

from __future__ import annotations

import msgspec

from citywatch.core.canonical import digest

Key = tuple[str, str]


class Passkey(msgspec.Struct, frozen=True, kw_only=True):
    """`id` is the credential's id in base64url, `key` its SubjectPublicKeyInfo in base64.

    `count` is the highest signature counter that was seen (0: it has none); `synced`: it may be on several devices.
    """

    id: str
    person: str
    key: str
    count: int = 0
    synced: bool = False
    called: str = ""
    added: int = 0
    by: str = ""
    revoked: int = 0

    @property
    def counts(self) -> bool:
        return not self.revoked


class Enrolment(msgspec.Struct, frozen=True, kw_only=True):
    """Whoever knows the code may enrol one passkey for `person` before `until`, once, under this challenge (hex)."""

    person: str
    until: int
    by: str
    challenge: str


def passkey_key(credential: str) -> Key:
    return ("passkey", credential)


def passkeys_key(person: str) -> Key:
    """The ids of all passkeys of one person, those that were revoked among them."""
    return ("passkeys", person)


def enrolment_key(code: str) -> Key:
    """Where an enrolment waits for whoever knows its code; the code itself is kept nowhere."""
    return ("enrolment", digest(f"citywatch/enrolment/v1\n{code}".encode()))
