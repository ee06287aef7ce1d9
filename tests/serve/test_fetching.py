"""Pictures by URL: nothing private is reached, whatever names, redirects or encodings say, and nothing goes on for ever."""

from __future__ import annotations

import http.server
import ipaddress
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from sensorium.errors import DataError
from sensorium.serve.fetching import fetched, public

REFUSED = (
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
    "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:10.0.0.1", "64:ff9b::7f00:1",
    "2002:7f00:1::", "2001:0:1::1", "198.18.0.1", "192.0.2.1", "2001:db8::1",
)  # fmt: skip


@pytest.mark.parametrize("address", REFUSED)
def test_ranges_that_are_not_the_open_internet_are_refused(address: str) -> None:
    assert not public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111"])
def test_public_addresses_are_not(address: str) -> None:
    assert public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://127.0.0.1/", "private"), ("http://localhost/", "private"), ("http://2130706433/", "private"),
        ("http://0x7f.1/", "private"), ("http://[::1]/", "private"), ("http://[::ffff:127.0.0.1]/", "private"),
        ("file:///etc/passwd", "http or https"), ("ftp://example.com/a", "http or https"), ("http:///a", "http or https"),
        ("http://user:word@example.com/", "without a user"), ("http://127.0.0.1:22/", "port 22"),
        ("http://127.0.0.1:99999/", "cannot be read"), ("http://1.1.1.1/a\r\nX: y", "http|blanks|cannot"),
        ("http://no-such-host.invalid/", "not known"), ("nonsense", "http or https"), ("http://[::1", "cannot be read"),
    ],
)  # fmt: skip
def test_a_url_that_may_not_be_fetched_is_told(url: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        fetched(url, seconds=2.0)


def test_every_address_of_a_name_counts_and_it_is_resolved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def resolved(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        return [(2, 1, 6, "", (a, port)) for a in ("1.1.1.1", "10.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    monkeypatch.setattr(socket, "create_connection", lambda *a, **k: pytest.fail("it must not connect"))
    with pytest.raises(DataError, match="private"):
        fetched("http://two-faced.example/")
    assert asked == ["two-faced.example"]


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("location", self.path.removeprefix("/to/").replace("|", ":"))
            self.end_headers()
            return
        self.send_response(404 if self.path == "/none" else 200)
        self.end_headers()
        if self.path == "/drip":
            for _ in range(100):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.1)
        elif self.path == "/big":
            self.wfile.write(b"x" * 3_000_000)
        else:
            self.wfile.write(b"a picture")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_what_is_permitted_is_fetched_and_bounded(port: int) -> None:
    here = {"ports": (port,), "permitted": lambda address: str(address) == "127.0.0.1"}
    base = f"http://127.0.0.1:{port}"
    assert fetched(f"{base}/a.png", **here) == b"a picture"
    assert fetched(f"{base}/to//a.png", **here) == b"a picture"
    with pytest.raises(DataError, match="private"):  # the redirect is a new URL, and checked alike
        fetched(f"{base}/to/http|//127.0.0.2|{port}/a.png", **here)
    with pytest.raises(DataError, match="http or https"):
        fetched(f"{base}/to/file|///etc/passwd", **here)
    with pytest.raises(DataError, match="3 redirects"):
        fetched(f"{base}/to//to//to//to//a.png", **here)
    with pytest.raises(DataError, match="404"):
        fetched(f"{base}/none", **here)
    with pytest.raises(DataError, match="1,000 bytes"):
        fetched(f"{base}/big", most=1000, **here)
    begin = time.monotonic()
    with pytest.raises(DataError, match=r"too long|could not"):
        fetched(f"{base}/drip", seconds=0.5, **here)
    assert time.monotonic() - begin < 2
