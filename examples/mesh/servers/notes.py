"""The notes that all agents share: anybody writes, everybody reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from mcp.server.mcpserver import MCPServer
from pydantic import Field

from examples.support_desk.servers.serving import database

Text = Annotated[str, Field(min_length=1, max_length=4000, description="The text of the note, word for word")]


@dataclass(frozen=True)
class Note:
    number: int
    text: str


def build(data: Path) -> MCPServer:
    """The server over `notes.sqlite` of the folder given."""
    server = MCPServer("notes", instructions="Notes that colleagues share.", log_level="ERROR")
    path = data / "notes.sqlite"

    @server.tool()
    def add_note(text: Text) -> Note:
        """Add a note that all colleagues read."""
        with database(path) as db:
            number = db.execute("INSERT INTO notes (text) VALUES (?) RETURNING rowid", (text,)).fetchone()[0]
        return Note(number, text)

    @server.tool()
    def read_notes() -> list[Note]:
        """Read the notes that colleagues share."""
        with database(path) as db:
            rows = db.execute("SELECT rowid, text FROM notes ORDER BY rowid").fetchall()
        return [Note(row["rowid"], row["text"]) for row in rows]

    return server
