"""What tests of several rooms share: a small run, a PostgreSQL server where its programs are installed; and no test is timed."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # a busy machine is no defect
settings.load_profile("untimed")

SETTINGS = {"listen_addresses": "", "shared_buffers": "16MB", "max_connections": "60", "autovacuum": "off"}


MEMORY = Path("/dev/shm")  # what a kill leaves is the same there as on a disk, and a sync costs nothing


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A folder with a small demo world, a run that was trained on it in a moment, and its cache."""
    from sensorium.checks.worlds import write_demo
    from sensorium.engine import Engine

    folder = tmp_path_factory.mktemp("small")
    write_demo(folder / "world", items=36, people=40)
    recipe = (folder / "world" / "demo.toml").read_text() + '\n[recommender]\nname = "popularity"\n'
    (folder / "world" / "fast.toml").write_text(recipe)
    Engine.train(folder / "world" / "fast.toml", out=folder / "run", cache=folder / "cache").close()
    return folder


@pytest.fixture
def run(world, tmp_path) -> Path:
    """A run of its own for each test."""
    shutil.copytree(world / "run", tmp_path / "run")
    return tmp_path / "run"


def quick() -> Path | None:
    """A folder in memory, where there is one."""
    return MEMORY if os.access(MEMORY, os.W_OK) else None


class Server:
    """A PostgreSQL in a temporary folder, reached by a socket in it; it does not run as root, so there another user does."""

    def __init__(self, programs: Path) -> None:
        self.programs = programs
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir=quick() or "/tmp"))  # a socket's path must be short
        self.user = None
        if os.geteuid() == 0:
            self.user = pwd.getpwnam("postgres").pw_name
            os.chown(self.folder, pwd.getpwnam(self.user).pw_uid, -1)
        self._numbers = itertools.count()
        words = ["-D", self.folder / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        self._call("initdb", words).communicate()
        self.start()

    def _call(self, program: str, words: list) -> subprocess.Popen:
        return subprocess.Popen(
            [self.programs / program, *words], user=self.user, cwd=self.folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, extra_groups=[] if self.user else None,
        )  # fmt: skip

    def start(self) -> None:
        words = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
        self._process = self._call("postgres", ["-D", self.folder / "data", "-k", self.folder, *words])
        self.wait()

    def wait(self) -> None:
        """Until it answers."""
        import psycopg

        until = time.monotonic() + 60
        while True:
            try:
                return psycopg.connect(self.dsn("postgres")).close()
            except psycopg.OperationalError:
                if time.monotonic() > until or self._process.poll() is not None:
                    raise
                time.sleep(0.05)

    def kill(self) -> None:
        """Everything stops at once; nothing is tidied up."""
        self._process.send_signal(3)  # SIGQUIT: its children die, too
        self._process.wait(30)

    def dsn(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def fresh(self) -> str:
        """The DSN of an empty database."""
        import psycopg

        name = f"test{next(self._numbers)}"
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as base:
            base.execute(f"CREATE DATABASE {name}")
        return self.dsn(name)

    def close(self) -> None:
        if self._process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A running server. Skips where none can be started."""
    pytest.importorskip("psycopg")
    found = shutil.which("initdb") or next(
        map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))[::-1]), None
    )
    if found is None:
        pytest.skip("PostgreSQL is not installed here")
    try:
        running = Server(Path(found).resolve().parent)
    except Exception as error:
        pytest.skip(f"no PostgreSQL server can be started here ({type(error).__name__})")
    yield running
    running.close()


@pytest.fixture
def database(server: Server) -> str:
    """The DSN of a database of this test's own."""
    return server.fresh()


@pytest.fixture(params=["sqlite", "postgres"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where a store of each kind may be opened."""
    return tmp_path / "log.db" if request.param == "sqlite" else request.getfixturevalue("database")


@pytest.fixture
def memory() -> Iterator[Path]:
    """A temporary folder whose syncs cost nothing, for tests that count them and do not cut the power."""
    with tempfile.TemporaryDirectory(dir=quick()) as folder:
        yield Path(folder)
