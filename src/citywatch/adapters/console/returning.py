"""Where somebody was going who has to sign in first: a notice led them to a ticket, and there they are led afterwards.

Decides where a browser goes once it is in. INVARIANTS
1. It is led to a page of ours that is looked at, and nowhere else: not to another site, whatever a cookie says, nor to
   what changes something.
2. A page that another site led to is opened by the person's own click: to be led somewhere is not to have looked at it,
   and a ticket that is opened counts as shown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote, unquote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path

KEPT_S: Final = 600
HOME: Final = "/"
_PLAIN: Final = re.compile(r"(/[A-Za-z0-9._-]+)+")
LED: Final = ("cross-site", "same-site")


class Returning:
    """`pages` are the paths of what may be looked at; `secure`: the console is reached over TLS."""

    def __init__(self, pages: Sequence[str], secure: bool) -> None:
        self._pages = [compile_path(one)[0] for one in pages]
        self._secure = secure
        self.cookie = "__Host-citywatch-to" if secure else "citywatch-to"

    def is_led(self, request: Request) -> bool:
        """Whether a page that is not ours sent the browser here, with its session (a sibling's) or without."""
        return request.headers.get("sec-fetch-site") in LED and self._is_ours(request.scope["path"])

    def remember(self, request: Request, response: Response) -> None:
        """Keep where the request was going, for whoever signs in now."""
        if self._is_ours(request.scope["path"]):
            self._set(response, quote(request.scope["path"], safe=""), KEPT_S)

    def take(self, request: Request) -> str:
        """Where to go now."""
        path = unquote(request.cookies.get(self.cookie, ""))
        return path if self._is_ours(path) else HOME  # INVARIANT: 1.

    def forget(self, request: Request, response: Response) -> None:
        if self.cookie in request.cookies:
            self._set(response, "", 0)

    def _set(self, response: Response, value: str, age: int) -> None:
        response.set_cookie(
            self.cookie, value, max_age=age, secure=self._secure, httponly=True, samesite="lax"
        )  # lax: it comes back from a provider, too

    def _is_ours(self, path: str) -> bool:
        return _PLAIN.fullmatch(path) is not None and any(page.fullmatch(path) for page in self._pages)
