"""Pages out of templates: everything is escaped unless it was made to be shown.

Decides nothing. INVARIANTS: escaping is on for every template; what a template does not know is an error, not a blank.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from citywatch.adapters.console import words
from citywatch.core.approvals.people import Right
from citywatch.core.approvals.wording import doubts
from citywatch.service.panorama import name_of

HERE: Final = Path(__file__).resolve().parent
STATIC: Final = HERE / "static"
NAVIGATION: Final = (
    ("city", "/", "City"),
    ("tickets", "/tickets", "Tickets"),
    ("decisions", "/decisions", "Decisions"),
    ("agents", "/agents", "Agents"),
    ("policy", "/policy", "Policy"),
    ("log", "/log", "Log"),
    ("people", "/people", "People"),
)


class Pages:
    """The templates of this console."""

    def __init__(self, domain: str, unsafe: tuple[str, ...] = ()) -> None:
        self._templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(
            said=words.said,
            called=words.called,
            plain=words.plain,
            when=words.when,
            clock=words.clock,
            span=words.span,
            agent=name_of,
            doubts=doubts,
        )
        self._templates.globals.update(
            domain=domain, unsafe=unsafe, navigation=NAVIGATION, asset=_asset, number="{:,}".format
        )

    def show(self, request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """One page, or the part of it that the script on it asked for."""
        session = request.scope.get("session")
        visitor = None if session is None else session.visitor
        rights = frozenset() if visitor is None else frozenset(one.value for one in Right if visitor.may(one))
        given = {"visitor": visitor, "proof": "" if session is None else session.proof, "rights": rights}
        text = self._templates.get_template(template).render(path=request.url.path, **given, **values)
        return HTMLResponse(text, status)


_ASSETS: dict[str, str] = {}


def _asset(name: str) -> str:
    """Where a file of ours is, named by its digest too: so a browser may keep it."""
    found = _ASSETS.get(name)
    if found is None:
        mark = sha256((STATIC / name).read_bytes()).hexdigest()[:16]
        found = _ASSETS[name] = f"/static/{mark}/{name}"
    return found
