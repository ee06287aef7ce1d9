"""What the documents say is so: commands and code blocks run, recipes can be read, links lead somewhere."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from sensorium.checks.worlds import write_demo
from sensorium.recipe import read_recipe_text

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    return [text for name, text in BLOCK.findall(page.read_text("utf-8")) if name == language]


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)", prose):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{named(page)} links to {target}"


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "toml")], ids=named)
def test_recipes_can_be_read(page: Path) -> None:
    for text in blocks(page, "toml"):
        read_recipe_text(text, where=page.name)


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for page in PAGES:
        for word in re.findall(r"(?:^|`)make ([\w-]+)", page.read_text("utf-8"), re.MULTILINE):
            assert word in targets, f"{named(page)}: make {word}"


def test_the_readme_names_both_commands() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert "make demo" in text
    assert "make test" in text


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with what the README's commands speak of: items.csv, events.csv, new.csv, today.csv, user 42, item7, item9."""
    folder = tmp_path_factory.mktemp("readme")
    write_demo(folder, items=44, people=48)
    items, events = rows(folder / "items.csv"), rows(folder / "events.csv")
    ids = {row["item_id"]: f"item{place + 1}" for place, row in enumerate(items)}
    for row in items:
        row["item_id"] = ids[row["item_id"]]
    for row in events:
        row |= {"item_id": ids[row["item_id"]], "user_id": row["user_id"].lstrip("p0")}
    touched = {row["item_id"] for row in events}
    new = [row for row in items if row["item_id"] not in touched]
    write(folder / "items.csv", [row for row in items if row["item_id"] in touched])
    write(folder / "new.csv", new)
    write(folder / "events.csv", events[:-20])
    write(folder / "today.csv", events[-20:])
    (folder / "demo.toml").unlink()
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path: Path, table: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)


def command(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "SENSORIUM_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(
        words, cwd=folder, env=env, capture_output=True, text=True, timeout=540, stdin=subprocess.DEVNULL
    )


def answers_until_told_to_stop(words: list[str], folder: Path) -> None:
    """A server that is ready within a minute, and ends when it is interrupted."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {**os.environ, "SENSORIUM_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT / "src")}
    line = [sys.executable, "-m", "sensorium.cli", *words, "--port", str(port)]
    server = subprocess.Popen(line, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5) as answer:
                    assert json.load(answer)["ready"]
                break
            assert server.poll() is None, server.communicate()[1]
            time.sleep(0.1)
        else:
            pytest.fail("the server was not ready within a minute")
        server.send_signal(signal.SIGINT)
        assert server.wait(60) in (0, 130)
    finally:
        server.kill()
        server.communicate()


@pytest.mark.slow
def test_the_readmes_commands_run(place: Path) -> None:
    lines = [line for text in blocks(ROOT / "README.md", "sh") for line in text.splitlines()]
    asked = [words for line in lines if (words := shlex.split(line, comments=True)) and words[0] == "sensorium"]
    assert len(asked) >= 5
    for words in asked:
        if words[1] == "serve":
            answers_until_told_to_stop(words[1:], place)
            continue
        done = command([sys.executable, "-m", "sensorium.cli", *words[1:]], place)
        assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}\n{done.stderr}"
    figures = json.loads((place / "out.json").read_text("utf-8"))
    assert set(figures) >= {"protocol", "results", "slices", "knockout"}
    assert {"split", "seed", "users", "items", "events"} <= set(figures["protocol"])
    for row in figures["results"]:
        assert {"model", "metrics", "intervals", "fit_seconds", "evaluate_seconds", "peak_memory_mib"} <= set(row)
        assert {f"{name}@{k}" for name in ("recall", "ndcg") for k in (5, 10, 20, 50)} <= set(row["metrics"])
    page = (place / "out.html").read_text("utf-8")
    assert not re.search(r"(?:src|href)=[\"'](?:https?:)?//", page), "the report must be self-contained"


@pytest.mark.slow  # serve.md asks a server: test_serve_document.py
@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python") and p.name != "serve.md"], ids=named)
def test_python_blocks_run(page: Path, tmp_path: Path) -> None:
    for text in blocks(page, "python"):
        if "..." in text or "…" in text:  # a sketch, not a program
            continue
        done = command([sys.executable, "-c", text], tmp_path)
        assert done.returncode == 0, f"{named(page)}\n{text}\n{done.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize("example", sorted(ROOT.glob("examples/*.py")), ids=named)
def test_examples_run(example: Path, tmp_path: Path) -> None:
    done = command([sys.executable, str(example)], tmp_path)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.strip()
