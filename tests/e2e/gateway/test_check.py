"""`citywatch check` and `citywatch policy`: what they say, and the exit code that a script goes by."""

from __future__ import annotations

import sys

import pytest

from tests.e2e.gateway.desk import HERE, Desk, listens, wait_for

NOTES = HERE.parents[2] / "src" / "citywatch" / "starter" / "notes_server.py"
OPEN = "nothing would be protected: every server that answers is open to whoever reaches it"


def check(desk: Desk, *options: str) -> tuple[int, str]:
    done = desk.run("check", *options, check=False)
    return done.returncode, done.stdout + done.stderr


def with_papers(desk: Desk) -> Desk:
    """The agent is registered, the tools are approved."""
    desk.run("agent", "add", "clerk")
    desk.run("tools", "approve", "--yes")
    return desk


def point_to(desk: Desk, url: str, more: str = "") -> None:
    file = desk.folder / "citywatch.yaml"
    before = f"    url: http://127.0.0.1:{desk.upstream_port}/mcp\n"
    assert before in file.read_text()
    file.write_text(file.read_text().replace(before, f"    url: {url}\n{more}"))


@pytest.fixture
def open_desk(new_desk: Desk) -> Desk:
    """Its server serves whoever reaches it."""
    new_desk.start_upstream()
    return with_papers(new_desk)


@pytest.fixture
def closed_desk(new_desk: Desk) -> Desk:
    """Its server wants a token that the gateway has."""
    new_desk._spawn([sys.executable, str(NOTES), str(new_desk.upstream_port)])
    wait_for(lambda: listens(new_desk.upstream_port), "the server")
    point_to(new_desk, f"http://127.0.0.1:{new_desk.upstream_port}/mcp", "    credential: {file: notes.token}\n")
    permit = '@id("all") permit(principal is Agent, action in Action::"call_tool", resource);\n'
    (new_desk.folder / "policies" / "desk.cedar").write_text(permit)
    return with_papers(new_desk)


def test_a_server_that_wants_our_credential_is_protected(closed_desk: Desk) -> None:
    code, said = check(closed_desk)
    assert (code, "problem" in said, said.count("WARNING")) == (0, False, 1), said
    assert "information flow is not enforced" in said
    assert "desk: 4 tools approved, 0 definitions await approval" in said
    assert "desk does not answer without our credential" in said
    assert "desk/send_note has no manifest: it counts as irreversible" in said
    assert "desk/look is declared, and no tool of that name is approved" in said


def test_a_server_that_answers_anybody_is_not_unless_its_operator_vouches_for_the_network(open_desk: Desk) -> None:
    code, said = check(open_desk)
    assert code == 1, said
    assert "WARNING         desk answers without our credential" in said
    assert "tools/list" in said
    assert f"problem         {OPEN}" in said
    assert "has no manifest" not in said, "every tool of it has one"
    code, said = check(open_desk, "--closed", "desk")
    assert (code, "problem" in said) == (0, False), said
    assert "WARNING" in said
    assert "you vouch that nobody but the gateway reaches desk" in said
    assert check(open_desk, "--closed", "desc")[0] == 2


def test_a_server_that_does_not_answer_is_not_protected(new_desk: Desk) -> None:
    process = new_desk.start_upstream()
    with_papers(new_desk)
    process.kill()
    process.wait()
    code, said = check(new_desk, "--closed", "desk")
    assert code == 1
    assert "it does not answer" in said
    assert "problem         no server answers: nothing can be said to be protected" in said


def test_where_nothing_is_configured_nothing_is_protected(new_desk: Desk) -> None:
    (new_desk.folder / "citywatch.yaml").write_text("trust_domain: t.example\n")
    code, said = check(new_desk)
    assert code == 1
    assert "problem         no agent is registered" in said
    assert "problem         no server is configured: nothing would be protected" in said


@pytest.mark.parametrize(
    "policy",
    [
        "forbid(principal, action, resource);",
        "permit(principal, action, resource);\nforbid(principal, action, resource);",
        'permit(principal is Server, action in Action::"notify_agent", resource);',
    ],
)
def test_policies_that_can_permit_no_tool_are_a_problem(closed_desk: Desk, policy: str) -> None:
    (closed_desk.folder / "policies" / "desk.cedar").write_text(policy)
    code, said = check(closed_desk)
    assert code == 1
    assert "problem         no policy could ever permit an agent to call a tool" in said


def test_policy_check_fails_where_a_policy_is_wrong(open_desk: Desk) -> None:
    done = open_desk.run("policy", "check")
    assert "5 policies fit 1 agents and 4 tools" in done.stdout
    (open_desk.folder / "policies" / "wrong.cedar").write_text(
        'permit(principal in Role::"payeer", action == Action::"desk/pay", resource);'
    )
    done = open_desk.run("policy", "check", check=False)
    assert done.returncode == 1
    assert 'did you mean `Role::"payer"`?' in done.stderr
    assert "fit" not in done.stdout
    code, said = check(open_desk, "--closed", "desk")
    assert code == 1
    assert "problem         policy " in said


def test_policy_test_fails_where_a_case_goes_another_way(open_desk: Desk) -> None:
    table = open_desk.folder / "policies" / "desk.test.yaml"
    case = "cases:\n  - case: she pays\n    agent: {name: clerk, roles: [payer]}\n    call: desk/pay\n"
    case += "    arguments: {to: ann, amount: %d}\n    expect: allow\n"
    table.write_text(case % 100)
    assert "1 passed, 0 failed" in open_desk.run("policy", "test").stdout
    table.write_text(case % 101)
    done = open_desk.run("policy", "test", check=False)
    assert done.returncode == 1
    assert "FAILED  desk.test.yaml case 1: she pays" in done.stdout
    assert "0 passed, 1 failed" in done.stdout
