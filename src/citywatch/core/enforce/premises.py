"""What is taken for granted when it is asked what an agent can reach: what it has read, and who spoke.

Decides nothing. Each premise holds the samples that it makes possible, and no others: what a stranger wrote if one was
read, what a server vouches for, what a person named if a person can have named something. INVARIANT: a prompt that
names nothing entitles to nothing; a sample of a person's word stands in a prompt of somebody who has spoken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from citywatch.core.enforce.held import FREE, Holding
from citywatch.core.enforce.reach import Premise
from citywatch.core.enforce.rules import Rules
from citywatch.core.enforce.samples import ENTITLED, NOUN, QUOTED, VOUCHED, names_within, sample
from citywatch.core.flow.fields import Fields
from citywatch.core.flow.history import History
from citywatch.core.flow.item import MAX_PROMPT, Item, Reading, read_prompt, read_reply
from citywatch.core.label import BOTTOM, Label, join_all
from citywatch.core.manifest import Output
from citywatch.core.plan.contract import Progress

WORDLESS: Final = "-"
"""A prompt that names nothing."""
STRANGER: Final = "stranger/text"
SERVER: Final = "server/own"


def fresh(rules: Rules, now: int, prompts: Iterable[tuple[str, str]] = ()) -> Premise:
    """A context that has read one text of a stranger. `prompts` are pairs of a principal and what they said.

    Without any, every principal has spoken and named nothing.
    """
    said = tuple(prompts)
    spoken = said or tuple((name, WORDLESS) for name in sorted(rules.principals))
    items = [read_prompt(words, "", name, now) for name, words in spoken]
    told = "a fresh context that has read one stranger's text; " + (
        f"{', '.join(sorted({name for name, _ in said}))} gave it this task" if said else "nobody named anything"
    )
    speakers = tuple(sorted({name for name, _ in spoken}))
    return _premise(rules, now, told, items, BOTTOM, speakers, bool(said), FREE, None, True)


def actual(
    rules: Rules,
    now: int,
    items: Iterable[Item],
    label: Label,
    held: Holding = FREE,
    progress: Progress | None = None,
) -> tuple[Premise, ...]:
    """The context as it is, and as it is once a stranger's text was read. `held` is the plan that holds."""
    kept = list(items)
    speakers = {
        one.source.partition(":")[2] for one in kept if one.source.startswith("principal:") and held.counts(one)
    }
    spoken = tuple(sorted(speakers & set(rules.principals)))
    told = "the context as it is, and all that it may read yet"
    return tuple(
        _premise(rules, now, told, kept, label, spoken, bool(spoken), held, progress, reads) for reads in (False, True)
    )


def _premise(
    rules: Rules,
    now: int,
    told: str,
    items: list[Item],
    label: Label,
    speakers: tuple[str, ...],
    entitled: bool,
    held: Holding,
    progress: Progress | None,
    reads: bool,
) -> Premise:
    history = History()
    more = [*_read(now)] if reads else []
    words = _words(rules) if entitled else ()
    for item in (*items, *more, *(read_prompt(one, "", name, now) for name in speakers for one in words)):
        history.add(item)
    return Premise(
        told=told,
        history=history,
        label=join_all((label, *(item.label for item in (*items, *more)))),
        speakers=speakers,
        entitled=entitled,
        held=held,
        progress=progress,
    )


def _read(now: int) -> Iterator[Item]:
    for way, source, outputs in ((QUOTED, STRANGER, {}), (VOUCHED, SERVER, {"$": Output(trusted=True)})):
        one = sample(way)
        reading = Reading(
            source=source,
            trusted=Label(frozenset(("server:own",)), None),
            untrusted=Label(frozenset((f"outside:{STRANGER}",)), None),
            shaped=BOTTOM,
        )
        yield read_reply(Fields(outputs).walk([*one.texts, *one.numbers]), "", reading, now)


def _words(rules: Rules) -> tuple[str, str]:
    """Prompts that name every sample of a person's word, and the members that arguments have inside.

    They ask for nothing by themselves: a member that is called `order` stands where no verb can.
    """
    one = sample(ENTITLED)
    names = {name for tool in rules.tools.values() for name in names_within(tool.arguments.shape.fields)}
    values = " ; ".join((*one.texts, *map(str, one.numbers), NOUN))
    return values[:MAX_PROMPT], " ".join((WORDLESS, *sorted(names)))[:MAX_PROMPT]
