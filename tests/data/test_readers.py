"""Reading a small world whose content is known, cell by cell, and refusing what is no table, with the line."""

import contextlib
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sensorium.data.content import Attributes, Media, Ready, Text
from sensorium.data.readers import Dataset, read, read_items
from sensorium.errors import DataError, RecipeError, SensoriumError
from sensorium.recipe import read_recipe_text, recipe_of


def world(folder: Path, recipe: str = "", **files: str | bytes) -> Dataset:
    """Writes files (`items_csv` → items.csv) and reads them, by a recipe or by their names."""
    for name, body in files.items():
        path = folder / name.replace("__", ".").replace("_", ".", 1)
        path.write_bytes(body.encode() if isinstance(body, str) else body)
    if recipe:
        return read(read_recipe_text(recipe, folder=folder, where="world.toml"))
    sections = {name: path.name for name in ("items", "users", "events") for path in sorted(folder.glob(f"{name}.*"))}
    return read(recipe_of(**sections, folder=folder))


def reasons(dataset: Dataset) -> list[tuple[str, int, str]]:
    return [(r.file, r.line, r.reason) for r in dataset.report.rejected]


def test_conventions_find_every_role(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    got = world(
        tmp_path,
        items_csv='id,Title,Overview,poster,genres,year,code_no,added\n007,"A &amp; B","<p>Once</p>",a.jpg,x|y,1999,q,2020-01-02\n'
        "8,C,,gone.jpg,,,q,\n",
        users_csv="user_id,bio,age\nu1,Likes films,33\n",
        events_csv="user_id,item_id,event,timestamp\nu2,8,view,2\nu1,007,buy,1\nu1,9,view,3\n",
    )
    assert list(got.catalog.ids) == ["007", "8", "9"], "zeros stay; an unknown item is appended"
    assert got.catalog.content["text"] == [
        Text((("Title", "A & B"), ("Overview", "Once"))),
        Text((("Title", "C"),)),
        None,
    ]
    assert got.catalog.content["image"] == [Media((tmp_path / "a.jpg",)), None, None]
    values = {"genres": ("x", "y"), "year": 1999.0, "added": 1577923200.0}
    assert got.catalog.content["attributes"][0] == Attributes(values)
    assert got.catalog.title(0) == "A & B"
    assert got.catalog.title(2) == "9"
    assert [(m.file, m.line, m.path) for m in got.report.missing] == [("items.csv", 3, "gone.jpg")]
    assert list(got.user_ids) == ["u1", "u2"]
    assert got.people.content["text"] == [Text((("bio", "Likes films"),)), None]
    assert got.events.user.tolist() == [0, 1, 0], "sorted by time"
    assert got.events.weight.tolist() == [5, 1, 1]
    assert got.report.counts["items_from_events"] == got.report.counts["users_from_events"] == 1
    assert got.report.taken["items.csv"]["genres"] == "attribute: list"
    assert got.report.taken["items.csv"]["code_no"].startswith("unused")


def test_rows_that_cannot_be_events_are_rejected_with_their_line(tmp_path):
    got = world(
        tmp_path,
        events_csv="user_id,item_id,rating,timestamp\na,x,5,10\n,x,5,11\na,,5,12\na,x,inf,13\na,y,1,-5\na,z,1,soon\na,x,5,10\nb,q,3,99\n",
    )
    by_line = {line: reason for _, line, reason in reasons(got)}
    assert set(by_line) == {3, 4, 5, 6, 7, 8}
    assert "no person" in by_line[3]
    assert "no item" in by_line[4]
    assert "finite" in by_line[5]
    assert "1970" in by_line[6]
    assert "cannot be read" in by_line[7]
    assert "copy" in by_line[8]
    assert list(got.catalog.ids) == ["x", "q"], "items of rejected rows leave no trace"
    assert got.report.counts["rejected"] == 6 == sum(got.report.reasons.values())


def test_strict_stops_at_the_first_rejected_row(tmp_path):
    (tmp_path / "events.csv").write_text("user_id,item_id\na,x\n,y\n")
    with pytest.raises(DataError, match=r"events\.csv, line 3: no person"):
        read(recipe_of(events="events.csv", folder=tmp_path), strict=True)


def test_a_rating_weighs_by_its_distance_from_the_persons_mean(tmp_path):
    got = world(tmp_path, events_csv="user_id,item_id,rating\na,x,5\na,y,3\nb,x,1\nb,y,1\n")
    assert got.events.kinds == ("rating",)
    assert got.events.weight.tolist() == [1.5, 0.5, 1, 1]  # scale 1..5, its half is 2; means 4 and 1
    assert not got.events.timed


@pytest.mark.parametrize(
    "first",
    [
        "1700000000",
        "1700000000000",
        "1700000000000000",
        "2023-11-14T22:13:20",
        "2023-11-14 22:13:20",
        "2023-11-14T22:13:20Z",
    ],
)
def test_times_are_seconds_since_1970(tmp_path, first):
    got = world(tmp_path, events_csv=f"user_id,item_id,timestamp\na,x,{first}\n")
    assert got.events.time.tolist() == [1_700_000_000.0]


def test_whole_days_written_as_numbers(tmp_path):
    got = world(tmp_path, events_csv="user_id,item_id,date\na,x,20240229\na,y,20240301\n")
    assert np.diff(got.events.time).tolist() == [86400.0]
    assert got.events.time[0] == 1709164800.0


def test_one_world_in_every_format(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"user_id": "a", "item_id": f"0{n}", "event": "view", "timestamp": 100 - n} for n in range(5)]
    lines = ["user_id,item_id,event,timestamp", *(",".join(map(str, row.values())) for row in rows)]
    body = ("\n".join(lines) + "\n").encode()
    bodies = {
        "e.csv": body, "e.tsv": body.replace(b",", b"\t"), "semi.csv": body.replace(b",", b";"), "e.csv.gz": gzip.compress(body, mtime=0),
        "e.csv.zst": pa.compress(body, codec="zstd", asbytes=True), "crlf.csv": body.replace(b"\n", b"\r\n"),
        "bom.csv": b"\xef\xbb\xbf" + body, "wide.csv": body.decode().encode("utf-16"),
        "e.jsonl": "\n".join(map(json.dumps, rows)).encode(), "quoted.csv": body.replace(b"view", b'"view"'),
        "named.csv": gzip.compress(body, mtime=0),
    }  # fmt: skip
    for name, data in bodies.items():
        (tmp_path / name).write_bytes(data)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "e.parquet")
    for name in [*bodies, "e.parquet"]:
        got = read(recipe_of(events=name, folder=tmp_path))
        assert list(got.catalog.ids) == ["00", "01", "02", "03", "04"], name
        assert got.events.item.tolist() == [4, 3, 2, 1, 0], name
        assert got.events.time.tolist() == [96, 97, 98, 99, 100], name
        assert not got.report.rejected, name


def test_several_files_are_one_log_and_a_glob_finds_them(tmp_path):
    (tmp_path / "e1.csv").write_text("user_id,item_id\na,x\n")
    (tmp_path / "e2.csv").write_text("user,item\na,y\n")
    assert read(recipe_of(events="e*.csv", folder=tmp_path)).events.item.tolist() == [0, 1]
    with pytest.raises(DataError, match="no file matches"):
        read(recipe_of(events="z*.csv", folder=tmp_path))


def test_ids_that_a_writer_made_decimal_are_whole_again(tmp_path):
    got = world(tmp_path, items_csv="item_id,title\n1,One\n", events_csv="user_id,item_id\na,1.0\nb,2.0\n")
    assert list(got.catalog.ids) == ["1", "2"]


def test_faulty_lines_cost_no_other_line(tmp_path):
    body = b'item_id,title\n1,"never closed\n2,two\n3,b\xffad\n4,four,five\n5\n6,"six ""6"""\n\n7,se\0ven\n6,again\n'
    got = world(tmp_path, items_csv=body)
    assert list(got.catalog.ids) == ["2", "6"]
    assert got.catalog.titles == ["two", 'six "6"']
    assert sorted(line for _, line, _ in reasons(got)) == [2, 4, 5, 6, 8, 9, 10]


def test_vectors_come_from_npy_and_from_lists(tmp_path):
    np.save(tmp_path / "v.npy", np.array([[1, 2], [0, 0], [3, 4]], np.float16))
    recipe = '[items]\nfiles = "items.csv"\nvectors = { look = "v.npy" }'
    got = world(tmp_path, recipe, items_csv="item_id,title\na,A\na,twice\nc,C\n")
    first, second = got.catalog.content["vector:look"]
    assert isinstance(first, Ready)
    assert first.values.tolist() == [1, 2]
    assert second.values.tolist() == [3, 4], "a rejected row takes its vector along"
    with pytest.raises(DataError, match="line up"):
        world(tmp_path, recipe, items_csv="item_id,title\na,A\n")
    alone = world(
        tmp_path,
        '[items]\nvectors = { look = "v.npy" }\n[events]\nfiles="events.csv"',
        events_csv="user_id,item_id\nu,2\nu,7\n",
    )
    assert list(alone.catalog.ids) == ["0", "1", "2", "7"]
    (tmp_path / "events.csv").unlink()
    (tmp_path / "items.csv").unlink()
    lists = world(tmp_path, items_jsonl='{"id": 1, "v": [1.0, 2.0]}\n{"id": 2, "v": [0.5, 1]}\n')
    assert lists.catalog.content["vector:v"][1].values.tolist() == [0.5, 1]


def test_a_given_split_shares_its_ids_and_its_order(tmp_path):
    (tmp_path / "train.csv").write_text("user_id,item_id,timestamp\na,x,5\nb,y,4\n")
    (tmp_path / "test.csv").write_text("user_id,item_id\na,y\nb,z\n")
    got = read(recipe_of(train="train.csv", test="test.csv", folder=tmp_path))
    assert {name: len(part) for name, part in got.given.items()} == {"train": 2, "test": 2}
    assert got.given["train"].item.tolist() == [1, 0]
    assert got.given["test"].items == 3
    assert got.events.item.tolist() == [1, 0, 1, 2], "what has no time comes after what has"


def test_a_recipe_takes_what_it_names_and_nothing_else(tmp_path):
    recipe = """
    [items]
    files = "items.csv"
    id = "key"
    text = "words"
    attributes = { n = "number" }
    [events]
    files = "events.csv"
    kinds = { stare = 2, view = 7 }
    """
    got = world(tmp_path, recipe, items_csv="key,title,words,n\na,T,W,3\nb,T2,,cheap\n",
                events_csv="user_id,item_id,event\nu,a,stare\nu,b,view\n")  # fmt: skip
    assert got.catalog.content["text"] == [Text((("words", "W"),)), None]
    assert got.catalog.titles == ["T", "T2"], "a title is printed, here it is no feature"
    assert got.events.weight.tolist() == [2, 7]
    assert any("'n'" in note and "line 3" in note for note in got.report.notes)


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        (
            '[items]\nfiles="items.csv"\ntext=["titel"]',
            r"world\.toml \[items\] text: there is no column 'titel'; did you mean 'title'",
        ),
        ('[items]\nfiles="items.csv"\nid="item"', "did you mean 'item_id'"),
        ('[items]\nfiles="gone.csv"', "there is no file"),
        ('[events]\nfiles="events.csv"\nkinds={veiw=1}', "'veiw'; did you mean 'view'"),
        ('[events]\nfiles="items.csv"', "ids of people"),
        ('[items]\nfiles="items.csv"\nvectors={a="b.npy"}', "there is no file"),
    ],
)
def test_a_wrong_name_in_a_recipe_is_an_error_that_names_the_nearest(tmp_path, recipe, says):
    with pytest.raises(SensoriumError, match=says):
        world(tmp_path, recipe, items_csv="item_id,title\na,A\n", events_csv="user_id,item_id,event\nu,a,view\n")


@pytest.mark.parametrize(
    "body",
    [b"", b"\n\n", b"\x89PNG\r\n\x1a\n" + bytes(99), b"PK\x03\x04zip", b"PAR1" + bytes(99), b"\x1f\x8bnothing",
     b"[1, 2]", gzip.compress(b"item_id\n1\n", mtime=0)[:-9], b"\x00\x01" * 99],
)  # fmt: skip
def test_what_is_no_table_is_one_clear_line(tmp_path, body):
    (tmp_path / "items.csv").write_bytes(body)
    with pytest.raises((DataError, RecipeError), match=r"items\.csv") as caught:
        read(recipe_of(items="items.csv", folder=tmp_path))
    assert "\n" not in str(caught.value)


def test_a_gzip_bomb_is_refused(tmp_path):
    (tmp_path / "items.csv.gz").write_bytes(gzip.compress(bytes(100 << 20), 6))
    with pytest.raises(DataError, match="unpacks to more than"):
        read(recipe_of(items="items.csv.gz", folder=tmp_path))


def test_more_items_are_read_as_the_recipe_says(tmp_path):
    (tmp_path / "more.csv").write_text("item_id,title\nnew,New\n")
    assert read_items(tmp_path / "more.csv", recipe_of(items="items.csv")).titles == ["New"]


def test_damaged_parquet_is_refused_or_read(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(
        pa.table({"item_id": [f"i{n}" for n in range(50)], "title": ["x", None] * 25}), tmp_path / "items.parquet"
    )
    sound = (tmp_path / "items.parquet").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        body = bytearray(sound)
        for place in rng.integers(0, len(body), 4):
            body[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "items.parquet").write_bytes(bytes(body[: len(body) - int(rng.integers(2))]))
        with contextlib.suppress(SensoriumError):
            read(recipe_of(items="items.parquet", folder=tmp_path))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.binary(max_size=300),
    head=st.sampled_from([b"", b"item_id,title\n", b'{"item_id": 1}\n', b"PAR1", b"\x1f\x8b\x08"]),
)
def test_no_bytes_crash_the_reader(tmp_path, body, head):
    (tmp_path / "items.csv").write_bytes(head + body)
    with contextlib.suppress(SensoriumError):
        got = read(recipe_of(items="items.csv", folder=tmp_path))
        assert len(got.catalog) + len(got.report.rejected) >= 1
