"""What a page shows works: its YAML is without a mistake, and the threats it names stand in both of its lists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from citywatch.config import Settings, parse_settings
from citywatch.core.names import AgentId
from citywatch.core.policy.cedar import Source, parse_policies
from citywatch.core.policy.check import check_policies
from citywatch.core.policy.decide import compile_policies
from citywatch.core.policy.tables import parse_table, run_tables
from citywatch.core.policy.world import AgentFacts, ToolFacts, build_world

ROOT = Path(__file__).parents[2]
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if "adr" not in path.parts)
CONTROLS = [page for page in PAGES if page.parent.name in ("how-to", "explanation") and page.name != "README.md"]
THREATS = {
    line.split("\t")[0]
    for line in Path(__file__).with_name("threats.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
}
FRONT = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
SNIPPET = re.compile(r"^( *)```yaml\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def snippets() -> list[tuple[str, str]]:
    found = []
    for page in [*PAGES, ROOT / "README.md"]:
        for indent, text in SNIPPET.findall(page.read_text(encoding="utf-8")):
            found.append((name(page), re.sub(f"^{indent}", "", text, flags=re.MULTILINE)))
    return found


def as_settings(text: str) -> Settings:
    head = "" if re.search(r"^trust_domain:", text, re.MULTILINE) else "trust_domain: acme.example\n"
    return parse_settings(head + text, "/srv/gate")


@pytest.mark.parametrize(("page", "text"), [one for one in snippets() if not one[1].startswith(("cases:", "plan:"))])
def test_a_page_shows_no_mistaken_configuration(page: str, text: str) -> None:
    assert as_settings(text).trust_domain


def test_pages_do_show_configuration() -> None:
    assert len(snippets()) >= 3


@pytest.mark.parametrize("page", CONTROLS, ids=name)
def test_the_page_of_a_control_says_what_it_assumes_and_which_threats_it_answers(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    front = FRONT.match(text)
    assert front
    facts = yaml.safe_load(front[1])
    assert facts["assumes"] == "havoc"
    assert len(set(facts["threats"])) == len(facts["threats"]) >= 1
    assert set(facts["threats"]) <= THREATS
    answers = re.search(r"^Answers: (.*?)\n\n", text, re.DOTALL | re.MULTILINE)
    assert answers
    assert set(re.findall(r"R[A-Z]{2,3}_\d+", answers[1])) == set(facts["threats"])


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_the_policy_that_is_shown_decides_as_its_table_says() -> None:
    page = ROOT / "docs" / "how-to" / "write-a-policy.md"
    (configured,) = (text for name_, text in snippets() if name_ == name(page) and "budgets:" in text)
    settings = as_settings(configured)
    world = build_world(
        [
            AgentFacts(id=AgentId(settings.trust_domain, one.name), roles=one.roles, attributes=one.attributes)
            for one in settings.agents.values()
        ],
        settings.servers,
        [
            ToolFacts(server=server.name, name=tool, manifest=manifest)
            for server in settings.servers.values()
            for tool, manifest in server.tools.items()
        ],
    )
    policies = parse_policies([Source(name(page), text) for text in blocks(page, "cedar")])
    assert check_policies(policies, world) == ()
    (table,) = (text for text in blocks(page, "yaml") if text.startswith("cases:"))
    outcomes = run_tables(
        [parse_table(name(page), yaml.safe_load(table))], compile_policies(policies, world.entities), world
    )
    assert [outcome.got for outcome in outcomes if not outcome.passed] == []
    assert len(outcomes) == 2


def test_every_page_of_a_folder_is_reached_from_the_first_page() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for page in PAGES:
        index = page.with_name("README.md")
        near = (
            index.is_file() and f"({name(index)})" in readme and f"({page.name})" in index.read_text(encoding="utf-8")
        )
        assert near or f"({name(page)})" in readme, name(page)


def test_every_decision_is_listed() -> None:
    index = (ROOT / "docs" / "adr" / "README.md").read_text(encoding="utf-8")
    decisions = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))
    assert len(decisions) > 3
    for decision in decisions:
        assert f"({decision.name})" in index, decision.name
