"""The reference is complete: each key and each code has its place, nothing there is about something that is gone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from citywatch.config import KEYS, Limits, Settings, parse_settings
from citywatch.core.errors import Code
from citywatch.core.manifest import ParameterType

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def read(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def rows() -> dict[str, tuple[str, str]]:
    found = re.findall(r"^\| `([^`]+)` \| (.*?) \| (.*?) ?\|$", read("configuration.md"), re.MULTILINE)
    return {key: (value, default) for key, value, default in found}


def test_every_key_of_the_file_has_a_row_and_every_row_a_key() -> None:
    keys = {f"{shape}.{key}".lstrip(".") for shape, known in KEYS.items() for key in known}
    assert len(rows()) == len(re.findall(r"^\| `", read("configuration.md"), re.MULTILINE))
    assert set(rows()) == keys


def test_the_documented_defaults_of_the_limits_are_the_defaults() -> None:
    text = "".join(
        f"  {key.partition('.')[2]}: {row[1].strip('`')}\n" for key, row in rows().items() if "limits." in key
    )
    assert parse_settings(f"trust_domain: a\nlimits:\n{text}", "/").limits == Limits()


def test_the_documented_defaults_of_the_first_level_are_the_defaults() -> None:
    documented: dict[str, str] = {key: rows()[key][1].strip("`") for key in ("listen", "names", "state", "policies")}
    text = (
        "".join(f"{key}: {value}\n" for key, value in documented.items())
        .replace("[http", "['http")
        .replace("0]", "0']")
    )
    written: Settings = parse_settings("trust_domain: a\n" + text, "/srv")
    assert written == parse_settings("trust_domain: a\n", "/srv")


@pytest.mark.parametrize("kind", ParameterType)
def test_every_type_of_a_parameter_is_named(kind: ParameterType) -> None:
    assert f"`{kind.value}`" in rows()["servers.*.tools.*.parameters.*.type"][0]


def sections() -> dict[str, str]:
    parts = re.split(r"^### `([a-z_]+)`\n", read("codes.md"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_code_has_a_section_in_the_order_of_the_list() -> None:
    assert list(sections()) == [code.value for code in Code]


@pytest.mark.parametrize("code", Code)
def test_a_section_says_what_it_means_and_who_can_fix_it(code: Code) -> None:
    text = " ".join(sections()[code.value].split())
    meaning, _, fix = text.partition("*Who can fix it:*")
    assert len(meaning.split()) >= 8
    assert re.search(r"operator|agent|author|server", fix)
