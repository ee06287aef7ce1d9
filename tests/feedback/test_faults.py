"""A disk that fails or is full: no acknowledgement without a sync, reads go on, and writes when there is room again."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sensorium.errors import SnapshotError
from sensorium.feedback.commit import Committer
from sensorium.feedback.log import Log
from sensorium.feedback.store import Entry

HERE = Path(__file__).parent
ALWAYS = 1_000_000  # calls: until the disk is repaired, or there is room again


def entry(item="a", **more):
    return Entry("ann", item, "view", 1.0, **more)


@pytest.fixture(scope="module")
def faults(tmp_path_factory) -> Path:
    if sys.platform != "linux" or shutil.which("gcc") is None:
        pytest.skip("needs Linux and gcc")
    library = tmp_path_factory.mktemp("faults") / "faults.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, HERE / "faults.c", "-ldl"], check=True)
    return library


def run(faults: Path, *words) -> subprocess.CompletedProcess:
    environment = {**os.environ, "LD_PRELOAD": str(faults)}
    command = [sys.executable, HERE / "faulted.py", *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("times", [1, ALWAYS], ids=["once", "from there on"])
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=["broken", "full"])
def test_an_error_at_every_write_and_sync(faults, memory, error, times):
    done = run(faults, "every", memory, error, times)
    assert done.returncode == 0, done.stderr
    met = json.loads(done.stdout)
    assert (met["unsynced"], met["lines"]) == (0, 0)
    assert met["calls"] > 20
    assert met["refused"] >= 10
    assert met["acknowledged"] > met["calls"]


def test_without_full_synchronisation_the_same_test_sees_acknowledgements_without_a_sync(faults, memory):
    met = json.loads(run(faults, "every", memory, errno.EIO, 1, "NORMAL").stdout)
    assert met["unsynced"] > 20


def test_a_kill_at_every_write_and_sync(faults, memory):
    done = run(faults, "dying", memory)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kills"] > 30


def test_a_full_disk_refuses_writers_and_lets_them_in_again(tmp_path):
    """Through the group commit: every waiting writer is told, and none of them is stored."""
    with Log(tmp_path / "log.db") as log:
        log.append([entry()])
        pages = log._one("PRAGMA page_count")
        log._base.execute(f"PRAGMA max_page_count = {pages + 1}")
        committer = Committer(log)
        answers = [committer.submit([entry(f"b{n}", text="x" * 9000)]) for n in range(8)]
        for answer in answers:
            with pytest.raises(SnapshotError, match="full"):
                answer.result(20)
        assert [e.item for e in log.read()] == ["a"]
        small = committer.append([entry("c")])
        assert small == [2]
        log._base.execute("PRAGMA max_page_count = 100000")
        assert committer.append([entry("d", text="x" * 9000)]) == [3]
        committer.close()
        assert [e.item for e in log.read()] == ["a", "c", "d"]
