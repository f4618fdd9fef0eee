"""Chains against their definition, which looks at one link at a time; and signatures against other people's code."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import load_der_public_key
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm

from bench.forgeries import KINDS, forgery
from bench.grants import NOW, Author, Presented, put_together, resigned, town
from citywatch.core.canonical import canonical
from citywatch.core.delegation.chain import verify_chain
from citywatch.core.delegation.grant import format_grant, parse_link, verify_link
from citywatch.core.delegation.holds import Act, beyond
from citywatch.core.delegation.wording import format_caveats
from citywatch.core.errors import Malformed, Refused
from citywatch.core.signature import Ed25519Key
from spec import delegation as law


def ours(presented: Presented, act: Act) -> bool:
    try:
        delegated = verify_chain(presented.texts, presented.asking, presented.trust, presented.now)
    except Refused:
        return False
    return beyond(delegated.caveats, act) is None


def by_definition(presented: Presented, act: Act) -> bool:
    request = {
        **msgspec.to_builtins(presented.asking),
        "domain": presented.trust.domain,
        "roots": presented.trust.roots,
        "revoked": presented.trust.revoked,
        "now": presented.now,
        "abroad": {
            domain: {
                "keys": one.keys, "principals": one.principals, "longest": one.longest,
                "ceiling": format_caveats(one.ceiling),
            }
            for domain, one in presented.trust.abroad.items()
        },
    }  # fmt: skip
    return law.permits(list(presented.texts), request, msgspec.structs.asdict(act))


def acts(author: Author, presented: Presented) -> Iterator[Act]:
    """The honest one, others, and ones that differ from it in a single thing."""
    yield presented.act
    yield author.act()
    yield msgspec.structs.replace(presented.act, name=author.act().name)
    yield msgspec.structs.replace(presented.act, arguments={**presented.act.arguments, **author.act().arguments})
    yield msgspec.structs.replace(presented.act, readers=author.chance.choice((None, frozenset({"carol"}))))
    yield msgspec.structs.replace(presented.act, origins=author.chance.choice((None, frozenset({"agent:x"}))))


def pushed(author: Author) -> Presented:
    """An honest chain whose last link was signed by its delegator once more, with other caveats: whatever it likes."""
    honest = author.honest(author.chance.randint(2, 4))
    last = parse_link(honest.texts[-1]).grant
    drawn = format_caveats(author.caveats(honest.act if author.chance.random() < 0.7 else author.act()))
    if author.chance.random() < 0.3:
        drawn["arguments"] = {honest.act.name: {"to": {"one_of": ["anna"]}}}
    changes: dict[str, Any] = {
        "caveats": drawn,
        "depth": max(last.depth + author.chance.choice((-1, 0, 0, 0, 1)), 0),
        "not_after": last.not_after + author.chance.choice((-1, 0, 0, 0, 1)),
    }
    text = resigned(honest.texts[-1], town()[last.delegator].signer, **changes)
    return msgspec.structs.replace(honest, texts=(*honest.texts[:-1], text))


def compared(seed: int) -> Iterator[tuple[str, bool]]:
    author = Author(Random(seed))
    honest, other = author.honest(), pushed(author)
    kind = author.chance.choice(tuple(KINDS))
    shown = (("honest", honest), ("pushed", other), ("abroad", author.abroad()), (kind, forgery(author, kind)))
    for what, presented in shown:
        for act in acts(author, presented):
            mine, theirs = ours(presented, act), by_definition(presented, act)
            assert mine == theirs, (seed, what, act, presented)
            yield what, mine


@given(st.integers(0, 2**32))
def test_chains_permit_what_each_of_their_links_permits(seed: int) -> None:
    for _ in compared(seed):
        pass


def test_and_it_was_not_for_want_of_chains_or_of_acts() -> None:
    found = [one for seed in range(150) for one in compared(seed)]
    for what in ("honest", "pushed", "abroad"):
        permitted = [one for kind, one in found if kind == what]
        assert permitted.count(True) > 40
        assert permitted.count(False) > 40
    assert not any(one for kind, one in found if kind in KINDS)


@given(st.randoms(use_true_random=False), st.integers(0, 511), st.booleans())
def test_a_signature_is_good_exactly_if_another_library_finds_it_good(chance: Random, bit: int, touched: bool) -> None:
    text = chance.choice(Author(chance).honest().texts)
    link = parse_link(text)
    signature = bytearray(link.signature)
    if touched:
        signature[bit // 8] ^= 1 << bit % 8
    changed = msgspec.structs.replace(link, signature=bytes(signature))
    public = load_der_public_key(town()[link.grant.delegator].signer.public)
    algorithm: Any = OKPAlgorithm() if isinstance(link.key, Ed25519Key) else ECAlgorithm(ECAlgorithm.SHA256)
    good = algorithm.verify(link.signed, public, bytes(signature))
    try:
        verify_link(changed)
    except Malformed:
        assert not good
        return
    assert good


@pytest.mark.parametrize("name", ["principal:anna", "principal:payroll"])
def test_the_same_words_under_another_key_are_good_for_neither(name: str) -> None:
    honest = next(one for seed in range(50) if (one := Author(Random(seed)).honest()).now == NOW)
    grant = parse_link(honest.texts[0]).grant
    payload = canonical({**msgspec.json.decode(format_grant(grant)), "delegator_thumb": "A" * 43})
    with pytest.raises(Malformed, match="not signed with its delegator's key"):
        verify_link(parse_link(put_together(payload, town()[name].signer)))
