"""Representative calls put to `admit`, to find out what an agent can reach under a premise.

Decides nothing. Of each tool, each argument is filled with the samples of each way in which the agent can come by a
value; what `admit` lets through is reached. Work is bounded by tools × arguments × ways × samples.

INVARIANT: nothing is left out because of a budget, a ticket, what temporal rules remember, a set of known parties that
may be empty for now, or a condition on arguments in a policy: policies are asked by scope, and an act that hangs on a
condition says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from citywatch.core.call import Allow, Call, Direction, Effect
from citywatch.core.enforce.admit import admit
from citywatch.core.enforce.context import Context, Flow, party_forms
from citywatch.core.enforce.explain import findings_of
from citywatch.core.enforce.held import FREE
from citywatch.core.enforce.mesh import may_speak
from citywatch.core.enforce.needs import TOOL_CALL, Known, Needs, Pin, effect_of
from citywatch.core.enforce.past import PLUMBING
from citywatch.core.enforce.peers import receiver_of
from citywatch.core.enforce.planned import planned
from citywatch.core.enforce.reach import Act, Premise, at, audiences
from citywatch.core.enforce.readers import disclosed
from citywatch.core.enforce.rules import ApprovedTool, Rules
from citywatch.core.enforce.samples import (
    ANYTHING,
    ENTITLED,
    NOUN,
    OWN,
    PLANNED,
    QUOTED,
    UNHEARD,
    VOUCHED,
    Sample,
    filled,
    known,
    sample,
)
from citywatch.core.enforce.samples import members as member_sample
from citywatch.core.enforce.steering import Finding
from citywatch.core.enforce.verify import Authority
from citywatch.core.identity.registration import AgentRow
from citywatch.core.label import Label
from citywatch.core.manifest import Role
from citywatch.core.plan.contract import over
from citywatch.core.policy.cedar import Source, parse_policies
from citywatch.core.policy.decide import compile_policies
from citywatch.core.policy.facts import method_actions
from citywatch.core.policy.possible import possible
from citywatch.core.policy.shapes import TEXT, Field, Shape
from citywatch.core.wire import a2a

OPEN: Final = '@id("open") permit(principal, action, resource);'
AIMS: Final = (Role.DESTINATION, Role.OBJECT, Role.COMMAND, Role.SECRET)
"""Roles that say to whom or to what it is done; the others only say how much, when, and with which words."""
STRENGTH: Final = (ENTITLED, OWN, VOUCHED, QUOTED, ANYTHING)
REVISION: Final = "2025-11-25"
SILENT: Final = ("notifications/initialized", "server/discover", "transport/listen", "transport/end")
ASKING: Final = ("sampling/createMessage", "elicitation/create", "roots/list")


class Survey:
    """One agent under one premise."""

    def __init__(
        self, rules: Rules, authority: Authority, premise: Premise, pins: Mapping[tuple[str, str], Pin], now: int
    ) -> None:
        self._rules, self._authority, self._premise, self._pins, self._now = rules, authority, premise, pins, now
        policies = compile_policies(parse_policies([Source("open", OPEN)]), rules.world.entities)
        self._open = msgspec.structs.replace(rules, policies=policies)
        self._own = Sample(tuple(own for name in premise.speakers for own in rules.principals[name].own), ())
        self._forms = frozenset(_forms(rules))
        self._audiences = audiences(rules)
        self._lifted = False

    def acts(self) -> tuple[Act, ...]:
        """All that can be reached, by the names of acts."""
        tools = (self._tool(server, name, tool) for (server, name), tool in sorted(self._rules.tools.items()))
        return (*(act for act in tools if act is not None), *self._methods(), *self._answers(), *self._messages())

    # -- tools --------------------------------------------------------------------------------------------------------

    def _tool(self, server: str, name: str, tool: ApprovedTool) -> Act | None:
        rules = self._rules
        if not possible(rules.policies, self._authority.entity, tool.action, rules.servers[server]):
            return None
        self._lifted = self._in_plan(f"{server}/{name}")
        fields = dict(tool.arguments.shape.fields)
        if tool.arguments.shape.open:
            fields[NOUN] = Field(TEXT, required=False)
        probe = _Probe(self, server, name, tool, fields)
        bases = [one for one in probe.bases() if self.passes(probe.call(one))]
        if not bases and not self._lifted:
            return None
        ways = {a: tuple(w for w in probe.ways(a) if probe.reached(a, w, bases)) for a in fields}
        if self._lifted:  # without a call to start from, what the plan binds may be what is missing
            ways = {a: (*(found if bases else probe.alone(a)), PLANNED) for a, found in ways.items()}
        return Act(
            act=f"{server}/{name}",
            effect=tool.effect.value,
            ways={a: found for a, found in ways.items() if found},
            aims=tuple(a for a in fields if probe.aims(a)),
            bare=any(not any(probe.aims(a) for a in one) for one in bases),
            data=self._data(probe.call({UNHEARD: UNHEARD})),
            conditional=not any(self.passes(call, rules) for call in (*map(probe.call, bases), *probe.passed)),
        )

    def _in_plan(self, act: str) -> bool:
        """Whether a plan holds in which this act is a step: what it binds passes, and all else as without the plan."""
        plan, progress = self._premise.held.plan, self._premise.progress
        if plan is None or progress is None or over(plan.held, progress, self._now):
            return False
        return any(step.tool == act for step in plan.held.plan.steps)

    def passes(self, call: Call, rules: Rules | None = None) -> bool:
        """Whether `admit` lets this call through unasked; by policies that permit everything, unless others are given.

        # INVARIANT: what only a condition of a policy stops is not left out.
        """
        decision = admit(call, self._authority, self.known(call, rules), Needs((), (), None, None), self._now)
        return isinstance(decision, Allow)

    def known(self, call: Call, rules: Rules | None = None, readers: frozenset[str] | None = None) -> Known:
        """The premise as a snapshot; with `readers`, as if the context held what only those may see."""
        tool = self._rules.tools.get((call.server, call.name or ""))
        pin = self._pins.get((call.server, call.name or ""))
        if tool is not None and pin is None:
            pin = Pin(digest=tool.digest, by="", at=0)
        return Known(
            rules=self._open if rules is None else rules,
            agent=_standing(self._authority.agent),
            hearer=_standing(receiver_of(call, self._rules)),
            session=None,
            pin=pin,
            lost=None,
            invited=None,
            taken=False,
            used={},
            reads=(),
            flow=self._flow(readers) if self._rules.principals else None,
        )

    def _flow(self, readers: frozenset[str] | None) -> Flow:
        premise = self._premise
        free = self._lifted or premise.held.plan is None
        return Flow(
            context=Context(label=Label(premise.label.origins, readers), items=len(premise.history.items)),
            history=premise.history,
            parties=self._forms,
            held=FREE if self._lifted else premise.held,
            progress=None if free else premise.progress,
        )

    def findings(self, call: Call) -> tuple[Finding, ...]:
        """What `admit` would find of each argument."""
        known = self.known(call)
        return findings_of(call, self._authority, known, planned(call, known, self._now))

    def sample_of(self, way: str) -> Sample | None:
        """The values of a way; None where the premise offers none."""
        if way == OWN:
            return self._own if self._own.texts else None
        if way == ENTITLED:
            return sample(way) if self._premise.entitled else None
        return member_sample() if way.startswith("known ") else sample(way)

    def _data(self, probe: Call) -> tuple[str, ...]:
        """Asked with words that stand nowhere: what may go as such goes in any disguise."""
        found = []
        for name, readers in self._audiences.items():
            if disclosed(probe, self.known(probe, readers=readers)) is None:
                found.append(name)
        return tuple(found)

    # -- what is no tool ----------------------------------------------------------------------------------------------

    def _methods(self) -> Iterator[Act]:
        for direction, method, action in method_actions():
            if direction is not Direction.TO_SERVER or method in PLUMBING or method in SILENT:
                continue
            for server, entity in sorted(self._rules.servers.items()):
                if not possible(self._rules.policies, self._authority.entity, action, entity):
                    continue
                call = self.said(Direction.TO_SERVER, server, method, self._prompt(server))
                if self.passes(call):
                    yield self._plain(call, f"{server} {method}", "name", self.passes(call, self._rules))

    def _answers(self) -> Iterator[Act]:
        """What a server asks an agent: the answer is the agent's own words, to that server."""
        for direction, method, action in method_actions():
            if direction is not Direction.TO_AGENT or method not in ASKING:
                continue
            for server, entity in sorted(self._rules.servers.items()):
                if not possible(self._rules.policies, entity, action, self._authority.entity):
                    continue
                call = msgspec.structs.replace(self.said(direction, server, method, None), rpc_id=1)
                if self.passes(call):
                    yield self._plain(call, f"{server} {method}", "answer", self.passes(call, self._rules))

    def _messages(self) -> Iterator[Act]:
        """What it may say to agents, for each skill that is offered: words of its own, with what those may hear.

        What it asks of a peer's tasks says nothing that a message could not.
        """
        for name, peer in sorted(self._rules.peers.items()):
            if self._authority.name not in peer.callers or not may_speak(self._rules, self._authority.entity, name):
                continue
            for skill in peer.skills or (None,):
                call = self._letter(name, skill)
                if self.passes(call):
                    yield self._plain(call, spoken_act(name, skill), "message", self.passes(call, self._rules))

    def _letter(self, peer: str, skill: str | None) -> Call:
        call = self.said(Direction.TO_SERVER, peer, "SendMessage", skill)
        words = {"message": {"messageId": NOUN, "role": "ROLE_USER", "parts": [{"text": UNHEARD}]}}
        return msgspec.structs.replace(call, arguments=words, revision=a2a.REVISION)

    def _plain(self, call: Call, act: str, argument: str, sure: bool) -> Act:
        return Act(
            act=act,
            effect=(Effect.WRITE if argument == "answer" else effect_of(self._rules, call)).value,
            ways={argument: (ANYTHING,)},
            aims=(argument,),
            bare=True,
            data=self._data(call),
            conditional=not sure,
        )

    def _prompt(self, server: str) -> str:
        return next((name for (of, name) in self._pins if of == server and (of, name) not in self._rules.tools), NOUN)

    def said(self, direction: Direction, server: str, method: str, name: str | None) -> Call:
        return Call(
            id="",
            direction=direction,
            agent=self._authority.agent,
            server=server,
            method=method,
            name=name,
            arguments={"uri": UNHEARD},
            body=b"",
            revision=REVISION,
        )


class _Probe:
    """One tool, asked about argument by argument."""

    def __init__(self, survey: Survey, server: str, name: str, tool: ApprovedTool, fields: Mapping[str, Field]) -> None:
        self.passed: list[Call] = []
        self._survey, self._server, self._name, self._tool, self._fields = survey, server, name, tool, fields
        self._candidates = {a: self._of(a, field.shape) for a, field in fields.items()}

    def call(self, arguments: Mapping[str, Any]) -> Call:
        empty = self._survey.said(Direction.TO_SERVER, self._server, TOOL_CALL, self._name)
        return msgspec.structs.replace(empty, arguments=dict(arguments))

    def ways(self, argument: str) -> Iterable[str]:
        return self._candidates[argument]

    def aims(self, argument: str) -> bool:
        """Whether an argument says to whom or to what it is done; silence does, where something is done."""
        roles = {one.role for name, one in self._tool.manifest.parameters.items() if at(name, argument)}
        spoken = {role for role in roles if role is not None}
        return bool(spoken & set(AIMS)) or (not spoken and self._tool.effect is not Effect.READ)

    def bases(self) -> Iterator[dict[str, Any]]:
        """Calls to start from: what must be there, then with each aim, then with all that passes by itself."""
        required = {a: self._best(a) for a, field in self._fields.items() if field.required}
        optional = {a: self._best(a) for a, field in self._fields.items() if not field.required and self._passing(a)}
        yield required
        for a, value in optional.items():
            if self.aims(a):
                yield {**required, a: value}
        yield {**required, **optional}

    def reached(self, argument: str, way: str, bases: list[dict[str, Any]]) -> bool:
        """Whether `admit` lets a call through in which this argument was come by in this way."""
        for base in (
            dict.fromkeys((len(bases) - 1, 0)) if bases else ()
        ):  # the fullest one first: beside it times may follow
            for value, _ in sorted(self._candidates[argument][way], key=lambda pair: not pair[1]):
                call = self.call({**bases[base], argument: value})
                if self._survey.passes(call):
                    self.passed.append(call)
                    return True
        return False

    def _of(self, argument: str, shape: Shape) -> dict[str, list[tuple[Any, bool]]]:
        """For each way the values that are looked at, and whether each passes by itself; one way if none is looked at.

        A text without a link is not looked at where words are carried along: there only links are asked about.
        """
        found: dict[str, list[tuple[Any, bool]]] = {}
        for way in self._all(argument):
            one = self._survey.sample_of(way)
            for value in () if one is None else filled(shape, one):
                here = [f for f in self._survey.findings(self.call({argument: value})) if at(f.path, argument)]
                if here:
                    found.setdefault(way, []).append((value, all(f.how for f in here)))
        if not found:
            return {ANYTHING: [(value, True) for value in filled(shape, sample(ANYTHING))]}
        return found

    def _all(self, argument: str) -> tuple[str, ...]:
        parties = {one.party for name, one in self._tool.manifest.parameters.items() if at(name, argument)}
        return (ENTITLED, *(known(party) for party in sorted(p for p in parties if p)), *STRENGTH[1:])

    def alone(self, argument: str) -> tuple[str, ...]:
        """The ways in which this argument passes by itself, whatever else the call lacks."""
        return tuple(way for way, found in self._candidates[argument].items() if any(passes for _, passes in found))

    def _passing(self, argument: str) -> bool:
        return bool(self.alone(argument))

    def _best(self, argument: str) -> Any:
        """A value that passes by itself, the best vouched for; else one that may follow what others named."""
        values = [pair for found in self._candidates[argument].values() for pair in found]
        return next((value for value, alone in values if alone), values[0][0] if values else NOUN)


def spoken_act(peer: str, skill: str | None) -> str:
    """How a message is called in a list of acts."""
    return f"{peer} SendMessage" if skill is None else f"{peer}/{skill}"


def _standing(agent: str | None) -> AgentRow | None:
    """An agent in good standing: whether it is registered changes from day to day."""
    return None if agent is None else AgentRow(agent=agent, keys=(UNHEARD,), added_at=0)


def _forms(rules: Rules) -> Iterator[str]:
    """Every set of known parties has our members: who is in it today may be more tomorrow."""
    for tool in rules.tools.values():
        for party in {one.party for one in tool.manifest.parameters.values() if one.party is not None}:
            for value in (*member_sample().texts, *member_sample().numbers):
                yield from party_forms(party, value)
