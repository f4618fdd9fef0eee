"""The file of temporal rules as people have it: its mistakes, and what names it in the log."""

from __future__ import annotations

from pathlib import Path

import pytest

from citywatch.config import parse_settings
from citywatch.core.enforce.rules import Configured
from citywatch.core.errors import Malformed
from citywatch.main.assembly import configured

PLAIN = 'forbid r per agent when tool is "a/b";\n'
ASKING = 'ask later per agent when tool is "a/b" and once within 1h origin is "outside:*";\n'


def settings(folder: Path, rules: str, more: str = "") -> Configured:
    (folder / "past.rules").write_text(rules)
    text = "trust_domain: acme.example\ntemporal_rules: past.rules\nservers: {a: {url: http://127.0.0.1:1/mcp}}\n"
    return configured(parse_settings(text + more, folder))


def test_mistakes_are_told_with_file_line_and_column(tmp_path: Path) -> None:
    rules = 'forbid one per agent when tool is "a/b";\nforbid two per nobody when tool is "a/b";\nask three;\n'
    with pytest.raises(Malformed) as wrong:
        settings(tmp_path, rules)
    first, second = str(wrong.value).splitlines()
    assert first.startswith("past.rules: line 2, column 16: `nobody` is none of agent")
    assert second.startswith("past.rules: line 3, column 10: ")


@pytest.mark.parametrize("text", ["", "# nothing\n"])
def test_a_file_without_a_rule_protects_nothing_and_fails(tmp_path: Path, text: str) -> None:
    with pytest.raises(Malformed, match="there is no rule"):
        settings(tmp_path, text)


def test_a_file_that_is_not_there_fails(tmp_path: Path) -> None:
    text = "trust_domain: acme.example\ntemporal_rules: none.rules\n"
    with pytest.raises(Malformed, match="cannot be read"):
        configured(parse_settings(text, tmp_path))


def test_what_only_contexts_tell_needs_principals(tmp_path: Path) -> None:
    with pytest.raises(Malformed, match="`later`: origins, tasks and principals are known"):
        settings(tmp_path, PLAIN + ASKING)
    assert settings(tmp_path, PLAIN + ASKING, 'principals: {alice: {may: ["a/*"]}}\n')


def test_the_rules_stand_in_the_digest_of_what_decisions_rest_on(tmp_path: Path) -> None:
    none = configured(parse_settings("trust_domain: acme.example\n", tmp_path)).digest
    one = settings(tmp_path, PLAIN)
    same = settings(tmp_path, f"# why\n{PLAIN}")
    other = settings(tmp_path, PLAIN.replace("a/b", "a/c"))
    digests = [none, *(each.digest for each in (one, same, other))]
    assert digests[1] == digests[2]
    assert len(set(digests)) == 3
