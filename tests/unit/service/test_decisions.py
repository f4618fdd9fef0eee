"""The index of decisions finds what going through the log one by one finds, and a page is a page of it."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from citywatch.core import events
from citywatch.core.events import Decided, Settled
from citywatch.core.log.entry import encode_event
from citywatch.service.decisions import ACT, Decisions, Page, Wanted

AGENTS, SERVERS, NAMES = ("billing", "router", "ärger"), ("crm", "ledger"), ("pay", "look", None)
VERDICTS = (("allow", None), ("ask", "approval_required"), ("deny", "no_permit"), ("would_deny", "forbidden"))


def decided(
    number: int, agent: str, server: str, name: str | None, verdict: tuple[str, str | None], at: int
) -> Decided:
    return Decided(
        at=at, replica="r1", call=f"{number:032x}", direction="to_server", agent=f"spiffe://t.example/agent/{agent}",
        key="k", server=server, method="tools/call", name=name, revision="2026-07-28", effect="write",
        decision=verdict[0], code=verdict[1], policies=("paying",) if verdict[0] == "allow" else (), detail="",
        policy="p", manifest="m", pin=None, body="b",
    )  # fmt: skip


def settled(number: int, outcome: str, at: int) -> Settled:
    code = "suspected_injection" if outcome == "withheld" else None
    return Settled(
        at=at, replica="r1", call=f"{number:032x}", message=0, outcome=outcome, code=code, detail="", final=True,
        is_error=False, size=1, body=None,
    )  # fmt: skip


calls = st.lists(
    st.tuples(
        st.sampled_from(AGENTS), st.sampled_from(SERVERS), st.sampled_from(NAMES), st.sampled_from(VERDICTS),
        st.sampled_from(("", "released", "withheld")), st.integers(0, 40),
    ),
    max_size=40,
)  # fmt: skip
wanted = st.builds(
    Wanted,
    facets=st.fixed_dictionaries(
        {},
        optional={
            "agent": st.sampled_from([f"spiffe://t.example/agent/{one}" for one in AGENTS]),
            "server": st.sampled_from(SERVERS),
            "decision": st.sampled_from(("allow", "ask", "deny", "withheld")),
            "code": st.sampled_from(("no_permit", "suspected_injection")),
        },
    ),
    words=st.lists(st.sampled_from(("CRM", "pay", "zzz", "ledger/l", "paying", "ÄRG", "[a-z]")), max_size=2).map(tuple),
    kind=st.sampled_from(("", ACT)),
    since=st.integers(0, 30),
    until=st.integers(0, 60),
)


class Log:
    """Leaves with their indexes, and what a reader who has them all would say."""

    def __init__(self, drawn: list[tuple[str, str, str | None, tuple[str, str | None], str, int]]) -> None:
        self.leaves: list[bytes] = []
        self.rows: list[tuple[int, int, dict[str, set[str]], bool]] = []
        now = 1
        for number, (agent, server, name, verdict, reply, later) in enumerate(drawn):
            now += later
            one = decided(number, agent, server, name, verdict, now)
            values = {
                "agent": {one.agent}, "server": {server}, "decision": {one.verdict}, "code": {one.code or ""} - {""},
                "tool": {f"{server}/{name}"} if name else set(), "policy": set(one.policies),
            }  # fmt: skip
            self.rows.append((len(self.leaves), now, values, name is None and one.verdict == "allow"))
            self.leaves.append(encode_event(one))
            if reply and one.forwarded:
                self.leaves.append(encode_event(settled(number, reply, now)))
                if reply == "withheld":
                    values["decision"] |= {"withheld"}
                    values["code"] |= {"suspected_injection"}

    def found(self, wanted: Wanted) -> list[int]:
        return [
            index
            for index, at, values, quiet in reversed(self.rows)
            if all(value in values[facet] for facet, value in wanted.facets.items())
            and all(
                any(word.casefold() in v.casefold() for each in values.values() for v in each) for word in wanted.words
            )
            and (not wanted.kind or not quiet)
            and at >= wanted.since
            and (not wanted.until or at <= wanted.until)
        ]


def index_of(log: Log) -> Decisions:
    found = Decisions()
    for index, leaf in enumerate(log.leaves):
        found.fold(index, leaf)
    return found


@given(calls, wanted, st.integers(1, 7))
def test_pages_together_name_each_matching_decision_once_the_newest_first(drawn, wanted, length) -> None:  # type: ignore[no-untyped-def]
    log = Log(drawn)
    index, found = index_of(log), list[int]()
    page = index.page(wanted, length)
    found += page.indexes
    while page.next:
        assert len(page.indexes) == length
        page = index.page(msgspec.structs.replace(wanted, before=page.next), length)
        found += page.indexes
    assert found == log.found(wanted)


def test_a_cursor_is_a_place_in_the_log_whatever_is_entered_meanwhile() -> None:
    log = Log([("billing", "crm", "pay", VERDICTS[0], "", 1)] * 6)
    index = index_of(log)
    first = index.page(Wanted(), 3)
    assert first == Page((5, 4, 3), 3)
    index.fold(6, encode_event(decided(6, "router", "crm", "pay", VERDICTS[0], 9)))
    assert index.page(Wanted(before=first.next), 3) == Page((2, 1, 0), 0)


def test_a_call_is_found_by_its_id_and_by_what_names_its_ticket() -> None:
    log = Log([("billing", "crm", "pay", VERDICTS[1], "", 1), ("billing", "crm", "pay", VERDICTS[0], "released", 1)])
    index = index_of(log)
    assert [index.find(f"{number:032x}") for number in (0, 1, 2)] == [0, 0, 0], "the first twelve digits are the same"
    other = Decisions()
    other.fold(4, encode_event(decided(0xABC << 116, "billing", "crm", "pay", VERDICTS[0], 1)))
    call = f"{0xABC << 116:032x}"
    assert (other.find(call), other.find(call[:12]), other.find("f" * 32)) == (4, 4, None)
    assert (index.reply(1), index.reply(0), index.reply(9)) == (2, None, None)


def test_rules_are_counted_by_what_became_of_their_calls_and_since_when() -> None:
    log = Log([("billing", "crm", "pay", VERDICTS[0], "", 10)] * 3 + [("billing", "crm", "pay", VERDICTS[2], "", 10)])
    index = index_of(log)
    assert index.values("policy") == [("paying", 3)]
    assert (index.count("policy", "paying"), index.count("policy", "paying", 25)) == (3, 1)
    assert index.both(("policy", "paying"), ("decision", "allow")) == 3
    assert index.both(("policy", "paying"), ("decision", "deny")) == 0
    assert index.both(("agent", "spiffe://t.example/agent/billing"), ("decision", "deny"), 35) == 1


def test_what_is_no_decision_is_no_part_of_it() -> None:
    index = Decisions()
    index.fold(0, encode_event(events.Stopped(at=1, replica="r1")))
    index.fold(1, encode_event(settled(7, "released", 2)))
    assert (len(index), index.page(Wanted(), 9)) == (0, Page((), 0))
