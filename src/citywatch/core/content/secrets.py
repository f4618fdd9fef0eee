"""Secrets: keys and tokens known by their prefix, private keys, JWTs, credentials in URLs, passwords in assignments.

Decides that a text holds something with the shape of a secret; not whether it is alive, nor whose it is. What stands
for a secret in documentation (`xxxx`, `EXAMPLE`, `${VARIABLE}`, `<your key>`) is none. A signal spans the secret alone,
so that what is around it stays readable when it is redacted. Prefixes are those that their issuers publish.
"""

from __future__ import annotations

import base64
import binascii

from citywatch.core.content.patterns import pattern
from citywatch.core.content.signals import Kind
from citywatch.core.content.tape import Detector, Found, Judge, run, varied

_WORD = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_DIGITS_AND_SIGNS = b"0123456789!@#$%^&*+?~|"
_NOT_BASE64 = bytes(one for one in range(256) if one not in _BASE64)
_SPACE_OR_QUOTE = b" \t\r\n\"'`<>,;"
_IN_PASSWORD = bytes(one for one in range(33, 127) if one not in b"@/\"'<>")
_IN_VALUE = bytes(one for one in range(33, 256) if one not in _SPACE_OR_QUOTE)
_STAND_INS = frozenset(
    b"none null true false undefined string required optional hidden redacted password secret".split()
)

TOKENS: tuple[tuple[str, str], ...] = (
    ("aws-key", r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b"),
    ("github-token", r"\bgh[pousr]_[A-Za-z0-9]{36}"),
    ("github-token-fine", r"\bgithub_pat_[A-Za-z0-9_]{40}"),
    ("gitlab-token", r"\bgl(?:pat|dt|rt|ptt|cbt|agent|soat)-[A-Za-z0-9_-]{20}"),
    ("slack-token", r"\bxox[abeoprs]-[A-Za-z0-9-]{16}"),
    ("slack-webhook", r"\bhooks\.slack\.com/services/T[A-Z0-9]{6,12}/B[A-Z0-9]{6,12}/[A-Za-z0-9]{16}"),
    ("stripe-key", r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16}"),
    ("model-provider-key", r"\bsk-(?:proj-|ant-|svcacct-|admin-|or-v1-)?[A-Za-z0-9_-]{24}"),
    ("google-key", r"\bAIza[0-9A-Za-z_-]{35}"),
    ("google-oauth-token", r"\bya29\.[0-9A-Za-z_-]{24}"),
    ("npm-token", r"\bnpm_[A-Za-z0-9]{36}"),
    ("pypi-token", r"\bpypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{40}"),
    ("huggingface-token", r"\bhf_[A-Za-z0-9]{34}"),
    ("sendgrid-key", r"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{40}"),
    ("twilio-key", r"\bSK[0-9a-f]{32}\b"),
    ("digitalocean-token", r"\bdo[opr]_v1_[a-f0-9]{60}"),
    ("telegram-token", r"\b[0-9]{8,10}:AA[A-Za-z0-9_-]{33}"),
    ("vault-token", r"\bhv[sbr]\.[A-Za-z0-9_-]{24}"),
    ("age-key", r"\bAGE-SECRET-KEY-1[0-9A-Z]{50}"),
    ("azure-storage-key", r"\bAccountKey=[A-Za-z0-9+/]{58}"),
    ("linear-key", r"\blin_api_[A-Za-z0-9]{40}"),
    ("shopify-token", r"\bshp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}"),
    ("databricks-token", r"\bdapi[a-f0-9]{32}\b"),
)
"""Name and anchor. What goes on in the same characters belongs to the token."""


def _token(near: bytes, start: int, stop: int) -> Found | None:
    end = run(near, stop, _BASE64 if near[start : start + 11] == b"AccountKey=" else _WORD)
    return (start, end, 0.95) if varied(near[max(start, stop - 16) : end]) else None


def private_key(near: bytes, start: int, stop: int) -> Found | None:
    """A PEM or PGP private key: the header alone, as a text about keys quotes it, is none."""
    body = near[stop:]
    close = body.find(b"-----END")
    if close >= 0:
        line = body.find(b"-----", close + 8)
        body = body[: line + 5 if line >= 0 else close + 8]
    else:
        body = body[: run(body, 0, _BASE64 + b"\\nr \r\n:-,()")]
    long_enough = len(body.translate(None, _NOT_BASE64)) >= 40
    return (start, stop + len(body), 1.0) if long_enough and varied(body[:200], 12) else None


def json_web_token(near: bytes, start: int, stop: int) -> Found | None:
    """Three parts, the first of which is JSON that names an algorithm. SPEC: RFC 7519 §3, RFC 7515 §4.1.1."""
    end = run(near, start, _WORD + b".")
    parts = near[start:end].rstrip(b".").split(b".")
    if len(parts) < 3 or len(parts[1]) < 8:
        return None
    try:
        header = base64.urlsafe_b64decode(parts[0] + b"=" * (-len(parts[0]) % 4))
    except (binascii.Error, ValueError):
        return None
    found = header.startswith(b"{") and b'"alg"' in header
    return (start, start + len(b".".join(parts)), 1.0) if found else None


def credential_in_url(near: bytes, start: int, stop: int) -> Found | None:
    """`scheme://name:password@host`: the password."""
    rest = near[stop:]
    value = rest[: len(rest) - len(rest.lstrip(_IN_PASSWORD))]
    whole = rest[len(value) : len(value) + 1] == b"@" and len(set(value)) > 2 and value[:1] not in b"$<{*"
    return (stop, stop + len(value), 0.9) if whole else None


def bearer(near: bytes, start: int, stop: int) -> Found | None:
    """`Bearer` or `Basic` with something that no word is."""
    value = start + near[start:].find(b" ") + 1
    end = run(near, value, _BASE64 + b"._~-")
    return (value, end, 0.8) if _mixed(near[value:end]) and varied(near[value:end], 8) else None


def assigned(near: bytes, start: int, stop: int) -> Found | None:
    """What a password, secret or key is set to: letters with digits or signs, neither a word nor a variable."""
    value = stop + (near[stop : stop + 1] in (b'"', b"'", b"`"))
    text = near[value : run(near, value, _IN_VALUE)][:200].rstrip(b".!?)]}")
    if len(text) < 6 or text[:1] in b"$<{[%*(" or b"(" in text or b"${" in text or b"://" in text:
        return None
    if text.lower() in _STAND_INS or not _mixed(text) or not varied(text, 5):
        return None
    return value, value + len(text), 0.7


def _mixed(value: bytes) -> bool:
    """Letters, and digits or signs among them."""
    letters = len(value) - len(value.translate(None, _LETTERS))
    return 0 < letters < len(value) and len(value.translate(None, _DIGITS_AND_SIGNS)) < len(value)


_SHAPED: tuple[tuple[str, str, Judge, int, bytes], ...] = (
    (
        "private-key",
        r"-----BEGIN (?:[A-Z0-9]{2,12} ){0,2}PRIVATE KEY(?: BLOCK)?-----",
        private_key,
        8192,
        b"",
    ),
    ("jwt", r"\beyJ[A-Za-z0-9_-]{10}", json_web_token, 4096, _WORD + b"."),
    ("url-credential", r"://[^\s/:@\"'<>]{1,60}:", credential_in_url, 200, _IN_PASSWORD),
    ("authorization", r"(?i:\b(?:bearer|basic)) [A-Za-z0-9._~+/-]{16}", bearer, 2048, _BASE64 + b"._~-"),
    (
        "assigned",
        r"(?i:passw(?:or)?d|passphrase|passcode|pwd|secret|api[ _-]?key|access[ _-]?key|auth[ _-]?token"
        r"|access[ _-]?token|refresh[ _-]?token|credentials?)"
        r"[\"'\]]{0,2}\s{0,4}(?::=|=>|[:=]|\bis\b:?)\s{0,4}",
        assigned,
        280,
        b"",
    ),
)

SECRETS = (
    *(Detector(Kind.SECRET, name, pattern(anchor), _token, 320, _BASE64 + b"_-") for name, anchor in TOKENS),
    *(
        Detector(Kind.SECRET, name, pattern(anchor), judge, ahead, within)
        for name, anchor, judge, ahead, within in _SHAPED
    ),
)
