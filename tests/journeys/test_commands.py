"""The commands as a person types them: what works, what is told in one line, what a kill leaves."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sensorium.checks.worlds import write_demo


def run(*words: object, cache: Path | None = None) -> subprocess.CompletedProcess[str]:
    place = {"SENSORIUM_CACHE": str(cache)} if cache else {}
    return subprocess.run(
        [sys.executable, "-m", "sensorium", *map(str, words)], capture_output=True, text=True, timeout=300,
        env={**os.environ, **place}, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands")
    write_demo(folder / "world", items=24, people=30)
    return folder


@pytest.fixture(scope="module")
def trained(world) -> Path:
    done = run(
        "train",
        world / "world/demo.toml",
        "--out",
        world / "run",
        "--model",
        "itemknn",
        "--json",
        cache=world / "cache",
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[-1]["stage"] == "done"
    assert {"read", "train"} <= {line["stage"] for line in lines}
    return world / "run"


def test_the_whole_way(world, trained, tmp_path):
    copy, cache = tmp_path / "run", world / "cache"
    shutil.copytree(trained, copy)
    first = json.loads(run("recommend", copy, "--user", "p001", "-k", 3, "--explain", "--json", cache=cache).stdout)
    assert len(first["items"]) == 3
    like = first["items"][0]["item"]
    assert run("recommend", copy, "--like", like, "--like", first["items"][1]["item"]).returncode == 0
    assert len(json.loads(run("search", copy, "slow train", "-k", 2, "--json", cache=cache).stdout)) == 2
    head = (world / "world/items.csv").read_text("utf-8").splitlines()[0]
    new = tmp_path / "new.csv"
    new.write_text(f"{head}\nfresh,A quiet train,Snow{',' * (head.count(',') - 2)}\n", "utf-8")
    done = run("add", copy, "--items", new, cache=cache)
    assert done.stdout.startswith("1 new item;"), done.stderr
    assert run("recommend", copy, "--like", "fresh", cache=cache).returncode == 0
    events = tmp_path / "today.csv"
    events.write_text(f"user_id,item_id,event\nnewcomer,{like},buy\nnewcomer,fresh,view\n", "utf-8")
    done = run("observe", copy, "--events", events)
    assert done.stdout.startswith("2 events noted"), done.stderr
    done = run("refresh", copy, cache=cache)
    assert done.stdout == "learnt from 2 new events\n", done.stderr
    done = run("forget", copy, "--user", "newcomer", "--quiet", cache=cache)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_inspect_and_evaluate(world, tmp_path):
    recipe = world / "world/demo.toml"
    assert "events" in run("inspect", recipe).stdout
    assert "taken" in json.loads(run("inspect", recipe, "--json").stdout)
    done = run(
        "evaluate", recipe, "--model", "popularity", "--no-knockout", "--json", tmp_path / "out.json", "--report",
        tmp_path / "out.html", "--quiet", cache=world / "cache",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    head, _line, row = [line for line in done.stdout.splitlines() if line.strip()]  # the figures, and nothing else
    assert (head.split()[0], row.split()[0]) == ("model", "popularity")
    figures = json.loads((tmp_path / "out.json").read_text("utf-8"))
    assert figures["results"][0]["model"] == "popularity"
    assert "ndcg@10" in figures["results"][0]["metrics"]
    assert (tmp_path / "out.html").read_text("utf-8").lower().startswith("<!doctype html")


def bad_inputs(folder: Path, trained: Path) -> dict[str, list[object]]:
    """Command lines that must each be told in one line."""
    (folder / "key.toml").write_text('sede = 1\n[events]\nfiles = "e.csv"\n', "utf-8")
    (folder / "column.toml").write_text('[events]\nfiles = "e.csv"\nuser = "usr"\n', "utf-8")
    (folder / "e.csv").write_text("user_id,item_id\na,b\n", "utf-8")
    (folder / "empty.csv").write_text("", "utf-8")
    (folder / "rubbish.csv").write_bytes(bytes(range(256)) * 40)
    (folder / "rubbish.parquet").write_bytes(b"PAR1" + bytes(range(256)) * 40)
    damaged = folder / "damaged"
    shutil.copytree(trained, damaged)
    next(damaged.glob("snapshots/*/arrays.safetensors")).write_bytes(b"no")
    out = ["--out", folder / "out"]
    return {
        "no recipe": ["train", folder / "none.toml", *out],
        "no table": ["train", "--events", folder / "none.csv", *out],
        "nothing": ["train", *out],
        "key": ["train", folder / "key.toml", *out],
        "column": ["train", folder / "column.toml", *out],
        "empty": ["train", "--events", folder / "empty.csv", *out],
        "rubbish": ["train", "--events", folder / "rubbish.csv", *out],
        "rubbish parquet": ["inspect", "--events", folder / "rubbish.parquet"],
        "model": ["train", "--events", folder / "e.csv", "--model", "easy", *out],
        "no run": ["recommend", folder],
        "damaged": ["recommend", damaged, "--user", "p001"],
        "item": ["recommend", trained, "--like", "no such"],
        "rule": ["recommend", trained, "--rule", "prize<3"],
        "forget": ["forget", trained, "--user", "no such"],
    }


def test_bad_input_is_one_line_and_exit_code_2(trained, tmp_path):
    for name, words in bad_inputs(tmp_path, trained).items():
        done = run(*words)
        told = f"{name}: {done.returncode} {done.stderr}"
        assert done.returncode == 2, told
        assert done.stderr.startswith("sensorium: "), told
        assert done.stderr.count("\n") == 1, told
        assert "Traceback" not in done.stderr, told
    assert not (tmp_path / "out").exists()
    assert run("recommend").returncode == 2
    assert run("train", "--nonsense").returncode == 2


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_stopped_training_leaves_no_half_run_and_keeps_encodings(world, tmp_path, sign, code):
    words = ["train", world / "world/demo.toml", "--out", tmp_path / "run", "--model", "itemknn", "--quiet"]
    process = subprocess.Popen(
        [sys.executable, "-m", "sensorium.cli", *map(str, words)], stderr=subprocess.PIPE, text=True,
        env={**os.environ, "SENSORIUM_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip
    until = time.monotonic() + 120
    while not any(path.is_file() for path in tmp_path.glob("cache/**/*")) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(sign)
    _, told = process.communicate(timeout=60)
    assert process.returncode == code, told
    assert "Traceback" not in told
    assert told.count("sensorium: stopped;") == (sign is signal.SIGINT)
    assert not list(tmp_path.glob("run/snapshots/*"))
    assert not (tmp_path / "run/current").exists()
