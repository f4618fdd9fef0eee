"""The customer file: who a customer is, where they live, which account of theirs is on file."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from examples.support_desk.servers.serving import database, serve

CustomerId = Annotated[str, Field(pattern=r"^C-[0-9]{4}$", description="The customer's number, such as C-0007")]
Email = Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$", description="The customer's e-mail address")]


@dataclass(frozen=True)
class Customer:
    customer_id: str
    name: str
    email: str
    address: str
    account: str
    note: str


def build(data: Path) -> MCPServer:
    """The server over `crm.sqlite` of the folder given."""
    server = MCPServer("crm", instructions="The customer file of Northwind Kitchen.", log_level="ERROR")
    path = data / "crm.sqlite"

    @server.tool()
    def find_customer(email: Email) -> Customer:
        """Look up a customer by e-mail address."""
        return _one(path, "SELECT * FROM customers WHERE email = ?", email)

    @server.tool()
    def get_customer(customer_id: CustomerId) -> Customer:
        """Look up a customer by number."""
        return _one(path, "SELECT * FROM customers WHERE customer_id = ?", customer_id)

    @server.tool()
    def update_address(
        customer_id: CustomerId, address: Annotated[str, Field(min_length=5, max_length=200)]
    ) -> Customer:
        """Change the postal address of a customer."""
        with database(path) as db:
            db.execute("UPDATE customers SET address = ? WHERE customer_id = ?", (address, customer_id))
        return _one(path, "SELECT * FROM customers WHERE customer_id = ?", customer_id)

    return server


def _one(path: Path, query: str, key: str) -> Customer:
    with database(path) as db:
        row: sqlite3.Row | None = db.execute(query, (key,)).fetchone()
    if row is None:
        raise ToolError(f"no customer `{key}`")
    return Customer(
        customer_id=row["customer_id"],
        name=row["name"],
        email=row["email"],
        address=row["address"],
        account=row["account"],
        note=row["note"],
    )


if __name__ == "__main__":
    serve(build, "CRM_TOKEN", json_response=False)
