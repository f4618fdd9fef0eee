"""Everything that the API does, in one table: it routes requests, says what they hold, and is the OpenAPI document.

Decides which operations there are, what right each takes, and which problems there are. INVARIANTS: an operation that
does not stand here is not reached; each says whose it is, and there is no default; a name of this version keeps what it
means, and what is changed gets a path of another version.
SPEC: OpenAPI 3.1.1; RFC 9457.
"""

from __future__ import annotations

import re
from typing import Any, Final, Literal

import msgspec

from citywatch.adapters.approvals_api import forms
from citywatch.core.approvals.people import Right
from citywatch.core.approvals.request import PROFILE

ROOT: Final = "/api/v1"
DOCUMENT: Final = f"{ROOT}/openapi.json"
ANYBODY: Final = "anybody"
PASSKEY: Final = "passkey"
"""Whoever shows by their passkey, in this very request, who they are."""
TICKET: Final = "[0-9a-z-]{1,64}"
PROBLEM_MEDIA: Final = "application/problem+json"


class Kind(msgspec.Struct, frozen=True):
    """A kind of problem: its status, its title, and what to do about it."""

    status: int
    title: str
    advice: str


PROBLEMS: Final[dict[str, Kind]] = {
    "malformed": Kind(400, "the request is not what this operation takes", "send what this document says"),
    "unsigned": Kind(401, "nobody signed this request", "sign it anew under a key of yours, for this very address"),
    "not_yours": Kind(403, "that is not for you", "leave it to somebody whom the file lets do it"),
    "unknown": Kind(404, "there is nothing of that name", "look at the queue, and at the paths of this document"),
    "no_such_method": Kind(405, "that path is not asked in this way", "use a method that this document says"),
    "stands_otherwise": Kind(409, "the ticket stands otherwise by now", "look at it again"),
    "too_long": Kind(413, "the body is too long", "send less"),
    "address_too_long": Kind(414, "the address is too long", "send less"),
    "not_json": Kind(415, "the body is not said to be JSON", "send `content-type: application/json`"),
    "misdirected": Kind(421, "this is not where the request is for", "use the console's own name"),
    "does_not_count": Kind(422, "that answer would not count", "do what `detail` says, and prepare it anew"),
    "too_fast": Kind(429, "too much in a minute", "wait a minute"),
    "failed": Kind(500, "this operation failed", "tell the operator; look at the ticket before you answer it again"),
    "unavailable": Kind(503, "the city's log cannot be written just now", "try again"),
}
ALWAYS: Final = ("malformed", "unsigned", "not_yours", "misdirected", "too_fast", "unavailable")
_OF_TICKET: Final = (*ALWAYS, "unknown")
_OF_BODY: Final = (*_OF_TICKET, "stands_otherwise", "too_long", "not_json", "does_not_count")


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One operation: `name` is that of what carries it out (`answers.Answers`)."""

    name: str
    method: Literal["GET", "POST"]
    path: str
    needs: Right | Literal["anybody", "passkey"]
    title: str
    says: str
    gives: type[msgspec.Struct] | None
    query: type[msgspec.Struct] | None = None
    body: type[msgspec.Struct] | None = None
    problems: tuple[str, ...] = ALWAYS

    def ticket_of(self, path: str) -> str | None:
        """What a path has in the place of `{ticket}`, empty if it has no such place; None if it is another path."""
        found = re.fullmatch(self.path.replace(".", r"\.").replace("{ticket}", f"({TICKET})"), path)
        return None if found is None else found[1] if found.groups() else ""


OPERATIONS: Final[tuple[Operation, ...]] = (
    Operation(
        name="document",
        method="GET",
        path=DOCUMENT,
        needs=ANYBODY,
        title="This document",
        says="It is the same for everybody, and needs no signature.",
        gives=None,
        problems=("misdirected", "malformed"),
    ),
    Operation(
        name="lend",
        method="POST",
        path=f"{ROOT}/keys",
        needs=PASSKEY,
        title="Lend a key by a passkey",
        says="For people who have no key in the file: a page draws a key that cannot leave it, their passkey signs "
        "that it asks for them, and the key signs this request and those that follow. It signs no answer.",
        gives=forms.Lent,
        body=forms.Loan,
        problems=(
            "malformed",
            "unsigned",
            "misdirected",
            "too_fast",
            "unavailable",
            "too_long",
            "not_json",
            "does_not_count",
        ),
    ),
    Operation(
        name="me",
        method="GET",
        path=f"{ROOT}/me",
        needs=Right.SEE,
        title="Who am I",
        says="Who the key is that signed the request, and what they may do.",
        gives=forms.Me,
    ),
    Operation(
        name="queue",
        method="GET",
        path=f"{ROOT}/tickets",
        needs=Right.SEE,
        title="What waits",
        says="For an approver: what reaches them and they have not answered, in the order in which to answer it. For "
        "everybody else: all that waits. The order changes with time and answers; begin at 0 again after each.",
        gives=forms.Queue,
        query=forms.Listing,
    ),
    Operation(
        name="look",
        method="GET",
        path=f"{ROOT}/tickets/{{ticket}}",
        needs=Right.SEE,
        title="Where a ticket stands",
        says="Nothing is entered, and nothing counts as shown by it.",
        gives=forms.Standing,
        problems=_OF_TICKET,
    ),
    Operation(
        name="open",
        method="POST",
        path=f"{ROOT}/tickets/{{ticket}}/open",
        needs=Right.SEE,
        title="Open a ticket to read it",
        says="Ask this when the person sees the ticket: that they were shown it is entered the first time, and a yes "
        "of theirs counts only some time after. A statement's signature is bound to what is given: show all of it.",
        gives=forms.Opened,
        problems=_OF_TICKET,
    ),
    Operation(
        name="prepare",
        method="POST",
        path=f"{ROOT}/tickets/{{ticket}}/prepare",
        needs=Right.ANSWER,
        title="Write the statement of an answer",
        says="Nothing is entered. An answer that could not count is refused here already.",
        gives=forms.Prepared,
        body=forms.Draft,
        problems=_OF_BODY,
    ),
    Operation(
        name="vote",
        method="POST",
        path=f"{ROOT}/tickets/{{ticket}}/vote",
        needs=Right.ANSWER,
        title="Give a signed answer",
        says="Counted once, for whoever signed the request. A yes takes that they opened the ticket, long enough ago.",
        gives=forms.Standing,
        body=forms.Answer,
        problems=_OF_BODY,
    ),
)


def openapi() -> dict[str, Any]:
    """The document: OpenAPI 3.1, the same at each city."""
    kinds = [kind for one in OPERATIONS for kind in (one.gives, one.query, one.body) if kind is not None]
    _, components = msgspec.json.schema_components([*kinds, forms.Problem], ref_template="#/components/schemas/{name}")
    for name in {one.query.__name__ for one in OPERATIONS if one.query is not None}:
        del components[name]
    for schema in components.values():
        if "description" in schema:
            schema["description"] = " ".join(schema["description"].split())
    paths: dict[str, dict[str, Any]] = {}
    for one in OPERATIONS:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.1",
        "info": {"title": "citywatch approvals", "version": "1", "description": _ABOUT},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {name: _problem(name, kind) for name, kind in PROBLEMS.items()},
            "securitySchemes": {
                name: {"type": "apiKey", "in": "header", "name": name, "description": says}
                for name, says in _SIGNED.items()
            },
        },
        "x-problems": {name: msgspec.to_builtins(one) for name, one in PROBLEMS.items()},
    }


_SIGNED: Final = {
    "signature": "RFC 9421: the signature over what `signature-input` says, made anew for each request.",
    "signature-input": "RFC 9421, with an Ed25519 key that the city's file gives the person (`people.*.keys`), or that "
    "they lent. One signature, over "
    + ", ".join(f"`{one}`" for one in (*PROFILE.always, "content-digest"))
    + " (the last where there is a body; RFC 9530, sha-256 or sha-512), with the parameters `created` and `expires` "
    "(at most 60 s apart), `nonce` (16 to 64 characters of base64, never used before), `keyid` (the key's RFC 7638 "
    f"thumbprint) and `tag` (`{PROFILE.tag}`). A request is good once. No cookie and no token counts here.",
}
_ABOUT: Final = (
    "People answer tickets from a front end of their own. An answer is the statement that the city writes, signed by "
    "the person: the same as in the console and at the command line, and it takes the same care. Other members than "
    "those named here are refused, whole numbers have no point, and there is no CORS."
)


def _operation(one: Operation) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": one.name,
        "summary": one.title,
        "description": one.says,
        "x-right": str(one.needs),
        "security": [] if one.needs == ANYBODY else [{name: [] for name in _SIGNED}],
        "parameters": [*_place(one), *_asked(one)],
        "responses": {"200": {"description": one.title, "content": _content(one.gives)}, **_problems(one)},
    }
    if one.body is not None:
        told["requestBody"] = {"required": True, "content": _content(one.body)}
    return told


def _place(one: Operation) -> list[dict[str, Any]]:
    if "{ticket}" not in one.path:
        return []
    schema = {"type": "string", "pattern": f"^{TICKET}$"}
    return [{"name": "ticket", "in": "path", "required": True, "description": "a ticket's id", "schema": schema}]


def _asked(one: Operation) -> list[dict[str, Any]]:
    if one.query is None:
        return []
    _, found = msgspec.json.schema_components([one.query])
    schema = found[one.query.__name__]
    return [
        {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": member}
        for name, member in schema["properties"].items()
    ]


def _content(kind: type[msgspec.Struct] | None) -> dict[str, Any]:
    schema = {"type": "object"} if kind is None else {"$ref": f"#/components/schemas/{kind.__name__}"}
    return {"application/json": {"schema": schema}}


def _problems(one: Operation) -> dict[str, Any]:
    return {str(PROBLEMS[name].status): {"$ref": f"#/components/responses/{name}"} for name in sorted(one.problems)}


def _problem(name: str, kind: Kind) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": f"`{name}`: {kind.title}", "content": {PROBLEM_MEDIA: {"schema": schema}}}
