"""Where a request comes from, kept only as a keyed hash."""

import hmac
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from itertools import chain

Network = IPv4Network | IPv6Network

_ADDRESS_BYTES = 8
_OF_ONE_SITE = 64
"""Bits of an IPv6 address that one customer has for all of his own."""


def client_of(peer: str | None, forwarded: Sequence[str], trusted: Sequence[Network]) -> str | None:
    """The client's address: the peer's, or what the nearest trusted proxies tell of it in X-Forwarded-For.

    Each proxy adds whom it has heard from at the end, so it is read from there, until somebody who is no
    proxy of ours. What stands before that is the client's own invention.
    """
    if peer is None:
        return None
    hops = [part.strip() for part in chain.from_iterable(line.split(",") for line in forwarded)]
    client = peer
    while hops and _is_in(client, trusted):
        hop = hops.pop()
        if _site(hop) is None:
            break
        client = hop
    return client


def address_hash(secret: str, client: str | None) -> str | None:
    """What stands for an address: the same for the same one, and no way back without the secret."""
    if client is None:
        return None
    text = f"address {_site(client) or client}"
    return hmac.digest(secret.encode(), text.encode(), "sha256")[:_ADDRESS_BYTES].hex()


def _is_in(text: str, networks: Sequence[Network]) -> bool:
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return any(address in network for network in networks)


def _site(text: str) -> str | None:
    """An address, or the network of an IPv6 one; None for what is no address."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(IPv6Network((address, _OF_ONE_SITE), strict=False))
    return str(address)
