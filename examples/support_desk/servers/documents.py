"""The handbook: the desk's own policy documents, Markdown files in a folder. Served over stdio, it needs no port."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

Name = Annotated[
    str, Field(pattern=r"^[a-z][a-z-]{1,40}$", description="The name of the document, as a search lists it")
]
Query = Annotated[str, Field(min_length=2, max_length=200, description="What the document should be about")]


@dataclass(frozen=True)
class Hit:
    document: str
    title: str


@dataclass(frozen=True)
class Document:
    title: str
    text: str


def build(data: Path) -> MCPServer:
    """The server over the folder `handbook` of the folder given."""
    server = MCPServer("documents", instructions="The handbook of Northwind Kitchen.", log_level="ERROR")
    folder = data / "handbook"

    @server.tool()
    def search_documents(query: Query) -> list[Hit]:
        """Search the documents of the handbook, best match first."""
        wanted = _words(query)
        ranked = sorted(
            ((-_score(wanted, path), path) for path in folder.glob("*.md")), key=lambda pair: (pair[0], pair[1].name)
        )
        return [Hit(document=path.stem, title=_title(path)) for score, path in ranked if score][:3]

    @server.tool()
    def read_document(document: Name) -> Document:
        """Read one document of the handbook."""
        path = folder / f"{document}.md"
        if not path.is_file():
            raise ToolError(f"no document `{document}`")
        return Document(title=_title(path), text=path.read_text(encoding="utf-8"))

    return server


def _words(text: str) -> set[str]:
    return {word.rstrip("s") for word in re.findall(r"[a-z]{3,}", text.lower())}


def _title(path: Path) -> str:
    return path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")


def _score(wanted: set[str], path: Path) -> int:
    return 3 * len(wanted & _words(_title(path))) + len(wanted & _words(path.read_text(encoding="utf-8")))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    build(parser.parse_args().data).run("stdio")
