"""Ask a server what it offers, as the operator's commands do: with our credential, or with a token of our own.

Decides nothing. INVARIANT: a server whose published metadata differs from the file is not asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from citywatch.main.access import access_tokens, borrowed, check_published
from citywatch.service.survey import Survey, survey

if TYPE_CHECKING:
    from citywatch.main.assembly import City
    from citywatch.service.ports import Upstream


async def offered_by(city: City, name: str, upstream: Upstream) -> tuple[Survey, str]:
    """What a server offers, and a remark for the operator if there is one."""
    remark = await check_published(city.settings, name, city.audience)
    tokens = access_tokens(city.settings, city.keys, city.row, city.clock, city.chance)
    if tokens is None:
        return await survey(upstream, city.audience), remark
    lent = borrowed(city.settings, tokens, city.clock, city.chance)
    if lent is not None and lent.lends(name):
        token = await lent.own(name, city.audience)
        return await survey(upstream, city.audience, lambda _: token), remark
    return await survey(upstream, city.audience, lambda method: tokens.own(name, city.audience, method)), remark
