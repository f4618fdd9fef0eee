"""Whether an envelope may be believed, by definition: one question after the other, in plain JSON. Slow and obvious.

The law that `citywatch.core.identity.envelope` is held to; it shares no line with `src/`. `judge` gives None for an
envelope that may be believed, else the number of the first step of `docs/reference/envelope.md` §4 that it fails;
`judge_reply` does the same for that of a reply (§7). Keys are JWKs, by domain and `kid`; `arrived` is `{"message",
"sender", "receiver"}`, `answered` is `{"message", "sender", "receivers", "request", "number"}`; times are milliseconds.
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from typing import Any

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

MEMBERS = {
    "iss", "sub", "aud", "iat", "exp", "jti", "message", "label", "items", "task", "chain", "hops", "traceparent",
}  # fmt: skip
REPLY_MEMBERS = MEMBERS | {"request", "number"}
DOMAIN = r"[a-z0-9._-]{1,255}"
WORD = r"(?!\.\.?\Z|\.\.?/)[A-Za-z0-9._-]{1,128}"
SPIFFE = re.compile(rf"spiffe://({DOMAIN})((?:/{WORD})+)\Z")
HASH = re.compile(r"[0-9a-f]{64}\Z")
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
TRACE = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z")
ORIGIN = re.compile(r"(principal|server|outside|agent|domain):[!-~]{1,2048}\Z")


def judge(token: str, keys: dict[str, dict[str, Any]], arrived: dict[str, str], now: int, leeway: int) -> int | None:
    """None, or the first step that fails."""
    claims = from_a_gateway(token, keys, now, leeway, "citywatch-envelope+jws", MEMBERS)
    if isinstance(claims, int):
        return claims
    if claims["aud"] != arrived["receiver"]:
        return 5
    if not same_domain(claims) or arrived["sender"] not in (claims["sub"], claims["iss"]):
        return 6
    return None if claims["message"] == arrived["message"] else 7


def judge_reply(
    token: str, keys: dict[str, dict[str, Any]], answered: dict[str, Any], now: int, leeway: int
) -> int | None:
    """The same for the envelope of a reply."""
    claims = from_a_gateway(token, keys, now, leeway, "citywatch-reply+jws", REPLY_MEMBERS)
    if isinstance(claims, int):
        return claims
    if claims["aud"] not in answered["receivers"]:
        return 5
    if not same_domain(claims) or claims["sub"] != answered["sender"]:
        return 6
    if claims["message"] != answered["message"]:
        return 7
    return None if [claims["request"], claims["number"]] == [answered["request"], answered["number"]] else 8


def from_a_gateway(
    token: str, keys: dict[str, dict[str, Any]], now: int, leeway: int, kind: str, members: set[str]
) -> dict[str, Any] | int:
    """The claims, if the gateway of a known domain signed them just now; else the step that fails."""
    told = opened(token, kind, members)
    if told is None:
        return 1
    header, claims = told
    found = SPIFFE.match(claims["iss"])
    if found is None or found[2] != "/gateway" or found[1] not in keys:
        return 2
    jwk = keys[found[1]].get(header["kid"])
    if jwk is None or not signed(token, jwk):
        return 3
    life = claims["exp"] - claims["iat"]
    if not 0 < life <= 60 or not claims["iat"] * 1000 - leeway <= now < claims["exp"] * 1000 + leeway:
        return 4
    return claims


def same_domain(claims: dict[str, Any]) -> bool:
    issuer, sender = SPIFFE.match(claims["iss"]), SPIFFE.match(claims["sub"])
    return issuer is not None and sender is not None and issuer[1] == sender[1]


def opened(token: str, kind: str, members: set[str]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Header and claims; None for what has another form."""
    parts = token.split(".")
    if len(token) > 8192 or not token.isascii() or len(parts) != 3:
        return None
    raw = [bytes_of(one) for one in parts]
    if None in raw or len(raw[2] or b"") != 64:
        return None
    header, claims = (object_of(one or b"") for one in raw[:2])
    if header is None or claims is None or set(header) != {"alg", "kid", "typ"} or not isinstance(header["kid"], str):
        return None
    if (header["alg"], header["typ"]) != ("ES256", kind) or not well_formed(claims, members):
        return None
    return (header, claims) if rfc8785.dumps(claims) == raw[1] else None


def well_formed(claims: dict[str, Any], members: set[str]) -> bool:
    if set(claims) != members:
        return False
    if "request" in members:
        number = claims["number"]
        if not isinstance(claims["request"], str) or not HASH.match(claims["request"]):
            return False
        if type(number) is not int or not 0 <= number < 2**31:
            return False
    texts = all(isinstance(claims[one], str) for one in ("iss", "sub", "aud", "jti", "message"))
    times = all(type(claims[one]) is int and 0 <= claims[one] < 2**40 for one in ("iat", "exp"))
    if not texts or not times or type(claims["hops"]) is not int or not 0 <= claims["hops"] <= 64:
        return False
    named = SPIFFE.match(claims["iss"]) and SPIFFE.match(claims["sub"]) and NAME.match(claims["jti"])
    if not named or not HASH.match(claims["message"]) or not 0 <= len(claims["aud"]) <= 2048:
        return False
    if max(len(claims["iss"]), len(claims["sub"])) > 2048 or not claims["aud"].isprintable():
        return False
    for name, pattern in (("task", NAME), ("chain", HASH), ("traceparent", TRACE)):
        value = claims[name]
        if value is not None and not (isinstance(value, str) and pattern.match(value)):
            return False
    return label(claims["label"]) and items(claims["items"])


def label(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) != {"origins", "readers"}:
        return False
    for name in ("origins", "readers"):
        names = value[name]
        if names is None:
            continue
        if not isinstance(names, list) or len(names) > 32 or not all(isinstance(one, str) for one in names):
            return False
        if names != sorted(set(names)) or any(not 0 < len(one.encode("utf-8", "replace")) <= 256 for one in names):
            return False
        if name == "origins" and not all(ORIGIN.match(one) for one in names):
            return False
    return True


def items(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) != {"count", "newest", "before"}:
        return False
    count, newest, before = value["count"], value["newest"], value["before"]
    if not isinstance(newest, list) or len(newest) > 16 or type(count) is not int or not len(newest) <= count < 2**31:
        return False
    if not all(isinstance(one, str) and HASH.match(one) for one in newest):
        return False
    if count == len(newest):
        return before is None
    return isinstance(before, str) and HASH.match(before) is not None


def message_digest(method: str, params: dict[str, Any], skill: str | None, kind: str | None) -> str:
    """The digest of a message; `params` are without what gateways write. No integer in it needs more than 53 bits."""
    named = rfc8785.dumps({"method": method, "params": params, "skill": skill, "type": kind})
    return sha256(b"citywatch/envelope/message/v1\n" + named).hexdigest()


def reply_digest(result: dict[str, Any], spoken: bool) -> str:
    """The digest of one message of a reply; `spoken`: over A2A, else over MCP."""
    return sha256(b"citywatch/envelope/reply/v1\n" + rfc8785.dumps(bare(result, spoken))).hexdigest()


def bare(result: dict[str, Any], spoken: bool) -> dict[str, Any]:
    """A result without what gateways write beside it."""
    things = ("message", "task", "statusUpdate", "artifactUpdate")
    if spoken and len(result) == 1:
        ((name, thing),) = result.items()
        if name in things and isinstance(thing, dict):
            return {name: without(thing, "metadata")}
    return without(result, "metadata" if spoken else "_meta")


def without(thing: dict[str, Any], member: str) -> dict[str, Any]:
    told = thing.get(member)
    if not isinstance(told, dict):
        return thing
    kept = {one: told[one] for one in told if not one.startswith("citywatch/") and one != "urn:citywatch:envelope:1"}
    rest = {one: thing[one] for one in thing if one != member}
    return rest | {member: kept} if kept else rest


def request_digest(envelope: str) -> str:
    return sha256(envelope.encode()).hexdigest()


def signed(token: str, jwk: dict[str, Any]) -> bool:
    head, _, last = token.rpartition(".")
    raw = bytes_of(last) or b""
    x, y = (int.from_bytes(bytes_of(jwk[one]) or b"", "big") for one in ("x", "y"))
    key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    pair = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    try:
        key.verify(pair, head.encode(), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def bytes_of(text: str) -> bytes | None:
    """Base64url without padding, in its one form."""
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return None
    return data if urlsafe_b64encode(data).rstrip(b"=").decode() == text else None


def object_of(data: bytes) -> dict[str, Any] | None:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) != len(pairs):
            raise ValueError("twice")
        return dict(pairs)

    try:
        value = json.loads(data, object_pairs_hook=once)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
