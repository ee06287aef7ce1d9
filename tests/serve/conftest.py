"""A small trained run, and a real server over a copy of it."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from sensorium.checks.worlds import write_demo
from sensorium.engine import Engine
from sensorium.serve.app import Serving, application
from sensorium.serve.service import Service

KEY = "an-admin-key-of-enough-letters"


@dataclass
class Running:
    """A server that answers, and the service behind it."""

    url: str
    key: str
    service: Service
    folder: Path


def train(folder: Path) -> Path:
    """A run of the demo world whose recommender goes by content, in `folder / "run"`."""
    write_demo(folder / "world", items=60, people=40)
    recipe = (folder / "world" / "demo.toml").read_text() + '\n[recommender]\nname = "content"\n'
    (folder / "world" / "near.toml").write_text(recipe)
    Engine.train(folder / "world" / "near.toml", out=folder / "run", cache=folder / "cache").close()
    return folder


@contextmanager
def running(folder: Path, run: Path) -> Iterator[Running]:
    """A server in a thread, on a free port."""
    import uvicorn

    service = Service(run, cache=folder / "cache", first_key=KEY)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = uvicorn.Config(application(service, Serving(port=port)), log_level="warning", access_log=False)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([taken],))
        thread.start()
        try:
            begin = time.monotonic()
            while not server.started:
                assert thread.is_alive()
                assert time.monotonic() - begin < 60
                time.sleep(0.02)
            yield Running(f"http://127.0.0.1:{port}", KEY, service, folder)
        finally:
            server.should_exit = True
            thread.join(60)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("world"))


@pytest.fixture
def server(world: Path, tmp_path: Path) -> Iterator[Running]:
    shutil.copytree(world / "run", tmp_path / "run")
    with running(world, tmp_path / "run") as it:
        yield it


@pytest.fixture(scope="session")
def serve() -> Callable[[Path, Path], AbstractContextManager[Running]]:
    """What runs a server over a run, for tests that stop it and start it again."""
    return running
