"""Whether an address leads back to this process: what is forwarded there would come in again, and go out again."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from contextlib import closing
from urllib.parse import urlsplit

from tachograph.config import Address


def leads_to(address: str, doors: Iterable[Address]) -> bool:
    """Whether an address is one of these doors of this machine."""
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        host, port = parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return False
    return port in {door.port for door in doors} and is_own_host(host)


def is_own_host(host: str) -> bool:
    """Whether a host is this machine, as far as that can be told without asking anybody."""
    host = _plain(host)
    if Address(host, 0).is_loopback or host in ("0.0.0.0", "::", _plain(socket.gethostname())):
        return True
    try:
        family, kind, _, _, where = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0]
        with closing(socket.socket(family, kind)) as bound:
            bound.bind(where)
    except (OSError, UnicodeError):
        return False  # a name, or the address of another machine
    return True


def _plain(host: str) -> str:
    """A host in one spelling: no dot at its end, and IPv4 as such where it is written as IPv6."""
    host = host.lower().rstrip(".")
    try:
        mapped = ipaddress.IPv6Address(host.partition("%")[0]).ipv4_mapped
    except ValueError:
        return host
    return str(mapped) if mapped else host
