"""The actors of a token are the agents of the verified chain, in its order, for any chain; and of no forged one."""

from __future__ import annotations

import json
from random import Random
from typing import Any, cast
from urllib.parse import urlencode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.forgeries import forgery
from bench.grants import NOW, Author, Presented
from citywatch.core.delegation.chain import verify_chain
from citywatch.core.enforce.acting import acting
from citywatch.core.enforce.verify import Authority
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.identity.access import (
    LONGEST_MS,
    MAX_ACTORS,
    Acting,
    access_claims,
    format_actors,
    parse_actors,
    scope_word,
)
from citywatch.core.wire.token_request import (
    CHAIN_TYPE,
    GRANT_TYPE,
    JWT_TYPE,
    MAX_BYTES,
    MAX_FIELDS,
    parse_token_request,
    refusal,
)

DRAWN = 400
SPLICED = 1_500
NAMES = st.lists(st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=9), min_size=1)


def claims_of(shown: Presented) -> dict[str, Any]:
    """The token of a call under a chain, from texts to claims; `Refused` where the chain does not hold."""
    delegated = verify_chain(shown.texts, shown.asking, shown.trust, shown.now)
    authority = Authority(
        agent=shown.asking.agent, name="", key=shown.asking.key, entity=cast(Any, None), delegated=delegated
    )
    who = acting(cast(Any, None), authority, cast(Any, None))
    return access_claims(
        who, issuer="https://g.example", resource="https://r.example", scopes=("s",), now=shown.now, call="c", token="t"
    )


def test_the_nested_actors_are_the_chain_s_agents_and_the_acting_one_is_outermost() -> None:
    for seed in range(DRAWN):
        shown = Author(Random(seed)).honest()
        claims = claims_of(shown)
        delegates = [msgspec.json.decode(_payload(text))["delegate"] for text in shown.texts]
        act: Any = claims["act"]
        for delegate in reversed(delegates):
            assert act["sub"] == delegate
            act = act.get("act")
        assert act is None
        assert parse_actors(claims) == tuple(delegates)
        assert claims["sub"] == msgspec.json.decode(_payload(shown.texts[0]))["delegator"]
        assert claims["exp"] * 1000 <= NOW + LONGEST_MS


def test_a_spliced_or_stolen_chain_never_becomes_a_token() -> None:
    accepted = 0
    for seed in range(SPLICED):
        author = Author(Random(seed))
        honest = author.honest()
        for kind in ("spliced", "replayed", "swapped-key"):
            try:
                claims_of(forgery(author, kind, honest))
                accepted += 1
            except Refused:
                continue
    assert accepted == 0


@given(NAMES.filter(lambda names: len(names) <= MAX_ACTORS))
def test_what_is_written_is_read(names: list[str]) -> None:
    assert parse_actors({"act": format_actors(names)}) == tuple(names)


@pytest.mark.parametrize("count", [0, MAX_ACTORS + 1])
def test_nobody_and_too_many_do_not_act(count: int) -> None:
    with pytest.raises(Malformed, match="act for somebody"):
        format_actors(["a"] * count)


def test_actors_that_nest_deeper_than_a_chain_are_not_read() -> None:
    act: dict[str, Any] = {"sub": "a"}
    for _ in range(MAX_ACTORS):
        act = {"sub": "a", "act": act}
    with pytest.raises(Malformed, match="nest"):
        parse_actors({"act": act})
    wrong: Any
    for wrong in ([], "a", 1, {"sub": 1}, {}, {"sub": "a", "act": ["b"]}, {"sub": "a\nb"}):
        with pytest.raises(Malformed):
            parse_actors({"act": wrong})
    assert parse_actors({"act": {"sub": "a", "iss": "https://i.example"}}) == ("a",)
    assert parse_actors({}) == ()


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_scope_is_one_word_and_no_two_names_share_one(one: str, other: str) -> None:
    word = scope_word(one)
    assert word.isascii()
    assert not set(word) & set(' "\\')
    assert (word == scope_word(other)) == (one == other)


def test_a_token_lives_no_longer_than_what_it_rests_on() -> None:
    who = Acting(subject="principal:anna", actors=("a",), agent="a", until=NOW + 5_000)
    claims = access_claims(who, issuer="i", resource="r", scopes=(), now=NOW, call="c", token="t")
    assert claims["exp"] - claims["iat"] == 5


def _payload(text: str) -> bytes:
    from citywatch.core.signature import parse_b64url

    return parse_b64url(text.split(".")[0])


# ---- requests for tokens -----------------------------------------------------------------------------------------

FIELDS = st.sampled_from(
    ["grant_type", "subject_token", "subject_token_type", "actor_token", "actor_token_type", "resource", "scope", "x"]
)
WORDS = st.sampled_from([GRANT_TYPE, CHAIN_TYPE, JWT_TYPE, "a", "a b", "", "https://r.example", "é", "a,b", "%"])
FORMS = st.lists(st.tuples(FIELDS, WORDS), max_size=9).map(lambda pairs: urlencode(pairs).encode())


@given(st.one_of(FORMS, st.binary(max_size=300), FORMS.map(lambda form: form.replace(b"%", b"%%"))))
def test_any_bytes_are_a_request_or_refused(body: bytes) -> None:
    try:
        asked = parse_token_request(body)
    except (Malformed, Refused) as failure:
        code = failure.code if isinstance(failure, Refused) else Code.MALFORMED
        told = json.loads(refusal(code, str(failure)))
        assert told["error"] in ("invalid_request", "invalid_target", "invalid_scope", "unsupported_grant_type")
        assert told["error_description"].isascii()
        return
    assert (asked.own is None) != (asked.chain == ())
    assert asked.scopes
    assert asked.resource


def test_a_request_is_bounded() -> None:
    with pytest.raises(Malformed, match="at most"):
        parse_token_request(b"a" * (MAX_BYTES + 1))
    with pytest.raises(Malformed, match="no form"):
        parse_token_request(b"&".join(b"f%d=1" % place for place in range(MAX_FIELDS + 1)))
