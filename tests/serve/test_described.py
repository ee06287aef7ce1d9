"""The page at /docs: open, of the service's own, and able to call what is described."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import httpx

from sensorium.serve.described import FILES, HOME

if TYPE_CHECKING:
    from tests.serve.conftest import Running


def test_the_page_is_open_and_brings_nothing_from_elsewhere(server: Running) -> None:
    page = httpx.get(f"{server.url}/docs")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.headers["content-security-policy"].startswith("default-src 'self'; ")
    assert "unsafe" not in page.headers["content-security-policy"]
    named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert named == ["/docs/page.css", "/docs/page.js"]
    for path in named:
        assert httpx.get(server.url + path).status_code == 200
        assert httpx.head(server.url + path).status_code == 200
    for name, _ in FILES.values():
        text = (HOME / name).read_text("utf-8")
        assert "://" not in text
        assert not re.search(r"innerHTML|document\.write|eval\(|style=", text)
    assert httpx.get(f"{server.url}/openapi.json").status_code == 401  # what it shows is told to keys alone
    described = httpx.get(f"{server.url}/openapi.json", headers={"X-API-Key": server.key}).json()
    assert not any(path.startswith("/docs") for path in described["paths"])
