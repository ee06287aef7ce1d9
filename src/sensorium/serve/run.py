"""From runs on the disk to ports that answer, until the process is told to stop; then what was begun is finished."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sensorium.arrays import one_blas_thread
from sensorium.errors import RecipeError
from sensorium.serve.app import Serving, application, loopback
from sensorium.serve.guards import Guards
from sensorium.serve.logs import listen, tell
from sensorium.serve.service import Service
from sensorium.serve.workers import bound

LEAST_TLS = ssl.TLSVersion.TLSv1_2
HEAD_SECONDS = 30.0  # that a client may take for the head of a request


def run(
    folders: Mapping[str, Path], serving: Serving, *, cache: Path | None = None, first_key: str = "", told: str = ""
) -> None:
    """Serves runs by name until SIGTERM or SIGINT; then it accepts nothing more, and finishes within the grace. `told` is
    printed once it listens.

    **Raises** RecipeError where strangers could reach it, a port is taken, or a certificate cannot be used, before
    anything is answered; SnapshotError for a run that cannot be opened.
    """
    listen(serving.log_level)
    traces = None
    if serving.traces:
        from sensorium.serve.traces import Traces

        traces = Traces(serving.traces)
    services: dict[str, Service] = {}
    with contextlib.ExitStack() as opened:
        for name, folder in folders.items():
            services[name] = Service(
                folder, cache=cache, first_key=first_key, media=media_of(serving.media, name, len(folders)), fetch=serving.fetch,
                encoder_seconds=serving.encoder_seconds, schedule=serving.schedule,
            )  # fmt: skip
            opened.callback(services[name].close)
        opened.enter_context(one_blas_thread())  # answers are small products: threads would wait for each other
        keyed = any(service.keys.any for service in services.values())
        serving.checked(keyed)
        doors = _doors(serving)
        if told:
            print(told, flush=True)
        for door, _ in doors:
            opened.callback(door.close)
        app = application(services, serving, traces=traces, hosts=loopback(serving, keyed))
        servers = [(_server(app, serving, context), door) for door, context in doors]
        lasting = opened.pop_all()  # the servers close them; held, or the limit of threads would end with it
    with asyncio.Runner(loop_factory=_loop()) as runner:
        whole = runner.run(_served(app, servers, serving))
        if traces is not None:
            traces.close()
        if not whole:  # a training, or an encoder that hangs: its thread would hold the process up
            tell("stopped before everything was finished; what was acknowledged is on the disk", logging.WARNING)
            logging.shutdown()
            os._exit(0)
    del lasting
    tell("stopped")


def media_of(media: Path | None, name: str, runs: int) -> Path | None:
    """Where the media of a run may lie: beside others only in a folder of its own, lest it name theirs."""
    return media if media is None or runs == 1 else media / name


async def _served(app: Guards, servers: list[tuple[Any, socket.socket]], serving: Serving) -> bool:
    """Whether all that was begun was finished."""
    told: list[float] = []

    def stop() -> None:
        if not told:
            tell("stopping", grace_seconds=serving.grace_seconds)
        told.append(time.monotonic())
        for server, _ in servers:
            server.should_exit = True
            server.force_exit = len(told) > 2  # who insists does not wait for open connections

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    app.tenants.begin()
    tell("listening", ports=[door.getsockname()[1] for _, door in servers], tenants=[*app.tenants.services])
    beside = [asyncio.create_task(_swept([server for server, _ in servers]))]
    await asyncio.gather(*(server.serve(sockets=[door]) for server, door in servers))
    for task in beside:
        task.cancel()
    left = serving.grace_seconds - (time.monotonic() - (told[0] if told else time.monotonic()))
    return await app.tenants.end(max(left, 1.0))


async def _swept(servers: list[Any], seconds: float = HEAD_SECONDS) -> None:
    """Closes connections on which no whole head of a request came for so long; uvicorn waits for it for ever."""
    quiet: dict[Any, tuple[Any, float]] = {}  # connection → its last request, and since when that is over
    while True:
        await asyncio.sleep(seconds / 6)
        now = time.monotonic()
        before, quiet = quiet, {}
        for connection in [one for server in servers for one in server.server_state.connections]:
            request = getattr(connection, "cycle", None)
            if request is not None and not request.response_complete:
                continue
            last, since = before.get(connection, (request, now))
            quiet[connection] = (request, since if last is request else now)
            if now - quiet[connection][1] > seconds:
                connection.transport.abort()


def _doors(serving: Serving) -> list[tuple[socket.socket, ssl.SSLContext | None]]:
    """The sockets: the plain one beyond loopback only where that was said in plain words, or there is no TLS."""
    plain = serving.host if serving.local or serving.certificate is None else "127.0.0.1"
    doors: list[tuple[socket.socket, ssl.SSLContext | None]] = [
        (bound(plain, serving.port, shared=serving.shared), None)
    ]
    if serving.certificate is not None:
        try:
            context = tls(serving)
            doors.append((bound(serving.host, serving.tls_port, shared=serving.shared), context))
        except BaseException:
            doors[0][0].close()
            raise
    return doors


def tls(serving: Serving) -> ssl.SSLContext:
    """TLS 1.2 or newer. **Raises** RecipeError for a certificate or a key that cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = LEAST_TLS
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        assert serving.certificate is not None
        context.load_cert_chain(serving.certificate, serving.private_key, password=lambda: "")
    except (OSError, ssl.SSLError, ValueError) as error:
        why = getattr(error, "strerror", "") or str(error)
        raise RecipeError(
            f"--certificate {serving.certificate}, --private-key {serving.private_key}: cannot be used ({why})"
        ) from None
    return context


def _server(app: Guards, serving: Serving, context: ssl.SSLContext | None) -> Any:
    import uvicorn

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:  # they are for all servers, and for the services behind them
            yield

    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", server_header=False, date_header=True,
        timeout_graceful_shutdown=serving.grace_seconds, h11_max_incomplete_event_size=32 << 10,
        proxy_headers=False,
        ssl_context_factory=None if context is None else lambda config, default: context, ws="none",
    )  # fmt: skip
    return Server(config)


def _loop() -> Any:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
