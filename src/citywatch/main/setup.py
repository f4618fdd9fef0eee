"""`citywatch init`: begin."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import click

from citywatch.core.errors import Malformed


def register(cli: click.Group) -> None:
    cli.add_command(init)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path())
def init(folder: Path) -> None:
    """Write a commented, working example into a folder; nothing that is there is overwritten."""
    parts: list[tuple[str, str]] = []
    starter = resources.files("citywatch") / "starter"
    parts += [(entry.name, entry.read_text(encoding="utf-8")) for entry in starter.iterdir() if _is_ours(entry.name)]
    shipped = resources.files("citywatch") / "policies"
    parts += [
        (f"policies/{entry.name}", entry.read_text(encoding="utf-8"))
        for entry in shipped.iterdir()
        if _is_ours(entry.name)
    ]
    for name, _ in parts:
        if (folder / name).exists():
            raise Malformed(f"`{folder / name}` exists; choose an empty folder: `citywatch init FOLDER`")
    for name, text in sorted(parts):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
        click.echo(f"wrote {folder / name}")
    click.echo(
        "next: `citywatch check`, then `citywatch agent add assistant`, `citywatch tools approve`, `citywatch up`"
    )


def _is_ours(name: str) -> bool:
    return not name.startswith((".", "__")) and not name.endswith((".pyc", ".py.orig"))
