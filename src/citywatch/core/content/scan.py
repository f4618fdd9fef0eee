"""What a text looks like, in one call: secrets, personal data, hidden text, links with data, wording of injections.

Decides nothing. `scan` reports; `Signals` is advice that can turn an Ask into a Deny, narrow what a reader gets, and
inform people, and nothing in it permits (`docs/explanation/what-scanning-is-for.md`). A text that comes in pieces goes
through `window`, which sees the same. INVARIANTS: bounded work; no str raises; the weights are an argument.
"""

from __future__ import annotations

from citywatch.core.content.model import Model
from citywatch.core.content.signals import Channel, Signals
from citywatch.core.content.window import close, open_window


def scan(text: str, channel: Channel, model: Model | None) -> Signals:
    """Report what a whole text looks like. Without a model nothing is said of wording."""
    return close(open_window(channel), model, text)
