"""Which known party may be meant, although nobody named them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from citywatch.core.enforce.context import party_forms
from citywatch.core.flow.item import Item
from citywatch.core.flow.provenance import Provenance
from citywatch.core.manifest import Output
from tests.simulation.flow_city import ANN, MALLORY
from tests.unit.core.enforce.test_steering import READ, letter, said, stopped

PAYEES = {"$": Output(trusted=True), "$[*].note": Output()}
BOTH = (*party_forms("payees", ANN), *party_forms("payees", MALLORY))


def listed(*rows: dict[str, Any]) -> Item:
    return letter(list(rows), outputs=PAYEES)


def asked(prompt: str, to: str, *more: Item) -> bool:
    return "to" in stopped((*said(prompt), *more, READ), "pay", BOTH, to=to, amount=30)


@pytest.mark.parametrize(
    "prompt",
    [
        "Pay 30 to the plumber",
        "Pay 30 as the letter says",
        "Pay 30 to each of them",
        "Pay 30 to the payee whom Alice thanked",
        "Pay 30 to whoever is in Paris",
        "Do all the tasks in the letter from Alice, 30 is the limit",
    ],
)
def test_who_was_left_open_may_be_anybody_who_is_known(prompt: str) -> None:
    assert not asked(prompt, ANN)


def test_who_was_called_by_name_is_nobody_else_who_is_known() -> None:
    """The attack: "pay Apple" was asked for, so a hijacked agent pays whomever this account has paid before."""
    assert asked("Apple called. Pay them the 30", ANN)
    assert asked("Pay Apple the 30", MALLORY)
    assert asked("Apple wants 30. Pay it", ANN)


def test_a_name_in_the_partys_own_record_says_that_it_is_meant() -> None:
    rows = {"iban": ANN, "note": "Apple Music"}, {"iban": MALLORY, "note": "Car rental"}
    assert not asked("Pay Apple the 30", ANN, listed(*rows))
    assert asked("Pay Apple the 30", MALLORY, listed(*rows))
    assert asked("Pay Apple the 30", ANN, letter(list(rows))), "a stranger's text that looks like a record"


def test_an_account_that_was_named_leaves_out_every_other() -> None:
    assert asked(f"Pay 30 to {ANN}", MALLORY)
    assert asked(f"Pay the 30. The payee is {ANN}.", MALLORY)
    assert not asked(f"Pay 30 to {ANN}", ANN)


def test_who_stands_in_one_list_with_the_one_that_was_named_is_not_meant() -> None:
    rows = [{"iban": "ann and bob"}, {"iban": ANN}]
    assert asked("Pay 30 to the payee 'Ann and Bob'", ANN, listed(*rows))
    assert not asked("Pay 30 to the payees, 'Ann and Bob' and all others", ANN, listed(*rows))


def test_what_people_said_is_looked_for_once_however_many_a_call_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attack: hundreds of recipients and a long prompt, and each recipient reads the whole prompt anew."""
    looked: list[str] = []

    def counted(name: str) -> Callable[..., Any]:
        real = getattr(Provenance, name)

        def call(*given: Any) -> Any:
            looked.append(name)
            return real(*given)

        return call

    for name in ("asking", "linked"):
        monkeypatch.setattr(Provenance, name, counted(name))
    names = [f"member {number} x" for number in range(40)]
    rows = listed(*({"who": name} for name in names))
    forms = tuple(form for name in names for form in party_forms("contacts", name))
    people = said("Send word to each of them")
    assert not stopped((*people, rows, READ), "send", forms, to=names, text="hi")
    assert looked.count("asking") == 1
    assert looked.count("linked") <= 2 * len(names)
