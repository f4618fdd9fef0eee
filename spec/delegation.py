"""What a chain of grants permits, by definition: each link by itself, in plain JSON. Slow and obvious.

The law that `citywatch.core.delegation` is held to; it shares no line with `src/`. It never puts two links together: an
act is permitted if every link permits it, and a link claims too much if some link above it permits less. A request is
`{"agent", "called", "key", "task", "domain", "roots", "revoked", "now", "abroad"}`, an act `{"name", "arguments",
"readers", "origins"}`. `abroad` has, by trust domain, `{"keys", "principals", "longest", "ceiling"}`: a root that is
not ours is judged by the domain of the agent that it was given to, and its ceiling is one more link that must permit
the act.
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import date
from decimal import Decimal
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

MEMBERS = {
    "v", "chain_id", "depth", "parent", "delegator", "delegator_thumb", "delegate", "delegate_thumb", "caveats",
    "task", "not_after", "human_root",
}  # fmt: skip
CAVEATS = {"audience", "tools", "skills", "arguments", "calls", "readers", "origins"}


def permits(texts: list[str], request: dict[str, Any], act: dict[str, Any]) -> bool:
    """Whether this request may do this act under these links."""
    links = [opened(text) for text in texts]
    if not links or len(links) > 8 or None in links:
        return False
    grants = [link[0] for link in links if link is not None]
    marks = [link[1] for link in links if link is not None]
    if grants[0]["parent"] != 0 or grants[0]["delegator"] != grants[0]["human_root"]:
        return False
    if not grants[0]["caveats"].get("audience"):
        return False
    for place in range(1, len(grants)):
        if not follows(grants[place - 1], marks[place - 1], grants[place]):
            return False
        if any(claims_more(grants[place], above) for above in grants[:place]):
            return False
    home, ceiling = "", None
    if grants[0]["delegator_thumb"] not in request["roots"].get(grants[0]["human_root"], []):
        home = domain_of(grants[0]["delegate"])
        ceiling = request["abroad"].get(home)
        if home == request["domain"] or ceiling is None or not crosses(grants, home, ceiling, request):
            return False
    if any(name in request["revoked"] for one in zip(grants, marks, strict=True) for name in names(*one)):
        return False
    last = grants[-1]
    theirs = home and domain_of(request["agent"]) == home
    if (last["delegate"], last["delegate_thumb"]) != (request["called" if theirs else "agent"], request["key"]):
        return False
    if ceiling is not None and not lets({"caveats": ceiling["ceiling"], "not_after": last["not_after"]}, request, act):
        return False
    return all(one["task"] == request["task"] for one in grants) and all(lets(one, request, act) for one in grants)


def crosses(grants: list[dict[str, Any]], home: str, ceiling: dict[str, Any], request: dict[str, Any]) -> bool:
    """Whether a chain that the domain `home` rooted may be shown here at all."""
    return (
        grants[0]["delegator_thumb"] in ceiling["keys"]
        and grants[0]["human_root"] in ceiling["principals"]
        and all(domain_of(one["delegate"]) in (home, request["domain"]) for one in grants)
        and min(one["not_after"] for one in grants) - request["now"] <= ceiling["longest"]
    )


def domain_of(agent: str) -> str:
    return agent.removeprefix("spiffe://").partition("/")[0]


def opened(text: str) -> tuple[dict[str, Any], str] | None:
    """One link's grant and its hash, if its own key signed it."""
    try:
        payload, key, signature = (urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in text.split("."))
        grant = json.loads(payload)
    except ValueError:
        return None
    if json.dumps(grant, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() != payload:
        return None
    if not isinstance(grant, dict) or set(grant) != MEMBERS or grant["v"] != 1 or not set(grant["caveats"]) <= CAVEATS:
        return None
    signed = b"citywatch/grant/v1\n" + payload
    jwk: dict[str, str]
    try:
        if len(key) == 32:
            jwk = {"crv": "Ed25519", "kty": "OKP", "x": b64(key)}
            Ed25519PublicKey.from_public_bytes(key).verify(signature, signed)
        else:
            jwk = {"crv": "P-256", "kty": "EC", "x": b64(key[1:33]), "y": b64(key[33:])}
            r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
            public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key)
            public.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
    except (ValueError, InvalidSignature):
        return None
    thumb = b64(sha256(json.dumps(jwk, sort_keys=True, separators=(",", ":")).encode()).digest())
    return (grant, sha256(signed).hexdigest()) if thumb == grant["delegator_thumb"] else None


def b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def follows(above: dict[str, Any], mark: str, grant: dict[str, Any]) -> bool:
    return bool(
        grant["parent"] == mark
        and grant["delegator"] == above["delegate"]
        and grant["delegator_thumb"] == above["delegate_thumb"]
        and grant["depth"] < above["depth"]
        and all(grant[member] == above[member] for member in ("chain_id", "task", "human_root"))
    )


def names(grant: dict[str, Any], mark: str) -> list[str]:
    """All under which this link could be revoked."""
    return [
        f"grant:{mark}", f"chain:{grant['chain_id']}", f"task:{grant['task']}", grant["human_root"],
        f"agent:{grant['delegate']}", f"key:{grant['delegate_thumb']}", f"key:{grant['delegator_thumb']}",
    ]  # fmt: skip


def claims_more(grant: dict[str, Any], above: dict[str, Any]) -> bool:
    """Whether a caveat that a link states permits something that a link above it, taken alone, does not."""
    mine, theirs = grant["caveats"], above["caveats"]
    if grant["not_after"] > above["not_after"]:
        return True
    if "calls" in mine and "calls" in theirs and mine["calls"] > theirs["calls"]:
        return True
    for name in ("audience", "readers"):
        if name in mine and name in theirs and not set(mine[name]) <= set(theirs[name]):
            return True
    for name in ("tools", "skills", "origins"):
        if name in mine and name in theirs and not all(spoken_of(theirs[name], one) for one in mine[name]):
            return True
    return any(
        not narrower(limit, theirs["arguments"][tool][argument])
        for tool, limits in mine.get("arguments", {}).items()
        for argument, limit in limits.items()
        if argument in theirs.get("arguments", {}).get(tool, {})
    )


def narrower(limit: dict[str, Any], wide: dict[str, Any]) -> bool:
    """Whether each value that keeps `limit` keeps `wide`."""
    if "one_of" in limit:
        return not limit["one_of"] or ("equals" not in wide and all(keeps(wide, one) for one in limit["one_of"]))
    if "equals" in limit:
        return keeps(wide, limit["equals"])
    for low, high in (("at_least", "at_most"), ("not_before", "not_after")):
        if low in limit or high in limit:
            if not (low in wide or high in wide) or unit(limit) != unit(wide):
                return False
            below = low in wide and (low not in limit or end(limit[low]) < end(wide[low]))
            return not (below or (high in wide and (high not in limit or end(limit[high]) > end(wide[high]))))
    return False


def lets(grant: dict[str, Any], request: dict[str, Any], act: dict[str, Any]) -> bool:
    """Whether one link, taken alone, permits the act to this request."""
    caveats = grant["caveats"]
    if request["now"] >= grant["not_after"] or request["domain"] not in caveats.get("audience", [request["domain"]]):
        return False
    if "tools" in caveats and not spoken_of(caveats["tools"], act["name"]):
        return False
    if "readers" in caveats and (act["readers"] is None or not set(act["readers"]) <= set(caveats["readers"])):
        return False
    if "origins" in caveats and (
        act["origins"] is None or not all(spoken_of(caveats["origins"], one) for one in act["origins"])
    ):
        return False
    return all(
        act["arguments"].get(argument) is not None and keeps(limit, act["arguments"][argument])
        for argument, limit in caveats.get("arguments", {}).get(act["name"], {}).items()
    )


def spoken_of(patterns: list[str], name: str) -> bool:
    return any(name.startswith(one[:-1]) if one.endswith("*") else name == one for one in patterns)


def keeps(limit: dict[str, Any], value: Any) -> bool:
    if "equals" in limit:
        return same(limit["equals"], value)
    if isinstance(value, list):
        return bool(value) and all(keeps(limit, one) for one in value)
    if value is None or isinstance(value, dict):
        return False
    if "one_of" in limit:
        return any(same(one, value) for one in limit["one_of"])
    if "at_least" in limit or "at_most" in limit:
        amount = amount_of(value, unit(limit))
        return amount is not None and all(
            end(limit[name]) <= amount if name == "at_least" else amount <= end(limit[name]) for name in limit
        )
    day = day_of(value)
    return day is not None and all(limit[name] <= day if name == "not_before" else day <= limit[name] for name in limit)


def same(one: Any, two: Any) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True)


def unit(limit: dict[str, Any]) -> str:
    words = [str(limit[name]).split(" ") for name in ("at_least", "at_most") if name in limit]
    return words[0][1] if words and len(words[0]) == 2 else ""


def end(written: Any) -> Any:
    """One end of a range: an amount without its unit, or a day as it is written."""
    text = str(written)
    return text if re.fullmatch(r"\d{4}-\d\d-\d\d", text) else Decimal(text.split(" ")[0])


def amount_of(value: Any, currency: str) -> Decimal | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return Decimal(str(value)) if not currency else None
    text = re.fullmatch(r"([A-Z]{3} )?(-?(?:0|[1-9]\d{0,29})(?:\.\d{1,18})?)( [A-Z]{3})?", value)
    if text is None or (text[1] and text[3]):
        return None
    return Decimal(text[2]) if (text[1] or text[3] or "").strip() == currency else None


def day_of(value: Any) -> str | None:
    text = re.fullmatch(r"(\d{4}-\d\d-\d\d)([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?", str(value))
    if text is None or isinstance(value, bool | int | float):
        return None
    try:
        return date.fromisoformat(text[1]).isoformat()
    except ValueError:
        return None
