"""Whoever follows the first page or the tutorial, command by command, sees what is written there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.session import Session, Step, matches, steps

ROOT = Path(__file__).parents[2]
PORTS = (8460, 8470, 8480, 9001)


def tour(page: str) -> list[Step]:
    """The steps of a page, without the verbs of the Makefile: those have tests of their own."""
    return [step for step in steps((ROOT / page).read_text(encoding="utf-8")) if not step.command.startswith("make ")]


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial/first-gateway.md"])
def test_a_tour_goes_as_it_is_written(page: str, tmp_path: Path) -> None:
    found = tour(page)
    assert len(found) > 8
    (tmp_path / "spec").symlink_to(ROOT / "spec")
    with Session(tmp_path, PORTS) as session:
        for step in found:
            session.run(step)


def test_the_terminal_sees_a_difference() -> None:
    shown = ["one", "…", "two …", "three"]
    assert matches(shown, ["one", "two x", "three"])
    assert matches(shown, ["one", "more", "and more", "two x", "three"])
    assert not matches(shown, ["one", "two x", "three", "four"])
    assert not matches(shown, ["one", "more", "three"])
    assert not matches(["1.2"], ["1x2"])


def test_a_page_says_how_a_command_ends(tmp_path: Path) -> None:
    page = "```console\n$ echo no; false  # it fails: exit code 1\nno\n$ echo yes  # as it should\nyes\n```\n"
    failing, working = steps(page)
    assert (failing, working) == (Step("echo no; false", ["no"], 1), Step("echo yes", ["yes"], 0))
    with Session(tmp_path, ()) as session:
        session.run(failing)
        session.run(working)
        for wrong in (failing._replace(code=0), working._replace(code=1)):
            with pytest.raises(AssertionError):
                session.run(wrong)


def test_a_command_that_fails_unseen_ends_the_tour(tmp_path: Path) -> None:
    with Session(tmp_path, ()) as session, pytest.raises(AssertionError):
        session.run(Step("false", []))
    with Session(tmp_path, ()) as session, pytest.raises(AssertionError):
        session.run(Step("echo one", ["two"]))
    with Session(tmp_path, ()) as session, pytest.raises(AssertionError):
        session.run(Step("echo one &", ["two"]))
