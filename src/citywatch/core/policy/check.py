"""What is wrong with policies before any call is made. Cedar's validator, and what it lets through.

Decides whether policies and configuration belong together; never decides a call. Cedar's validator takes types
seriously but passes a policy that can never apply behind a `has`, and knows no ids. Here a policy fails as well that

    1. names an agent, role, server or action that does not exist,
    2. reads an attribute that no call it covers can have, be it behind `has`,
    3. no request of the schema can match,
    4. permits by what a foreign issuer asserts, which permits do not see.

INVARIANTS: all mistakes are reported at once; 3 is one-sided (a policy reported can never match; one that is not may
still contradict itself in ways that need a solver); a check of nothing fails.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any

import cedarpy
from cedarpy import pst

from citywatch.core.policy.cedar import Mistake, NativeFailure, Policy, guarded
from citywatch.core.policy.compile import Compiler, NotCompiled
from citywatch.core.policy.constants import uid_of
from citywatch.core.policy.coverage import Coverage, Finding
from citywatch.core.policy.tree import conditions
from citywatch.core.policy.values import Uid
from citywatch.core.policy.world import World

_PREFIX = re.compile(r"^for policy `policy[0-9]+`, ")
_ASSERTED = re.compile(r'context\s*(?:\.\s*asserted\b|has\s+"?asserted\b|\[\s*"asserted")')
_CONSEQUENCE = "unable to find an applicable action"


def check_policies(policies: Sequence[Policy], world: World) -> tuple[Mistake, ...]:
    """Everything that is wrong with parsed policies in this world, by file and line; nothing means they can be used."""
    if not policies:
        return (
            Mistake("", 0, "", "there is no policy, so every call would be denied: write one, or `citywatch init`"),
        )
    if not world.agents:
        return (Mistake("", 0, "", "no agent is configured, so no policy can match: name one under `agents`"),)
    found = [*_validated(policies, world)]
    reported = {mistake.policy for mistake in found}
    coverage = Coverage(world, Compiler(world.entities))
    for policy in policies:
        messages = [] if policy.id in reported else _own(policy, coverage)
        found += [Mistake(policy.file, policy.line, policy.id, message) for message in messages]
    return tuple(sorted(found))


def _validated(policies: Sequence[Policy], world: World) -> Iterable[Mistake]:
    """What Cedar's validator says, one policy at a time, so that each complaint has its place."""
    try:
        schema = guarded(cedarpy.Schema.from_json_str, world.schema)
        for policy in policies:
            unknown = _unknown(policy, world)
            if unknown:  # the validator's words for it are harder to read
                yield from (Mistake(policy.file, policy.line, policy.id, message) for message in unknown)
                continue
            errors = guarded(cedarpy.validate_policies, policy.text, schema).errors
            said = [_PREFIX.sub("", error.error) for error in errors]
            first = [message for message in said if not message.startswith(_CONSEQUENCE)] or said
            yield from (Mistake(policy.file, policy.line, policy.id, message) for message in sorted(set(first)))
    except (ValueError, NativeFailure) as failure:
        yield Mistake("", 0, "", f"the schema that follows from the configuration cannot be used: {failure}")


def _unknown(policy: Policy, world: World) -> list[str]:
    if policy.tree is None:
        return []
    names = sorted({uid_of(node) for node in pst.entity_uids(policy.tree)})
    return [_missing(uid, world) for uid in names if uid not in world.entities]


def _missing(uid: Uid, world: World) -> str:
    known = {found.uid.id: found for found in world.entities.values() if found.uid.type == uid.type}
    named = [name for name, found in known.items() if found.attributes.get("name") == uid.id]
    alike = named or difflib.get_close_matches(uid.id, known, n=1)
    advice = f"; did you mean `{Uid(uid.type, alike[0])}`?" if alike else ""
    return f"`{uid}` does not exist: no such {uid.type.lower()} is configured{advice}"


def _own(policy: Policy, coverage: Coverage) -> list[str]:
    if policy.tree is None:
        return ["nested deeper than a hundred levels: for a long `||` write `[...].contains(x)`, or split the policy"]
    try:
        finding: Finding = coverage.of(conditions(policy.tree))
    except NotCompiled as unknown:
        return [f"uses `{unknown}`, which this version cannot check"]
    if policy.permits and _ASSERTED.search(policy.text):
        return ["permits by what a foreign issuer asserts, which no permit sees: write a forbid, with `unless`"]
    messages = [
        f"reads `{path}`, which no call that it covers has{_instead(path, known)}"
        for path, known in sorted(finding.undeclared.items())
    ]
    if not messages and finding.never is not None:
        messages.append(f"no request can match it: `{finding.never}` is never true where it applies")
    return messages


def _instead(path: str, known: Iterable[str]) -> str:
    alike: list[Any] = difflib.get_close_matches(path.rpartition(".")[2], sorted(known), n=1)
    return f"; did you mean `{alike[0]}`?" if alike else ""
