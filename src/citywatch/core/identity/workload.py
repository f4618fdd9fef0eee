"""What a program is: the command, and the digest of each file that makes it what it is.

Decides whether what was found now is what was registered; finds nothing itself. Every Python agent is `python3`, so
that path and digest of a binary attest nothing: the script and its configuration are measured with it.
INVARIANTS: `parse_workload(format_workload(row)) == row`; two programs have one digest only if command, folder, names
of variables and every file are the same; a program of which no file was measured is no program.

Evolution rule: never rename, remove or re-type a field; new fields get a default.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from citywatch.core.canonical import canonical, digest
from citywatch.core.errors import Code, Malformed, Refused


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """A program as it was found: its arguments, its folder, the variables it is given, and its files by path.

    `also` are the files and folders that were named beside the command; a folder is measured whole. A file's value is
    the SHA-256 of its bytes in hex, a symbolic link's is `link:` and its target.
    """

    command: tuple[str, ...]
    folder: str
    variables: tuple[str, ...]
    also: tuple[str, ...]
    files: Mapping[str, str]


class WorkloadRow(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent's program has to be, and under which account it runs. `key` is that of the last run, if any."""

    agent: str
    measured: Measured
    uid: int
    key: str = ""


def workload_key(name: str) -> tuple[str, str]:
    """Where the program of an agent is on file."""
    return ("workload", name)


def account_key(uid: int) -> tuple[str, str]:
    """Where it is on file whose an account is."""
    return ("account", str(uid))


def measured_digest(measured: Measured) -> str:
    """The one digest that stands for a program, as the log has it."""
    if not measured.command or not measured.files:
        raise Malformed("a program has a command, and files that were measured")
    written = msgspec.to_builtins(measured)
    written["files"] = sorted(written["files"].items())
    return digest(b"citywatch/workload/v1\n" + canonical(written))


def check_measured(row: WorkloadRow, found: Measured) -> None:
    """Refuse a program that is not the registered one, naming the first thing that differs."""
    if measured_digest(row.measured) == measured_digest(found):
        return
    known = row.measured
    for what, before, now in (
        ("command", known.command, found.command),
        ("folder", known.folder, found.folder),
        ("list of variables", known.variables, found.variables),
        ("list of files", known.also, found.also),
    ):
        if before != now:
            raise Refused(Code.WORKLOAD_CHANGED, f"its {what} is not the one that was measured")
    names = sorted({*known.files.items()} ^ {*found.files.items()})
    raise Refused(Code.WORKLOAD_CHANGED, f"`{names[0][0]}` is not as it was measured")


def parse_workload(value: bytes) -> WorkloadRow:
    """The inverse of `format_workload`."""
    try:
        return msgspec.json.decode(value, type=WorkloadRow)
    except msgspec.DecodeError:
        raise Malformed("the row of a program cannot be read") from None


def format_workload(row: WorkloadRow) -> bytes:
    """The row as JSON."""
    return msgspec.json.encode(row)
