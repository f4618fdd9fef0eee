"""Whether the arguments of a call may steer it: each control argument must come from somebody who is entitled to.

    clean context → named → own → linked → endorsed → derived (amounts) → known party → quoted (reads)
    → anchored (times, options) → otherwise a person is asked

Decides on the call, the tool's manifest and the history of the agent's context. Assumes *havoc*: the model may have
been talked into anything, so a value that no entitled source supplied whole has the label of all that it has read.

INVARIANTS
1. A value that only an unentitled source supplied never steers a consequential act unasked; nor does one that the model
   made up after it read what a third party can have written.
2. A silent parameter of a consequential act is a destination.
3. Everything that let a value pass is named, so that it can stand in the log.
4. To what a person only described, or is (`linked`, `endorsed`, `own`), nothing irreversible is done unless
   they spoke of doing it: who asks what is in a file has not asked for it to be deleted. Nor is it done to a known
   party, unless they left it to a text which acts there are ("do all that is on my list"). An act that cannot be taken
   back and takes no value that could be named must have been spoken of as well, and of what it is done to.
5. What a scan flagged takes a way to pass away and never gives one: a third party's words that read like an injection
   name no address to look at, and are nobody's source.
6. What people name steers no act of which they said nothing: who tells Bob something has not asked for Bob's removal.
   Of an act whose verb is not known here, and of words in which no verb is, nobody can tell that.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Final

import msgspec

from citywatch.core.call import Call, Effect
from citywatch.core.enforce.arguments import MAX_VALUES, Argument, Traced, all_values, trace
from citywatch.core.enforce.belongings import Belongings
from citywatch.core.enforce.context import Flow
from citywatch.core.enforce.parties import MAX_LISTED, NAMES, Parties
from citywatch.core.enforce.places import NUMBERED
from citywatch.core.enforce.rules import ApprovedTool, Rules
from citywatch.core.flow.acts import is_known
from citywatch.core.flow.derive import as_number, derive
from citywatch.core.flow.handle import stood_at
from citywatch.core.flow.history import Prompt, Sighting, Value
from citywatch.core.flow.provenance import Provenance
from citywatch.core.flow.readings import Typed
from citywatch.core.flow.sources import NUMBERS, Sources
from citywatch.core.flow.tokens import Kind, Token, exact_tokens, find_links
from citywatch.core.label import Label
from citywatch.core.manifest import OWNER, Role

MAX_TEXT: Final = 64 << 10
OUTBOUND: Final = frozenset((Kind.URL, Kind.HOST, Kind.IBAN))
"""What, in words on their way to others, makes those others act: a link to follow, an account to pay to."""
FOLLOWING: Final = frozenset((Role.DESTINATION, Role.OBJECT, Role.AMOUNT))
"""Roles in which one of a few enumerated options follows what was named. A command is what is done: it does not."""
PASSED_ON: Final = "passed on"
CHOSEN: Final = frozenset(("clean", "named", "own"))
"""How a reader passes to whom a person themselves sends what a text says."""
FETCHED: Final = frozenset((Kind.URL, Kind.HOST))
ENFORCED: Final[Mapping[Effect, frozenset[Role]]] = {
    Effect.READ: frozenset((Role.DESTINATION, Role.COMMAND)),
    Effect.WRITE: frozenset((Role.DESTINATION, Role.COMMAND, Role.SECRET, Role.CONTENT)),
    Effect.IRREVERSIBLE: frozenset(Role),
}
"""What must have a source, by what the act does: what can be taken back may be done to any object, at any time."""
FILES: Final = ("docx", "xlsx", "pptx", "txt", "pdf", "csv", "json", "xml", "html", "png", "jpg", "jpeg", "gif", "log")
"""Endings that are no top-level domain: `plan.docx` in a letter leads nowhere."""
# Bound once: up to Python 3.11 each look-up of a member runs code of its class.
_CONTENT, _TIME, _DESTINATION = Role.CONTENT, Role.TIME, Role.DESTINATION
_READ, _IRREVERSIBLE = Effect.READ, Effect.IRREVERSIBLE
READINGS: Final[Mapping[Role, frozenset[str]]] = {
    Role.DESTINATION: NAMES,
    Role.OBJECT: NAMES,
    Role.AMOUNT: frozenset((Kind.NUMBER, Kind.MONEY)),
    Role.TIME: frozenset((Kind.DATE, Kind.TIME)),
    Role.COMMAND: frozenset(),
    Role.SECRET: frozenset(),
    Role.CONTENT: frozenset((Kind.URL, Kind.HOST, Kind.IBAN)),
}
"""As what a value must stand in a person's words to be named in that role. A command or a secret: letter by letter."""


class Finding(msgspec.Struct, frozen=True):
    """What was found of one argument: `how` it passed, or None if nothing entitles it; `where` it was seen."""

    path: str
    role: Role
    how: str | None
    where: str
    value: Value | None = None

    def told(self) -> str:
        """One line for the log and for people."""
        return f"{self.path} ({self.role._value_}) {self.how or 'unentitled'}: {self.where}"


class Steering:
    """One call against one context."""

    def __init__(self, call: Call, tool: ApprovedTool, rules: Rules, flow: Flow, traced: Traced | None = None) -> None:
        """`traced` are the values of the call, if they were found before."""
        self._call = call
        self._traced = traced
        self._steering: dict[str, bool] = {}
        self._manifest = tool.manifest
        self._options = tool.options
        self._members = tool.members
        self._rules = rules
        self._history = flow.history
        self._read = flow.readings.of
        self._counts = flow.counts
        self._people = Provenance(flow.history, self._steers, self._counts)
        self._described: dict[tuple[int, str], set[str]] = {}
        self._flow, self._nouns, self._task = flow, tool.nouns, flow.task
        self._clean = self._is_clean(flow.context.label)
        self._cleared = flow.context.cleared
        self._act = call.name if self._manifest.effect is _IRREVERSIBLE else None

    @property
    def prompts(self) -> Sequence[Prompt]:
        """What the people who may steer the act said, as far as it counts."""
        return self._people.prompts

    @cached_property
    def _parties(self) -> Parties:
        return Parties(self._call, self._nouns, self._flow, self._people, self._steers)

    @cached_property
    def _belongings(self) -> Belongings:
        return Belongings(self._history, self._people, self._rules.principals, self._flow.readings)

    @cached_property
    def _spoken(self) -> bool:
        """# INVARIANT: 4."""
        return self._act is None or self._people.speak_of(self._act)

    def _for_another(self, value: Typed, argument: Argument) -> bool:
        """Whether what people name is named for other acts: they say what they want, and it is none like this.

        # INVARIANT: 6.
        """
        if self._spoken or self._act is None or not is_known(self._act) or self._people.hand_over():
            return False
        seen = self._people.named(value, READINGS[argument.role], argument.path)
        return seen is not None and self._people.asks_for_anything(seen.item)

    def findings(self) -> tuple[Finding, ...]:
        """One for each control value, and for each link in words on their way out; empty if nothing needs a source."""
        unread = not (self._history.foreign or self._cleared) and not self._call.filled
        if self._clean and self._manifest.effect is not _READ and unread:
            return ()
        enforced = ENFORCED[self._manifest.effect]
        found: list[Finding] = []
        later: list[Argument] = []
        for count, argument in enumerate(trace(self._call, self._manifest, self._traced).values):
            if count >= MAX_VALUES:
                found.append(Finding(argument.path, argument.role, None, "too many values to trace"))
                break
            role = argument.role
            if role not in enforced or (argument.member and self._is_the_tools(argument)):
                continue
            if role is _CONTENT:
                found += self._outbound(argument)
            elif role is _TIME or (argument.path in self._options and role in FOLLOWING):
                later.append(argument)
            else:
                found.append(self._control(argument))
        if [one for one in found if one.role in _ANCHORS and one.how not in CHOSEN]:
            # Whom it reaches nobody chose: a directory's member is no one to pass a stranger's link on to
            found = [msgspec.structs.replace(one, how=None) if one.how == PASSED_ON else one for one in found]
        if self._aims_at_nothing(found):
            found.append(self._unaimed())
        settled = not [one for one in found if not one.how]
        found += [self._control(one) for one in later]
        passed = [one for one in found if one.how]
        told = settled and len(passed) < len(found)
        if told and any(one.how == "spoken" or one.role is _TIME or one.role in _ANCHORS for one in passed):
            found = [self._anchored(one) for one in found]
        return tuple(found)

    def unasked_for(self, findings: Sequence[Finding]) -> bool:
        """Whether nobody spoke of an act that cannot be taken back, and nothing that steers it is anybody's word."""
        if self._spoken:
            return False
        return not any(one.how or self._is_named(one) for one in findings if one.role is not Role.CONTENT)

    def _is_named(self, finding: Finding) -> bool:
        value = finding.value
        return value is not None and self._people.named(value, READINGS[finding.role], finding.path) is not None

    def _aims_at_nothing(self, found: Sequence[Finding]) -> bool:
        """Whether no value says what or whom the act is done to: only when, in which way, or in which words.

        Of what can be taken back, only an act without any value: `mark_all_as_read()` is all there is to it.
        """
        if self._manifest.effect is _IRREVERSIBLE:
            return not [one for one in found if one.role is not _CONTENT]
        return self._manifest.effect is Effect.WRITE and not self._manifest.parameters and not self._call.arguments

    def _is_the_tools(self, argument: Argument) -> bool:
        """Whether the name of a member is the tool's word: its approved definition, or its manifest, has it there."""
        return (NUMBERED.sub("[]", argument.path), argument.value) in self._members

    def _control(self, argument: Argument) -> Finding:
        how, where = self._source(argument)
        if how is None and self._manifest.effect is _READ and self._quoted(argument):
            how = "quoted"  # nothing of the agent's is added to it
        return Finding(argument.path, argument.role, how, where, argument.value)

    def _unaimed(self) -> Finding:
        """An act that takes nothing that could be named: `wipe()`. Somebody must have spoken of it, and of what to."""
        how = "clean" if self._clean else None
        # INVARIANT: 5. Nothing tells the act that was asked for from the one that an injection wants.
        if how is None and not self._wanted_elsewhere() and self._people.speak_of_all(self._call.name or ""):
            how = "spoken"
        return Finding(self._call.name or "", Role.COMMAND, how, "nothing in the call says what or whom it is done to")

    def _wanted_elsewhere(self) -> bool:
        """Whether the act may be an injection's: one was read, and the call says nothing, or says it in its words."""
        if not self._history.loud():
            return False
        words = [value for _, value in itertools.islice(all_values(self._call), MAX_VALUES + 1)]
        return not 0 < len(words) <= MAX_VALUES or any(self._history.flagged_only(one) for one in words)

    def _anchored(self, finding: Finding) -> Finding:
        """When, and in which of a few ways, is not what nor to whom: where those were all named, they may follow."""
        if finding.how or (finding.value is not None and self._history.flagged_only(finding.value)):  # INVARIANT: 5.
            return finding
        return msgspec.structs.replace(finding, how="anchored")

    def _outbound(self, argument: Argument) -> Iterator[Finding]:
        if not isinstance(argument.value, str) or not self._reaches_others():
            return
        text = argument.value
        if len(text) > MAX_TEXT:
            yield Finding(argument.path, argument.role, None, "too long to look for links")
            return
        for token in find_links(text):
            if token.kind in OUTBOUND and not _is_file(token):
                link = Argument(
                    f"{argument.path}[{token.start}:{token.end}]", Role.CONTENT, text[token.start : token.end], None
                )
                how, where = self._source(link)
                if how is None and self._vouched(link.value):
                    how = "vouched"
                if how is None and (on := self._sources.passes_on(self._read(link.value))) is not None:
                    how, where = PASSED_ON, f"{self._history.told(on[0])}, as `{on[1][:60]}` was to be passed on"
                yield Finding(link.path, link.role, how, where, link.value)

    def _source(self, argument: Argument) -> tuple[str | None, str]:
        value = self._read(argument.value)
        if self._clean and not self._foreign(argument.path, value):
            return "clean", "nothing here was written by a third party"
        named = self._people.named_at(value, READINGS[argument.role], argument.path)
        if named is not None and not self._for_another(value, argument):
            return "named", named
        spoken = self._spoken or argument.role not in _ANCHORS
        reaches = spoken and argument.role is _DESTINATION
        if reaches and self._belongings.own(value):
            return "own", "an address or account of the person whose task it is"
        linked = self._people.linked(value, self._act) if spoken else None
        if linked is not None and not (reaches and self._parties.named_instead(argument.party or "", value)):
            return "linked", f"{self._history.told(linked[0])}, described as `{linked[1][:60]}`"
        given = self._belongings.given(value, self._call.name or "", argument.party, self._parties) if reaches else None
        if given is not None:
            return "linked", f"{self._history.told(given[0])}, as one of those who have `{given[1][:60]}`"
        endorsed = self._people.endorsed(value, READINGS[argument.role]) if spoken else None
        if endorsed is None:
            endorsed = self._handed_over(argument, value)
        if endorsed is not None:
            return "endorsed", f"{self._history.told(endorsed[0])}, as `{endorsed[1][:60]}` was named for it"
        derived = self._derived(argument)
        if derived is not None:
            return "derived", derived
        # INVARIANT: 4.
        if (spoken or self._people.hand_over()) and self._parties.meant(argument.party, value):
            return "known", f"the known parties `{argument.party}`"
        if named is not None:
            return None, f"{named}, where nothing asks for `{self._act}`"
        sightings = self._history.sightings(value)
        return None, self._history.told(sightings[-1]) if sightings else "nowhere: the agent made it up"

    @cached_property
    def _sources(self) -> Sources:
        own = {
            (str(token.kind), token.value)
            for principal in self._rules.principals.values()
            for one in principal.own
            for token in exact_tokens(one)
        }
        wrote = self._people.wrote
        return Sources(
            self._history,
            self._people.sentences,
            self._call.name or "",
            lambda kind, value: (kind, value) in own or wrote(kind, value),
            self._people.only,
        )

    def _handed_over(self, argument: Argument, value: Typed) -> tuple[Sighting, str] | None:
        """Where a text that a person named for this very act holds the value: "pay what 'x.pdf' says"."""
        if argument.role not in FOLLOWING or self._another_was_meant(value):
            return None
        kinds = NUMBERS if argument.role is Role.AMOUNT else READINGS[argument.role]
        return self._sources.supplies(value, kinds, self._act is not None)

    def _another_was_meant(self, value: Typed) -> bool:
        """Whether a server lists this beside one that the person described for the act: then a text changes nothing."""
        for seen in self._history.sightings(value):
            part = self._history.part(seen)
            if part.trusted and part.record >= 0 and self._described_beside(seen.item, part.name) - {part.whole}:
                return True
        return False

    def _described_beside(self, item: int, name: str) -> set[str]:
        """What a server lists under one name and the person described; looked for once, whatever the call's length."""
        if (item, name) not in self._described:
            listed = self._history.items[item].parts[:MAX_LISTED]
            others = {one.whole for one in listed if one.trusted and one.name == name}
            self._described[item, name] = {one for one in others if self._people.linked(one, self._act)}
        return self._described[item, name]

    def _foreign(self, path: str, value: Typed) -> bool:
        """Whether this stands only where no server vouches for it: a number cannot talk, and yet be an attacker's.

        What came out of a handle has exactly that origin, however long it is and whatever it was put between.
        """
        filled = [one for one in self._call.filled if stood_at(one.path, path)]
        if not all(one.trusted for one in filled):
            return True
        if filled and filled[0].whole:  # it is no other value that looks the same
            return self._cleared and not self._entitled(filled[0].label)
        seen = self._history.sightings(value) if self._history.foreign or self._cleared else []
        # INVARIANT: 1. What an operator let down is the context's label, not that of what it has read.
        if self._cleared and not all(self._entitled(self._history.items[one.item].label) for one in seen):
            return True
        return bool(seen) and not any(self._history.part(one).trusted or self._is_said(one) for one in seen)

    def _is_said(self, seen: Sighting) -> bool:
        """Whether an agent of ours said this, whose words nobody can have shaped who may not steer the act."""
        return (item := self._history.items[seen.item]).is_said and self._entitled(item.label)

    def _quoted(self, argument: Argument) -> bool:
        """Whether this is an address to look at, as it stood in a text: never a command, whoever wrote it there.

        Nor one that stands only in words like an injection: to follow them is what they want (INVARIANT: 5).
        """
        value = self._read(argument.value)
        leads = any(token.kind in FETCHED for token in value.exact)
        seen = leads and argument.role is Role.DESTINATION and bool(self._history.sightings(value))
        return seen and not self._history.flagged_only(value)

    def _derived(self, argument: Argument) -> str | None:
        number = as_number(str(argument.value)) if argument.role is Role.AMOUNT else None
        if number is None:
            return None
        given, percents = self._people.numbers()
        found = derive(number, given, percents)
        return found if found is not None else derive(number, [*given, *self._sources.numbers()], percents)

    def _vouched(self, value: Value) -> bool:
        """Whether a server of ours says this itself: its own link may be passed on."""
        return any(self._history.part(seen).trusted for seen in self._history.sightings(value))

    def _steers(self, source: str) -> bool:
        known = self._steering.get(source)
        if known is None:
            kind, _, name = source.partition(":")
            principal = self._rules.principals.get(name) if kind == "principal" else None
            known = principal is not None and principal.steers(self._call.server, self._call.name or "")
            self._steering[source] = known
        return known

    def _is_clean(self, label: Label) -> bool:
        """Whether all that shaped the context may steer the act: people with that right, and servers' own data."""
        return self._entitled(label) and any(not one.startswith("server:") for one in label.origins or ())

    def _entitled(self, label: Label) -> bool:
        """Whether nobody shaped this who may not steer the act."""
        origins = label.origins
        return origins is not None and all(one.startswith("server:") or self._steers(one) for one in origins)

    def _reaches_others(self) -> bool:
        manifest = self._manifest
        if manifest.effect is _READ:
            return False
        if [one for one in manifest.parameters.values() if one.role is _DESTINATION]:
            return True
        whose = {one.source for one in self._history.prompts if self._history.items[one.item].speaks_for(self._task)}
        return not set(manifest.audience) <= {OWNER, *whose}


def _is_file(token: Token) -> bool:
    """A host that is none: `plan.docx`. Not `https://evil.log/x.html`, nor the `log` at the end of `evil.blog`."""
    host = token.value.removeprefix("//").removesuffix("/")
    return "/" not in host and host.rpartition(".")[2] in FILES


_ANCHORS: Final = frozenset((Role.DESTINATION, Role.OBJECT))
