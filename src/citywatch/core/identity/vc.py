"""What does an issuer say of this agent? A verifiable credential becomes `Claims`, or is refused.

Decides that a key which the caller trusts signed these words about one agent: who owns it, which model, configuration
and prompt it runs, what it may be used for. Does not decide whether they are true, nor what follows: that is for
policies. The caller names issuer and key; what a document says of keys is compared with that and never followed, so no
URL is read.

1. JSON without double members · 2. a credential of the type `AgentCredential` by this issuer, for this agent · 3. one
Data Integrity proof, `eddsa-jcs-2022`, for assertions, naming this key · 4. over the canonical bytes of the document
and of the proof's own words · 5. claims in their types, a beginning and an end.

INVARIANTS: any bytes give `Claims` or `Malformed`; nothing outside what was signed is read; a key is screened before it
is used.
SPEC: W3C VC Data Model 2.0 §4, VC Data Integrity 1.0 §4, VC Data Integrity EdDSA 1.0 §3.3, RFC 8785.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import rfc8785

from citywatch.core.canonical import digest
from citywatch.core.errors import Malformed
from citywatch.core.identity.token import moment_claim, parse_object, text_claim
from citywatch.core.names import AgentId
from citywatch.core.signature import Ed25519Key, parse_ed25519_key, verify_ed25519

CONTEXT: Final = (
    "https://www.w3.org/ns/credentials/v2",
    "https://www.w3.org/ns/credentials/undefined-terms/v2",
)
TYPES: Final = ("VerifiableCredential", "AgentCredential")
MAX_BYTES: Final = 16_384
MAX_CAPABILITIES: Final = 256
_ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_ED25519: Final = b"\xed\x01"
_OPTIONAL: Final = ("model", "configuration", "prompt")


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What an issuer says of an agent. Empty texts are claims that were not made; times are milliseconds.

    `digest` is the SHA-256 of the document as it was shown, in hex. `key` is the issuer's, as a Multikey; empty in rows
    from before it was kept.
    """

    agent: str
    issuer: str
    owner: str
    model: str = ""
    configuration: str = ""
    prompt: str = ""
    capabilities: tuple[str, ...] = ()
    not_before: int
    not_after: int
    digest: str
    key: str = ""


def verify_agent_credential(document: bytes, agent: AgentId, issuer: str, key: Ed25519Key) -> Claims:
    """Return what `issuer`, whose key is `key`, says of `agent`; raise `Malformed` if it does not."""
    if len(document) > MAX_BYTES:
        raise Malformed(f"a credential has at most {MAX_BYTES} bytes")
    value = parse_object(document)  # 1
    types = value.get("type")
    if not isinstance(types, list) or not all(one in types for one in TYPES):  # 2
        raise Malformed("the credential is not an AgentCredential")
    if value.get("issuer") != issuer:
        raise Malformed(f"the credential is not of the issuer `{issuer}`")
    subject = value.get("credentialSubject")
    if not isinstance(subject, dict) or subject.get("id") != str(agent):
        raise Malformed(f"the credential is not about `{agent}`")
    verify_proof(value, f"{issuer}#{format_multikey(key)}", key)  # 3, 4
    return Claims(  # 5
        agent=str(agent),
        issuer=issuer,
        owner=text_claim(subject, "owner"),
        **{name: text_claim(subject, name) for name in _OPTIONAL if name in subject},
        capabilities=_capabilities(subject.get("capabilities", [])),
        not_before=moment_claim(value, "validFrom"),
        not_after=moment_claim(value, "validUntil"),
        digest=digest(document),
        key=format_multikey(key),
    )


def verify_proof(document: Mapping[str, Any], method: str, key: Ed25519Key) -> None:
    """Raise `Malformed` unless the document's one proof is `key`'s, under the name `method`."""
    proof = document.get("proof")
    if not isinstance(proof, dict):
        raise Malformed("the credential has not one proof")
    wanted = {
        "type": "DataIntegrityProof",
        "cryptosuite": "eddsa-jcs-2022",
        "proofPurpose": "assertionMethod",
        "verificationMethod": method,
    }
    for name, text in wanted.items():
        if proof.get(name) != text:
            raise Malformed(f"the proof's `{name}` is not `{text}`")
    if "expires" in proof or "previousProof" in proof or "domain" in proof or "challenge" in proof:
        raise Malformed("the proof has conditions of its own, which are not supported")
    options = {name: value for name, value in proof.items() if name != "proofValue"}
    verify_ed25519(key, signed_hash(document, options), parse_base58(proof.get("proofValue")))


def signed_hash(document: Mapping[str, Any], options: Mapping[str, Any]) -> bytes:
    """The bytes that are signed: the hashes of the proof's own words and of the document without its proof.

    A context in the proof has to be the document's, from its start on. SPEC: VC-DI-EDDSA §3.3.2, steps 4 to 9.
    """
    unsecured = {name: value for name, value in document.items() if name != "proof"}
    if "@context" in options:
        mine, theirs = _listed(options["@context"]), _listed(unsecured.get("@context"))
        if theirs[: len(mine)] != mine:
            raise Malformed("the proof's context is not the document's")
        unsecured["@context"] = options["@context"]
    return hashlib.sha256(_jcs(options)).digest() + hashlib.sha256(_jcs(unsecured)).digest()


def parse_multikey(text: str) -> Ed25519Key:
    """Read and screen an Ed25519 key in Multikey's form (`z6Mk…`)."""
    raw = parse_base58(text)
    if raw[:2] != _ED25519:
        raise Malformed("a Multikey is not an Ed25519 key")
    return parse_ed25519_key(raw[2:])


def format_multikey(key: Ed25519Key) -> str:
    """The inverse of `parse_multikey`."""
    return format_base58(_ED25519 + key.raw)


def parse_base58(text: object) -> bytes:
    """Decode multibase's base58btc (`z…`), of which every byte string has exactly one text. At most 128 characters."""
    if not isinstance(text, str) or not text.startswith("z") or not 1 < len(text) <= 128:
        raise Malformed("a text is not in base58")
    number = 0
    for letter in text[1:]:
        place = _ALPHABET.find(letter)
        if place < 0:
            raise Malformed("a text is not in base58")
        number = number * 58 + place
    zeros = len(text) - 1 - len(text[1:].lstrip("1"))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")


def format_base58(data: bytes) -> str:
    """The inverse of `parse_base58`."""
    number, letters = int.from_bytes(data, "big"), ""
    while number:
        number, place = divmod(number, 58)
        letters = _ALPHABET[place] + letters
    return "z" + "1" * (len(data) - len(data.lstrip(b"\0"))) + letters


def _jcs(value: object) -> bytes:
    try:
        return rfc8785.dumps(value)  # type: ignore[arg-type]
    except (rfc8785.CanonicalizationError, UnicodeError, RecursionError):
        raise Malformed("the credential cannot be written as canonical JSON") from None


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _capabilities(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_CAPABILITIES:
        raise Malformed(f"`capabilities` is a list of at most {MAX_CAPABILITIES} texts")
    return tuple(text_claim({"capabilities": one}, "capabilities") for one in value)
