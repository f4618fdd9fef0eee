"""The operator's own texts: policies, rules about the past, schemas of messages, and what agents may repeat.

Decides nothing but that a text which means nothing here is a mistake. INVARIANT: all mistakes of a kind at once, each
with its place.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from citywatch.config import Settings
from citywatch.core.enforce.rules import asks_for_spread
from citywatch.core.errors import Malformed
from citywatch.core.plan.formula import Rule
from citywatch.core.plan.notes import BadRules
from citywatch.core.plan.rules import needs_contexts, parse_rules
from citywatch.core.policy.cedar import Mistake, Policy, PolicyMistakes, Source, parse_policies
from citywatch.core.wire.jsonrpc import FROM_AGENT, parse_json


def read_messages(settings: Settings) -> dict[str, dict[str, Any]]:
    """The schemas of each peer's types of messages; raises `Malformed` for a file that is no JSON."""
    found: dict[str, dict[str, Any]] = {}
    for peer in settings.peers.values():
        for name, file in peer.messages.items():
            try:
                document, _ = parse_json(Path(file).read_bytes(), FROM_AGENT)
            except (OSError, Malformed) as failure:
                where = f"peers.{peer.name}.messages.{name}"
                raise Malformed(f"{where}: the schema in `{file}` cannot be read: {failure}") from None
            found.setdefault(peer.name, {})[name] = document
    return found


def read_boilerplate(settings: Settings) -> tuple[str, ...]:
    """The texts of the folder that `boilerplate` names; raises `Malformed` for one that cannot be read."""
    if settings.boilerplate is None:
        return ()
    folder = Path(settings.boilerplate)
    try:
        texts = tuple(file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.txt")))
    except (OSError, UnicodeDecodeError) as failure:
        raise Malformed(f"the texts in `{folder}` cannot be read: {failure}") from None
    if not texts:
        raise Malformed(f"there is no *.txt in `{folder}`: `boilerplate` names a folder of texts")
    return texts


def read_temporal_rules(settings: Settings) -> tuple[Rule, ...]:
    """The rules of the file that `temporal_rules` names; raises `Malformed` with a line and column for each mistake."""
    if settings.temporal_rules is None:
        return ()
    file = Path(settings.temporal_rules)
    try:
        rules = parse_rules(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as failure:
        raise Malformed(f"the temporal rules in `{file}` cannot be read: {failure}") from None
    except BadRules as failure:
        lines = (
            f"{file.name}: {': '.join(part for part in (one.where, one.what) if part)}" for one in failure.mistakes
        )
        raise Malformed("\n".join(lines)) from None
    blind = () if settings.principals else tuple(rule.name for rule in rules if needs_contexts(rule))
    if blind:
        raise Malformed(
            f"{file.name}: {', '.join(f'`{name}`' for name in blind)}: origins, tasks and principals are known, and "
            "people can be asked, only where `principals` are declared"
        )
    return rules


def read_policies(settings: Settings) -> tuple[Policy, ...]:
    """Every `*.cedar` of the policies folder; raises `Malformed` with all mistakes of all files."""
    folder = Path(settings.policies)
    try:
        files = sorted(folder.glob("*.cedar"))
        sources = [Source(str(file.relative_to(folder)), file.read_text(encoding="utf-8")) for file in files]
    except (OSError, UnicodeDecodeError) as failure:
        raise Malformed(f"the policies in `{folder}` cannot be read: {failure}") from None
    if not sources:
        raise Malformed(f"there is no *.cedar file in `{folder}`: nothing would be permitted")
    policies = parse_policies(sources)
    blind = () if settings.principals else tuple(one for one in policies if asks_for_spread(one))
    if blind:  # or the policy would be there, and never match
        why = "how far a text has spread is known only where `principals` are declared"
        raise PolicyMistakes([Mistake(one.file, one.line, one.id, why) for one in blind])
    return policies
