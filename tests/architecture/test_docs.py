"""The documentation's checks find a page that went wrong, and pass one that did not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click
import pytest

from tools import docs, markdown

README = """# Title

```console
$ make demo
what it prints
```

```console
$ make test
```

See [the rest](docs/page.md#a-heading-of-its-own), [above](#title) and [elsewhere](https://example.org/x).
`[not](a-link.md)`
"""
PAGE = "# Page\n\n## A heading, of its *own*!\n\n[back](../README.md)\n\n```md\n[code](gone.md)\n```\n"


@click.group()
@click.option("--config", type=str)
def cli() -> None:
    """What it is for."""


@cli.command()
@click.argument("name")
@click.option("--days", type=int)
@click.option("--loud", is_flag=True)
def add(name: str, days: int, loud: bool) -> None:
    """Add one."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "docs" / "reference").mkdir(parents=True)
    (tmp_path / "README.md").write_text(README)
    (tmp_path / "docs" / "page.md").write_text(PAGE)
    (tmp_path / "Makefile").write_text("help:\ndemo: x\ntest:\n")
    (tmp_path / "tool.py").write_text("")
    return tmp_path


def test_links_that_lead_somewhere_pass(root: Path) -> None:
    assert docs.broken_links(root) == (3, [])


@pytest.mark.parametrize("target", ["gone.md", "#gone", "docs/page.md#gone", "docs/../gone.png"])
def test_a_link_that_leads_nowhere_is_found(target: str, root: Path) -> None:
    (root / "README.md").write_text(README + f"\n[x]({target})\n")
    _, (found,) = docs.broken_links(root)
    assert target in found.text


@pytest.mark.parametrize(
    "command",
    [
        "make demo", "make test ARGS=-x", "citywatch add billing --days 3 --loud", "citywatch --config x.yaml add b",
        ".venv/bin/citywatch add --days=3 b", "CI=1 citywatch add b | head -n 1", "python3 tool.py",
        "python -m json.tool", "curl -s localhost", "citywatch add -- --odd",
    ],
)  # fmt: skip
def test_a_command_that_exists_passes(command: str, root: Path) -> None:
    assert list(docs.misuse(command, root, cli)) == []


@pytest.mark.parametrize(
    "command",
    [
        "make coffee", "make demo && make coffee", "citywatch remove billing", "citywatch add billing --quiet",
        ".venv/bin/citywatch --verbose add b", "true; citywatch remove b", "python3 gone.py", "python -m gone_module",
        ".venv/bin/python -I gone.py",
    ],
)  # fmt: skip
def test_a_command_that_does_not_exist_is_found(command: str, root: Path) -> None:
    assert len(list(docs.misuse(command, root, cli))) == 1


def test_commands_are_found_in_console_blocks_of_any_page(root: Path) -> None:
    (root / "docs" / "page.md").write_text(PAGE + "```console\n$ make coffee\n```\n```sh\n$ make tea\n```\n")
    count, (found,) = docs.wrong_commands(root, cli)
    assert (count, found.text) == (3, "`make` has no verb `coffee`")


def test_the_readme_opens_with_the_two_commands(root: Path) -> None:
    (root / "README.md").write_text(README.replace("make test", "make help"))
    _, (found,) = docs.wrong_commands(root, cli)
    assert "make test" in found.text


def test_every_code_has_a_section_and_every_section_a_code(root: Path) -> None:
    page = root / docs.CODES
    page.write_text("# Codes\n\n## `one`\n\nWhat it means.\n\n## `two`\n\n## `three`\n\nText.\n")
    count, found = docs.wrong_codes(root, {"one", "two", "four"})
    assert count == 3
    assert sorted(one.text for one in found) == ["`four` has no section", "`three` is no code", "`two` says nothing"]


def test_the_command_lines_page_is_what_help_says(root: Path) -> None:
    assert docs.stale_cli(root, cli)[1]
    (root / docs.CLI).write_text(docs.cli_page(cli))
    assert docs.stale_cli(root, cli) == (1, [])
    (root / docs.CLI).write_text(docs.cli_page(cli).replace("Add one.", "Add two."))
    assert docs.stale_cli(root, cli)[1]


def test_a_generated_page_is_what_the_code_says(root: Path) -> None:
    page = Path("docs/reference/page.md")
    assert docs.stale_files(root, {page: "today\n"})[1]
    (root / page).write_text("today\n")
    assert docs.stale_files(root, {page: "today\n"}) == (1, [])
    assert docs.stale_files(root, {page: "tomorrow\n"})[1]


def test_the_page_of_the_api_has_a_row_for_each_thing_of_its_document() -> None:
    files = docs.api_files()
    page, document = files[docs.API], json.loads(files[docs.API.with_suffix(".json")])
    rows = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    for schema in document["components"]["schemas"].values():
        assert schema.get("properties", {}).keys() <= rows
    for path, methods in document["paths"].items():
        assert all(f"## `{method.upper()} {path}`" in page for method in methods)
    for name, kind in document["x-problems"].items():
        assert f"| {kind['status']} | `{name}` |" in page


def test_a_command_goes_on_after_a_backslash() -> None:
    _, (block,) = markdown.split("```console\n$ citywatch add \\\n>   billing\nout\n$ make demo\n```\n")
    assert [line.text for line in block.commands()] == ["citywatch add billing", "make demo"]


def test_headings_that_read_the_same_get_numbered_anchors() -> None:
    assert markdown.anchors(markdown.split("# A b\n## A b\n## `c` & d\n")[0]) == {"a-b", "a-b-1", "c--d"}
