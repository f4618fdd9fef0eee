"""Under which label the words of an agent of ours travel to another, and what they bring into its context.

Decides what another agent's words carry: all that can have shaped them, which is what its contexts hold. Assumes
*havoc*: a hijacked sender chooses every word, so one text that it read taints all that it says, quotes included.

INVARIANTS
1. What a message brings to an agent enters its context in the transaction that lets the message through: before it is
   forwarded, under the sender's whole label and that of each handle that was filled in.
2. What an agent answers has the label that its contexts have at that moment; a clean one's answer is clean.
3. An agent for whom no person spoke speaks for itself: its words are a stranger's.
4. A label that an operator let down is let down for that agent's own acts. What it says to others carries it whole.
5. A person's own words go along as the gateway recorded them, never as an agent tells them: under the task that the
   message names, where the sender is held to no plan, and for acts under that task alone.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from citywatch.core.call import Call
from citywatch.core.content.model import Model
from citywatch.core.enforce.context import Context, Flow
from citywatch.core.enforce.receive import SPOKEN, Entering, undeclared
from citywatch.core.flow.item import SPEAKER, Item
from citywatch.core.label import BOTTOM, Label, Shaper, join, join_all


def said_by(agent: str, contexts: Iterable[Context]) -> Label:
    """The label of what an agent says, whose contexts these are.

    # INVARIANT: 3, 4.
    """
    label = join_all(join(one.label, one.before) for one in contexts)
    spoken_for = any(one.startswith(f"{Shaper.PRINCIPAL}:") for one in label.origins or ())
    return label if spoken_for else join(label, Label(frozenset((f"{Shaper.AGENT}:{agent}",)), None))


def said_in(call: Call, flow: Flow) -> Label:
    """The label of a message's words: the sender's, and that of whatever was put in for it. # INVARIANT: 1."""
    return join_all((said_by(call.agent, (flow.context,)), *(one.label for one in call.filled)))


def heard(entering: Entering, agent: str, label: Label) -> Entering:
    """What an agent of ours says, under the label of what it says."""
    return msgspec.structs.replace(entering, source=f"{SPEAKER}{agent}", said=label)


def overheard(call: Call, flow: Flow, at: int, model: Model | None = None, *, followed: bool = False) -> Item:
    """What a message brings to whoever hears it. `followed`: its fingerprints are counted."""
    entering = Entering("", call.body, undeclared(call.arguments, SPOKEN), (), call=call.id, followed=followed)
    return heard(entering, call.agent, said_in(call, flow)).item(call.server, BOTTOM, at, model)


def handed_on(call: Call, flow: Flow) -> Item | None:
    """The words of the person whose task a message is sent under, to go along with it; None if there are none.

    # INVARIANT: 5. Under a plan the same words would be good for a second payment, by an agent that it does not hold.
    """
    if call.task is None or flow.held.plan is not None:
        return None
    found = (flow.history.items[prompt.item] for prompt in flow.history.prompts)
    mine = next((one for one in found if one.call == call.task and flow.counts(one)), None)
    return None if mine is None else msgspec.structs.replace(mine, handed=True)
