"""A request for a token in exchange (RFC 8693), and how a no is worded to whoever sent it.

Decides the form: which parameters there are, once each, and that what is given is of a kind that this gateway takes.
Whether subject and actor belong together, and whether anybody may have the token, is decided elsewhere.

    grant_type            urn:ietf:params:oauth:grant-type:token-exchange
    subject_token         a chain of grants: its links, root first, with commas between; or the agent's own JWT-SVID
    subject_token_type    urn:citywatch:params:oauth:token-type:grant-chain; or …:ietf:…:token-type:jwt
    actor_token           the agent's own JWT-SVID, with actor_token_type …:jwt; may be left out: the request proves it
    resource, scope       one resource of the file; words of those that the file has for it, none of them implied
    citywatch_task        the task, where no chain names one

INVARIANT: any bytes give a `TokenRequest`, `Malformed` or `Refused`; no parameter stands twice, be it known or not.
SPEC: RFC 8693 §2.1 and §2.2.2, RFC 6749 §3.3 and §5.2, RFC 8707 §2.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl

import msgspec
import orjson

from citywatch.core.errors import ADVICE, Code, Malformed, Refused
from citywatch.core.wire.jsonrpc import Message
from citywatch.core.wire.refusals import is_outage

GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
CHAIN_TYPE: Final = "urn:citywatch:params:oauth:token-type:grant-chain"
JWT_TYPE: Final = "urn:ietf:params:oauth:token-type:jwt"
ACCESS_TYPE: Final = "urn:ietf:params:oauth:token-type:access_token"
MAX_BYTES: Final = 192 * 1024
MAX_FIELDS: Final = 32
MAX_SCOPES: Final = 32
_TASK: Final = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_INVALID: Final = {
    Code.SERVER_UNKNOWN: "invalid_target",
    Code.NO_PERMIT: "invalid_target",
    Code.FORBIDDEN: "invalid_target",
    Code.POLICY_ERROR: "invalid_target",
    Code.BEYOND_GRANT: "invalid_target",
    Code.NOT_A_READER: "invalid_target",
    Code.CONTEXT_TAINTED: "invalid_target",
    Code.OUT_OF_PLAN: "invalid_target",
    Code.BUDGET_SPENT: "invalid_target",
    Code.RULE_MATCHED: "invalid_target",
    Code.SCOPE_REFUSED: "invalid_scope",
    Code.METHOD_UNKNOWN: "unsupported_grant_type",
}
"""SPEC: RFC 8693 §2.2.2: everything that is wrong with one of the tokens is `invalid_request`."""


class TokenRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for, and what is shown for it; nothing of it is verified. One of `chain` and `own` is there."""

    chain: tuple[str, ...]
    own: str | None
    actor: str | None
    resource: str
    scopes: tuple[str, ...]
    task: str | None


def parse_token_request(body: bytes) -> TokenRequest:
    """Read a form; raises `Malformed`, or `Refused` with what this gateway has none of."""
    given = _form(body)
    if given.get("grant_type") != GRANT_TYPE:
        raise Refused(Code.METHOD_UNKNOWN, f"the grant type is not `{GRANT_TYPE}`")
    if given.get("requested_token_type", ACCESS_TYPE) != ACCESS_TYPE:
        raise Malformed(f"`requested_token_type` can only be `{ACCESS_TYPE}`")
    if "audience" in given:
        raise Refused(Code.SERVER_UNKNOWN, "name the target as `resource`, and not as `audience`")
    subject, kind = _needed(given, "subject_token"), _needed(given, "subject_token_type")
    if kind not in (CHAIN_TYPE, JWT_TYPE):
        raise Malformed(f"`subject_token_type` is neither `{CHAIN_TYPE}` nor `{JWT_TYPE}`")
    actor, actor_type = given.get("actor_token"), given.get("actor_token_type")
    if (actor is None) != (actor_type is None) or actor_type not in (None, JWT_TYPE):
        raise Malformed(f"`actor_token` comes with `actor_token_type`, and that is `{JWT_TYPE}`")
    task = given.get("citywatch_task")
    if task is not None and (kind == CHAIN_TYPE or not _TASK.match(task)):
        raise Malformed("`citywatch_task` names a task, where no chain does")
    return TokenRequest(
        chain=tuple(subject.split(",")) if kind == CHAIN_TYPE else (),
        own=subject if kind == JWT_TYPE else None,
        actor=actor,
        resource=_needed(given, "resource"),
        scopes=_scopes(given.get("scope", "")),
        task=task,
    )


def refusal(code: Code, detail: str) -> bytes:
    """The body of a no, as OAuth has it, with our own code beside it."""
    said = f"{detail}; {ADVICE[code]}" if detail else ADVICE[code]
    return orjson.dumps(
        {
            "error": _INVALID.get(code, "invalid_request"),
            "error_description": "".join(one if " " <= one <= "~" and one not in '"\\' else "?" for one in said),
            "citywatch_code": code.value,
        }
    )


def turned_away(_: Message | None, code: Code, detail: str = "") -> bytes:
    """Tell somebody who showed no good papers, or came when nobody could see to it. SPEC: RFC 6749 §5.2."""
    error = "temporarily_unavailable" if is_outage(code.value) else "invalid_client"
    return orjson.dumps({**orjson.loads(refusal(code, detail)), "error": error})


def _form(body: bytes) -> dict[str, str]:
    if len(body) > MAX_BYTES:
        raise Malformed(f"a request for a token has at most {MAX_BYTES} bytes")
    try:
        text = body.decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise Malformed("the body is no form, application/x-www-form-urlencoded") from None
    given = dict(pairs)
    if len(given) != len(pairs):
        raise Malformed("a parameter stands in the form twice")
    return given


def _needed(given: dict[str, str], name: str) -> str:
    value = given.get(name)
    if not value:
        raise Malformed(f"`{name}` is missing")
    return value


def _scopes(text: str) -> tuple[str, ...]:
    words = text.split(" ") if text else []
    if not words or len(words) > MAX_SCOPES or "" in words or len(set(words)) != len(words):
        raise Refused(Code.SCOPE_REFUSED, "name the scopes, one space between two, none of them twice")
    return tuple(words)
