"""The gateway's own command line, with one thing counted: how often papers are verified instead of remembered.

A byte is added to the file `verified` in the working folder for each verification. Used by `bench.gateway` alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from citywatch.adapters.gateway import door
from citywatch.core.identity.elsewhere import verify_certificate, verify_token
from citywatch.main import cli

COUNT = Path("verified")
VERIFYING: tuple[Callable[..., Any], ...] = (verify_token, verify_certificate)


def counted(verify: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, which leaves a byte behind."""

    def inner(*arguments: Any, **named: Any) -> Any:
        with COUNT.open("ab") as file:
            file.write(b".")
        return verify(*arguments, **named)

    return inner


if __name__ == "__main__":
    for one in VERIFYING:
        setattr(door, one.__name__, counted(one))
    cli()
