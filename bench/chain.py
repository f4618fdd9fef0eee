"""What a chain of grants costs, beside Tenuo's in the same run, and what forgers got.

Three links, each narrower than the one before; a signature of the holder's over the call (possession, proved each
time); one argument in a range and one of two names. *Cold* is from texts to an answer, with nothing remembered; *warm*
is with the chain verified before: ours in the gateway's cache, Tenuo's as objects that were read before.
`chain.vs_tenuo_*` is their time over ours (more is faster). Our keys are P-256, as agents' papers are; theirs Ed25519.
Run it: `python -m bench.chain`.
"""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Callable
from decimal import Decimal
from random import Random
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from bench.decide import quantile, row
from bench.forgeries import KINDS, forgery
from bench.grants import AGENTS, DOMAIN, NOW, PRINCIPALS, Author, town
from bench.plan import timed
from citywatch.core.canonical import canonical
from citywatch.core.delegation.caveats import Caveats
from citywatch.core.delegation.chain import Asking, Trust, Verified, verify_chain
from citywatch.core.delegation.grant import parse_link, verify_link
from citywatch.core.delegation.handing import Holder, next_grant, root_grant
from citywatch.core.delegation.holds import Act, beyond
from citywatch.core.errors import Malformed, Refused
from citywatch.core.limit import Numbers, OneOf
from citywatch.core.signature import P256Key, format_jwk, parse_spki, verify_p256
from citywatch.service.grants import sign_grant

SEED = 1973
CALLS = 2_000
ROUNDS = 7
HONEST = 10_000
FORGERS = 1_000
ARGUMENTS = {"amount": 100, "to": "anna"}


def amounts(most: int, *tools: str) -> Caveats:
    return Caveats(
        tools=frozenset(tools),
        arguments={"bank/pay": {"amount": Numbers(None, Decimal(most)), "to": OneOf(("anna", "bob"))}},
        calls=most,
    )


def ours() -> tuple[Callable[[Any], None], Callable[[Any], None]]:
    """Cold and warm, as the gateway would: possession, chain, act."""
    people, (one, two, three) = town(), (AGENTS[0], AGENTS[1], AGENTS[3])
    anna, to = people[PRINCIPALS[0]], [Holder(name, people[name].thumb) for name in (one, two, three)]
    start = {"audience": frozenset({DOMAIN}), "not_after": NOW + 1, "depth": 3}
    first = amounts(500, "bank/pay", "crm/get", "crm/list")
    first = Caveats(tools=first.tools, arguments=first.arguments, calls=first.calls, **start)  # type: ignore[arg-type]
    texts = [sign_grant(root_grant("c" * 22, "t", anna.name, anna.thumb, to[0], first), anna.signer)]
    texts.append(sign_grant(next_grant(texts, to[1], amounts(300, "bank/pay", "crm/get")), people[one].signer))
    texts.append(sign_grant(next_grant(texts, to[2], amounts(200, "bank/pay")), people[two].signer))
    trust = Trust(domain=DOMAIN, roots={anna.name: {anna.thumb}}, revoked=frozenset({"key:x"}), epoch=1)
    asking = Asking(agent=three, key=to[2].thumb, task="t")
    act = Act(name="bank/pay", arguments=ARGUMENTS, readers=frozenset(), origins=frozenset())
    asked = {"tool": "bank/pay", "arguments": ARGUMENTS, "at": NOW}
    key = parse_spki(people[three].signer.public)
    assert isinstance(key, P256Key)
    r, s = decode_dss_signature(people[three].signer.sign(canonical(asked)))
    signature, verified = r.to_bytes(32) + s.to_bytes(32), Verified(1_000)

    def judged(cache: Verified | None) -> None:
        verify_p256(key, canonical(asked), signature)
        assert beyond(verify_chain(texts, asking, trust, NOW, cache).caveats, act) is None

    return lambda _: judged(None), lambda _: judged(verified)


def theirs() -> tuple[Callable[[Any], None], Callable[[Any], None]] | None:
    """The same with Tenuo, None where it lacks."""
    if importlib.util.find_spec("tenuo_core") is None:
        print("bench.chain: not compared, for want of tenuo (`make bench` installs it)")
        return None
    tenuo = importlib.import_module("tenuo_core.tenuo_core")
    root, one, two, three = (tenuo.SigningKey.generate() for _ in range(4))

    def capabilities(most: float, *tools: str) -> dict[str, Any]:
        limits = {"amount": tenuo.Range.max_value(most), "to": tenuo.OneOf(["anna", "bob"])}
        return {"bank/pay": limits, **{tool: {} for tool in tools}}

    first = tenuo.Warrant.issue(
        root, capabilities=capabilities(500.0, "crm/get", "crm/list"), holder=one.public_key, ttl_seconds=3600
    )
    second = first.attenuate(capabilities(300.0, "crm/get"), one, 3500, two.public_key)
    third = second.attenuate(capabilities(200.0), two, 3400, three.public_key)
    texts = [warrant.to_base64() for warrant in (first, second, third)]
    arguments = {"amount": 100.0, "to": "anna"}
    authorizer = tenuo.Authorizer(trusted_roots=[root.public_key])
    chain = [tenuo.Warrant.from_base64(text) for text in texts]
    signature = third.sign(three, "bank/pay", arguments, int(time.time()))

    def cold(_: Any) -> None:
        read = [tenuo.Warrant.from_base64(text) for text in texts]
        authorizer.check_chain(read, "bank/pay", arguments, signature)

    return cold, lambda _: authorizer.check_chain(chain, "bank/pay", arguments, signature)


def costs() -> list[dict[str, Any]]:
    """Both sides by turns, so that a slower minute of the machine is slower for both."""
    mine, measured = ours(), theirs() is not None
    rows: list[dict[str, Any]] = []
    cases = [None] * CALLS
    for what, place, name, unit, scale in (
        ("cold", 0, "chain.cold_p50_ms", "ms", 1000.0),
        ("warm", 1, "chain.warm_p50_us", "us", 1.0),
    ):
        us, them = [], []
        for _ in range(ROUNDS):
            us.append(quantile(timed(mine[place], cases), 0.5))
            peers = theirs()  # anew each time: a proof of possession of theirs is good for two minutes
            if peers is not None:
                them.append(quantile(timed(peers[place], cases), 0.5))
        rows.append(row(name, [one / scale for one in us], unit, CALLS))
        if measured:
            rows.append(row(f"tenuo.{what}_p50_us", them, "us", CALLS))
            faster = [their / our for our, their in zip(us, them, strict=True)]
            rows.append(row(f"chain.vs_tenuo_{what}", faster, "x", CALLS))
    return rows


def outcomes() -> list[dict[str, Any]]:
    """Forged chains accepted, honest ones refused; all are shown to one cache, which has seen the honest ones."""
    verified, accepted, refused = Verified(4_096), dict.fromkeys(KINDS, 0), 0
    for seed in range(HONEST):
        author = Author(Random(SEED + seed))
        honest = author.honest()
        for one in (honest, author.abroad()):
            try:
                found = verify_chain(one.texts, one.asking, one.trust, one.now, verified)
                refused += beyond(found.caveats, one.act) is not None
            except Refused:
                refused += 1
        for kind in KINDS if seed < FORGERS else ():
            false = forgery(author, kind, honest)
            try:
                verify_chain(false.texts, false.asking, false.trust, false.now, verified)
                accepted[kind] += 1
            except Refused:
                continue
    for kind, count in accepted.items():
        print(f"  {kind:<18}{count} of {FORGERS} accepted")
    tried = row("chain.forgeries_accepted", [float(sum(accepted.values()))], "", FORGERS * len(KINDS))
    kinds = {"1 to 5 links": HONEST, "of another domain": HONEST}
    return [
        {**tried, "kinds": dict.fromkeys(KINDS, FORGERS)},
        {**row("chain.honest_refused", [float(refused)], "", sum(kinds.values())), "kinds": kinds},
    ]


def signatures() -> list[dict[str, Any]]:
    """How often another library disagrees about a signature, touched or not: it never should."""
    if importlib.util.find_spec("joserfc") is None:
        print("bench.chain: signatures not compared, for want of joserfc (`make bench` installs it)")
        return []
    jwk, jws = importlib.import_module("joserfc.jwk"), importlib.import_module("joserfc.jws")
    chance, disagreed, count = Random(SEED), 0, 0
    while count < 2_000:
        honest = Author(chance).honest(2)
        for text in honest.texts:
            link = parse_link(text)
            bits = bytearray(link.signature)
            if count % 2:
                bits[chance.randrange(64)] ^= 1 << chance.randrange(8)
            public = format_jwk(link.key)
            name, kind = ("Ed25519", jwk.OKPKey) if public["kty"] == "OKP" else ("ES256", jwk.ECKey)
            theirs_good = jws.JWSRegistry.algorithms[name].verify(link.signed, bytes(bits), kind.import_key(public))
            try:
                verify_link(msgspec.structs.replace(link, signature=bytes(bits)))
                ours_good = True
            except Malformed:
                ours_good = False
            disagreed += bool(theirs_good) != ours_good
            count += 1
    return [row("chain.signatures_disagreed", [float(disagreed)], "", count, "joserfc")]


def run() -> list[dict[str, Any]]:
    """All rows; those beside a peer that is not there are left out, with a word why."""
    return [*costs(), *signatures(), *outcomes()]


def main() -> None:
    for found in run():
        print(f"{found['name']:<28}{found['value']:>10} {found['unit']:<3} spread {found['spread']:<6} n {found['n']}")


if __name__ == "__main__":
    main()
