"""MCP as the rest of citywatch sees it: bytes and headers in, what is asked or answered out. One door to five rooms.

Decides nothing itself. `methods` says what exists, `headers` what routing headers may say, `requests` what is asked,
`results` what may be answered and pinned, `refusals` how a no is worded.
INVARIANT: whoever stands outside of `core.wire` imports MCP from here, so that each name has one meaning.
"""

from __future__ import annotations

from citywatch.core.wire.headers import ParamHeader, claimed_session, mirrored_anew, param_headers
from citywatch.core.wire.methods import LEGACY, MODERN, Group, Method, all_methods, effect_of_method, find_method
from citywatch.core.wire.refusals import (
    Told,
    error_number,
    is_outage,
    read_error,
    read_refusal,
    refusal,
    status_of,
    turned_away,
)
from citywatch.core.wire.requests import (
    CHAIN,
    CONTINUING,
    RESPONSE,
    TASK,
    Reading,
    continuation,
    name_and_arguments,
    named_task,
    read_bodiless,
    read_message,
    read_server_message,
    shown_chain,
    visible,
    with_chain,
    without_chain,
)
from citywatch.core.wire.results import (
    OFFERING,
    Definition,
    check_agent_reply,
    check_reply,
    definitions,
    disowned,
    input_requests,
    keep_only,
    negotiated,
    private,
)

__all__ = [
    "CHAIN",
    "CONTINUING",
    "LEGACY",
    "MODERN",
    "OFFERING",
    "RESPONSE",
    "TASK",
    "Definition",
    "Group",
    "Method",
    "ParamHeader",
    "Reading",
    "Told",
    "all_methods",
    "check_agent_reply",
    "check_reply",
    "claimed_session",
    "continuation",
    "definitions",
    "disowned",
    "effect_of_method",
    "error_number",
    "find_method",
    "input_requests",
    "is_outage",
    "keep_only",
    "mirrored_anew",
    "name_and_arguments",
    "named_task",
    "negotiated",
    "param_headers",
    "private",
    "read_bodiless",
    "read_error",
    "read_message",
    "read_refusal",
    "read_server_message",
    "refusal",
    "shown_chain",
    "status_of",
    "turned_away",
    "visible",
    "with_chain",
    "without_chain",
]
