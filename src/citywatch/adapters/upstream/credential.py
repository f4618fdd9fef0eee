"""Where the gateway's own credential for an upstream comes from: the environment or a file, never the caller.

Decides whether what it finds can stand in an HTTP header. INVARIANTS: the secret is in no message and no
`repr`; where it comes from is told to the operator alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from citywatch.core.errors import Code, Unavailable

Credential = Callable[[], str]
"""Gives the value of the `Authorization` header, or raises `Unavailable`."""

_VALUE = re.compile(r"[\x21-\x7e]+(?: [\x21-\x7e]+)*\Z")
_MAX = 16 * 1024


def from_environment(name: str) -> Credential:
    """The credential in an environment variable, read once: nobody changes it from outside."""
    value = os.environ.get(name)

    def credential() -> str:
        if not value:
            raise _none(f"the environment has no `{name}` for this server's credential")
        return _authorization(value, f"the variable `{name}`")

    return credential


def from_file(path: str) -> Credential:
    """The credential in a file, read again whenever the file has changed: secrets are rotated under our feet."""
    seen: tuple[tuple[int, int, int], str] | None = None

    def credential() -> str:
        nonlocal seen
        try:
            status = os.stat(path)
            mark = (status.st_mtime_ns, status.st_ino, status.st_size)
            if seen is None or seen[0] != mark:
                if status.st_size > _MAX:
                    raise _none(f"the credential file `{path}` is too large")
                seen = (mark, Path(path).read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as failure:
            raise _none(f"the credential file `{path}` cannot be read: {type(failure).__name__}") from None
        return _authorization(seen[1], f"the file `{path}`")

    return credential


def _authorization(text: str, source: str) -> str:
    """A bare token becomes `Bearer <token>`; a value with a scheme (`Basic …`) stays as it is."""
    value = text.strip()
    if not _VALUE.match(value) or len(value) > _MAX:
        raise _none(f"{source} holds no credential that fits a header")
    return value if " " in value else f"Bearer {value}"


def _none(why: str) -> Unavailable:
    return Unavailable(Code.UPSTREAM_UNAVAILABLE, "the gateway has no credential for this server", operator=why)
