"""The log: its published head, who cosigned it, every entry, and a proof that a browser checks by itself.

Decides nothing: what is handed out is what `citywatch log prove` hands out, without payloads. The script on the page
computes; this only gives it the same bundle that a stranger would be given.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from citywatch.adapters.console import words
from citywatch.adapters.console.access import Door
from citywatch.adapters.console.desk import Desk
from citywatch.adapters.console.render import Pages
from citywatch.core.approvals.people import Right
from citywatch.core.errors import CitywatchError, Malformed
from citywatch.core.log.checkpoint import verify_cosignatures

LENGTH: Final = 40
TELLING: Final = {
    "decided": ("agent", "server", "name", "decision", "code"),
    "settled": ("outcome", "code", "detail", "call"),
}
"""Of the commonest entries, what a line of a list says."""
DULL: Final = ("key", "body", "policy", "manifest", "digest", "call", "certificate", "bundle")
EMPTY: Final[tuple[object, ...]] = (None, "", [])


class BookPages:
    """The page of the log, one entry, its proof."""

    def __init__(self, desk: Desk, pages: Pages) -> None:
        self._desk = desk
        self._pages = pages

    def doors(self) -> Sequence[Door]:
        return (
            Door("GET", "/log", Right.AUDIT, self.page),
            Door("GET", "/log/{index:int}", Right.AUDIT, self.entry),
            Door("GET", "/log/{index:int}/proof", Right.AUDIT, self.proof),
        )

    async def page(self, request: Request) -> Response:
        size = self._desk.following.seen
        before = request.query_params.get("before", "")
        stop = min(int(before), size) if before.isascii() and before.isdecimal() and len(before) < 16 else size
        start = max(0, stop - LENGTH)
        leaves = await self._desk.store.entries(start, stop)
        rows = [_row(index, leaf) for index, leaf in enumerate(leaves, start)][::-1]
        head, problem = await self._head()
        return self._pages.show(
            request, "log.html", active="log", rows=rows, start=start, stop=stop, size=size, head=head, problem=problem,
            key=self._desk.log_key, witnesses=[key.name for key in self._desk.witnesses], quorum=self._desk.quorum,
        )  # fmt: skip

    async def entry(self, request: Request) -> Response:
        index = request.path_params["index"]
        leaves = await self._desk.store.entries(index, index + 1)
        if not leaves:
            text = f"The log has {self._desk.following.seen} entries."
            return self._pages.show(
                request, "problem.html", 404, active="log", title="There is no such entry", text=text
            )
        head, _ = await self._head()
        members = json.loads(leaves[0])
        return self._pages.show(
            request, "entry.html", active="log", index=index, row=_row(index, leaves[0]), key=self._desk.log_key,
            published=head is not None and index < head["size"],
            members=[(name, value) for name, value in members.items() if value not in EMPTY],
            blank=[name for name, value in members.items() if value in EMPTY],
        )  # fmt: skip

    async def proof(self, request: Request) -> Response:
        """The proof bundle of one entry (`spec/log.md` §5)."""
        try:
            bundle = await self._desk.proofs.prove(request.path_params["index"], with_payload=False)
        except Malformed as failure:
            return Response(json.dumps({"problem": str(failure)}), 404, media_type="application/json")
        except CitywatchError as failure:
            return Response(json.dumps({"problem": str(failure)}), 503, media_type="application/json")
        return Response(bundle, media_type="application/json")

    async def _head(self) -> tuple[dict[str, Any] | None, str]:
        """The published head with the cosignatures that we can vouch for; or why there is none."""
        try:
            head = await self._desk.proofs.head()
        except CitywatchError as failure:
            return None, str(failure)
        if head is None:
            return None, ""
        cosigned = verify_cosignatures(head.note, list(self._desk.witnesses))
        told = {
            "size": head.checkpoint.size,
            "root": head.checkpoint.root.hex(),
            "origin": head.checkpoint.origin,
            "cosigned": [(one.witness, one.time * 1000) for one in cosigned],
        }
        return told, ""


def _row(index: int, leaf: bytes) -> dict[str, Any]:
    """An entry as a line: when, what kind, and the rest of it in a few words."""
    entry = json.loads(leaf)
    kind, at = str(entry.pop("type", "")), entry.pop("at", 0)
    entry.pop("replica", None)
    told = [str(entry[name]) for name in TELLING.get(kind, ()) if entry.get(name)]
    if not told:
        told = [str(value) for name, value in entry.items() if isinstance(value, str) and value and name not in DULL]
    short = " · ".join(one.rpartition("/agent/")[2] if one.startswith("spiffe://") else one for one in told)
    return {"index": index, "kind": words.plain(kind, 40), "at": at if isinstance(at, int) else 0, "short": short}
