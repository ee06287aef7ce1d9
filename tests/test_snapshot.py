"""A snapshot comes back as it was written, and whatever is damaged or foreign is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from sensorium import snapshot as snapshots
from sensorium.build import Material, build
from sensorium.data.catalog import Catalog
from sensorium.data.content import Attributes, Media, Text
from sensorium.data.events import Events
from sensorium.data.ids import Ids
from sensorium.data.readers import Dataset
from sensorium.data.report import Report
from sensorium.data.vectors import Vectors
from sensorium.errors import SnapshotError
from sensorium.models.itemknn import ItemKnn
from sensorium.recipe import Recipe
from sensorium.snapshot import Snapshot, plain, rebuilt


def small() -> Snapshot:
    """Four items of every kind of content, three people, and a model in closed form."""
    catalog = Catalog(
        Ids(["a", "b", "ü", "d"]),
        {
            "text": [Text((("title", "Zug\u2028im Schnee"),)), None, Text((("title", "海"),)), None],
            "image": [Media((Path("/x/a.png"),)), None, None, None],
            "attributes": [Attributes({"tags": ("x", "y"), "price": 2.5, "year": None}), None, None, None],
        },
        ["A", "", "", ""],
    )
    events = Events.of([0, 0, 1, 1, 2], [0, 1, 1, 2, 3], users=3, items=4)
    views = {"text": Vectors(np.eye(4, 3, dtype=np.float32), np.array([True, True, True, False]), "made")}
    dataset = Dataset(catalog, None, events, Ids("xyz"), Report())
    material = Material(dataset, views, {}, None, {}, {}, (), [], {}, {})
    return build(material, Recipe(recommender=ItemKnn()), chosen=ItemKnn())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


VALUES: list[Any] = [
    None, True, 3, 2.5, float("inf"), "words", (1, "a", (2.0, None)), [1, [2]], {"k": (1,)}, slice(1, 3), Path("/x"),
    Ids(["b", "a"]),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_plain_values_come_back(value):
    tree = json.loads(json.dumps(plain(value, {}, "v")))
    back = rebuilt(tree, {})
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6, dtype=np.int32).reshape(2, 3), np.array(["a", "bc"]), np.array(["a", None, "c"], object),
        np.zeros((0, 3), np.float32),
    ],
)  # fmt: skip
def test_arrays_come_back(value):
    arrays: dict[str, Any] = {}
    back = rebuilt(json.loads(json.dumps(plain(value, arrays, "v"))), arrays)
    assert back.dtype == value.dtype
    assert back.tolist() == value.tolist()


@pytest.mark.parametrize("kind", [sparse.csr_array, sparse.csc_array])
def test_sparse_matrices_come_back(kind):
    matrix = kind(np.array([[0, 1.5], [2, 0], [0, 0]], np.float32))
    arrays: dict[str, Any] = {}
    back = rebuilt(plain(matrix, arrays, "v"), arrays)
    assert isinstance(back, kind)
    assert (back.toarray() == matrix.toarray()).all()


def test_what_is_no_value_is_not_saved():
    with pytest.raises(SnapshotError, match="cannot be saved"):
        plain(object(), {}, "v")


def test_a_snapshot_comes_back_and_is_the_same_bytes_again(tmp_path):
    before = replace(small(), hidden=(2,), bare=(3,), position=7)
    snapshots.write(before, tmp_path / "one")
    after = snapshots.read(tmp_path / "one")
    assert after.catalog.content == before.catalog.content
    assert (after.position, after.hidden, after.bare, after.recommender) == (7, (2,), (3,), before.recommender)
    histories = before.events.histories([0, 1, 2])
    assert (after.model.score(histories, None) == before.model.score(histories, None)).all()
    snapshots.write(after, tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_media_in_the_run_are_found_where_it_lies_also_those_of_a_snapshot_of_before(tmp_path):
    name = "0123456789abcdef" * 2 + ".png"
    own, foreign = tmp_path / "run" / "media" / name, tmp_path / "media" / name
    before = small()
    images = [Media((own, Path("/x/a.png"))), Media((foreign,)), None, None]
    before = replace(before, catalog=replace(before.catalog, content={**before.catalog.content, "image": images}))
    place = tmp_path / "run" / "snapshots" / "000001"
    snapshots.write(before, place)
    (tmp_path / "run").rename(tmp_path / "moved")
    image = snapshots.read(tmp_path / "moved" / "snapshots" / "000001").catalog.content["image"]
    assert image[0] == Media((tmp_path / "moved" / "media" / name, Path("/x/a.png")))
    assert image[1] == Media((foreign,))
    old = tmp_path / "other" / "snapshots" / "000001"  # as it was written before: whole places throughout
    snapshots.write(before, old)
    assert str(own) in (old / "catalog.jsonl").read_text()
    assert snapshots.read(old).catalog.content["image"][0].paths[0] == own
    (tmp_path / "other" / "media").mkdir()
    (tmp_path / "other" / "media" / name).write_bytes(b"a")
    assert snapshots.read(old).catalog.content["image"][0].paths[0] == tmp_path / "other" / "media" / name


def test_what_was_read_cannot_be_changed(tmp_path):
    snapshots.write(small(), tmp_path / "one")
    with pytest.raises(ValueError, match="read-only"):
        snapshots.read(tmp_path / "one").events.user[0] = 2


@pytest.mark.parametrize("name", ["arrays.safetensors", "catalog.jsonl"])
def test_a_damaged_file_is_refused(tmp_path, name):
    snapshots.write(small(), tmp_path / "one")
    path = tmp_path / "one" / name
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(SnapshotError, match="damaged"):
        snapshots.read(tmp_path / "one")
    path.unlink()
    with pytest.raises(SnapshotError, match="missing"):
        snapshots.read(tmp_path / "one")


def signed(path: Path, manifest: dict) -> None:
    """A manifest as somebody would write who knows how its digest is made."""
    manifest.pop("digest")
    path.write_text(json.dumps({"digest": snapshots._told(manifest), **manifest}), "utf-8")


def test_a_value_flipped_inside_the_manifest_is_told(tmp_path):
    snapshots.write(small(), tmp_path / "one")
    path = tmp_path / "one" / "manifest.json"
    text = path.read_text("utf-8")
    for place in [n for n, letter in enumerate(text) if letter.isdigit()][::7]:
        path.write_text(text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :], "utf-8")
        with pytest.raises(SnapshotError):
            snapshots.read(tmp_path / "one")


def test_one_of_before_knows_nothing_of_what_was_left_out(tmp_path):
    snapshots.write(replace(small(), left_out={"ials": "over the budget"}), tmp_path / "one")
    assert snapshots.read(tmp_path / "one").left_out == {"ials": "over the budget"}
    path = tmp_path / "one" / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    del manifest["snapshot"]["left_out"]
    signed(path, manifest)
    assert snapshots.read(tmp_path / "one").left_out == {}


def test_arrays_of_the_same_bytes_are_kept_once():
    one = np.arange(6, dtype=np.float32)
    kept, same = snapshots._once({"a": one, "b": one.copy(), "c": one.astype(np.float64), "d": one.reshape(2, 3)})
    assert sorted(kept) == ["a", "c", "d"]
    assert same == {"b": "a"}


def test_a_truncated_manifest_is_refused(tmp_path):
    snapshots.write(small(), tmp_path / "one")
    path = tmp_path / "one" / "manifest.json"
    whole = path.read_bytes()
    for size in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(SnapshotError, match="not a snapshot"):
            snapshots.read(tmp_path / "one")


@pytest.mark.parametrize(
    "name",
    ["os:system", "sensorium.engine:Engine", "sensorium.models.model:Nope", "sensorium.models.ease:np", "builtins:eval",
     "sensorium.data.nowhere:X", "sensorium.data.readers:read", "sensorium.data.ids:Ids"],
)  # fmt: skip
def test_a_foreign_class_is_refused(tmp_path, name):
    snapshots.write(small(), tmp_path / "one")
    path = tmp_path / "one" / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    manifest["snapshot"]["model"]["class"] = name
    signed(path, manifest)
    with pytest.raises(SnapshotError, match="manifest names"):
        snapshots.read(tmp_path / "one")


def test_another_format_and_a_way_out_of_the_folder_are_refused(tmp_path):
    snapshots.write(small(), tmp_path / "one")
    path = tmp_path / "one" / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**manifest, "format": 99}), "utf-8")
    with pytest.raises(SnapshotError, match="format 99"):
        snapshots.read(tmp_path / "one")
    signed(path, {**manifest, "files": {"../secret": "00"}})
    with pytest.raises(SnapshotError, match="secret"):
        snapshots.read(tmp_path / "one")


def test_nothing_there_is_told(tmp_path):
    with pytest.raises(SnapshotError, match=r"no snapshot here .*; go back to another version"):
        snapshots.read(tmp_path / "none")


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(snapshots, "_flush", full)
    with pytest.raises(OSError, match="space"):
        snapshots.write(small(), tmp_path / "one")
    assert list(tmp_path.iterdir()) == []
