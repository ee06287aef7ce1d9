"""What the command line prints: other people's words as they are, one line for what was mistyped, nothing overwritten."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sensorium import cli, results, say
from sensorium.checks.worlds import write_demo
from sensorium.engine import Found
from sensorium.errors import DataError, RecipeError


def called(monkeypatch, *words: object) -> int:
    """The exit code of a command line, run in this process."""
    monkeypatch.setattr(sys, "argv", ["sensorium", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0)


def test_titles_are_no_markup(capsys):
    titles = ["Song [live]", "End [/nope]", "[bold red]loud", "a :smile: b", "back\\[slash"]
    say.search([Found(f"i{place}", title, 1.0, "text") for place, title in enumerate(titles)])
    printed = capsys.readouterr().out
    for title in titles:
        assert title in printed


@pytest.mark.parametrize("command", ["train", "evaluate", "recommend", "search"])
def test_help_names_every_default(monkeypatch, capsys, command):
    monkeypatch.setenv("COLUMNS", "300")
    assert called(monkeypatch, command, "--help") == 0
    assert "[default: $SENSORIUM_CACHE" in capsys.readouterr().out


def test_help_of_train_says_where_the_seed_comes_from(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "300")
    called(monkeypatch, "train", "--help")
    told = capsys.readouterr().out
    assert "[default: the recipe's, or 0]" in told
    assert "[default: the recipe's, or auto]" in told


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--nonsense"], ["recommend"], ["nonsense"], ["recommend", "r", "-k", "many"],
        ["recommend", "r", "--diversity", "3"], ["demo", "a", "b"], ["demo", "d", "--seed", "-3"],
    ],
)  # fmt: skip
def test_a_mistyped_command_is_one_line(monkeypatch, capsys, tmp_path, words):
    monkeypatch.chdir(tmp_path)
    assert called(monkeypatch, *words) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("sensorium: ")
    assert told.err.count("\n") == 1
    assert "seed" in told.err or "; see: sensorium" in told.err


def test_an_interrupt_is_told(monkeypatch, capsys):
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_open", stop)
    assert called(monkeypatch, "recommend", "anywhere") == 130
    told = capsys.readouterr().err
    assert told.startswith("sensorium: stopped;")
    assert told.count("\n") == 1


def test_no_words_at_all_give_the_help():
    done = subprocess.run([sys.executable, "-m", "sensorium.cli"], capture_output=True, text=True, timeout=60)
    assert "Usage" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def untouched(monkeypatch):
    """Reading, which must not begin."""

    def begin(*_: object, **__: object) -> None:
        raise AssertionError("the work began")

    for place in (
        "sensorium.build.gather",
        "sensorium.build.read",
        "sensorium.data.readers.read",
        "sensorium.cli._recipe",
    ):
        monkeypatch.setattr(place, begin)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["train", "r.toml", "--out", "/proc/x"], "/proc/x: cannot be written"),
        (["train", "r.toml", "--out", "file"], "file: is a file"),
        (["train", "r.toml", "--out", "file/run"], "file is a file, no folder"),
        (["evaluate", "r.toml", "--json", "/proc/x.json"], "/proc/x.json: cannot be written"),
        (["evaluate", "r.toml", "--json", "file/x.json"], "file is a file, no folder"),
        (["evaluate", "r.toml", "--report", "folder"], "folder: is a folder"),
        (["inspect", "r.toml", "--report", "folder"], "folder: is a folder"),
    ],
)
def test_places_are_checked_before_the_work(monkeypatch, capsys, tmp_path, untouched, words, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    assert called(monkeypatch, *words) == 2
    assert told in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_write_that_fails_leaves_no_draft(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="folder: cannot be written"):
        results.write(tmp_path / "folder", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_demo_overwrites_nothing_but_a_demo(tmp_path):
    (tmp_path / "items.csv").write_text("mine", "utf-8")
    with pytest.raises(DataError, match="no generated world"):
        write_demo(tmp_path, items=3, people=3)
    assert (tmp_path / "items.csv").read_text("utf-8") == "mine"
    with pytest.raises(RecipeError, match="seed -3"):
        write_demo(tmp_path / "new", seed=-3)
    assert not (tmp_path / "new").exists()
    write_demo(tmp_path / "new", items=30, people=3)
    write_demo(tmp_path / "new", items=30, people=3)
