"""The process: where it listens, what it refuses, TLS, and how it stops."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sensorium.feedback.log import Log
from sensorium.serve.app import Serving
from sensorium.serve.run import media_of, tls

KEY = "an-admin-key-of-enough-letters"
SRC = Path(__file__).resolve().parents[2] / "src"


def free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def serve(world: Path, *words: Any, key: str = KEY) -> subprocess.Popen[str]:
    env = {**os.environ, "SENSORIUM_CACHE": str(world / "cache"), "PYTHONPATH": str(SRC), "SENSORIUM_API_KEY": key}
    line = [sys.executable, "-m", "sensorium.cli", "serve", *map(str, words)]
    return subprocess.Popen(line, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@contextlib.contextmanager
def served(world: Path, *words: Any, url: str, verify: Any = True) -> Iterator[subprocess.Popen[str]]:
    """A process that is ready; it is ended whatever happens."""
    process = serve(world, *words)
    try:
        begin = time.monotonic()
        while True:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() - begin < 60
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{url}/health/ready", verify=verify).status_code == 200:
                    break
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        with process:  # closes its pipes
            pass


@pytest.fixture
def run(world: Path, tmp_path: Path) -> Path:
    shutil.copytree(world / "run", tmp_path / "movies")
    return tmp_path / "movies"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder / "cert.pem", folder / "key.pem"


def test_what_was_acknowledged_before_it_was_told_to_stop_is_on_the_disk(world: Path, run: Path) -> None:
    port = free()
    url = f"http://127.0.0.1:{port}"
    stored: list[tuple[int, int]] = []
    lost: list[str] = []

    def write(number: int) -> None:
        with httpx.Client(base_url=url, headers={"X-API-Key": KEY}) as web:
            for n in range(100_000):
                event = {"user": f"w{number}", "item": f"i{n}", "key": f"{number}-{n}"}
                try:
                    answer = web.post("/v1/events", json={"events": [event]})
                except httpx.HTTPError as error:
                    lost.append(type(error).__name__)
                    return
                if answer.status_code != 200:
                    lost.append(str(answer.status_code))
                    return
                stored.append((number, n))

    with served(world, run, "--port", port, "--grace", 10, url=url) as process:
        writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for writer in writers:
            writer.start()
        time.sleep(1.0)
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
        assert time.monotonic() - begin < 10
        for writer in writers:
            writer.join(10)
    assert process.returncode == 0, err
    assert len(stored) > 20
    assert len(lost) == 4  # each was at work until the end
    with Log(run / "log.sqlite") as log:
        kept = {entry.key for entry in log.read()}
    assert {f"{number}-{n}" for number, n in stored} <= kept
    assert len(kept) <= len(stored) + 4  # what was written and not acknowledged: at most one each
    lines = [json.loads(line) for line in err.splitlines()]
    assert [one["event"] for one in lines if one["event"] in ("ready", "stopping", "stopped")] == [
        "ready",
        "stopping",
        "stopped",
    ]
    assert not [one for one in lines if one["level"] == "error"]
    asked = [one for one in lines if one["event"] == "request" and one["route"] == "/v1/events"]
    assert len(asked) >= len(stored)
    for secret in (KEY, "w1", "i7"):
        assert secret not in err
    assert "movies" in out


def test_a_request_that_was_begun_is_finished_and_none_is_begun_after(world: Path, run: Path) -> None:
    port = free()
    url = f"http://127.0.0.1:{port}"
    got: list[int] = []

    def forget() -> None:
        got.append(httpx.delete(f"{url}/v1/users/ann", headers={"X-API-Key": KEY}, timeout=60).status_code)

    with served(world, run, "--port", port, "--grace", 60, url=url) as process:
        note = {"events": [{"user": "ann", "item": "x"}]}
        assert httpx.post(f"{url}/v1/events", json=note, headers={"X-API-Key": KEY}).status_code == 200
        asking = threading.Thread(target=forget)  # as long as a training
        asking.start()
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        if process.poll() is None:
            with pytest.raises(httpx.ConnectError):
                httpx.get(f"{url}/health/live")
        asking.join(60)
        assert process.wait(60) == 0
    assert got == [200]


def test_what_takes_longer_than_the_grace_is_cut_off(world: Path, run: Path) -> None:
    port = free()
    url = f"http://127.0.0.1:{port}"
    with (
        served(world, run, "--port", port, "--grace", 1, url=url) as process,
        socket.create_connection(("127.0.0.1", port)) as half,
    ):
        head = f"POST /v1/events HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: {KEY}\r\ncontent-length: 100\r\n\r\n"
        half.sendall(head.encode())  # and never a body
        time.sleep(0.3)
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert time.monotonic() - begin < 6


def test_tls_has_its_own_port_and_plain_stays_at_home(world: Path, run: Path, certificate: tuple[Path, Path]) -> None:
    plain, safe = free(), free()
    url = f"https://localhost:{safe}"
    words = ("--certificate", certificate[0], "--private-key", certificate[1], "--host", "0.0.0.0")
    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    with served(world, run, *words, "--port", plain, "--tls-port", safe, url=url, verify=trusting):
        answer = httpx.get(f"{url}/v1/items", headers={"X-API-Key": KEY}, verify=trusting)
        assert answer.status_code == 200
        assert "strict-transport-security" in answer.headers
        assert httpx.get(f"http://127.0.0.1:{plain}/health/live").status_code == 200
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"http://127.0.0.1:{safe}/health/live")
        home = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        assert f"0100007F:{plain:04X}" in home  # 127.0.0.1 alone
        assert f"00000000:{safe:04X}" in home
        assert f"00000000:{plain:04X}" not in home
        old = ssl.create_default_context(cafile=str(certificate[0]))
        old.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        with (
            socket.create_connection(("127.0.0.1", safe)) as raw, pytest.raises(ssl.SSLError),
        ):  # fmt: skip
            old.wrap_socket(raw, server_hostname="localhost")


def test_tls_is_of_a_version_that_is_safe(certificate: tuple[Path, Path]) -> None:
    context = tls(Serving(certificate=certificate[0], private_key=certificate[1]))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("words", "key", "why"),
    [
        (("--host", "0.0.0.0"), KEY, "needs TLS"),
        (("--host", "0.0.0.0"), "", "needs TLS .* and a key"),
        (("--certificate", "there.pem", "--private-key", "nothing.pem"), KEY, "cannot be used"),
        (("--certificate", "there.pem"), KEY, "needs both"),
        (("--cors-origin", "*"), KEY, "https://shop.example"),
        (("--log-level", "loud"), KEY, "debug, info, warning, error"),
        (("--media", "nothing"), KEY, "no such folder"),
        (("--key-file", "nothing"), KEY, "--key-file nothing: cannot be read"),
        (("--key-file", sys.executable), KEY, "it is no text"),
        ((), "short", "fewer than 16 characters"),
    ],
)
def test_it_does_not_begin_where_it_should_not(
    world: Path, run: Path, words: tuple[str, ...], key: str, why: str
) -> None:
    port = free()
    process = serve(world, run, "--port", port, *words, key=key)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "serving" not in out
    (line,) = err.splitlines()
    assert line.startswith("sensorium: ")
    assert re.search(why, line)


def test_a_port_that_is_taken_is_one_line(world: Path, run: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = serve(world, run, "--port", taken.getsockname()[1])
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "cannot be listened on" in err
    assert err.count("\n") == 1


def test_a_client_that_never_ends_its_head_is_let_go() -> None:
    import asyncio

    from sensorium.serve.run import _server, _swept

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(1.0)  # longer than a head may take
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{}"})

    async def held() -> tuple[bytes, int]:
        door = socket.create_server(("127.0.0.1", 0))
        port = door.getsockname()[1]
        server = _server(app, Serving(grace_seconds=1), None)  # type: ignore[arg-type]
        serving = asyncio.create_task(server.serve(sockets=[door]))
        while not server.started:
            await asyncio.sleep(0.01)
        sweeping = asyncio.create_task(_swept([server], 0.3))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nx: ")
        asked = asyncio.create_task(asyncio.to_thread(lambda: httpx.get(f"http://127.0.0.1:{port}/").status_code))
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        status = await asked  # who waits for an answer is not let go
        sweeping.cancel()
        server.should_exit = True
        await serving
        return b"closed", status

    assert asyncio.run(held()) == (b"closed", 200)


def test_runs_side_by_side_have_media_apart() -> None:
    assert media_of(None, "a", 2) is None
    assert media_of(Path("m"), "a", 1) == Path("m")
    assert media_of(Path("m"), "a", 2) == Path("m/a")
