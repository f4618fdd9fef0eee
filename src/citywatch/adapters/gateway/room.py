"""How many connections may be open at once, and which has to go when one more comes.

Decides only that. Whoever merely waits (for its peer to send a head, the rest of a body, or the next request) can be
sent away; whoever we owe an answer cannot. INVARIANTS: never more than `limit` connections have a seat; silent
connections, however many, keep nobody out: the one that has waited longest makes room.
"""

from __future__ import annotations

from typing import Protocol


class Guest(Protocol):
    """A connection, as far as its seat is concerned."""

    def owes_nothing(self) -> bool:
        """Whether all that was written for it has been handed to the kernel."""
        ...

    def leave_now(self) -> None: ...


class Room:
    """The seats of all connections of one process."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._seated: set[Guest] = set()
        self._waiting: dict[Guest, None] = {}  # in the order in which they began to wait

    def enter(self, guest: Guest) -> bool:
        """Give a new connection a seat, another's if need be; False if all others are owed an answer."""
        if len(self._seated) >= self._limit and not self._free_a_seat():
            return False
        self._seated.add(guest)
        self._waiting[guest] = None
        return True

    def work(self, guest: Guest) -> None:
        """A whole request is here: from now on we owe an answer."""
        self._waiting.pop(guest, None)

    def wait(self, guest: Guest) -> None:
        """The answer is given: the next move is the peer's."""
        if guest in self._seated:
            self._waiting[guest] = None

    def leave(self, guest: Guest) -> None:
        self._seated.discard(guest)
        self._waiting.pop(guest, None)

    def _free_a_seat(self) -> bool:
        for guest in self._waiting:
            if guest.owes_nothing():
                self.leave(guest)
                guest.leave_now()
                return True
        return False
