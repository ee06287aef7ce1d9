"""A picture by URL: where that is switched on, from public addresses alone, and no more than was meant."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable
from urllib.parse import urljoin, urlsplit

from sensorium.errors import DataError

MOST_BYTES = 16 * 2**20
SECONDS = 5.0  # for all of it, redirects included
HOPS = 3
PORTS = (80, 443)  # what else listens on a public address is nobody's picture
# IPv6 addresses that carry an IPv4 one, which may be private: NAT64, 6to4, Teredo.
_CARRIERS = tuple(ipaddress.ip_network(net) for net in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"))

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def public(address: Address) -> bool:
    """Whether an address is one of the open internet: not private, loopback, link-local, shared, reserved, multicast.

    >>> [public(ipaddress.ip_address(a)) for a in ("1.1.1.1", "10.0.0.1", "169.254.169.254", "::ffff:127.0.0.1")]
    [True, False, False, False]
    """
    inner = getattr(address, "ipv4_mapped", None) or address
    return inner.is_global and not inner.is_multicast and not any(inner in net for net in _CARRIERS)


def fetched(
    url: str, *, most: int = MOST_BYTES, seconds: float = SECONDS, ports: tuple[int, ...] = PORTS,
    permitted: Callable[[Address], bool] = public,
) -> bytes:  # fmt: skip
    """The body of a URL. **Raises** DataError where it may not be fetched, or could not be.

    A name is resolved once, every address it has must be permitted, and the connection goes to one of these very
    addresses: a name that resolves otherwise the next moment gains nothing. Each redirect is a new URL, checked alike.
    Proxies of the environment, cookies and keys are not used.
    """
    end = time.monotonic() + seconds
    for _ in range(HOPS + 1):
        status, where, body = _asked(url, end, most, ports, permitted)
        if status in (301, 302, 303, 307, 308) and where:
            url = urljoin(url, where)
            continue
        if status != 200:
            raise DataError(f"url: the answer was {status}")
        return body
    raise DataError(f"url: more than {HOPS} redirects")


def _asked(
    url: str, end: float, most: int, ports: tuple[int, ...], permitted: Callable[[Address], bool]
) -> tuple[int, str, bytes]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        host = host.encode("idna").decode() if not host.isascii() else host
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        target.encode("ascii")
    except (ValueError, UnicodeError):
        raise DataError("url: it cannot be read; write it as https://host/path, percent-encoded") from None
    if parts.scheme not in ("http", "https") or not host or parts.username is not None:
        raise DataError("url: give an http or https URL without a user")
    if port not in ports:
        raise DataError(f"url: port {port} is not allowed")
    if any(ord(letter) <= 32 or ord(letter) == 127 for letter in target + host):
        raise DataError("url: it holds blanks or control characters; percent-encode them")
    address = _resolved(host, port, permitted)
    connection = http.client.HTTPConnection(host, port, timeout=_left(end))
    try:
        plain = socket.create_connection((str(address), port), timeout=_left(end))
        connection.sock = plain
        if parts.scheme == "https":
            connection.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=host)
        connection.request(
            "GET", target, headers={"accept": "image/*", "user-agent": "sensorium", "connection": "close"}
        )
        answer = connection.getresponse()
        where = answer.headers.get("location", "")
        if answer.status != 200:
            return answer.status, where, b""
        return 200, where, _read(connection, answer, end, most)
    except (OSError, http.client.HTTPException, ssl.SSLError, ValueError) as error:
        raise DataError(f"url: it could not be fetched ({type(error).__name__})") from None
    finally:
        connection.close()


def _resolved(host: str, port: int, permitted: Callable[[Address], bool]) -> Address:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise DataError("url: its host is not known") from None
    addresses = [ipaddress.ip_address(str(one[4][0]).partition("%")[0]) for one in found]
    if not addresses or not all(map(permitted, addresses)):
        raise DataError("url: its host lies in a private, local or reserved range")
    return addresses[0]


def _read(connection: http.client.HTTPConnection, answer: http.client.HTTPResponse, end: float, most: int) -> bytes:
    pieces, total = [], 0
    while piece := answer.read1(65536):
        total += len(piece)
        if total > most:
            raise DataError(f"url: more than {most:,} bytes")
        pieces.append(piece)
        if connection.sock is not None:  # each read may take what is left of the whole
            connection.sock.settimeout(_left(end))
        else:
            _left(end)
    return b"".join(pieces)


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise DataError("url: it took too long")
    return left
