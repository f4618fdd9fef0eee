"""The operator's own texts as people have them: what means nothing here is a mistake, with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from citywatch.config import Settings, parse_settings
from citywatch.core.enforce.rules import build_rules
from citywatch.core.errors import Malformed
from citywatch.main.assembly import configured
from citywatch.main.texts import read_boilerplate, read_policies

PLAIN = "trust_domain: acme.example\nservers: {a: {url: http://127.0.0.1:1/mcp}}\n"
PEOPLE = 'principals: {alice: {may: ["a/*"]}}\n'
ASKING = '@id("no-worm")\nforbid (principal, action in Action::"call_tool", resource) when { context.spread >= 4 };\n'


def settings(folder: Path, more: str = "", policy: str = ASKING) -> Settings:
    (folder / "policies").mkdir(exist_ok=True)
    (folder / "policies" / "p.cedar").write_text("// one\n" + policy)
    return parse_settings(PLAIN + more, folder)


@pytest.mark.parametrize("asked", ["context.spread", "context . spread", 'context["spread"]', "context has spread"])
def test_how_far_a_text_spread_is_known_only_where_contexts_are(tmp_path: Path, asked: str) -> None:
    """Or the policy would be there and forbid nothing."""
    policy = f'@id("no-worm")\nforbid (principal, action, resource) when {{ ({asked}) == ({asked}) }};\n'
    with pytest.raises(Malformed, match=r"p\.cedar:2: no-worm: .* only where `principals` are declared"):
        read_policies(settings(tmp_path, policy=policy))
    assert len(read_policies(settings(tmp_path, PEOPLE, policy))) == 1


def test_a_tool_of_that_name_asks_for_nothing(tmp_path: Path) -> None:
    policy = 'permit (principal, action == Action::"a/spread", resource) when { context.args has spread };\n'
    assert len(read_policies(settings(tmp_path, policy=policy))) == 1


def test_boilerplate_is_every_text_of_the_folder_and_stands_in_the_digest(tmp_path: Path) -> None:
    none = configured(settings(tmp_path, PEOPLE))
    folder = tmp_path / "forms"
    folder.mkdir()
    (folder / "b.txt").write_text("This message is confidential.")
    (folder / "a.txt").write_text("Thank you for your order.")
    (folder / "readme.md").write_text("no text of ours")
    here = settings(tmp_path, PEOPLE + "boilerplate: forms\n")
    assert read_boilerplate(here) == ("Thank you for your order.", "This message is confidential.")
    first = configured(here).digest
    (folder / "b.txt").write_text("This message is public.")
    assert len({none.digest, first, configured(here).digest}) == 3
    assert configured(here).boilerplate == read_boilerplate(here)


@pytest.mark.parametrize("make", ["nothing", "empty", "binary"])
def test_a_folder_that_holds_no_text_is_a_mistake(tmp_path: Path, make: str) -> None:
    folder = tmp_path / "forms"
    if make != "nothing":
        folder.mkdir()
    if make == "binary":
        (folder / "a.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(Malformed, match="forms"):
        read_boilerplate(settings(tmp_path, PEOPLE + "boilerplate: forms\n"))


PEER = """agents: {clerk: {}}
peers:
  billing:
    {url: "http://127.0.0.1:9/a2a", callers: [clerk], free_text: false, messages: {refund: {schema: refund.json}}}
"""


def test_the_schemas_of_messages_stand_in_the_digest(tmp_path: Path) -> None:
    file = tmp_path / "refund.json"
    file.write_text('{"type": "integer"}')
    here = settings(tmp_path, PEER)
    first = configured(here)
    assert first.messages == {"billing": {"refund": {"type": "integer"}}}
    assert not first.peers["billing"].free_text
    assert build_rules(first, {}, ()).messages["billing"]["refund"].misfit("5") == "`$` is no integer"
    file.write_text('{"type": "boolean"}')
    assert configured(here).digest != first.digest
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (moved / "refund.json").write_text('{"type":   "integer"}')
    assert configured(settings(moved, PEER)).digest == first.digest, "where the file is says nothing"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "cannot be read"),
        ("{", "cannot be read"),
        ('{"type": "integer", "type": "string"}', "cannot be read"),
    ],
)
def test_a_schema_that_cannot_be_read_is_a_mistake_with_its_place(tmp_path: Path, text: str | None, told: str) -> None:
    if text is not None:
        (tmp_path / "refund.json").write_text(text)
    with pytest.raises(Malformed, match=rf"peers\.billing\.messages\.refund: .*{told}"):
        configured(settings(tmp_path, PEER))


def test_a_schema_that_is_open_is_a_mistake_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "refund.json").write_text('{"type": "string"}')
    with pytest.raises(Malformed, match=r"peers\.billing\.messages\.refund: `#`: a string without a `maxLength`"):
        build_rules(configured(settings(tmp_path, PEER)), {}, ())
