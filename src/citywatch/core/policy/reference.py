"""cedarpy as an evaluator: the oracle of every test, and the evaluator of what the compiler leaves to it.

Decides, for some policies, which are satisfied and which err; what follows from that is `decide`'s. INVARIANTS: its
third answer (`NoDecision`), its panics, an `Allow` without a reason and whatever else it may say come out as errors,
and errors deny; names reach it as pairs of type and id; only our own types become `__entity` or `__extn`, never a text.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import cedarpy
import msgspec

from citywatch.core.policy.asking import Found
from citywatch.core.policy.cedar import NativeFailure, Policy, guarded
from citywatch.core.policy.extensions import format_decimal
from citywatch.core.policy.facts import Entity, Facts
from citywatch.core.policy.values import CedarSet, Datetime, Decimal, Duration, Ip, Uid, same

NO_POLICY = "*"
"""Stands for a policy's id where cedarpy failed without naming one."""

_POSITION = re.compile(r"policy `?policy([0-9]+)`?")


class Native(msgspec.Struct, frozen=True):
    """Some policies as cedarpy holds them. Its ids are positions in `ids`, so that no id has to survive a message."""

    ids: tuple[str, ...]
    handle: cedarpy.PolicySet


class NativeEntities(msgspec.Struct, frozen=True):
    """All configured entities, and the same as cedarpy holds them."""

    entities: Mapping[Uid, Entity]
    handle: cedarpy.Entities


def native_policies(policies: Sequence[Policy]) -> Native:
    """Hand parsed policies to cedarpy."""
    texts = "\n".join(policy.text for policy in policies)
    return Native(tuple(policy.id for policy in policies), guarded(cedarpy.PolicySet.from_str, texts))


def native_entities(entities: Mapping[Uid, Entity]) -> NativeEntities:
    """Hand all configured entities to cedarpy."""
    return NativeEntities(entities, _handle(entities.values()))


def ask_cedar(native: Native, entities: NativeEntities, facts: Facts, found: Found) -> None:
    """Add to `found` what cedarpy says of these policies. Of satisfied permits it is silent where a forbid is."""
    request = {
        "principal": facts.principal.uid._asdict(),
        "action": facts.action.uid._asdict(),
        "resource": facts.resource.uid._asdict(),
        "context": json.dumps(to_json(facts.context)),
    }
    try:
        answer = guarded(cedarpy.is_authorized, request, native.handle, _with_own(entities, facts))
        decision, diagnostics = answer.decision, answer.diagnostics
    except (NativeFailure, ValueError, KeyError) as failure:
        found.errors.append(((NO_POLICY,), str(failure)))
        return
    for message in diagnostics.errors:
        position = _POSITION.search(message)
        found.errors.append(((native.ids[int(position[1])] if position else NO_POLICY,), message))
    reasons = [native.ids[int(name.removeprefix("policy"))] for name in diagnostics.reasons]
    if decision is cedarpy.Decision.Allow and reasons:
        found.permits += reasons
    elif decision is cedarpy.Decision.Deny:
        found.forbids += reasons
    elif not found.errors:  # INVARIANT: NoDecision, or an Allow for no reason, denies
        found.errors.append(((NO_POLICY,), f"cedarpy answered {decision.value} without a reason"))


def _with_own(entities: NativeEntities, facts: Facts) -> cedarpy.Entities:
    """The entities for one request: its own three stand in for the configured ones of the same names."""
    own = {entity.uid: entity for entity in (facts.action, facts.resource, facts.principal)}
    if all(_equal(entities.entities.get(uid), entity) for uid, entity in own.items()):
        return entities.handle
    return _handle({**entities.entities, **own}.values())


def _equal(known: Entity | None, own: Entity) -> bool:
    return known is own or (known is not None and known.line == own.line and same(known.attributes, own.attributes))


def _handle(entities: Iterable[Entity]) -> cedarpy.Entities:
    rows = [
        {
            "uid": entity.uid._asdict(),
            "attrs": to_json(entity.attributes),
            "parents": [uid._asdict() for uid in sorted(entity.line) if uid != entity.uid],
        }
        for entity in entities
    ]
    return guarded(cedarpy.Entities.from_json_str, json.dumps(rows))


def to_json(value: Any) -> Any:
    """A Cedar value in the JSON that cedarpy reads."""
    kind = type(value)
    if kind is dict:
        return {name: to_json(item) for name, item in value.items()}
    if kind is CedarSet:
        return [to_json(item) for item in value.items]
    if kind is Uid:
        return {"__entity": value._asdict()}
    written = _EXTENSIONS.get(kind)
    return value if written is None else written(value)


def _call(function: str, argument: Any) -> dict[str, Any]:
    return {"__extn": {"fn": function, "arg": argument}}


def _datetime(value: Datetime) -> dict[str, Any]:
    # A count of milliseconds has no text of its own in Cedar beyond the year 9999; this form has no limit
    parts = [_call("datetime", "1970-01-01"), _call("duration", f"{value.ms}ms")]
    return {"__extn": {"fn": "offset", "args": parts}}


def _ip(value: Ip) -> dict[str, Any]:
    address = ipaddress.IPv4Address(value.address) if value.version == 4 else ipaddress.IPv6Address(value.address)
    return _call("ip", f"{address.exploded}/{value.prefix}")


_EXTENSIONS: Mapping[type, Callable[[Any], Any]] = {
    Decimal: lambda value: _call("decimal", format_decimal(value)),
    Duration: lambda value: _call("duration", f"{value.ms}ms"),
    Datetime: _datetime,
    Ip: _ip,
}
