"""`make mutants` tells a test that notices from one that does not, and from one that could not run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tools import mutants
from tools.mutants import Mutant, Unusable

SOURCE = '"""Doors."""\n\n\ndef may_enter(name):\n    if name == "mallory":\n        return False\n    return True\n'
TESTS = """
from tiny import may_enter

def test_mallory_stays_out():
    assert not may_enter("mallory")

def test_alice_enters():
    assert may_enter("alice")

def test_fails_anyway():
    assert not may_enter("alice")
"""
LINE = 'if name == "mallory"'
NOTICES = "tests/test_tiny.py::test_mallory_stays_out"
SLEEPS = "tests/test_tiny.py::test_alice_enters"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "src" / "tiny").mkdir(parents=True)
    (tree / "src" / "tiny" / "__init__.py").write_text(SOURCE)
    (tree / "tests").mkdir()
    (tree / "tests" / "test_tiny.py").write_text(TESTS)
    (tree / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    return tree


def mutant(**changed: str) -> Mutant:
    fields = {
        "name": "the door",
        "file": "src/tiny/__init__.py",
        "find": LINE,
        "replace": "if False",
        "test": NOTICES,
    } | changed
    return Mutant(invariant=1, **fields)


def listed(tree: Path, *given: Mutant, invariants: str = '1 = "x"', later: str = "") -> list[Mutant]:
    path = tree / "mutants.toml"
    text = f"[invariants]\n{invariants}\n[later]\n{later}\n"
    for one in given:
        text += "[[mutant]]\n" + "".join(f"{key} = {value!r}\n" for key, value in vars(one).items())
    path.write_text(text)
    return mutants.read_list(path, tree)


def test_only_a_mutant_that_its_test_notices_is_killed(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    three = [mutant(), mutant(name="unwatched", test=SLEEPS), mutant(name="unimportable", replace="if (")]
    assert mutants.run_all(tree, listed(tree, *three), jobs=1) == 2
    printed = capsys.readouterr().out
    assert "the door: killed" in printed
    assert "unwatched: SURVIVED" in printed
    assert "unimportable: NO VERDICT" in printed
    assert (tree / "src" / "tiny" / "__init__.py").read_text() == SOURCE


def test_a_test_that_fails_before_anything_is_removed_proves_nothing(tree: Path) -> None:
    assert mutants.run_all(tree, [mutant(test="tests/test_tiny.py::test_fails_anyway")], jobs=1) == 1


@pytest.mark.parametrize("find", ["if name == 'eve'", "return"])
def test_a_text_that_is_absent_or_ambiguous_is_refused(find: str, tree: Path) -> None:
    with pytest.raises(Unusable, match="times in"):
        listed(tree, mutant(find=find))


@pytest.mark.parametrize("test", ["tests/test_tiny.py", "tests/test_gone.py::test_x", "-k mallory"])
def test_a_test_that_is_not_an_id_is_refused(test: str, tree: Path) -> None:
    with pytest.raises(Unusable, match="is not a test's id"):
        listed(tree, mutant(test=test))


def test_a_mutant_that_changes_nothing_is_refused(tree: Path) -> None:
    with pytest.raises(Unusable, match="nothing is changed"):
        listed(tree, mutant(replace=LINE))


def test_an_empty_list_and_a_name_listed_twice_are_refused(tree: Path) -> None:
    with pytest.raises(Unusable, match="no mutant"):
        listed(tree)
    with pytest.raises(Unusable, match="listed twice"):
        listed(tree, mutant(), mutant())


def test_an_invariant_without_a_mutant_is_refused_unless_it_is_later(tree: Path) -> None:
    with pytest.raises(Unusable, match="invariant 2 has no mutant"):
        listed(tree, mutant(), invariants='1 = "x"\n2 = "y"')
    assert listed(tree, mutant(), invariants='1 = "x"\n2 = "y"', later='2 = "not built"')
    with pytest.raises(Unusable, match="still listed as later"):
        listed(tree, mutant(), later='1 = "not built"')


def test_the_projects_own_list_can_be_read() -> None:
    """A head that is lost when two branches meet makes one mutant of two, or a list that no run would begin with."""
    root = Path(__file__).parents[2]
    found = mutants.read_list(root / "tools" / "mutants.toml", root)
    assert len(found) == (root / "tools" / "mutants.toml").read_text().count("\nname = ")


def test_a_test_that_was_renamed_is_missed_before_any_run(tree: Path) -> None:
    file = "src/tiny/__init__.py"
    here = Mutant(name="x", invariant=1, file=file, find=LINE, replace="if False", test=f"{NOTICES}[eve]")
    gone = dataclasses.replace(here, test="tests/test_tiny.py::test_mallory_stays_away")
    assert list(mutants._misfits(gone, tree)) == ["`x`: `tests/test_tiny.py` has no test `test_mallory_stays_away`"]
    assert not list(mutants._misfits(here, tree))
