"""What a foreign issuer asserts is taken under its own keys, for us, now, from whom it says; and from nobody else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwk, jws, jwt

from citywatch.core.call import Asserted
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.identity.access import MAX_ACTORS
from citywatch.core.identity.credential import Credential, Kind
from citywatch.core.identity.foreign import ForeignIssuer, parse_key_set, verify_assertion

NOW = 1_800_000_000_000
ISSUER, US = "https://idp.example", "https://gateway.example"
AGENT, KEY = "spiffe://city.example/agent/clerk", "k" * 43
PAPERS = Credential(agent=AGENT, key=KEY, kind=Kind.X509, not_before=0, not_after=NOW * 2, digest="ab" * 32)
BOUND = "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s"
EC = jwk.ECKey.generate_key("P-256", {"kid": "ec"})
OKP = jwk.OKPKey.generate_key("Ed25519", {"kid": "okp"})
RSA = jwk.RSAKey.generate_key(2048, {"kid": "rsa"})
OTHER = jwk.ECKey.generate_key("P-256", {"kid": "ec"})
PUBLIC = [key.as_dict(private=False) for key in (EC, OKP, RSA)]
KEYS = json.dumps({"keys": PUBLIC}).encode()
ISSUERS = {ISSUER: ForeignIssuer(issuer=ISSUER, audience=US, keys=parse_key_set(KEYS))}
CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "aud": US,
    "sub": "anna@corp.example",
    "iat": NOW // 1000 - 10,
    "exp": NOW // 1000 + 300,
    "act": {"sub": "assistant", "act": {"sub": "portal"}},
}
ALGORITHMS = ["ES256", "Ed25519", "RS256", "HS256", "PS256"]


def token(key: Any = EC, alg: str = "ES256", typ: str | None = "at+jwt", kid: str = "", **claims: Any) -> str:
    header = {"alg": alg, "kid": kid or key.kid, **({} if typ is None else {"typ": typ})}
    kept = {name: value for name, value in {**CLAIMS, **claims}.items() if value is not None}
    return jwt.encode(header, kept, key, algorithms=ALGORITHMS)


def said(text: str, papers: Credential = PAPERS, now: int = NOW) -> Asserted:
    return verify_assertion(text, ISSUERS, papers, now, 5_000)


def refused(text: str, why: str, papers: Credential = PAPERS, now: int = NOW) -> None:
    with pytest.raises(Refused, match=why) as failure:
        said(text, papers, now)
    assert failure.value.code is Code.ASSERTION_REFUSED


@pytest.mark.parametrize(("key", "alg"), [(EC, "ES256"), (OKP, "Ed25519"), (RSA, "RS256")])
@pytest.mark.parametrize("typ", ["at+jwt", "application/at+jwt", "JWT"])
def test_what_another_library_writes_is_read(key: Any, alg: str, typ: str) -> None:
    asserted = said(token(key, alg, typ))
    assert asserted == Asserted(issuer=ISSUER, subject="anna@corp.example", actors=("portal", "assistant"))


def test_without_actors_nobody_acts_for_the_subject() -> None:
    assert said(token(act=None)).actors == ()
    assert said(token(aud=[US], nbf=NOW // 1000)).subject == "anna@corp.example"


@pytest.mark.parametrize(
    ("forge", "why"),
    [
        (lambda: token(OTHER), "signature"),
        (lambda: token(RSA, "RS256", kid="ec"), "names no key of its issuer for that algorithm"),
        (lambda: token(EC, kid="rsa"), "names no key"),
        (lambda: token(EC, kid="nobody"), "names no key"),
        (lambda: token(RSA, "PS256"), "algorithm is none of"),
        (lambda: confused(), "algorithm is none of"),
        (lambda: unsigned(), "algorithm is none of"),
        (lambda: steered(typ=""), "another type"),
        (lambda: steered(typ=7), "another type"),
        (lambda: token(typ="dpop+jwt"), "another type"),
        (lambda: steered(jku="https://evil.example"), "steers"),
        (lambda: steered(jwk=OTHER.as_dict(private=False)), "steers"),
        (lambda: steered(x5u="https://evil.example"), "steers"),
        (lambda: token(iss="https://evil.example"), "no issuer of this gateway"),
        (lambda: token(iss=ISSUER + "/"), "no issuer"),
        (lambda: token(aud="https://other.example"), "not for this gateway alone"),
        (lambda: token(aud=[US, "https://other.example"]), "not for this gateway alone"),
        (lambda: token(aud=None), "not for this gateway alone"),
        (lambda: token(exp=NOW // 1000 - 10), "expired"),
        (lambda: token(exp=None), "`exp`"),
        (lambda: token(iat=None), "`iat`"),
        (lambda: token(iat=NOW // 1000 + 60, exp=NOW // 1000 + 120), "not valid yet"),
        (lambda: token(nbf=NOW // 1000 + 60), "not valid yet"),
        (lambda: token(exp=NOW // 1000 + 90_000), "more than a day"),
        (lambda: token(sub=None), "`sub`"),
        (lambda: token(sub="a" * 300), "1 to 256"),
        (lambda: token(act={"sub": ""}), "1 to 256"),
        (lambda: token(act=nested(MAX_ACTORS + 1)), "nest of at most"),
        (lambda: token(act=["portal"]), "nest of at most"),
        (lambda: token(may_act={"sub": "spiffe://city.example/agent/thief"}), "somebody else act"),
        (lambda: token(may_act=[AGENT]), "somebody else act"),
        (lambda: token(cnf={"jkt": "x" * 43}), "another key"),
        (lambda: token(cnf={"x5t#S256": "x" * 43}), "another key"),
        (lambda: token(cnf={}), "another key"),
        (lambda: token(cnf={"jkt": KEY, "kid": "any"}), "another key"),
        (lambda: "a" * 9000, "at most"),
        (lambda: "a.b", "compact token"),
        (lambda: token() + ".x", "compact token"),
        (lambda: token().replace(".", "=.", 1), "base64url"),
        (lambda: token()[:-2] + "AA", "signature"),
    ],
)
def test_what_is_not_theirs_or_not_for_us_is_refused(forge: Callable[[], str], why: str) -> None:
    refused(forge(), why)


def test_what_is_bound_is_taken_from_whom_it_is_bound_to() -> None:
    bound: tuple[dict[str, Any], ...] = (
        {"may_act": {"sub": AGENT}},
        {"cnf": {"jkt": KEY}},
        {"cnf": {"x5t#S256": BOUND}},
    )
    for claims in bound:
        assert said(token(**claims)).subject == "anna@corp.example"
    without = msgspec.structs.replace(PAPERS, kind=Kind.JWT)
    refused(token(cnf={"x5t#S256": BOUND}), "another key", without)
    assert said(token(act=nested(MAX_ACTORS))).actors[-1] == "a"


def test_the_same_token_is_refused_a_moment_later() -> None:
    text = token(exp=NOW // 1000 + 1)
    assert said(text)
    refused(text, "expired", now=NOW + 6_000)


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda data: data.hex() + ".x.y"))
def test_any_text_is_refused_and_nothing_else(text: str) -> None:
    with pytest.raises(Refused):
        said(text)


@given(st.integers(0, 10**6))
def test_a_letter_changed_anywhere_is_refused(place: int) -> None:
    letters = list(GOOD)
    place %= len(letters)
    letters[place] = "A" if letters[place] != "A" else "B"
    with pytest.raises(Refused):
        said("".join(letters))


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ([], "no key with a `kid`"),
        ([{**PUBLIC[0], "kid": ""}], "no key with a `kid`"),
        ([PUBLIC[0], PUBLIC[0]], "two keys under one"),
        ([EC.as_dict(private=True)], "no key"),
        ([RSA.as_dict(private=True)], "no key"),
        ([{**PUBLIC[2], "e": "Aw"}], "no key"),
        ([{**PUBLIC[2], "n": "AQAB"}], "no key"),
        ([{**PUBLIC[2], "use": "enc"}], "no key"),
        ([{**PUBLIC[2], "alg": "RS512"}], "no key"),
        ([jwk.ECKey.generate_key("P-384", {"kid": "x"}).as_dict(private=False), "x", 7], "no key"),
        ("x", "list"),
        ([PUBLIC[0]] * 65, "at most 64"),
    ],
)
def test_a_set_without_a_key_that_we_take_is_none(keys: Any, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        parse_key_set(json.dumps({"keys": keys}).encode())


def test_keys_of_other_kinds_are_passed_over() -> None:
    strange = jwk.ECKey.generate_key("P-521", {"kid": "strange"}).as_dict(private=False)
    assert set(parse_key_set(json.dumps({"keys": [strange, *PUBLIC]}).encode())) == {"ec", "okp", "rsa"}


def nested(depth: int) -> dict[str, Any]:
    act: dict[str, Any] = {"sub": "a"}
    for _ in range(depth - 1):
        act = {"sub": "a", "act": act}
    return act


def confused() -> str:
    """The public key's own bytes as a shared secret."""
    return token(jwk.OctKey.import_key(KEYS, {"kid": "ec"}), "HS256")


def unsigned() -> str:
    head, body, _ = token().split(".")
    none = jws.serialize_compact({"alg": "ES256", "kid": "ec"}, b"{}", EC, algorithms=["ES256"]).split(".")[2]
    import base64

    header = base64.urlsafe_b64encode(b'{"alg":"none","typ":"at+jwt","kid":"ec"}').rstrip(b"=").decode()
    assert none
    assert head
    return f"{header}.{body}."


def steered(**members: Any) -> str:
    import base64

    header = {"alg": "ES256", "kid": "ec", "typ": "at+jwt", **members}
    head = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    body = token().split(".")[1]
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
    from cryptography.hazmat.primitives.hashes import SHA256

    private: Any = EC.private_key
    r, s = decode_dss_signature(private.sign(f"{head}.{body}".encode(), ec.ECDSA(SHA256())))
    signature = base64.urlsafe_b64encode(r.to_bytes(32, "big") + s.to_bytes(32, "big")).rstrip(b"=").decode()
    return f"{head}.{body}.{signature}"


GOOD = token()
