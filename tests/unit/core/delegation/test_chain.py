"""Which links make a chain, who may use it, and what a forger gets: each step refuses by a code of its own."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import msgspec
import pytest

from bench.forgeries import KINDS, forgery
from bench.grants import AGENTS, DOMAIN, NOW, PRINCIPALS, Author, Presented, put_together, resigned, town
from citywatch.core.canonical import canonical
from citywatch.core.delegation.caveats import ANYTHING, Caveats
from citywatch.core.delegation.chain import MAX_LINKS, Asking, Budget, Trust, Verified, verify_chain
from citywatch.core.delegation.grant import MAX_LINK, format_grant, format_link, parse_link, signing_input
from citywatch.core.delegation.handing import Holder, next_grant, root_grant
from citywatch.core.delegation.holds import Act, beyond
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.limit import Equal, OneOf
from citywatch.service.grants import sign_grant

ANNA, PAYROLL = PRINCIPALS
ROUTER, BILLING, CRM = AGENTS[:3]
TASK = "t-1"
CAVEATS = Caveats(
    audience=frozenset({DOMAIN}), tools=frozenset({"bank/pay", "crm/*"}), calls=10, not_after=NOW + 1000, depth=3
)


def holder(name: str) -> Holder:
    return Holder(name, town()[name].thumb)


def root(caveats: Caveats = CAVEATS, to: str = ROUTER, chain: str = "c" * 22) -> str:
    return sign_grant(root_grant(chain, TASK, ANNA, town()[ANNA].thumb, holder(to), caveats), town()[ANNA].signer)


def handed(texts: list[str], to: str, caveats: Caveats = ANYTHING) -> list[str]:
    last = parse_link(texts[-1]).grant
    return [*texts, sign_grant(next_grant(texts, holder(to), caveats), town()[last.delegate].signer)]


def asking(name: str, task: str | None = TASK) -> Asking:
    return Asking(agent=name, key=town()[name].thumb, task=task)


def trust(**changes: Any) -> Trust:
    known = Trust(domain=DOMAIN, roots={ANNA: {town()[ANNA].thumb}}, revoked=frozenset(), epoch=1)
    return msgspec.structs.replace(known, **changes)


def refusal(texts: list[str], who: Asking, known: Trust | None = None, now: int = NOW) -> Code:
    with pytest.raises(Refused) as refused:
        verify_chain(texts, who, known or trust(), now)
    return refused.value.code


def test_a_chain_gives_its_holder_the_meet_of_its_links() -> None:
    texts = handed(handed([root()], BILLING, Caveats(tools=frozenset({"bank/pay"}), calls=4)), CRM)
    found = verify_chain(texts, asking(CRM), trust(), NOW)
    assert found.caveats == msgspec.structs.replace(CAVEATS, tools=frozenset({"bank/pay"}), calls=4, depth=1)
    assert found.hops == (ROUTER, BILLING, CRM)
    assert (found.principal, found.task, found.chain_id) == (ANNA, TASK, "c" * 22)
    hashes = [parse_link(text).hash for text in texts]
    assert found.head == hashes[-1]
    assert found.budgets == (Budget(hashes[0], 10), Budget(hashes[1], 4))


def test_siblings_draw_on_the_budget_of_the_link_they_share() -> None:
    shared = handed([root()], BILLING, Caveats(calls=6))
    one, two = handed(shared, CRM, Caveats(calls=5)), handed(shared, ROUTER, Caveats(calls=5))
    budgets = [
        set(verify_chain(texts, asking(name), trust(), NOW).budgets) for texts, name in ((one, CRM), (two, ROUTER))
    ]
    together = {Budget(parse_link(text).hash, calls) for text, calls in zip(shared, (10, 6), strict=True)}
    assert budgets[0] & budgets[1] == together
    assert all(len(mine) == 3 for mine in budgets)


def test_one_link_is_a_chain_and_the_principal_may_hold_an_ed25519_key() -> None:
    text = sign_grant(
        root_grant("d" * 22, TASK, PAYROLL, town()[PAYROLL].thumb, holder(ROUTER), CAVEATS), town()[PAYROLL].signer
    )
    found = verify_chain([text], asking(ROUTER), trust(roots={PAYROLL: {town()[PAYROLL].thumb}}), NOW)
    assert found.principal == PAYROLL


def test_a_key_that_speaks_for_one_principal_speaks_for_no_other() -> None:
    roots = {ANNA: {town()[PAYROLL].thumb}, PAYROLL: {town()[ANNA].thumb}}
    assert refusal([root()], asking(ROUTER), trust(roots=roots)) is Code.CHAIN_UNTRUSTED
    assert refusal([root()], asking(ROUTER), trust(roots={})) is Code.CHAIN_UNTRUSTED


def test_a_chain_holds_until_its_end_and_not_at_it() -> None:
    verify_chain([root()], asking(ROUTER), trust(), NOW + 999)
    assert refusal([root()], asking(ROUTER), now=NOW + 1000) is Code.CHAIN_EXPIRED


def test_a_chain_is_for_one_task_and_names_it() -> None:
    assert refusal([root()], asking(ROUTER, None)) is Code.CHAIN_WRONG_TASK
    assert refusal([root()], asking(ROUTER, "t-2")) is Code.CHAIN_WRONG_TASK


def test_a_chain_is_for_the_gateways_that_its_root_names() -> None:
    assert refusal([root()], asking(ROUTER), trust(domain="other.example")) is Code.CHAIN_WRONG_AUDIENCE
    texts = handed(
        [root(msgspec.structs.replace(CAVEATS, audience=frozenset({DOMAIN, "b.example"})))],
        BILLING,
        Caveats(audience=frozenset({"b.example"})),
    )
    assert refusal(texts, asking(BILLING)) is Code.CHAIN_WRONG_AUDIENCE
    verify_chain(texts, asking(BILLING), trust(domain="b.example"), NOW)


@pytest.mark.parametrize("name", ["another agent", "another key"])
def test_a_chain_is_its_holders_and_nobody_elses(name: str) -> None:
    texts = handed([root()], BILLING)
    thief = asking(ROUTER) if name == "another agent" else Asking(agent=BILLING, key=town()[CRM].thumb, task=TASK)
    assert refusal(texts, thief) is Code.CHAIN_NOT_HELD
    assert refusal(texts[:1], asking(BILLING)) is Code.CHAIN_NOT_HELD


@pytest.mark.parametrize(
    "revoked",
    [
        lambda link: f"grant:{link.hash}",
        lambda link: f"agent:{link.grant.delegate}",
        lambda link: f"key:{link.grant.delegate_thumb}",
        lambda link: f"key:{link.grant.delegator_thumb}",
        lambda link: f"chain:{link.grant.chain_id}",
        lambda link: f"task:{link.grant.task}",
        lambda link: link.grant.human_root,
    ],
)
def test_what_stands_beneath_something_revoked_falls_with_it(revoked: Callable[[Any], str]) -> None:
    texts = handed(handed([root()], BILLING), CRM)
    for text in texts[:2]:
        known = trust(revoked=frozenset({revoked(parse_link(text))}))
        assert refusal(texts, asking(CRM), known) is Code.CHAIN_REVOKED


def test_a_link_fits_under_the_link_that_it_was_made_under_and_no_other() -> None:
    """Two roots for the same task, agent and chain: independent signatures would let one child change places."""
    narrow = handed([root(msgspec.structs.replace(CAVEATS, calls=1))], BILLING)
    wide = root(msgspec.structs.replace(CAVEATS, calls=1000, tools=frozenset({"*"})))
    assert refusal([wide, narrow[1]], asking(BILLING)) is Code.CHAIN_BROKEN


def test_a_link_starts_where_the_one_before_it_ends() -> None:
    texts = handed([root()], BILLING)
    grant = msgspec.json.decode(format_grant(parse_link(texts[1]).grant))
    other = put_together(
        canonical({**grant, "delegator": CRM, "delegator_thumb": town()[CRM].thumb}), town()[CRM].signer
    )
    assert refusal([texts[0], other], asking(BILLING)) is Code.CHAIN_BROKEN
    same_name = put_together(canonical({**grant, "delegator_thumb": town()[CRM].thumb}), town()[CRM].signer)
    assert refusal([texts[0], same_name], asking(BILLING)) is Code.CHAIN_BROKEN


@pytest.mark.parametrize("member", ["chain_id", "task", "human_root"])
def test_chain_task_and_principal_are_the_same_throughout(member: str) -> None:
    texts = handed([root()], BILLING)
    value = {"chain_id": "e" * 22, "task": "t-2", "human_root": PAYROLL}[member]
    changed = resigned(texts[1], town()[ROUTER].signer, **{member: value})
    assert refusal([texts[0], changed], asking(BILLING)) is Code.CHAIN_BROKEN


@pytest.mark.parametrize("depth", [3, 4])
def test_depth_falls_with_each_link(depth: int) -> None:
    texts = handed([root()], BILLING)
    changed = resigned(texts[1], town()[ROUTER].signer, depth=depth)
    assert refusal([texts[0], changed], asking(BILLING)) is Code.CHAIN_BROKEN


def test_a_root_is_its_principals_and_has_no_parent_and_an_audience() -> None:
    link = parse_link(root()).grant
    grant = msgspec.json.decode(format_grant(link))
    wrong: list[dict[str, Any]] = [
        {"parent": "a" * 64, "delegator": ROUTER},
        {"delegator": PAYROLL},
        {"caveats": {}},
        {"caveats": {"audience": []}},
    ]
    for changes in wrong:
        text = put_together(canonical({**grant, **changes}), town()[ANNA].signer)
        assert refusal([text], asking(ROUTER)) is Code.CHAIN_BROKEN


def test_a_signature_written_anew_is_no_new_grant_and_no_new_budget() -> None:
    """ECDSA: whoever sees (r, s) can write (r, n - s); and the signer signs as often as it likes."""
    text = root()
    link = parse_link(text)
    r, s = int.from_bytes(link.signature[:32]), int.from_bytes(link.signature[32:])
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    other = format_link(
        link.signed.removeprefix(signing_input(b"")), link.key, r.to_bytes(32) + (order - s).to_bytes(32)
    )
    assert other != text
    verified = Verified(10)
    budgets = {verify_chain([one], asking(ROUTER), trust(), NOW, verified).budgets for one in (text, other, root())}
    assert len(budgets) == 1


def test_a_signature_in_der_is_none() -> None:
    link = parse_link(root())
    der = town()[ANNA].signer.sign(link.signed)
    text = format_link(link.signed.removeprefix(signing_input(b"")), link.key, der)
    assert refusal([text], asking(ROUTER)) is Code.CHAIN_MALFORMED


def test_a_link_is_bounded_and_so_is_a_chain() -> None:
    assert refusal(["A" * (MAX_LINK + 1)], asking(ROUTER)) is Code.CHAIN_MALFORMED
    assert refusal([root()] * (MAX_LINKS + 1), asking(ROUTER)) is Code.CHAIN_MALFORMED
    assert refusal([], asking(ROUTER)) is Code.CHAIN_MALFORMED


@pytest.mark.parametrize("kind", KINDS)
def test_no_forged_chain_is_accepted(kind: str) -> None:
    """`bench.chain` draws more of them."""
    for seed in range(60):
        false = forgery(Author(Random(seed)), kind)
        with pytest.raises(Refused):
            verify_chain(false.texts, false.asking, false.trust, false.now)


def test_no_forged_chain_is_accepted_for_the_honest_one_having_been_there_before() -> None:
    for kind in KINDS:
        verified = Verified(100)
        for seed in range(20):
            honest = Author(Random(seed)).honest()
            verify_chain(honest.texts, honest.asking, honest.trust, honest.now, verified)
            false = forgery(Author(Random(seed)), kind)
            with pytest.raises(Refused):
                verify_chain(false.texts, false.asking, false.trust, false.now, verified)


def test_no_honest_chain_is_refused() -> None:
    def accepted(honest: Presented) -> bool:
        found = verify_chain(honest.texts, honest.asking, honest.trust, honest.now)
        return beyond(found.caveats, honest.act) is None

    assert all(accepted(Author(Random(seed)).honest()) for seed in range(300))


def test_what_was_verified_is_forgotten_beyond_its_bound_and_in_another_epoch() -> None:
    verified, texts, ours = Verified(2), [[root(chain=letter * 22)] for letter in "abc"], {town()[ANNA].thumb}
    first = verified.read(texts[0], 1, ours)
    assert verified.read(texts[0], 1, ours) is first
    assert verified.read(texts[0], 2, ours) is not first
    verified.read(texts[1], 2, ours)
    assert verified.read(texts[0], 1, ours) is not first


def test_what_begins_with_nobodys_key_is_not_remembered() -> None:
    verified, theirs = Verified(2), [root()]
    assert verified.read(theirs, 1, ()) is not verified.read(theirs, 1, ())


def test_a_text_that_no_canonical_form_has_is_a_chain_that_cannot_be_read() -> None:
    for text in ("\ud800", "é", "A" * (MAX_LINK + 1)):
        with pytest.raises(Refused) as refused:
            Verified(2).read([text], 1, ())
        assert refused.value.code is Code.CHAIN_MALFORMED


def test_two_chains_that_are_written_alike_when_run_together_are_two() -> None:
    verified, text, ours = Verified(2), root(), {town()[ANNA].thumb}
    verified.read([text], 1, ours)
    with pytest.raises(Refused):
        verified.read([text[:10], text[10:]], 1, ours)


def test_nobody_writes_a_link_that_would_be_refused() -> None:
    texts = [root()]
    for caveats in (
        Caveats(tools=frozenset({"mail/send"})),
        Caveats(calls=11),
        Caveats(not_after=NOW + 1001),
        Caveats(audience=frozenset({"b.example"})),
    ):
        with pytest.raises(Malformed, match="more than the chain leaves"):
            next_grant(texts, holder(BILLING), caveats)
    for silent in ("audience", "not_after", "depth"):
        caveats = msgspec.structs.replace(CAVEATS, **{silent: None})
        with pytest.raises(Malformed, match="for whom it is, until when"):
            root_grant("c" * 22, TASK, ANNA, town()[ANNA].thumb, holder(ROUTER), caveats)
    last = handed(texts, BILLING, Caveats(depth=0))
    with pytest.raises(Malformed, match="depth is 0"):
        next_grant(last, holder(CRM), Caveats())
    with pytest.raises(Malformed, match="one to 7 links"):
        next_grant([], holder(CRM), Caveats())


def test_nobody_signs_a_grant_in_anothers_name() -> None:
    payload = root_grant("c" * 22, TASK, ANNA, town()[ANNA].thumb, holder(ROUTER), CAVEATS)
    with pytest.raises(Malformed, match="not signed with its delegator's key"):
        sign_grant(payload, town()[ROUTER].signer)


@pytest.mark.parametrize(
    ("caveats", "act", "broken"),
    [
        (Caveats(tools=frozenset()), {}, "tools"),
        (Caveats(tools=frozenset({"bank/list"})), {}, "tools"),
        (Caveats(tools=frozenset({"bank/*"})), {}, None),
        (Caveats(tools=frozenset({"bank/*"})), {"name": "bank/*"}, None),
        (Caveats(tools=frozenset({"bank/pay"})), {"name": "bank/*"}, "tools"),
        (Caveats(tools=frozenset({"bank/*"})), {"name": "banks/pay"}, "tools"),
        (Caveats(skills=frozenset({"crm/look"})), {"name": "crm/look", "skill": True}, None),
        (Caveats(skills=frozenset({"crm/look"})), {"name": "crm/write", "skill": True}, "skills"),
        (Caveats(tools=frozenset({"crm/look"})), {"name": "crm/write", "skill": True}, None),
        (Caveats(arguments={"bank/pay": {"to": OneOf(("anna",))}}), {}, None),
        (Caveats(arguments={"bank/pay": {"to": Equal("bob")}}), {}, "arguments.bank/pay.to"),
        (Caveats(arguments={"bank/pay": {"note": OneOf(("hi",))}}), {}, "arguments.bank/pay.note"),
        (Caveats(arguments={"bank/list": {"note": OneOf(("hi",))}}), {}, None),
        (Caveats(readers=frozenset({"anna"})), {}, None),
        (Caveats(readers=frozenset()), {}, "readers"),
        (Caveats(readers=frozenset({"anna"})), {"readers": None}, "readers"),
        (Caveats(origins=frozenset({"server:*"})), {}, None),
        (Caveats(origins=frozenset({"principal:*"})), {}, "origins"),
        (Caveats(origins=frozenset({"server:*"})), {"origins": None}, "origins"),
    ],
)
def test_an_act_keeps_every_caveat_or_is_beyond_it(caveats: Caveats, act: dict[str, Any], broken: str | None) -> None:
    done = {"name": "bank/pay", "arguments": {"to": "anna"}, "readers": {"anna"}, "origins": {"server:crm"}} | act
    assert beyond(caveats, Act(**done)) == broken
