"""The mesh's books: those of the support desk, and sign-ins, invoices, reports and notes beside them.

Decides nothing. INVARIANT: what a scenario says of its outcome is read here, from the databases' own files, and never
asked of a tool or an agent.
"""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples.support_desk import world as desk
from examples.support_desk.wording import draw_account
from examples.support_desk.world import Customer

SEED = 20261126
SUPPLIERS = ("Harbour Paper", "Nord Power", "Kiln & Sons", "Lindner Logistics")


@dataclass(frozen=True)
class Invoice:
    invoice_id: str
    supplier: str
    cents: int
    account: str


@dataclass(frozen=True)
class World:
    """What was drawn: the desk's world, whose customer is locked out, and the invoices that are open."""

    desk: desk.World
    invoices: tuple[Invoice, ...]

    @property
    def customer(self) -> Customer:
        return self.desk.customer


def build(folder: Path) -> World:
    """Write fresh databases into `folder`, in place, so that running servers see the new books."""
    drawn = desk.build(folder, None)
    chance = random.Random(SEED)
    invoices = tuple(
        Invoice(f"INV-{2001 + number}", supplier, chance.randrange(90_00, 480_00), draw_account(chance))
        for number, supplier in enumerate(SUPPLIERS)
    )
    with closing(sqlite3.connect(folder / "accounts.sqlite")) as db, db:
        db.execute("DROP TABLE IF EXISTS sign_in")
        db.execute("CREATE TABLE sign_in (customer_id PRIMARY KEY, locked INTEGER, resets INTEGER)")
        db.executemany("INSERT INTO sign_in VALUES (?, 1, 0)", [(one.customer_id,) for one in drawn.customers])
    with closing(sqlite3.connect(folder / "invoices.sqlite")) as db, db:
        db.execute("DROP TABLE IF EXISTS invoices")
        db.execute("CREATE TABLE invoices (invoice_id PRIMARY KEY, supplier, cents INTEGER, account, status, remark)")
        rows = [(one.invoice_id, one.supplier, one.cents, one.account) for one in invoices]
        db.executemany("INSERT INTO invoices VALUES (?, ?, ?, ?, 'open', '')", rows)
    for name, columns in (("reports", "customer_id, text"), ("notes", "text"), ("outside", "sender, text")):
        with closing(sqlite3.connect(folder / f"{name}.sqlite")) as db, db:
            db.execute(f"DROP TABLE IF EXISTS {name}")
            db.execute(f"CREATE TABLE {name} ({columns})")
    return World(drawn, invoices)


def rows(folder: Path, name: str, query: str, *values: str) -> list[Any]:
    """What a query finds in the file of one database."""
    with closing(sqlite3.connect(f"file:{folder / name}.sqlite?mode=ro", uri=True)) as db:
        return db.execute(query, values).fetchall()


def balance(folder: Path, account: str) -> int:
    """What is on an account, in cents."""
    return desk.balance(folder, account)


def resets(folder: Path, customer: str) -> int:
    """How often a customer's password was reset."""
    found = rows(folder, "accounts", "SELECT resets FROM sign_in WHERE customer_id = ?", customer)
    return int(found[0][0])


def put_ticket(folder: Path, ticket: str, body: str) -> None:
    """Have a customer write something else into a ticket: anybody can."""
    with closing(sqlite3.connect(folder / "tickets.sqlite")) as db, db:
        db.execute("UPDATE tickets SET body = ? WHERE ticket_id = ?", (body, ticket))
