"""What is known of a customer, for those who process it; and where their reports are kept."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from examples.support_desk.servers.crm import CustomerId
from examples.support_desk.servers.serving import database


@dataclass(frozen=True)
class Record:
    customer_id: str
    name: str
    email: str
    address: str
    iban: str


@dataclass(frozen=True)
class Report:
    customer_id: str
    filed: int


def build(data: Path) -> MCPServer:
    """The server over `crm.sqlite`, and over `reports.sqlite`, where reports are filed."""
    server = MCPServer("records", instructions="Records of customers.", log_level="ERROR")

    @server.tool()
    def fetch_record(customer_id: CustomerId) -> Record:
        """Fetch the whole record of a customer: name, address and account."""
        with database(data / "crm.sqlite") as db:
            query = "SELECT * FROM customers WHERE customer_id = ?"
            row: sqlite3.Row | None = db.execute(query, (customer_id,)).fetchone()
        if row is None:
            raise ToolError(f"no customer `{customer_id}`")
        return Record(row["customer_id"], row["name"], row["email"], row["address"], row["account"])

    @server.tool()
    def file_report(
        customer_id: CustomerId, text: Annotated[str, Field(max_length=4000, description="What it says")] = ""
    ) -> Report:
        """File a report on a customer's record."""
        with database(data / "reports.sqlite") as db:
            db.execute("INSERT INTO reports VALUES (?, ?)", (customer_id, text))
            filed = db.execute("SELECT count(*) FROM reports WHERE customer_id = ?", (customer_id,)).fetchone()[0]
        return Report(customer_id, filed)

    return server
