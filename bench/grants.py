"""Honest chains, drawn: who is who, with which keys, and an act that the holder does under its chain."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Sequence
from decimal import Decimal
from functools import cache
from random import Random
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from citywatch.adapters.keys import KeySigner
from citywatch.core.canonical import canonical
from citywatch.core.delegation.caveats import Caveats, meet, normal, normal_choice
from citywatch.core.delegation.chain import Asking, Trust
from citywatch.core.delegation.frontier import Frontier
from citywatch.core.delegation.grant import format_grant, parse_link, signing_input
from citywatch.core.delegation.handing import Holder, next_grant, root_grant
from citywatch.core.delegation.holds import Act
from citywatch.core.limit import Dates, Equal, Limit, Numbers
from citywatch.core.signature import Ed25519Key, Key, parse_spki, thumbprint
from citywatch.service.grants import sign_grant

DOMAIN = "acme.example"
PRINCIPALS = ("principal:anna", "principal:payroll")
AGENTS = tuple(f"spiffe://{DOMAIN}/agent/{name}" for name in ("router", "billing", "crm", "mail", "audit", "mallory"))
ABROAD, RIVAL = "partner.example", "rival.example"
FOREIGN = {
    domain: tuple(f"spiffe://{domain}/agent/{name}" for name in ("desk", "billing")) for domain in (ABROAD, RIVAL)
}
"""Agents of other domains; one is called there as one of ours is called here."""
SPEAKERS = {domain: f"{PRINCIPALS[0]} of {domain}" for domain in (ABROAD, RIVAL)}
"""Whose key roots chains in Anna's name over there, as `town` has it."""
TOOLS = ("bank/pay", "bank/list", "crm/get", "crm/set", "mail/send")
NOW = 1_700_000_000_000
VALUES: dict[str, tuple[Any, ...]] = {
    "amount": (1, 5, 250, "250.00 EUR", 12.5),
    "to": ("anna", "bob", "DE02"),
    "day": ("2026-11-25", "2026-11-26T10:00:00Z"),
    "urgent": (True, False),
    "lines": ([1, 2], ["a"], {"k": 1}),
}


class Presented(msgspec.Struct, frozen=True, kw_only=True):
    """A chain with everything it is judged by, and an act that an honest holder does under it."""

    texts: tuple[str, ...]
    asking: Asking
    trust: Trust
    now: int
    act: Act


class Party(msgspec.Struct, frozen=True):
    """A name with a key."""

    name: str
    signer: KeySigner
    thumb: str


def party(name: str, *, ed25519: bool = False) -> Party:
    signer = KeySigner(Ed25519PrivateKey.generate() if ed25519 else ec.generate_private_key(ec.SECP256R1()))
    return Party(name, signer, thumbprint(parse_spki(signer.public)))


@cache
def town() -> dict[str, Party]:
    """Everybody, with one key each; the last agent is the forger, and two hold Ed25519 keys."""
    everybody = (*PRINCIPALS, *AGENTS, *SPEAKERS.values(), *FOREIGN[ABROAD], *FOREIGN[RIVAL])
    return {name: party(name, ed25519=name.endswith(("crm", "payroll"))) for name in everybody}


MALLORY = AGENTS[-1]


class Author:
    """Draws chains from one source of chance."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance

    def some(self, values: Sequence[Any], least: int = 0) -> list[Any]:
        return self.chance.sample(values, self.chance.randint(least, len(values)))

    def honest(self, links: int | None = None) -> Presented:
        """A chain of one to five links, each narrower than the one before, that permits its `act`."""
        chance, people = self.chance, town()
        act = self.act()
        principal = chance.choice(PRINCIPALS)
        hops = [chance.choice(AGENTS[:-1]) for _ in range(links or chance.randint(1, 5))]
        task, chain = f"t-{chance.getrandbits(64):x}", f"{chance.getrandbits(128):032x}"
        start = msgspec.structs.replace(
            self.caveats(act),
            audience=frozenset({DOMAIN, *self.some(("other.example",))}),
            not_after=NOW + chance.randint(10, 1000),
            depth=chance.randint(len(hops), 8),
        )
        to = [Holder(name, people[name].thumb) for name in hops]
        texts = [
            sign_grant(
                root_grant(chain, task, principal, people[principal].thumb, to[0], start), people[principal].signer
            )
        ]
        left = start
        for before, after in zip(hops, to[1:], strict=False):
            both = meet(left, self.caveats(act))
            stated = self.silenced(
                msgspec.structs.replace(both, not_after=(left.not_after or 0) - chance.randint(0, 2))
            )
            texts.append(sign_grant(next_grant(texts, after, stated), people[before].signer))
            left = meet(left, stated)
        return Presented(
            texts=tuple(texts),
            asking=Asking(agent=hops[-1], key=to[-1].thumb, task=task),
            trust=Trust(
                domain=DOMAIN,
                roots={name: {people[name].thumb} for name in PRINCIPALS},
                revoked=frozenset({"key:nobody", f"agent:{MALLORY}"}),
                epoch=1,
            ),
            now=NOW,
            act=act,
        )

    def abroad(self, links: int | None = None) -> Presented:
        """A chain that another domain rooted, through agents of that domain and of ours, within its frontier."""
        chance, people = self.chance, town()
        act, principal, speaker = self.act(), PRINCIPALS[0], town()[SPEAKERS[ABROAD]]
        hops = [FOREIGN[ABROAD][0], *(self.stop() for _ in range((links or chance.randint(1, 5)) - 1))]
        task, chain = f"t-{chance.getrandbits(64):x}", f"{chance.getrandbits(128):032x}"
        start = msgspec.structs.replace(
            self.caveats(act),
            audience=frozenset({DOMAIN, ABROAD}),
            not_after=NOW + chance.randint(10, 1000),
            depth=chance.randint(len(hops), 8),
        )
        to = [Holder(name, people[name].thumb) for name in hops]
        texts = [sign_grant(root_grant(chain, task, principal, speaker.thumb, to[0], start), speaker.signer)]
        for before, after in zip(hops, to[1:], strict=False):
            texts.append(sign_grant(next_grant(texts, after, Caveats()), people[before].signer))
        return Presented(
            texts=tuple(texts),
            asking=Asking(agent=hops[-1], key=to[-1].thumb, task=task, called=hops[-1]),
            trust=Trust(
                domain=DOMAIN,
                roots={name: {people[name].thumb} for name in PRINCIPALS},
                revoked=frozenset({"key:nobody", f"agent:{MALLORY}"}),
                epoch=1,
                abroad={ABROAD: self.frontier(act, speaker.thumb)},
            ),
            now=NOW,
            act=act,
        )

    def frontier(self, act: Act, key: str) -> Frontier:
        """How far chains of another domain reach here: as far as this act, at least."""
        within = msgspec.structs.replace(self.caveats(act), calls=None)
        if within.tools is None:
            within = msgspec.structs.replace(within, tools=frozenset({act.name}))
        return Frontier(
            principals=frozenset({PRINCIPALS[0]}),
            ceiling=msgspec.structs.replace(within, skills=frozenset()),
            longest=self.chance.choice((1000, 5000)),
            calls=10,
            max_age=1000,
            keys=frozenset({key}),
        )

    def stop(self) -> str:
        """An agent through which a chain of another domain may go."""
        return self.chance.choice((*FOREIGN[ABROAD], *AGENTS[:-1]))

    def act(self) -> Act:
        arguments = {name: self.chance.choice(VALUES[name]) for name in self.some(tuple(VALUES), 2)}
        return Act(
            name=self.chance.choice(TOOLS),
            arguments=arguments,
            readers=frozenset(self.some(("anna", "bob"))),
            origins=frozenset(self.some(("principal:anna", "server:crm", "outside:mail/read"))),
        )

    def caveats(self, act: Act) -> Caveats:
        """Caveats, as drawn, that an act keeps."""
        chance = self.chance
        server = act.name.partition("/")[0]
        limits = {name: self.limit(value) for name, value in act.arguments.items() if chance.random() < 0.4}
        return Caveats(
            tools=self.patterns({chance.choice((act.name, f"{server}/*", "*")), *self.some(TOOLS)}),
            arguments={act.name: limits} if limits else {},
            calls=chance.choice((None, 1, 10, 100)),
            readers=self.maybe({*(act.readers or ()), *self.some(("carol",))}),
            origins=self.patterns(
                {one if chance.random() < 0.5 else one.partition(":")[0] + ":*" for one in act.origins or ()}
                | {*self.some(("principal:*", "server:*"))}
            ),
        )

    def maybe(self, names: set[str]) -> frozenset[str] | None:
        return frozenset(names) if self.chance.random() < 0.6 else None

    def patterns(self, names: set[str]) -> frozenset[str] | None:
        return normal(names) if self.chance.random() < 0.6 else None

    def limit(self, value: Any) -> Limit:
        """A limit that a value keeps."""
        ways: list[Limit] = [Equal(value)]
        if type(value) in (int, float):
            ways += [Numbers(None, Decimal(1000)), Numbers(Decimal(0), Decimal(500))]
        if type(value) is str and value[:4] == "2026":
            ways += [Dates("2026-11-01", None), Dates(None, "2026-12-31")]
        if type(value) is str and value.endswith("EUR"):
            ways.append(Numbers(Decimal("0.5"), Decimal(300), "EUR"))
        if type(value) in (str, int, float, bool):
            ways.append(normal_choice([value, *self.some(("7", 7, True))]))
        return self.chance.choice(ways)

    def silenced(self, caveats: Caveats) -> Caveats:
        """The same caveats with some of them left out: they hold all the same."""
        quiet: dict[str, Any] = {
            name: None
            for name in ("audience", "tools", "readers", "origins", "calls", "not_after", "depth")
            if self.chance.random() < 0.5 or name == "depth"
        }
        if self.chance.random() < 0.5:
            quiet["arguments"] = {}
        return msgspec.structs.replace(caveats, **quiet)


def resigned(text: str, signer: KeySigner, **changes: Any) -> str:
    """A link with members of its grant changed, signed by whoever that is."""
    grant = parse_link(text).grant
    raw = {**msgspec.json.decode(format_grant(grant)), **changes}
    return put_together(canonical(raw), signer)


def put_together(payload: bytes, signer: KeySigner, key: bytes | None = None) -> str:
    """A link of any bytes at all: what `sign_grant` would refuse to write."""
    public = parse_spki(signer.public)
    signature = signer.sign(signing_input(payload))
    if not isinstance(public, Ed25519Key):
        signature = _raw(signature)
    return ".".join(written(part) for part in (payload, key or raw_key(public), signature))


def raw_key(key: Key) -> bytes:
    return key.raw if isinstance(key, Ed25519Key) else key.point


def _raw(der: bytes) -> bytes:
    r, s = decode_dss_signature(der)
    return r.to_bytes(32) + s.to_bytes(32)


def written(part: bytes) -> str:
    return urlsafe_b64encode(part).rstrip(b"=").decode()
