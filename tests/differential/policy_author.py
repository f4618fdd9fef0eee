"""Writes Cedar policies and requests that nobody would write, from one source of chance.

Mostly well typed, sometimes confused on purpose; all node kinds and operators of `cedarpy.pst` come up.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, get_args

import cedarpy
from cedarpy import pst

from citywatch.core.policy.facts import Entity, Facts, entity
from citywatch.core.policy.values import MAX_LONG, MIN_LONG, CedarSet, Datetime, Decimal, Duration, Ip, Uid

Random = random.Random

KINDS = ("bool", "long", "string", "entity", "set", "record", "decimal", "datetime", "duration", "ip")
LONGS = (0, 1, -1, 2, 5, 1000, MAX_LONG, MIN_LONG)
STRINGS = ("", "a", "ab", "b*", "1.5", "10.0.0.1", "2026-11-22", "2h", 'q"uo\\te\n', "\u00e9\U0001f600")
TEXTS = {
    "decimal": ("1.5", "0.0001", "-3.25", "1.23456"),
    "datetime": ("2026-11-22", "2026-11-22T10:00:00Z", "1969-12-31T23:59:59.001-0130", "2026-13-01"),
    "duration": ("1d", "-2h30m", "5ms", "1s1d"),
    "ip": ("10.0.0.1", "10.0.0.0/8", "::1", "ff02::1/16", "300.0.0.1"),
}

ROLES = [Uid("Role", name) for name in ("staff", "admin")]
AGENTS = [Uid("Agent", name) for name in ("ann", "bob")]
SERVERS = [Uid("Server", name) for name in ("ledger", "crm")]
ACTIONS = [Uid("Action", name) for name in ("ledger/pay", "ledger/show", "crm/find")]
GROUPS = [Uid("Action", name) for name in ("read", "write")]
KNOWN: dict[Uid, Entity] = {
    **{uid: entity(uid) for uid in (*ROLES, *GROUPS)},
    AGENTS[0]: entity(AGENTS[0], {"n": 3, "s": "a", "b": True, "boss": AGENTS[1]}, ROLES),
    AGENTS[1]: entity(AGENTS[1], {"n": True, "s": "ab", "tags": CedarSet(["a", "ab"])}, ROLES[:1]),
    **{uid: entity(uid, {"s": uid.id, "owner": AGENTS[0]}) for uid in SERVERS},
    **{uid: entity(uid, None, (GROUPS[n % 2],)) for n, uid in enumerate(ACTIONS)},
}
NOBODY = Uid("Agent", 'no "body"\\')


def node(uid: Uid) -> pst.EntityUid:
    return pst.EntityUid(pst.EntityType(uid.type), uid.id)


class Author:
    """Writes policies that nobody would write, from one source of chance."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.seen: set[str] = set()

    def policy(self, name: str, pool: list[Any]) -> str:
        chance = self.chance
        clauses = []
        for _ in range(chance.choice((0, 1, 1, 1, 2))):
            parts = [
                chance.choice(pool) if chance.random() < 0.7 else self.of("bool", 3)
                for _ in range(chance.choice((1, 2, 3)))
            ]
            joined = parts[0]
            for part in parts[1:]:
                joined = pst.BinaryOp(chance.choice(("and", "and", "or")), joined, part)
            clauses.append(chance.choice((pst.When, pst.When, pst.Unless))(joined))
        template = pst.Template(
            name,
            chance.choice(("permit", "permit", "forbid")),
            self.scope([*AGENTS, *ROLES, NOBODY]),
            self.action_scope(),
            self.scope([*SERVERS, *AGENTS]),
            tuple(clauses),
            pst.FrozenMap({"id": name}),
        )
        self.seen |= names_in(template)
        return str(cedarpy.PolicySet.from_pst(pst.PolicySet(pst.FrozenMap(), pst.FrozenMap({name: template}), ())))

    def scope(self, uids: list[Uid]) -> Any:
        uid = node(self.chance.choice(uids))
        make: Callable[[], Any] = self.chance.choice(
            (
                pst.ScopeAny,
                pst.ScopeAny,
                lambda: pst.ScopeEq(uid),
                lambda: pst.ScopeIn(uid),
                lambda: pst.ScopeIs(uid.type),
                lambda: pst.ScopeIsIn(uid.type, uid),
            )
        )
        return make()

    def action_scope(self) -> Any:
        picked = [node(uid) for uid in self.chance.sample([*ACTIONS, *GROUPS], self.chance.choice((1, 1, 2, 3)))]
        return self.chance.choice((pst.ScopeAny(), pst.ActionEq(picked[0]), pst.ActionIn(tuple(picked))))

    def of(self, kind: str, depth: int) -> Any:
        """An expression of a type; now and then of another one, to be caught at it."""
        if self.chance.random() < 0.04:
            kind = self.chance.choice(KINDS)
        if depth <= 0 or self.chance.random() < 0.2:
            return self.leaf(kind)
        if self.chance.random() < 0.08:
            return pst.IfThenElse(self.of("bool", depth - 1), self.of(kind, depth - 1), self.of(kind, depth - 1))
        if self.chance.random() < 0.06:
            return pst.GetAttr(pst.Record(pst.FrozenMap({"x": self.of(kind, depth - 1)})), "x")
        make: Callable[[int], Any] = getattr(self, f"{kind}_of")
        return make(depth - 1)

    def leaf(self, kind: str) -> Any:
        if self.chance.random() < 0.55:
            return self.path(kind)
        literal: Callable[[], Any] = {
            "bool": lambda: pst.BoolLit(self.chance.random() < 0.5),
            "long": lambda: pst.LongLit(self.chance.choice(LONGS)),
            "string": lambda: pst.StringLit(self.chance.choice(STRINGS)),
            "entity": lambda: pst.EntityLit(node(self.chance.choice([*KNOWN, NOBODY]))),
            "set": lambda: pst.Set(
                tuple(
                    self.leaf(self.chance.choice(("long", "string", "entity"))) for _ in range(self.chance.randrange(4))
                )
            ),
            "record": lambda: pst.Record(pst.FrozenMap({"x": self.leaf("long"), "like": self.leaf("string")})),
        }.get(kind, lambda: pst.UnaryOp(kind, pst.StringLit(self.chance.choice(TEXTS[kind]))))  # type: ignore[arg-type]
        return literal()

    def path(self, kind: str) -> Any:
        context = pst.Var("context")
        paths: list[Any] = [pst.GetAttr(context, f"{kind}{n}") for n in (1, 2)]
        if kind in ("long", "string", "bool"):
            letter = kind[0].replace("l", "n")
            holders = (pst.Var("principal"), pst.Var("resource"), pst.GetAttr(pst.Var("resource"), "owner"))
            paths += [pst.GetAttr(holder, letter) for holder in holders]
            paths += [pst.GetAttr(pst.GetAttr(context, "record1"), letter)]
        if kind == "entity":
            paths += [
                pst.Var("principal"),
                pst.Var("action"),
                pst.Var("resource"),
                pst.GetAttr(pst.Var("principal"), "boss"),
            ]
        if kind == "set":
            paths += [pst.GetAttr(pst.Var("principal"), "tags")]
        return self.chance.choice(paths)

    def bool_of(self, depth: int) -> Any:
        chance, of = self.chance, self.of
        kind = chance.choice(KINDS)
        op = chance.choice(get_args(pst.BinaryOpName))
        operands = {
            **dict.fromkeys(("eq", "not_eq"), (kind, kind)),
            **dict.fromkeys(("and", "or"), ("bool", "bool")),
            **{name: (ordered := chance.choice(("long", "long", "datetime", "duration")), ordered) for name in ORDER},
            "in": ("entity", chance.choice(("entity", "set"))),
            "contains": ("set", chance.choice(KINDS)),
            **dict.fromkeys(("contains_all", "contains_any"), ("set", "set")),
            **dict.fromkeys(("get_tag", "has_tag"), ("entity", "string")),
            "is_in_range": ("ip", "ip"),
            **{name: ("decimal", "decimal") for name in get_args(pst.BinaryOpName) if name.startswith("decimal_")},
        }.get(op)
        if operands is not None and chance.random() < 0.7:
            return pst.BinaryOp(op, of(operands[0], depth), of(operands[1], depth))
        makers: tuple[Callable[[], Any], ...] = (
            lambda: pst.UnaryOp("not", of("bool", depth)),
            lambda: pst.UnaryOp("is_empty", of("set", depth)),
            lambda: pst.UnaryOp(chance.choice(IP_TESTS), of("ip", depth)),
            lambda: pst.HasAttr(
                of(chance.choice(("record", "entity")), depth), (chance.choice(("x", "n", "s", "like")),)
            ),
            lambda: pst.HasAttr(pst.Var("context"), (chance.choice(("record1", "long1", "bool1")), "n")),
            lambda: pst.HasAttr(pst.Var("context"), (f"{kind}{chance.choice((1, 2))}",)),
            lambda: pst.Like(of("string", depth), tuple(chance.choice(PIECES) for _ in range(chance.randrange(4)))),
            lambda: pst.Is(of("entity", depth), pst.EntityType(chance.choice(("Agent", "Server", "Role"))), None),
            lambda: pst.Is(of("entity", depth), pst.EntityType("Agent"), of(chance.choice(("entity", "set")), depth)),
            lambda: pst.BinaryOp("eq", of("string", depth), self.leaf("string")),
            lambda: pst.BinaryOp("contains", self.leaf("set"), of("string", depth)),
        )
        return chance.choice(makers)()

    def long_of(self, depth: int) -> Any:
        if self.chance.random() < 0.3:
            return pst.UnaryOp("neg", self.of("long", depth))
        if self.chance.random() < 0.3:
            return pst.UnaryOp(self.chance.choice(UNITS), self.of("duration", depth))
        return pst.BinaryOp(self.chance.choice(("add", "sub", "mul")), self.of("long", depth), self.of("long", depth))

    def string_of(self, depth: int) -> Any:
        return self.leaf("string")

    def entity_of(self, depth: int) -> Any:
        return self.leaf("entity")

    def set_of(self, depth: int) -> Any:
        return pst.Set(tuple(self.of(self.chance.choice(KINDS), depth) for _ in range(self.chance.randrange(4))))

    def record_of(self, depth: int) -> Any:
        return pst.Record(pst.FrozenMap({name: self.of(self.chance.choice(KINDS), depth) for name in ("x", "n")}))

    def decimal_of(self, depth: int) -> Any:
        return pst.UnaryOp("decimal", self.of("string", depth))

    def datetime_of(self, depth: int) -> Any:
        if self.chance.random() < 0.4:
            return pst.BinaryOp("offset", self.of("datetime", depth), self.of("duration", depth))
        return pst.UnaryOp("to_date", self.of("datetime", depth))

    def duration_of(self, depth: int) -> Any:
        if self.chance.random() < 0.5:
            return pst.BinaryOp("duration_since", self.of("datetime", depth), self.of("datetime", depth))
        return pst.UnaryOp("to_time", self.of("datetime", depth))

    def ip_of(self, depth: int) -> Any:
        return pst.UnaryOp("ip", self.of("string", depth))

    def value(self, kind: str) -> Any:
        """A value for the context; now and then of another type, as confused callers send them."""
        chance = self.chance
        if chance.random() < 0.05:
            kind = chance.choice(KINDS)
        make: Callable[[], Any] = {
            "bool": lambda: chance.random() < 0.5,
            "long": lambda: chance.choice(LONGS),
            "string": lambda: chance.choice(STRINGS),
            "entity": lambda: chance.choice([*KNOWN, NOBODY]),
            "set": lambda: CedarSet(
                [self.value(chance.choice(("long", "bool", "string", "entity"))) for _ in range(3)]
            ),
            "record": lambda: {"n": self.value("long"), "s": self.value("string"), "x": self.value("bool")},
            "decimal": lambda: Decimal(chance.choice((15_000, 1, -32_500))),
            "datetime": lambda: Datetime(chance.choice((0, -1, 1_795_305_600_000, MAX_LONG))),
            "duration": lambda: Duration(chance.choice((0, 86_400_000, -9_000_000, MIN_LONG))),
            "ip": lambda: Ip(4, chance.choice((10 << 24 | 1, 127 << 24 | 1)), chance.choice((32, 8))),
        }[kind]
        return make()

    def facts(self) -> Facts:
        chance = self.chance
        context = {f"{kind}{n}": self.value(kind) for kind in KINDS for n in (1, 2) if chance.random() < 0.9}
        principal, resource = chance.choice(AGENTS), chance.choice(SERVERS)
        if chance.random() < 0.2:
            principal, resource = resource, principal
        return Facts(KNOWN[principal], KNOWN[chance.choice(ACTIONS)], KNOWN[resource], context)


UNITS: tuple[pst.UnaryOpName, ...] = ("to_milliseconds", "to_seconds", "to_minutes", "to_hours", "to_days")
IP_TESTS: tuple[pst.UnaryOpName, ...] = ("is_ipv4", "is_ipv6", "is_loopback", "is_multicast")
ORDER = ("less", "less_eq", "greater", "greater_eq")
PIECES = (pst.Wildcard(), pst.Char("a"), pst.Char("b"), pst.Char("*"), pst.Char("\u00e9"))


def names_in(item: Any) -> set[str]:
    """The kind of every node under `item`, and every name that stands in one of the closed sets."""
    if isinstance(item, dict):
        return set().union(*map(names_in, item.values()))
    if isinstance(item, tuple):
        return set().union(*map(names_in, item))
    if not is_dataclass(item):
        return {item} if isinstance(item, str) else set()
    return {type(item).__name__}.union(*(names_in(getattr(item, field.name)) for field in fields(item)))
