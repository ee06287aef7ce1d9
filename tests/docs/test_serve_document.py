"""docs/serve.md, read as a reader would: the server is started by its first lines, then every other block runs against it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from sensorium.checks.worlds import write_demo
from sensorium.engine import Engine

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
RUN = "runs/movies"


def renamed(folder: Path) -> None:
    """The demo world with the ids that the document speaks of: item1 …, and people 1 …."""
    write_demo(folder, items=60, people=50)
    for name in ("items.csv", "events.csv", "users.csv"):
        text = (folder / name).read_text("utf-8")
        text = re.sub(r"^p0*(\d+)(?=,)", r"\1", text, flags=re.MULTILINE)
        (folder / name).write_text(re.sub(r"\b[a-z]+-0*(\d{1,3})(?=,)", r"item\1", text), "utf-8")
    recipe = folder / "demo.toml"
    recipe.write_text(recipe.read_text("utf-8") + '\n[recommender]\nname = "content"\n', "utf-8")


@pytest.mark.slow
@pytest.mark.skipif(not all(map(shutil.which, ("bash", "curl", "openssl"))), reason="needs bash, curl, openssl")
def test_every_block_runs(tmp_path: Path) -> None:
    renamed(tmp_path / "world")
    Engine.train(tmp_path / "world" / "demo.toml", out=tmp_path / RUN, cache=tmp_path / "cache").close()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    text = (ROOT / "docs" / "serve.md").read_text("utf-8")
    (_, start), *blocks = BLOCK.findall(text.replace("8087", str(port)))
    assert len(blocks) >= 10
    (tmp_path / "sensorium").write_text(f'#!/bin/sh\nexec {sys.executable} -m sensorium.cli "$@"\n')
    (tmp_path / "sensorium").chmod(0o755)
    env = {
        **os.environ, "SENSORIUM_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT / "src"),
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "no_proxy": "127.0.0.1",
    }  # fmt: skip
    # The reader's shell would wait in the server: the key is printed first, for the others.
    start = re.sub(r"^(sensorium serve)", r"echo $SENSORIUM_API_KEY\nexec \1", start, flags=re.MULTILINE)
    with (tmp_path / "out").open("w") as out:
        server = subprocess.Popen(["bash", "-ec", start], cwd=tmp_path, env=env, stdout=out, stderr=subprocess.STDOUT)
    try:
        until_ready(server, f"http://127.0.0.1:{port}/health/ready", tmp_path / "out")
        env["SENSORIUM_API_KEY"] = (tmp_path / "out").read_text().split()[0]
        ask = next(body for language, body in blocks if body.startswith("ask()"))
        for language, body in blocks:
            words = (
                [sys.executable, "-c", body] if language == "python" else ["bash", "-eo", "pipefail", "-c", ask + body]
            )
            done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, f"{body}\n{done.stdout}\n{done.stderr}\n{(tmp_path / 'out').read_text()}"
            assert done.stdout.strip() or body == ask, body
    finally:
        server.terminate()
        server.wait(60)


def until_ready(server: subprocess.Popen[bytes], url: str, out: Path) -> None:
    begin = time.monotonic()
    while True:
        assert server.poll() is None, out.read_text()
        assert time.monotonic() - begin < 120, out.read_text()
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
