"""What a text looks like, in one call: secrets, personal data, hidden text, links with data, wording of injections.

Decides nothing. `scan` reports; `Signals` is advice that can turn an Ask into a Deny, narrow what a reader gets, and
inform people, and nothing in it permits (`docs/explanation/what-scanning-is-for.md`). A text that comes in pieces goes
through `window`, which sees the same. INVARIANTS: bounded work; no str raises; the weights are an argument; a text that
is not looked at closely is one in which `scan_slowly` would see nothing.
"""

from __future__ import annotations

from citywatch.core.content.model import Model
from citywatch.core.content.signals import Channel, Signals
from citywatch.core.content.window import at_once, close, open_window


def scan(text: str, channel: Channel, model: Model | None) -> Signals:
    """Report what a whole text looks like. Without a model nothing is said of wording."""
    found = at_once(text, channel, model)
    return scan_slowly(text, channel, model) if found is None else found


def scan_slowly(text: str, channel: Channel, model: Model | None) -> Signals:
    """The same of any text, by way of a window."""
    return close(open_window(channel), model, text)
