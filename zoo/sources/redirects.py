"""Requests whose redirects lead from a public address to public addresses only.

A declaration is a stranger's, and so is what its address answers: a redirect to ``http://127.0.0.1`` or to a cloud's
metadata service would have this machine fetch what only this machine may see.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from zoo.errors import ZooError

MOST = 5
"""Redirects that are followed."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@contextmanager
def requested(method: str, url: str, headers: Mapping[str, str], *, public: bool) -> Iterator[Any]:
    """Make a request and follow its redirects; the answer's body is read as it comes.

    Args:
        method: ``GET`` or ``HEAD``.
        url: where to ask first.
        headers: sent to each address on the way.
        public: refuse a redirect to a host that is not a public one.

    Yields:
        The answer.

    Raises:
        ZooError: a redirect leads where none may lead, or there are too many.
    """
    from huggingface_hub import constants, get_session

    session, timeout = get_session(), constants.HF_HUB_DOWNLOAD_TIMEOUT
    if not public:
        with session.stream(method, url, headers=dict(headers), timeout=timeout, follow_redirects=True) as answer:
            yield answer
        return
    at = url
    for _ in range(MOST + 1):
        with session.stream(method, at, headers=dict(headers), timeout=timeout, follow_redirects=False) as answer:
            if answer.status_code not in (301, 302, 303, 307, 308) or "location" not in answer.headers:
                yield answer
                return
            at = _target(answer, at)
    raise ZooError(f"{_host(url)} redirects more than {MOST} times; is the declared address still right?")


def _target(answer: Any, before: str) -> str:
    """Check where a redirect leads."""
    try:
        target = str(answer.url.join(answer.headers["location"]))
        parts = urlsplit(target)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ZooError(f"{_host(before)} redirects to something that is not an address; refused") from None
    secure = before.startswith("https:")
    if parts.scheme not in ("http", "https") or not host or (secure and parts.scheme != "https"):
        raise ZooError(f"{_host(before)} redirects to {target[:100]!r}, which is not a web address as safe; refused")
    if not is_public(host, port or (443 if parts.scheme == "https" else 80)):
        raise ZooError(
            f"{_host(before)} redirects to {host[:100]!r}, a host of this machine or of a private network; refused"
        )
    return target


def is_public(host: str, port: int) -> bool:
    """Tell whether every address that a host name stands for is a public one; a name that stands for none is not."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return bool(addresses) and all(_is_public_address(str(entry[4][0])) for entry in addresses)


def _is_public_address(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            address = inner
    return address.is_global and not address.is_multicast


def _host(url: str) -> str:
    """Name the host alone: an address may carry a password."""
    try:
        return (urlsplit(url).hostname or "the address")[:100]
    except ValueError:
        return "the address"
