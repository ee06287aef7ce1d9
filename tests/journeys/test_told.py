"""What was left out is told: by train, evaluate, add and observe, in words and as JSON; and every stage ends."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from sensorium import cli, say
from sensorium.checks.worlds import write_demo
from sensorium.progress import Bars, Lines


def called(monkeypatch, *words: object) -> int:
    """The exit code of a command line, run in this process."""
    monkeypatch.setattr(sys, "argv", ["sensorium", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0)


def tables(folder: Path) -> list[str]:
    return ["--items", str(folder / "items.csv"), "--events", str(folder / "events.csv")]


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory) -> Path:
    """A world with seven rows without an id, sounds that are none, a picture that is not there, and one run."""
    folder = tmp_path_factory.mktemp("spoilt")
    write_demo(folder, items=24, people=24)
    with (folder / "items.csv").open("a", encoding="utf-8") as file:
        file.write(",x,,,,,,,,,,\n" * 4)
    with (folder / "events.csv").open("a", encoding="utf-8") as file:
        file.write("p001,,view,,,\n" * 3)
    for place, path in enumerate(sorted(folder.glob("media/*.wav"))):
        path.write_bytes(b"no sound %d" % place)
    sorted(folder.glob("media/*.jpg"))[0].unlink()
    return folder


@pytest.fixture
def here(monkeypatch, spoilt) -> Path:
    monkeypatch.chdir(spoilt)
    monkeypatch.setenv("SENSORIUM_CACHE", str(spoilt / "cache"))
    return spoilt


def test_train_and_evaluate_tell_in_words(monkeypatch, capsys, here):
    sounds = len(list(here.glob("media/*.wav")))
    for words in (
        ["train", *tables(here), "--model", "itemknn", "--out", "run"],
        ["evaluate", *tables(here), "--model", "itemknn", "--no-knockout", "--json", "out.json"],
    ):
        assert called(monkeypatch, *words) == 0
        told = capsys.readouterr().out
        assert "items.csv: item_id is id; title is title, text" in told
        assert "rejected 4 rows: no id" in told
        assert "rejected 3 rows: no item" in told
        assert "items.csv, line 26: no id" in told
        assert f"and 2 more; see: sensorium inspect {' '.join(tables(here))}" in told
        assert "missing 1 media file\n" in told
        assert "  audio              0 of 24 items" in told
        assert f"left out: and {sounds - say.FIRST} more" in told
    read = json.loads((here / "out.json").read_text("utf-8"))["read"]
    assert read["rejected"] == 7
    assert sorted(read["reasons"].values()) == [3, 4]
    assert read["counts"]["items"] == 24
    assert read["missing"] == 1


def test_add_observe_refresh_and_forget_tell_too(monkeypatch, capsys, here):
    assert called(monkeypatch, "train", *tables(here), "--model", "itemknn", "--out", "run2", "--quiet") == 0
    assert capsys.readouterr() == ("", "")
    (here / "new.csv").write_text("item_id,title\nnew,A quiet train\n,nameless\n", "utf-8")
    (here / "today.csv").write_text("user_id,item_id\np001,new\np001,\n", "utf-8")
    assert called(monkeypatch, "add", "run2", "--items", here / "new.csv") == 0
    assert "rejected 1 row: no id" in capsys.readouterr().out
    assert called(monkeypatch, "observe", "run2", "--events", "today.csv") == 0
    told = capsys.readouterr().out
    assert "rejected 1 row: no item" in told
    assert "1 event noted" in told
    for words in (
        ["add", "run2", "--items", here / "new.csv"], ["observe", "run2", "--events", "today.csv"], ["refresh", "run2"],
        ["forget", "run2", "--user", "p001"],
    ):  # fmt: skip
        assert called(monkeypatch, *words, "--json") == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert lines[-1]["stage"] == "done"
        assert "problems" in lines[-1]
        assert lines[-1].get("read", {"rejected": 1})["rejected"] == 1
        assert all(line["done"] == line["total"] for line in lines[:-1])
    for words in (["recommend", "run2", "--like", "new"], ["search", "run2", "train"]):
        assert called(monkeypatch, *words, "--quiet") == 0
        assert "note:" not in capsys.readouterr().out


def test_what_auto_left_out_is_told_wherever_its_trials_are(monkeypatch, capsys, here):
    recipe = (here / "demo.toml").read_text("utf-8")
    short = '\n[recommender]\nname = "auto"\nbudget_seconds = 0.1\nuse = ["popularity", "sequence"]\n'
    (here / "short.toml").write_text(f"{recipe}{short}", "utf-8")
    told = "of the budget of 0.1 s; raise recommender.budget_seconds"
    assert called(monkeypatch, "train", "short.toml", "--out", "short") == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("left out: "))
    assert line.startswith("left out: sequence: about ")
    assert told in line
    assert called(monkeypatch, "train", "short.toml", "--out", "short", "--json") == 0
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told in done["left_out"]["sequence"]
    assert [trial["name"] for trial in done["trials"]] == ["popularity", "blend"]
    files = ["--json", "short.json", "--report", "short.html"]
    assert called(monkeypatch, "evaluate", "short.toml", "--no-knockout", *files) == 0
    assert told in capsys.readouterr().out
    assert told in json.loads((here / "short.json").read_text("utf-8"))["results"][0]["left_out"]["sequence"]
    assert told in (here / "short.html").read_text("utf-8")


def test_the_recipe_answers_where_an_option_is_left_out(monkeypatch, capsys, here):
    recipe = (here / "demo.toml").read_text("utf-8")
    (here / "usual.toml").write_text(f"{recipe}\n[answer]\nk = 3\n", "utf-8")
    assert called(monkeypatch, "train", here / "usual.toml", "--model", "popularity", "--out", "usual", "--quiet") == 0
    for words, count in (([], 3), (["-k", "2"], 2), (["--k", "4"], 4)):
        assert called(monkeypatch, "recommend", "usual", *words, "--json") == 0
        assert len(json.loads(capsys.readouterr().out)["items"]) == count


def test_a_table_is_no_recipe_and_a_seed_is_no_negative(monkeypatch, capsys, here):
    assert called(monkeypatch, "train", "items.csv") == 2
    assert "give tables with --items FILE --events FILE" in capsys.readouterr().err
    assert called(monkeypatch, "train", "demo.toml", "--seed", "-3") == 2
    assert capsys.readouterr().err.count("\n") == 1


STEPS = [
    ("read", 0, 0), ("read items", 0, 0), ("read users", 0, 0), ("read", 1, 1), ("encode text", 0, 9),
    ("encode text", 9, 9), ("encode text", 0, 9), ("encode text", 9, 9), ("encode text", 5, 5), ("tune", 0, 0),
    ("train", 0, 0), ("train", 1, 1),
]  # fmt: skip


def test_every_stage_that_begins_ends(capsys):
    with Lines() as show:
        for step in STEPS:
            show(*step)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["stage"], line["done"], line["total"]) for line in lines] == [
        ("read items", 1, 1), ("read users", 1, 1), ("read", 1, 1), ("encode text", 9, 9), ("encode text", 9, 9),
        ("encode text", 5, 5), ("tune", 1, 1), ("train", 1, 1),
    ]  # fmt: skip
    assert lines[2]["seconds"] >= max(lines[0]["seconds"], lines[1]["seconds"])


def test_a_stage_that_begins_anew_is_a_bar_of_its_own(capsys):
    bars = Bars()
    with bars as show:
        for step in STEPS:
            show(*step)
        tasks = [(task.description, task.completed) for task in bars._display.tasks]
    assert [done for name, done in tasks if name == "encode text"] == [9, 9, 5]
    capsys.readouterr()


def test_help_of_evaluate_names_every_recommender(monkeypatch, capsys):
    from sensorium.recipe import RECOMMENDERS

    monkeypatch.setenv("COLUMNS", "300")
    called(monkeypatch, "evaluate", "--help")
    told = capsys.readouterr().out
    assert [name for name in RECOMMENDERS if name not in told] == []
    assert {".csv", ".parquet"} <= cli.TABLES
