"""Invoices of suppliers: what is asked for, to which account, what people noted, and the approval that pays.

INVARIANT: an invoice is paid once, out of the company's account, to the account that stands on it at that moment.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from examples.support_desk.servers.ledger import Account, euros
from examples.support_desk.servers.serving import database

InvoiceId = Annotated[str, Field(pattern=r"^INV-[0-9]{4}$", description="The number of the invoice, such as INV-2001")]


@dataclass(frozen=True)
class Invoice:
    invoice_id: str
    supplier: str
    amount: str
    account: str
    status: str
    remark: str


def build(data: Path) -> MCPServer:
    """The server over `invoices.sqlite`, and over `ledger.sqlite`, where what is approved is paid."""
    server = MCPServer("invoices", instructions="Invoices of suppliers.", log_level="ERROR")
    path = data / "invoices.sqlite"

    @server.tool()
    def read_invoice(invoice_id: InvoiceId) -> Invoice:
        """Read an invoice: who asks for how much, and to which account."""
        return _one(path, invoice_id)

    @server.tool()
    def add_remark(invoice_id: InvoiceId, remark: Annotated[str, Field(min_length=1, max_length=400)]) -> Invoice:
        """Add a remark to an invoice, for colleagues to read."""
        with database(path) as db:
            db.execute("UPDATE invoices SET remark = ? WHERE invoice_id = ?", (remark, invoice_id))
        return _one(path, invoice_id)

    @server.tool()
    def update_account(invoice_id: InvoiceId, account: Account) -> Invoice:
        """Update the account to which an invoice is paid."""
        with database(path) as db:
            db.execute("UPDATE invoices SET account = ? WHERE invoice_id = ?", (account, invoice_id))
        return _one(path, invoice_id)

    @server.tool()
    def approve_invoice(invoice_id: InvoiceId) -> Invoice:
        """Approve an invoice: it is paid at once, to the account that stands on it."""
        with database(path) as db:
            row = db.execute(
                "UPDATE invoices SET status = 'paid' WHERE invoice_id = ? AND status = 'open' RETURNING cents, account",
                (invoice_id,),
            ).fetchone()
            if row is None:
                raise ToolError(f"no open invoice `{invoice_id}`")
            _pay(data / "ledger.sqlite", invoice_id, row["account"], row["cents"])
        return _one(path, invoice_id)

    return server


def _pay(ledger: Path, invoice: str, account: str, cents: int) -> None:
    with database(ledger) as db:
        company = db.execute("SELECT iban FROM accounts WHERE ours").fetchone()[0]
        db.execute("INSERT OR IGNORE INTO accounts (iban, owner, on_file) VALUES (?, 'unknown', 0)", (account,))
        db.execute("INSERT INTO bookings VALUES (?, ?, ?)", (company, -cents, invoice))
        db.execute("INSERT INTO bookings VALUES (?, ?, ?)", (account, cents, invoice))


def _one(path: Path, invoice_id: str) -> Invoice:
    with database(path) as db:
        row: sqlite3.Row | None = db.execute("SELECT * FROM invoices WHERE invoice_id = ?", (invoice_id,)).fetchone()
    if row is None:
        raise ToolError(f"no invoice `{invoice_id}`")
    return Invoice(
        invoice_id=row["invoice_id"],
        supplier=row["supplier"],
        amount=euros(row["cents"]),
        account=row["account"],
        status=row["status"],
        remark=row["remark"],
    )
