"""What an answer at a command line takes, to one ticket or to several: who gives it, and how it is signed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from citywatch.main.place import Place
from citywatch.main.ticket_keys import signed_with

if TYPE_CHECKING:
    from citywatch.core.approvals.statement import Signable
    from citywatch.core.approvals.ticket import Ticket
    from citywatch.service.signatures import Proof
    from citywatch.service.voting import Voting

KEY = click.Path(exists=True, dir_okay=False, path_type=Path)
reason_option = click.option("--reason", required=True, help="Why; it stands in the log.")
principal_option = click.option("--as", "principal", default="", help="In whose name: a name under `principals:`.")
by_option = click.option("--by", default="", help="Who answers: a name under `people:`.")
key_option = click.option("--key", type=KEY, help="Sign with this key (PEM, in a folder of mode 0700).")
signature_option = click.option("--signature", default="", help="What `tickets sign` printed for this very answer.")
print_option = click.option("--print", "shown", is_flag=True, help="Print what is to be signed, and answer nothing.")


class Signing:
    """How an answer is to be signed, as it was typed."""

    def __init__(self, by: str, key: Path | None, signature: str, shown: bool) -> None:
        self.by = by
        self.key = key
        self.signature = signature
        self.shown = shown
        """Whether nothing is signed yet: what is to be is printed."""

    @property
    def is_given(self) -> bool:
        return bool(self.by or self.key or self.signature or self.shown)

    def check(self, place: Place) -> None:
        """A usage error unless somebody answers, in one way that counts."""
        if not self.by:
            raise click.UsageError("--by: say who answers, by a name under `people:`")
        if [self.key is not None, bool(self.signature), self.shown].count(True) > 1:
            raise click.UsageError("give one of --key, --signature and --print")
        if not (self.key or self.signature or self.shown or place.settings.approvals.unsafe_unsigned):
            raise click.UsageError("an answer is signed: give --key; or sign elsewhere, with --print and --signature")

    def proof(self, said: Signable) -> Proof:
        from citywatch.core.approvals.statement import statement_bytes
        from citywatch.service.signatures import Signature, Unsigned

        if self.key is not None:
            return Signature(signed_with(self.key, statement_bytes(said)))
        return Signature(self.signature) if self.signature else Unsigned()


def check_principal(place: Place, principal: str) -> None:
    if principal and principal not in place.settings.principals:
        raise click.UsageError(f"--as: there is no principal `{principal}` in {place.file}")


def outcome(voting: Voting, after: Ticket) -> str:
    """What became of a ticket by somebody's answer, as a line."""
    from citywatch.service.voting import MADE_UP

    waits = f" (one of {voting.quorum(after).need} answers; it still waits)" if after.state.value == "pending" else ""
    if after.done and after.done[-1].what.startswith(MADE_UP):
        waits = f"; {after.done[-1].what}"
    return f"{after.id} {after.state.value}{waits}"
