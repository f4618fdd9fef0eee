"""The gateway's own tools: what it says of, and works out from, what agents hold as handles. The server `citywatch`.

Decides what these tools are and what their replies are labelled: policy permits them, a person approves them, and the
log holds their calls, as with every tool. What is answered is `flow.question`'s and `flow.derivation`'s. Handles are
filled in before the call is forwarded, so that they are given values and need no access to anybody's handles.

INVARIANTS: a value that could carry words reaches the agent as a handle; a text goes to the reader only if everybody
there may see it; what is answered from the gateway itself reaches nobody; what is derived is a handle, with the label
of what it was derived from and no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from citywatch.core.call import Effect
from citywatch.core.flow.derivation import MAX_DIGITS, MAX_VALUES, Step, Unit
from citywatch.core.flow.question import MAX_OPTIONS, MAX_WORDS, Type
from citywatch.core.flow.tokens import Kind
from citywatch.core.manifest import Output, Parameter, Role, ToolManifest

SERVER: Final = "citywatch"
ASK: Final = "ask"
LIST: Final = "list_values"
DERIVE: Final = "derive"
TOOLS: Final = (ASK, LIST, DERIVE)
TEXT: Final = frozenset(("text",))
FILLED: Final[Mapping[str, frozenset[str]]] = {DERIVE: frozenset(("values", "by"))}
"""The arguments of each tool in which handles are filled in; of any other, `TEXT`."""
LISTED: Final = (Kind.NUMBER, Kind.DATE, Kind.TIME, Kind.EMAIL, Kind.URL, Kind.IBAN, Kind.PHONE, Kind.PATH, Kind.ID)
CONTENT: Final = Parameter(role=Role.CONTENT)
SEEN: Final = Output(typed=True)
OUTPUT: Final[Mapping[str, Output]] = {
    "$": SEEN,  # names of members and reasons are words of ours
    "$.handle": Output(handle=True),
    "$.handles[*]": Output(handle=True),
}
_DERIVED: Final[Mapping[str, Output]] = {"$": SEEN, "$.handle": Output(handle=True)}
_VALUE: Final = {"description": "a handle (cw:...), or a number, an amount such as 98.70 EUR, or a date"}
_HELD: Final = {"type": "string", "description": "a handle (cw:...), which stands for the text; or a text"}
_DEFINITIONS: Final[Mapping[str, dict[str, Any]]] = {
    LIST: {
        "name": LIST,
        "description": "List the values of one kind that stand in a text which you hold as a handle. Numbers, dates "
        "and times are shown; everything else is given as handles.",
        "inputSchema": {
            "type": "object",
            "properties": {"text": _HELD, "kind": {"type": "string", "enum": [str(one) for one in LISTED]}},
            "required": ["text", "kind"],
        },
    },
    ASK: {
        "name": ASK,
        "description": "Ask one question about a text which you hold as a handle. The answer is typed: yes_no, number, "
        "date, or one_of your options; an id or a phrase of the text is given as a handle.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "text": _HELD,
                "question": {"type": "string", "maxLength": MAX_WORDS},
                "type": {"type": "string", "enum": [str(one) for one in Type]},
                "options": {"type": "array", "items": {"type": "string"}, "maxItems": MAX_OPTIONS},
            },
            "required": ["text", "question", "type"],
        },
    },
    DERIVE: {
        "name": DERIVE,
        "description": "Work out a value from values that you hold as handles, without seeing them; it is given as a "
        "handle. sum, difference, smallest, largest: of `values`, numbers or amounts of one currency (smallest and "
        "largest also of dates). product: the one value times the number `by`. later: the one date moved by `by` days, "
        "weeks or months. `digits`: round to so many behind the point.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "step": {"type": "string", "enum": [str(one) for one in Step]},
                "values": {"type": "array", "items": _VALUE, "minItems": 1, "maxItems": MAX_VALUES},
                "by": _VALUE,
                "unit": {"type": "string", "enum": [str(one) for one in Unit]},
                "digits": {"type": "integer", "minimum": 0, "maximum": MAX_DIGITS},
            },
            "required": ["step", "values"],
        },
    },
}


def own_tools(reader: tuple[str, ...] | None) -> dict[str, ToolManifest]:
    """The manifests of the gateway's own tools; `reader` is the audience of the reader, None if there is none."""
    tools = {
        LIST: ToolManifest(
            effect=Effect.READ, inside=True, parameters={"text": CONTENT, "kind": CONTENT}, output=OUTPUT
        ),
        DERIVE: ToolManifest(
            effect=Effect.READ,
            inside=True,
            parameters=dict.fromkeys(("step", "values", "by", "unit", "digits"), CONTENT),
            output=_DERIVED,
        ),
    }
    if reader is not None:
        parameters = dict.fromkeys(("text", "question", "type", "options"), CONTENT)
        tools[ASK] = ToolManifest(effect=Effect.READ, audience=reader, parameters=parameters, output=OUTPUT)
    return tools


def own_definitions(*, asks: bool) -> list[dict[str, Any]]:
    """What the gateway offers; `asks`: there is a reader."""
    return [one for name, one in _DEFINITIONS.items() if asks or name != ASK]
