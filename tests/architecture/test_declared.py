"""What is imported is declared, and what is declared is imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import declared

PROJECT = '[project]\ndependencies = ["one>=1", "Two_Words"]\n[project.optional-dependencies]\nfast = ["extra"]\n'
USES = "import one.part\nfrom two import words\nimport os\nfrom citywatch.core import names\nfrom . import x\n"
OWNERS = {"two": ["two-words"]}


def findings(
    tmp_path: Path, source: str, path: str = "src/citywatch/x.py", beside: str = "import extra\n"
) -> list[str]:
    project = tmp_path / "pyproject.toml"
    project.write_text(PROJECT)
    return [found.text for found in declared.check({Path(path): source}, project, OWNERS, [beside])]


def test_what_is_declared_may_be_imported(tmp_path: Path) -> None:
    assert findings(tmp_path, USES) == []


@pytest.mark.parametrize(
    "source", ["import three\n", "def f():\n    from three.part import x\n", "y = importlib.import_module('three.x')\n"]
)
def test_an_import_that_is_not_declared_is_found(source: str, tmp_path: Path) -> None:
    assert findings(tmp_path, USES + source) == ["`three` is imported and not declared"]


def test_an_extra_is_imported_only_where_it_is_used(tmp_path: Path) -> None:
    assert findings(tmp_path, USES + "def f():\n    import extra\n") == []
    assert findings(tmp_path, USES + "import extra\n", "src/citywatch/starter/x.py") == []
    assert findings(tmp_path, USES + "import extra\n") == ["`extra` is an extra: import it where it is used"]


def test_a_dependency_that_nothing_imports_is_found(tmp_path: Path) -> None:
    assert findings(tmp_path, "import one\n") == ["`two-words` is declared and never imported"]


def test_an_extra_that_nothing_imports_is_found(tmp_path: Path) -> None:
    assert findings(tmp_path, USES, beside="import one\n") == ["`extra` is declared and never imported"]
