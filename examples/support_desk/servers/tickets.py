"""The ticket queue: what customers wrote, and what the desk answered. Anybody can write a ticket."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from examples.support_desk.servers.serving import database, serve

TicketId = Annotated[str, Field(pattern=r"^T-[0-9]{4}$", description="The number of the ticket, such as T-1007")]
Message = Annotated[str, Field(min_length=1, max_length=4000, description="The message that the customer will read")]


@dataclass(frozen=True)
class Ticket:
    ticket_id: str
    status: str
    sender: str
    order: str
    subject: str
    body: str


@dataclass(frozen=True)
class Headline:
    ticket_id: str
    status: str
    subject: str


@dataclass(frozen=True)
class Reply:
    ticket_id: str
    status: str


def build(data: Path) -> MCPServer:
    """The server over `tickets.sqlite` of the folder given."""
    server = MCPServer("tickets", instructions="The ticket queue of Northwind Kitchen.", log_level="ERROR")
    path = data / "tickets.sqlite"

    @server.tool()
    def read_ticket(ticket_id: TicketId) -> Ticket:
        """Read a ticket: who sent it, for which order, and what it says."""
        row = _row(path, ticket_id)
        return Ticket(
            ticket_id=row["ticket_id"],
            status=row["status"],
            sender=row["sender"],
            order=row["order_id"],
            subject=row["subject"],
            body=row["body"],
        )

    @server.tool()
    def list_tickets(status: Literal["open", "answered"] = "open") -> list[Headline]:
        """List the tickets that are open, or those that are answered."""
        with database(path) as db:
            rows = db.execute("SELECT * FROM tickets WHERE status = ? ORDER BY ticket_id", (status,)).fetchall()
        return [Headline(ticket_id=r["ticket_id"], status=r["status"], subject=r["subject"]) for r in rows]

    @server.tool()
    def reply(ticket_id: TicketId, message: Message) -> Reply:
        """Reply to a ticket with a message to the customer."""
        _row(path, ticket_id)
        with database(path) as db:
            db.execute("INSERT INTO replies VALUES (?, ?)", (ticket_id, message))
            db.execute("UPDATE tickets SET status = 'answered' WHERE ticket_id = ?", (ticket_id,))
        return Reply(ticket_id=ticket_id, status="answered")

    return server


def _row(path: Path, ticket_id: str) -> sqlite3.Row:
    with database(path) as db:
        row: sqlite3.Row | None = db.execute("SELECT * FROM tickets WHERE ticket_id = ?", (ticket_id,)).fetchone()
    if row is None:
        raise ToolError(f"no ticket `{ticket_id}`")
    return row


if __name__ == "__main__":
    serve(build, "TICKETS_TOKEN", json_response=False)
