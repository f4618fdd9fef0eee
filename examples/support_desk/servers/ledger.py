"""The payments ledger: what customers paid in, and the one tool that pays out.

INVARIANT: an account's balance is what its bookings add up to; a transfer writes both or neither. Money is stored as
an integer count of cents and spoken of as text with two decimals.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from examples.support_desk.servers.serving import database, serve

Order = Annotated[str, Field(pattern=r"^O-[0-9]{5}$", description="The number of the order, such as O-20417")]
Account = Annotated[
    str, Field(pattern=r"^[A-Z]{2}[0-9]{2}[A-Z0-9]{8,30}$", description="The account (IBAN) that receives the money")
]
Amount = Annotated[str, Field(pattern=r"^[0-9]{1,9}\.[0-9]{2}$", description="How much, in euros, such as 12.50")]
Reference = Annotated[str, Field(max_length=140, description="The reference that the receiver reads")]


@dataclass(frozen=True)
class Balance:
    account: str
    balance: str


@dataclass(frozen=True)
class Payee:
    name: str
    account: str


@dataclass(frozen=True)
class Payment:
    payment_id: str
    order: str
    customer_id: str
    amount: str
    paid_on: str


@dataclass(frozen=True)
class Transfer:
    transfer_id: str
    to: str
    amount: str
    reference: str


def euros(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


def build(data: Path) -> MCPServer:
    """The server over `ledger.sqlite` of the folder given."""
    server = MCPServer("ledger", instructions="The payments ledger of Northwind Kitchen.", log_level="ERROR")
    path = data / "ledger.sqlite"

    @server.tool()
    def balance() -> Balance:
        """Tell what is on the company's account."""
        with database(path) as db:
            company = _company(db)
            return Balance(account=company, balance=euros(_balance(db, company)))

    @server.tool()
    def list_payees() -> list[Payee]:
        """List the payees on file with their accounts."""
        with database(path) as db:
            rows = db.execute("SELECT owner, iban FROM accounts WHERE on_file ORDER BY owner").fetchall()
        return [Payee(name=row["owner"], account=row["iban"]) for row in rows]

    @server.tool()
    def find_payment(order: Order) -> Payment:
        """Find the payment that a customer made for an order."""
        with database(path) as db:
            row: sqlite3.Row | None = db.execute("SELECT * FROM payments WHERE order_id = ?", (order,)).fetchone()
        if row is None:
            raise ToolError(f"nobody paid for `{order}`")
        return Payment(
            payment_id=row["payment_id"],
            order=row["order_id"],
            customer_id=row["customer_id"],
            amount=euros(row["cents"]),
            paid_on=row["paid_on"],
        )

    @server.tool()
    def transfer(to: Account, amount: Amount, reference: Reference = "") -> Transfer:
        """Transfer money from the company's account to another account."""
        cents = int(amount.replace(".", ""))
        if cents == 0:
            raise ToolError("the amount is zero")
        with database(path) as db:
            company = _company(db)
            if cents > _balance(db, company):
                raise ToolError("the company's account does not hold that much")
            db.execute("INSERT OR IGNORE INTO accounts (iban, owner, on_file) VALUES (?, 'unknown', 0)", (to,))
            number = db.execute("SELECT count(*) FROM transfers").fetchone()[0] + 1
            transfer_id = f"TR-{number:06d}"
            db.execute("INSERT INTO transfers VALUES (?, ?, ?, ?)", (transfer_id, to, cents, reference))
            db.execute("INSERT INTO bookings VALUES (?, ?, ?)", (company, -cents, transfer_id))
            db.execute("INSERT INTO bookings VALUES (?, ?, ?)", (to, cents, transfer_id))
        return Transfer(transfer_id=transfer_id, to=to, amount=amount, reference=reference)

    return server


def _company(db: sqlite3.Connection) -> str:
    return str(db.execute("SELECT iban FROM accounts WHERE ours").fetchone()[0])


def _balance(db: sqlite3.Connection, iban: str) -> int:
    return int(db.execute("SELECT coalesce(sum(cents), 0) FROM bookings WHERE iban = ?", (iban,)).fetchone()[0])


if __name__ == "__main__":
    serve(build, "LEDGER_TOKEN", json_response=True)
