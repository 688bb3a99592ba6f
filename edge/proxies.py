"""Who the client is when proxies stand before the edge: only what a trusted proxy says counts.

    X-Forwarded-For: 6.6.6.6, 198.51.100.7, 10.0.0.2        peer 10.0.0.3, trusted 10.0.0.0/8
                     ▲ anybody writes  ▲ the client ▲ ours

Each proxy adds the address that it saw at the right, so the right-most one that is not a trusted
proxy is the client; everything left of it was written by the client. An address that cannot be
read ends the walk at the proxy that passed it on. If `Forwarded` is there as well and names
somebody else, neither is believed: one of them came from the client.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

BYTES_MAX = 2_000
HOPS_MAX = 32
_ELEMENT = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+')
_FOR = re.compile(r'(?:^|;)[ \t]*for=(?:"([^"\\]*)"|([^;"\s]*))[ \t]*(?=;|$)', re.IGNORECASE)
_PORT = re.compile(r"\[([0-9a-fA-F:.]+)\](?::\d{1,5})?|([0-9.]+):\d{1,5}")


class Proxies:
    """The proxies that are believed; by default none."""

    def __init__(self, trusted: Sequence[Network]) -> None:
        self._trusted = tuple(trusted)

    def address_of(self, peer: str, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """The client's address."""
        if not self._trusts_text(peer):
            return peer
        plain, standard = lines(headers, b"x-forwarded-for"), lines(headers, b"forwarded")
        named = [
            self._walk(peer, hops(text, reader))
            for text, reader in ((plain, x_forwarded_for), (standard, forwarded))
            if text is not None
        ]
        return named[0] if len(set(named)) == 1 else peer

    def secure(self, peer: str, scheme: str, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether the client's own connection is encrypted."""
        if self._trusts_text(peer):
            told = lines(headers, b"x-forwarded-proto")
            if told is not None:
                return told.rpartition(",")[2].strip().lower() in ("https", "wss")
        return scheme in ("https", "wss")

    def _walk(self, peer: str, addresses: Iterable[Address | None]) -> str:
        client = peer
        for address in addresses:
            if address is None:
                return client
            client = str(address)
            if not self._trusts(address):
                return client
        return client

    def _trusts_text(self, text: str) -> bool:
        address = read(text) if self._trusted else None
        return address is not None and self._trusts(address)

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


def lines(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    """All lines of a header as one; None if there is none."""
    found = [value for key, value in headers if key == name]
    return b",".join(found).decode("latin-1") if found else None


def hops(text: str, reader: Callable[[str], Address | None]) -> list[Address | None]:
    """The addresses in a header, from the right; None for one that cannot be read."""
    if len(text) > BYTES_MAX:
        return [None]
    return [reader(element) for element in reversed(_ELEMENT.findall(text)[-HOPS_MAX:])]


def x_forwarded_for(element: str) -> Address | None:
    """One element of `X-Forwarded-For`."""
    return read(element.strip())


def forwarded(element: str) -> Address | None:
    """One element of `Forwarded` (RFC 7239)."""
    named = _FOR.findall(element.strip())
    return read(named[0][0] or named[0][1]) if len(named) == 1 else None


def read(text: str) -> Address | None:
    """An address, with or without a port; None if it is none."""
    match = _PORT.fullmatch(text)
    plain = (match[1] or match[2]) if match else text
    try:
        address = ip_address(plain) if "%" not in plain else None
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address
