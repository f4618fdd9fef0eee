"""The house's words and sizes: each rule of `tools/house.py` refuses what it names, and lets honest code through."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import findings, house

INNER = Path("src/citywatch/core/x.py")
OUTER = Path("src/citywatch/adapters/x.py")
SAID = '"""What it decides."""\n'
TRY = SAID + "try:\n    x = 1\nexcept {}:\n    pass\n"


@pytest.mark.parametrize(
    "name",
    [
        "KeyManager", "manage_helper", "utils", "PolicyEngine", "HTTPEngine", "BaseStore", "StoreImpl", "enhanced",
        "SmartQueue", "verify_v2", "VerifierV2",
    ],
)  # fmt: skip
def test_a_refused_word_is_found_in_a_class_a_function_and_a_module(name: str) -> None:
    for source in (f"class {name}: ...", f"def {name}(): ...", f"async def {name}(): ..."):
        assert house.check(SAID + source, OUTER)
    assert house.check(SAID, Path(f"src/citywatch/adapters/{name}.py"))


@pytest.mark.parametrize("name", ["Store", "base64url", "decode_base64", "database", "verify_v20", "utility", "simple"])
def test_a_word_that_only_contains_one_passes(name: str) -> None:
    assert house.check(SAID + f"def {name}(): ...", OUTER) == []


@pytest.mark.parametrize("kind", ["Exception", "BaseException", "(ValueError, Exception)", "builtins.Exception"])
def test_a_broad_except_is_refused_in_the_inner_rings(kind: str) -> None:
    assert house.check(TRY.format(kind), INNER)
    assert house.check(TRY.format(kind), Path("src/citywatch/service/x.py"))


def test_a_bare_except_and_a_broad_suppress_are_refused_in_the_inner_rings() -> None:
    assert house.check(TRY.replace(" {}", ""), INNER)
    assert house.check(SAID + "with contextlib.suppress(Exception):\n    pass\n", INNER)


def test_a_named_except_passes_and_an_adapter_may_end_in_a_broad_one() -> None:
    assert house.check(TRY.format("ValueError"), INNER) == []
    assert house.check(TRY.format("Exception"), OUTER) == []


def test_a_handler_that_lets_everything_go_but_a_native_panic_passes() -> None:
    panics = (
        SAID
        + "try:\n    x = 1\nexcept BaseException as e:\n    if type(e).__name__ != 'PanicException':\n        raise\n"
    )
    assert house.check(panics, INNER) == []
    assert house.check(panics.replace("!=", "=="), INNER)
    assert house.check(panics.replace("raise", "pass"), INNER)
    assert house.check(panics.replace("    if", "    x = 2\n    if"), INNER)


def test_a_folder_above_the_checkout_named_core_is_not_the_core() -> None:
    assert house.check(TRY.format("Exception"), Path("/home/core") / OUTER) == []


def test_a_module_that_does_not_say_what_it_decides_is_refused() -> None:
    assert house.check("x = 1\n", OUTER)
    assert house.check("", OUTER) == []


def test_a_file_above_400_lines_says_why_it_is_one_thing() -> None:
    long = "x = 1\n" * (house.LONGEST + 1)
    assert house.check(SAID + long, OUTER)
    assert house.check('"""It is one thing because it is one\ntable."""\n' + long, OUTER) == []


def test_a_rule_that_looked_at_nothing_has_failed() -> None:
    assert findings.report("nothing", 0, []) == 1
    assert findings.report("something", 1, []) == 0
    assert findings.report("something", 1, [findings.Finding(INNER, 1, "x")]) == 1


def test_the_house_keeps_its_rules() -> None:
    assert house.main() == 0
