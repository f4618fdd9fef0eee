"""Leading a person to an address, as MCP 2025-11-25 says it: an error that names the address, and word that it is over.

Decides which clients can take that, how ours are worded, and what a server's own error of that kind asks; not whether
anybody is led anywhere (`service.leading`), nor what may be asked of an agent.

INVARIANTS
1. What is said to a person is a text of ours with the console's address: no word of an agent or of a server.
2. A client is led only in the one revision that has the words, and only if it said that it shows addresses: one that
   shows forms alone is not, for what it filled in would be the word of the agent's own side.
3. A server's error that leads somewhere asks the same as its request would, or it is malformed.
SPEC: MCP 2025-11-25 client/elicitation, "URL Elicitation Required Error", "Completion Notifications".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from citywatch.core.call import Call, Direction
from citywatch.core.errors import Code, Malformed
from citywatch.core.wire.jsonrpc import Request, Response, format_message
from citywatch.core.wire.methods import LEGACY, check_params, find_method
from citywatch.core.wire.refusals import refusal_error

REVISION: Final = LEGACY[-1]
REQUIRED: Final = -32042
TEXT: Final = "A person has to approve this call. What was asked, and the place to answer, is shown in the console."
_MOST: Final = 64


def shows_addresses(capabilities: Any) -> bool:
    """Whether a client with these capabilities shows a person an address, and not only forms."""
    elicitation = capabilities.get("elicitation") if type(capabilities) is dict else None
    return type(elicitation) is dict and type(elicitation.get("url")) is dict


def can_be_led(revision: str, capabilities: Any) -> bool:
    """# INVARIANT: 2. Whether calls of a session that was opened so can be answered with an address."""
    return revision == REVISION and shows_addresses(capabilities)


def looking(ticket: str, link: str) -> dict[str, Any]:
    """# INVARIANT: 1. What a client is given to show, whatever it comes in. SPEC: `ElicitRequestURLParams`."""
    return {"mode": "url", "elicitationId": ticket, "url": link, "message": TEXT}


def url_required(call: Call, ticket: str, link: str, detail: str = "", policies: Sequence[str] = ()) -> bytes:
    """Tell a client that its call waits for a person, and where that person looks; it says all that a refusal says."""
    # People may be shown the error's message. `detail` can name an argument, and an agent may choose how one is called.
    more = {"detail": detail, "elicitations": [looking(ticket, link)]}
    return refusal_error(call, Code.APPROVAL_REQUIRED, "", policies=policies, ticket=ticket, number=REQUIRED, more=more)


def elicitation_complete(ticket: str) -> bytes:
    """Tell a client that a ticket it was led to waits no more: not what was answered, nor by whom."""
    params = {"elicitationId": ticket}
    return orjson.dumps({"jsonrpc": "2.0", "method": "notifications/elicitation/complete", "params": params})


def led_to(response: Response) -> tuple[Request, ...]:
    """What a server asks of a person by an error that leads to addresses, as the requests that would ask the same.

    # INVARIANT: 3. Raises `Malformed`: what we cannot read, a client might.
    """
    error = response.error
    if error is None or error.get("code") != REQUIRED:
        return ()
    data = error.get("data")
    asked = data.get("elicitations") if type(data) is dict else None
    if type(asked) is not list or not 0 < len(asked) <= _MOST:
        raise Malformed("the server's error names no addresses to which it leads")
    row = find_method(Direction.TO_AGENT, REVISION, "elicitation/create", notification=False)
    return tuple(_request(number, one, row) for number, one in enumerate(asked))


def _request(number: int, params: Any, row: Any) -> Request:
    if type(params) is not dict or params.get("mode") != "url" or not _is_text(params, "url", "elicitationId"):
        raise Malformed("the server's error leads to something that is no address")
    check_params(row, params)
    bare = Request(f"elicitation-{number}", row.method, params)
    return Request(bare.id, row.method, params, format_message(bare))


def _is_text(params: Mapping[str, Any], *members: str) -> bool:
    return all(type(params.get(member)) is str and params[member] for member in members)
