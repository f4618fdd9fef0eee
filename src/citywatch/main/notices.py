"""The channels over which a city says that something waits for a person, put together from its file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from citywatch.adapters.notify import Mail, Secret, Webhook
from citywatch.config.settings import FromEnvironment, FromFile, NoticeChannel, Settings
from citywatch.core.errors import CitywatchError, Code, Unavailable
from citywatch.main.assembly import City
from citywatch.main.desks import escalating_of, floodwatch_of, pass_on, queueing_of, watch_floods
from citywatch.service.alarm import Alarm
from citywatch.service.notifying import Channel, Notifying
from citywatch.service.ports import Notifier

FLOODS_S: Final = 30.0
TELL_S: Final = 5.0


def asking_chores(city: City, say: Callable[[str], None]) -> tuple[Coroutine[Any, Any, None], ...]:
    """What a gateway does for those who are asked: hold floods back, pass on what nobody answers, and tell people."""
    return (
        watch_floods(floodwatch_of(city), FLOODS_S),
        pass_on(escalating_of(city), TELL_S),
        keep_telling(notifying_of(city, say), TELL_S),
    )


def notifying_of(city: City, say: Callable[[str], None]) -> Notifying:
    """What tells people; a channel that is down is told to the operator."""
    channels = {
        name: Channel(
            _notifier(one),
            one.link,
            Alarm(f"notices do not reach `{name}`", f"notices reach `{name}` again", say),
            _console(city.settings, one),
        )
        for name, one in city.settings.notices.items()
    }
    return Notifying(queueing_of(city), channels, store=city.store, clock=city.clock, chance=city.chance)


async def keep_telling(notifying: Notifying, every_s: float) -> None:
    """Send what is due, for as long as the gateway runs."""
    while True:
        with suppress(CitywatchError):
            await notifying.look()
        await asyncio.sleep(every_s)


def _console(settings: Settings, channel: NoticeChannel) -> str:
    """Whose single tickets a notice leads to: the console's, if it is what the channel links to.

    What is made up is in no notice: where there are such tickets, one that is led to by itself would be known for real.
    """
    address = settings.console.address
    return address if channel.link == f"{address}/tickets" and not settings.approvals.canaries else ""


def _notifier(channel: NoticeChannel) -> Notifier:
    secret = None if channel.credential is None else _secret(channel.credential)
    if channel.kind == "mail":
        host, _, port = channel.server.rpartition(":")
        return Mail(
            host=host.strip("[]"),
            port=int(port),
            sender=channel.sender,
            to=channel.to,
            user=channel.user,
            secret=secret,
            ca=channel.ca,
        )
    assert secret is not None  # the file was refused otherwise
    return Webhook(url=channel.url, secret=secret, slack=channel.kind == "slack", ca=channel.ca)


def _secret(place: FromEnvironment | FromFile) -> Secret:
    """Read whenever it is needed; what it holds stands in no error."""

    def read() -> str:
        if isinstance(place, FromEnvironment):
            found = os.environ.get(place.name, "")
        else:
            try:
                found = Path(place.path).read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError) as failure:
                why = f"the file `{place.path}` cannot be read: {type(failure).__name__}"
                raise Unavailable(Code.UPSTREAM_UNAVAILABLE, why) from None
        if not found:
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, "the channel's credential is empty")
        return found

    return read
