"""Decoding processes: one that crashes, is killed or hangs costs its file at most, and none of them is left over."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sensorium.data.catalog import Catalog
from sensorium.data.content import IMAGE, Media
from sensorium.data.ids import Ids
from sensorium.encode.cache import Cache
from sensorium.encode.image import EfficientNetEncoder
from sensorium.encode.media import Limits
from sensorium.encode.pool import _SHARED, Decoders, Passing, TimedOut
from sensorium.encode.run import encode
from sensorium.encode.worker import READY, STARTING_SECONDS, settings
from sensorium.errors import MediaError

# Run by every fresh interpreter: a picture's name says what its decoder does.
HOSTILE = """
import os, signal, sys, time
import PIL.Image

real = PIL.Image.open

def opened(path, *rest, **named):
    name = os.path.basename(str(path))
    if "exits" in name:
        os._exit(7)
    if "killed" in name:
        os.kill(os.getpid(), signal.SIGKILL)
    if "faults" in name:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "hangs" in name:
        time.sleep(600)
    if "prints" in name:
        os.write(1, b"nobody should take this for an answer\\n")
        print("nor this", flush=True)
    if "once" in name and not os.path.exists(str(path) + ".seen"):
        open(str(path) + ".seen", "x").close()
        os._exit(7)
    return real(path, *rest, **named)

PIL.Image.open = opened
"""


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    (tmp_path / "patches").mkdir()
    (tmp_path / "patches" / "sitecustomize.py").write_text(HOSTILE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "patches"))


def picture(folder: Path, name: str) -> Path:
    path = folder / f"{name}.png"
    Image.fromarray(np.random.default_rng(list(name.encode())).integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path)
    return path


def asked(*paths: Path) -> list[dict]:
    return [{"kind": "picture", "path": str(path), "side": 8} for path in paths]


def children() -> dict[int, str]:
    """The processes that this one has started, and their states: Z is one that has ended and was never waited for."""
    found = {}
    for listed in Path("/proc/self/task").glob("*/children"):
        for pid in map(int, listed.read_text().split()):
            try:
                found[pid] = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
    return found


@pytest.fixture
def pool():
    """A pool of two processes; afterwards not one of them is there, and none is a zombie."""
    before = set(children())
    opened = Decoders(2, Limits(seconds=3.0))
    yield opened
    opened.close()
    assert set(children()) <= before


def test_a_worker_that_crashes_or_hangs_is_replaced_and_its_file_is_named(hostile, tmp_path):
    names = ["a", "exits", "b", "killed", "c", "faults", "hangs", "d", "prints", "once", "e", "f"]
    paths = [picture(tmp_path, name) for name in names]
    catalog = Catalog(Ids(names), {IMAGE: [Media((path,)) for path in paths]})
    limits, before = Limits(seconds=1.5), set(children())
    encoder = EfficientNetEncoder(limits)
    try:
        done = encode(catalog, {IMAGE: encoder}, Cache(tmp_path / "cache"))
        reasons = {problem.item: problem.reason for problem in done.problems}
        assert reasons == {
            "exits": "crashes the decoder (exit code 7)",
            "faults": "crashes the decoder (SIGSEGV)",
            "killed": "its decoder was killed from outside; is there memory enough?",
            "hangs": "takes longer than 1.5 s to decode",
        }
        bad = np.array([name in reasons for name in names])
        assert np.array_equal(done.views[IMAGE].present, ~bad)
        assert not done.views[IMAGE].values[bad].any()
        assert done.views[IMAGE].values[~bad].any(axis=1).all()
        assert "Z" not in children().values()
        # What is the file's fault is remembered; what may have been the machine's is tried again.
        for name in ("killed", "hangs"):
            os.rename(tmp_path / f"{name}.png", tmp_path / f"{name[0]}.png")
        mended = [path if path.exists() else path.with_name(f"{path.name[0]}.png") for path in paths]
        catalog = Catalog(Ids(names), {IMAGE: [Media((path,)) for path in mended]})
        again = encode(catalog, {IMAGE: encoder}, Cache(tmp_path / "cache"))
        assert {problem.item for problem in again.problems} == {"exits", "faults"}
        assert again.computed[IMAGE] == 2
    finally:
        _SHARED.pop(limits).close()
    assert set(children()) <= before


def test_a_worker_killed_while_it_is_idle_costs_nothing(pool, tmp_path):
    paths = [picture(tmp_path, f"{number}") for number in range(6)]
    before = set(children())
    first = list(pool.decode(asked(*paths)))
    for pid in set(children()) - before:
        os.kill(pid, signal.SIGKILL)
    second = list(pool.decode(asked(*paths)))
    assert all(np.array_equal(one[0], other[0]) for one, other in zip(first, second, strict=True))


def test_a_worker_killed_at_work_costs_nothing(hostile, tmp_path):
    opened = Decoders(1, Limits(seconds=60.0))
    paths = [picture(tmp_path, "once"), picture(tmp_path, "other")]
    found = list(opened.decode(asked(*paths)))
    opened.close()
    assert [one[0].shape for one in found] == [(8, 8, 3)] * 2


def test_whoever_stops_reading_waits_for_nobody(hostile, tmp_path):
    opened, before = Decoders(1, Limits(seconds=300.0)), set(children())
    reading = opened.decode(asked(picture(tmp_path, "good"), *[picture(tmp_path, f"hangs {n}") for n in range(30)]))
    assert next(reading)[0].shape == (8, 8, 3)
    reading.close()
    opened.close()
    assert set(children()) <= before
    assert next(opened.decode(asked(picture(tmp_path, "good"))))[0].shape == (8, 8, 3)  # it can be opened again
    opened.close()


def test_a_decoder_that_cannot_be_started_is_not_held_against_the_files(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text("import os; os._exit(9)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    opened = Decoders(1, Limits())
    found = list(opened.decode(asked(picture(tmp_path, "a"), picture(tmp_path, "b"))))
    opened.close()
    assert all(isinstance(one, Passing) for one in found)
    assert {type(one) for one in found} == {Passing}
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no python"))
    found = list(opened.decode(asked(picture(tmp_path, "a"))))
    opened.close()
    assert isinstance(found[0], Passing)
    assert "the decoder failed" in str(found[0])


def test_refusals_come_in_their_place(pool, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no more")
    good = picture(tmp_path, "good")
    found = list(pool.decode(asked(good, tmp_path / "broken.png", tmp_path / "gone.png", good)))
    assert [isinstance(one, MediaError) for one in found] == [False, True, True, False]
    assert not any(isinstance(one, TimedOut) for one in found)
    assert np.array_equal(found[0][0], found[3][0])


def test_a_worker_whose_parent_is_no_more_does_not_hang_for_ever(hostile, tmp_path):
    """The alarm comes when the time of a file and of a start are over: here, after one second."""
    hanging = asked(picture(tmp_path, "hangs"))[0]
    root = Path(__file__).parents[2] / "src"
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "sensorium.encode.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{os.environ['PYTHONPATH']}"},
    )
    process.stdin.write(settings(Limits(seconds=1.0 - STARTING_SECONDS)) + json.dumps(hanging).encode() + b"\n")
    process.stdin.close()
    assert process.stdout.readline() == READY + b"\n"
    assert process.wait(30) == -signal.SIGALRM
    process.stdout.close()


def test_workers_end_with_their_parent(tmp_path):
    paths = [str(picture(tmp_path, f"{number}")) for number in range(4)]
    script = (
        "import json, os, signal, sys\n"
        "from sensorium.encode.media import Limits; from sensorium.encode.pool import Decoders\n"
        "pool = Decoders(2, Limits())\n"
        "list(pool.decode([{'kind': 'picture', 'path': path, 'side': 8} for path in sys.argv[1:]]))\n"
        "print(*(process._process.pid for process in pool._processes), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, *paths], capture_output=True, text=True, timeout=60)
    pids = list(map(int, done.stdout.split()))
    assert pids, done.stderr
    until = time.monotonic() + 20
    while any(map(_runs, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(_runs, pids))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_relative_paths_are_those_of_the_asking_process(tmp_path, monkeypatch):
    from PIL import Image

    pool = Decoders(1)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8), (200 if name == "two" else 10, 0, 0)).save(tmp_path / name / "a.png")
    seen = []
    for name in ("one", "two"):
        monkeypatch.chdir(tmp_path / name)
        (found,) = pool.decode([{"kind": "picture", "path": "a.png", "side": 8}])
        seen.append(int(found[0][0, 0, 0]))
    pool.close()
    assert seen[0] < 50 < seen[1]
