"""One command's work with the city open, and closed after it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from citywatch.main.place import Place

if TYPE_CHECKING:
    from citywatch.main.assembly import City


def within(place: Place, run: Callable[[City], Awaitable[None]]) -> None:
    """Open the city of this file, do this in it, and close it."""
    from citywatch.main.assembly import open_city

    async def opened() -> None:
        async with open_city(place) as city:
            await run(city)

    asyncio.run(opened())
