"""`citywatch tools` on what servers offered while nobody looked."""

from __future__ import annotations

import msgspec

from citywatch.adapters.sqlite import open_store
from citywatch.core.enforce.offers import MAX_OFFERS, Offers, offer_name, offers_key
from citywatch.service.ports import Append
from tests.e2e.gateway.desk import Desk


async def test_what_was_dropped_is_said_until_a_person_has_looked_and_approved(desk: Desk) -> None:
    known = {offer_name("tool", f"tool-{number}"): "digest" for number in range(MAX_OFFERS)}
    store = open_store(desk.folder / ".citywatch" / "citywatch.db")
    put = (offers_key("desk"), msgspec.json.encode(Offers(known=known, dropped=7)))
    await store.append(Append(puts=(put,)))
    for command in ("list", "diff"):
        assert "desk: in one reply it offered 7 more definitions" in desk.run("tools", command).stderr
    desk.run("tools", "approve", "--yes")
    assert desk.run("tools", "list").stderr == ""
    row = (await store.load([offers_key("desk")], ())).rows[offers_key("desk")]
    assert msgspec.json.decode(row.value, type=Offers) == Offers()
    await store.close()
