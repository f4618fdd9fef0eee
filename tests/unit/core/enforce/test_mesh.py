"""Who may speak to whom as a graph: each edge that a message could take, each circle, and what is named for nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from citywatch.core.enforce.mesh import Edge, circles, edges, idle, namesakes
from citywatch.core.enforce.rules import Configured, Rules, build_rules
from citywatch.core.manifest import Peer
from citywatch.core.names import AgentId
from citywatch.core.policy.cedar import Source, parse_policies
from citywatch.core.policy.world import AgentFacts

NAMES = ("anna", "bert", "cleo", "dora")
POLICY = """
permit(principal, action in Action::"send_message", resource == Peer::"billing") when { context.name == "x" };
permit(principal == Agent::"spiffe://d.example/agent/anna", action == Action::"a2a:SendStreamingMessage", resource);
permit(principal, action in Action::"peer_task", resource);
forbid(principal == Agent::"spiffe://d.example/agent/cleo", action, resource);
"""


def rules(**peers: Peer) -> Rules:
    return build_rules(
        Configured(
            domain="d.example",
            agents=tuple(AgentFacts(id=AgentId("d.example", name)) for name in NAMES),
            servers={},
            budgets={},
            digest="d",
            leeway_ms=0,
            peers=peers,
        ),
        {},
        parse_policies([Source("p.cedar", POLICY)]),
    )


FOUND = rules(
    billing=Peer(callers=("anna", "bert", "cleo"), agent="dora"),
    stock=Peer(callers=("anna", "bert")),
    bert=Peer(callers=("cleo",)),
)


def test_an_edge_is_whoever_is_named_and_could_be_permitted_a_message() -> None:
    assert edges(FOUND) == (Edge("anna", "billing", "dora"), Edge("anna", "stock", ""), Edge("bert", "billing", "dora"))


def test_who_is_named_and_never_permitted_a_word_is_told() -> None:
    assert idle(FOUND) == (("bert", "stock"), ("cleo", "bert"), ("cleo", "billing"))


def test_a_peer_that_has_an_agents_name_and_does_not_say_so_is_told() -> None:
    assert namesakes(FOUND) == ("bert",)
    assert namesakes(rules(bert=Peer(callers=("anna",), agent="bert"))) == ()


GRAPHS = st.sets(st.tuples(st.sampled_from(NAMES), st.sampled_from((*NAMES, ""))), max_size=10)


@given(GRAPHS)
def test_whoever_can_come_back_to_themselves_is_in_a_set_that_has_a_circle(graph: set[tuple[str, str]]) -> None:
    found = circles(Edge(caller, f"peer-{agent}", agent) for caller, agent in graph)
    for way in found:
        assert all((one, other) in graph for one, other in zip(way, (*way[1:], way[0]), strict=True))
        assert way[0] == min(way)
        assert len(set(way)) == len(way)
    closed = {(one, other) for one, other in graph if other}
    for _ in NAMES:  # slowly: who reaches whom in any number of steps
        closed |= {(one, end) for one, middle in closed for start, end in closed if middle == start}
    turning = {one for one in NAMES if (one, one) in closed}
    assert bool(turning) == bool(found)
    assert {name for way in found for name in way} <= turning
    for one in turning:  # each is in a circle that is told, or reaches one and is reached from it
        assert any(one in way or ((one, way[0]) in closed and (way[0], one) in closed) for way in found)
