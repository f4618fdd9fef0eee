"""Where a name leads, for those that nobody named one by one: to a public address, or nowhere.

Decides which addresses are public. INVARIANT: what is returned is connected to as it is, as a number: a name that leads
elsewhere a moment later changes nothing.
"""

from __future__ import annotations

import asyncio
import socket
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

_UNICAST: Final = ip_network("2000::/3")
"""All of IPv6 that was ever given out for use in public: no translation into IPv4, no site's own numbers."""


async def public_address(host: str, port: int) -> str:
    """One public address of this host. Raises `OSError` where there is none."""
    found = await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    for *_, place in found:
        address = str(place[0])
        if is_public(address):
            return address
    raise PrivateAddressError(host)


class PrivateAddressError(OSError):
    """The name leads to no public address."""


def is_public(text: str) -> bool:
    """Whether an address is one of the whole internet; IPv4 in the clothes of IPv6 is judged as what it is."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        within = address.ipv4_mapped or address.sixtofour
        if within is not None:
            return is_public(str(within))
        if address.teredo is not None or address not in _UNICAST:
            return False
    return address.is_global and not address.is_multicast
