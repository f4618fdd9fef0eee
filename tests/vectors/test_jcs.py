"""RFC 8785: the authors' vectors, and the numbers of its appendix B."""

import json
import struct
from pathlib import Path

import pytest

from citywatch.core.canonical import canonical
from citywatch.core.errors import Malformed

FOLDER = Path(__file__).parents[2] / "spec/vectors/third_party/jcs"
CASES = sorted(path.stem for path in (FOLDER / "input").glob("*.json"))


def test_there_are_vectors() -> None:
    assert len(CASES) >= 6


@pytest.mark.parametrize("case", CASES)
def test_the_authors_vectors(case: str) -> None:
    written = canonical(json.loads((FOLDER / "input" / f"{case}.json").read_bytes()))
    assert written == bytes.fromhex((FOLDER / "outhex" / f"{case}.txt").read_text())
    assert written == (FOLDER / "output" / f"{case}.json").read_bytes()


NUMBERS = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555554": "333333333.33333325",
    "41b3de4355555555": "333333333.3333333",
    "41b3de4355555556": "333333333.3333334",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}


@pytest.mark.parametrize("bits", NUMBERS)
def test_the_numbers_of_appendix_b(bits: str) -> None:
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical(number) == NUMBERS[bits].encode()


@pytest.mark.parametrize("bits", ["7fffffffffffffff", "7ff0000000000000", "fff0000000000000"])
def test_what_appendix_b_gives_no_form_is_refused(bits: str) -> None:
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    with pytest.raises(Malformed):
        canonical([number])
