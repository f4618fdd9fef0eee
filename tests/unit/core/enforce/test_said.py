"""Under which label an agent's words travel: all that its contexts hold, and never less."""

from __future__ import annotations

from citywatch.core.call import Call, Direction, Filled
from citywatch.core.enforce.context import Context, Flow
from citywatch.core.enforce.said import handed_on, overheard, said_by, said_in
from citywatch.core.flow.history import History
from citywatch.core.label import BOTTOM, Label
from citywatch.core.wire import a2a

ANN = Label(frozenset(("principal:ann",)), None)
MAIL = Label(frozenset(("outside:mail/inbox",)), frozenset(("hr",)))
AGENT = "spiffe://city.example/agent/clerk"


def message(**changes: object) -> Call:
    fields = {
        "id": "c",
        "direction": Direction.TO_SERVER,
        "agent": AGENT,
        "server": "billing",
        "method": "SendMessage",
        "name": None,
        "arguments": {"message": {"parts": [{"text": "pay 25"}]}},
        "body": b"{}",
        "revision": a2a.REVISION,
    }
    return Call(**(fields | changes))  # type: ignore[arg-type]


def test_what_stood_behind_a_handle_has_its_label_on_the_way() -> None:
    filled = Filled(
        path="message", handle="cw:x", source="mail/inbox", field="$", label=MAIL, trusted=False, inert=False
    )
    flow = Flow(context=Context(label=ANN), history=History())
    assert said_in(message(filled=(filled,)), flow) == Label(frozenset((*ANN.origins, *MAIL.origins)), MAIL.readers)  # type: ignore[misc]


def test_what_an_operator_let_down_is_let_down_for_that_agent_alone() -> None:
    told = said_by(AGENT, [Context(label=ANN, before=MAIL)])
    assert told == Label(frozenset(("principal:ann", "outside:mail/inbox")), frozenset(("hr",)))


def test_who_has_no_task_of_anybodys_speaks_for_itself() -> None:
    assert said_by(AGENT, [Context()]).origins == frozenset((f"agent:{AGENT}",))
    assert said_by(AGENT, []).origins == frozenset((f"agent:{AGENT}",))
    assert said_by(AGENT, [Context(label=Label(None, None))]).origins is None


def test_a_message_is_kept_as_what_the_agent_said_with_every_value_in_it() -> None:
    item = overheard(message(), Flow(context=Context(label=MAIL), history=History()), 7)
    assert (item.source, item.call, item.at) == (f"agent:{AGENT}", "c", 7)
    assert item.is_said
    assert item.label.readers == frozenset(("hr",))
    history = History()
    history.add(item)
    assert history.sightings("25")
    assert not any(part.trusted for part in item.parts)


def test_nothing_goes_along_where_no_task_is_named() -> None:
    assert handed_on(message(), Flow(context=Context(label=BOTTOM), history=History())) is None
