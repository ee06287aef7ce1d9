"""A backup is the run, made while others write; a file that is not one, or damaged, or a trap, makes no run."""

from __future__ import annotations

import json
import random
import shutil
import stat
import threading
import zipfile
from pathlib import Path

import pytest

from sensorium.backup import CONTENTS, backup, restore
from sensorium.engine import Engine
from sensorium.errors import SnapshotError
from sensorium.feedback.store import Entry
from sensorium.serve.documents import Places, row

NAMES = ("0123456789abcdef0123456789abcdef.png", "00" * 16 + ".jpg")


@pytest.fixture
def uploaded(run, tmp_path) -> Path:
    """A backup of a run with two uploads, and things beside them that are none."""
    (run / "media").mkdir()
    for place, name in enumerate(NAMES):
        (run / "media" / name).write_bytes(bytes([place]) * 3000)
    (run / "media" / f".{NAMES[0]}.7.draft").write_bytes(b"draft")
    (run / "media" / "mine.txt").write_bytes(b"mine")
    (run / "media" / ("ff" * 16 + ".png")).symlink_to("/etc/hostname")
    engine = Engine.open(run)
    backup(run, engine.store, tmp_path / "saved")
    engine.close()
    return tmp_path / "saved"


@pytest.fixture
def saved(run, tmp_path) -> Path:
    with_events(run, 30)
    engine = Engine.open(run)
    backup(run, engine.store, tmp_path / "saved")
    engine.close()
    return tmp_path / "saved"


def with_events(run: Path, number: int) -> None:
    engine = Engine.open(run)
    engine.observe([Entry("fresh", f"i{n}", "view", 1.0 + n, key=f"k{n}") for n in range(number)])
    engine.close()


def test_what_is_restored_answers_and_knows_as_the_run_did(world, run, saved, tmp_path):
    restore(saved, tmp_path / "copy")
    one, other = Engine.open(run, cache=world / "cache"), Engine.open(tmp_path / "copy", cache=world / "cache")
    assert other.store.read() == one.store.read()
    assert other.store.end == 30
    told = [[(i.item, i.score) for i in e.recommend("fresh", k=10).items] for e in (one, other)]
    assert told[0] == told[1]
    assert other.observe([Entry("fresh", "i0", "view", 1.0, key="k0"), Entry("fresh", "i0", "view", 1.0)]) == [1, 31]
    one.close(), other.close()


def test_a_backup_is_made_while_others_write_and_holds_what_was_acknowledged_before(world, run, tmp_path):
    engine, stop = Engine.open(run, cache=world / "cache"), threading.Event()
    written: list[int] = []

    def write() -> None:
        while not stop.is_set():
            written.extend(engine.observe([Entry("busy", "i1", "view", 1.0)]))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while len(written) < 20:
            pass
        before = len(written)
        backup(run, engine.store, tmp_path / "saved")
    finally:
        stop.set()
        writer.join()
        engine.close()
    restore(tmp_path / "saved", tmp_path / "copy")
    copy = Engine.open(tmp_path / "copy")
    positions = [entry.position for entry in copy.store.read()]
    assert positions == list(range(1, len(positions) + 1))
    assert len(positions) >= before
    copy.close()


def test_both_kinds_of_store_are_backed_up_and_restored(run, where, tmp_path, request):
    engine = Engine.open(run, store=where)
    engine.observe([Entry("ann", "i1", "buy", 2.0, value=3.5, text="fine\n", key="k"), Entry("bob", "i2", "view", 1.0)])
    engine.store.put("items", {"x": {"item_id": "x", "hidden": True}})
    backup(run, engine.store, tmp_path / "saved")
    home = tmp_path / "copy" / "log.sqlite" if isinstance(where, Path) else f"{where}&schema=copy"
    restore(tmp_path / "saved", tmp_path / "copy", home)
    assert (tmp_path / "copy" / "log.sqlite").exists() == isinstance(where, Path)
    copy = Engine.open(tmp_path / "copy", store=home)
    assert copy.store.read() == engine.store.read()
    assert copy.store.changed("items") == engine.store.changed("items")
    assert copy.observe([Entry("ann", "i1", "view", 3.0)]) == [3]
    if not isinstance(where, Path):
        with pytest.raises(SnapshotError, match="not empty"):
            restore(tmp_path / "saved", tmp_path / "again", home)
        assert not (tmp_path / "again").exists()
    engine.close(), copy.close()


def test_uploads_are_in_it_and_nothing_else_that_lies_beside_them(run, uploaded, tmp_path):
    told = restore(uploaded, tmp_path / "copy")
    assert {name for name in told["files"] if name.startswith("media/")} == {f"media/{name}" for name in NAMES}
    assert {path.name for path in (tmp_path / "copy" / "media").iterdir()} == set(NAMES)
    for name in NAMES:
        assert (tmp_path / "copy" / "media" / name).read_bytes() == (run / "media" / name).read_bytes()


def test_a_restored_run_learns_on_from_its_own_uploads(world, run, tmp_path):
    picture = next((world / "world" / "media").glob("*.jpg"))
    (run / "media").mkdir()
    shutil.copy(picture, run / "media" / NAMES[1])
    engine = Engine.open(run, cache=world / "cache")
    new = {"item_id": "new", "title": "A", "image": f"upload:{NAMES[1]}"}
    (tmp_path / "new.jsonl").write_text(json.dumps(row(new, engine.recipe, Places(run / "media"))))
    engine.add(tmp_path / "new.jsonl")
    backup(run, engine.store, tmp_path / "saved")
    engine.close()
    restore(tmp_path / "saved", tmp_path / "copy")
    shutil.rmtree(run)
    other = Engine.open(tmp_path / "copy", cache=world / "cache")
    own = other.snapshot.catalog.content["image"][other.snapshot.catalog.ids.row("new")].paths
    assert own == (tmp_path / "copy" / "media" / NAMES[1],)
    other.refresh()
    assert [str(problem) for problem in other.problems] == []
    assert other.snapshot.views["image"].present[other.snapshot.catalog.ids.row("new")]
    other.close()


@pytest.mark.parametrize("how", ["changed", "missing"])
def test_an_upload_that_is_damaged_or_missing_refuses_the_restore(uploaded, tmp_path, how):
    with zipfile.ZipFile(uploaded) as archive, zipfile.ZipFile(tmp_path / "other", "w") as other:
        for info in archive.infolist():
            body = archive.read(info)
            if info.filename != f"media/{NAMES[0]}":
                other.writestr(info.filename, body)
            elif how == "changed":
                other.writestr(info.filename, b"x" + body[1:])
    with pytest.raises(SnapshotError, match="does not match its digest" if how == "changed" else "members are missing"):
        restore(tmp_path / "other", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_more_uploads_than_a_backup_holds_are_told(run, uploaded, tmp_path, monkeypatch):
    monkeypatch.setattr("sensorium.backup.MOST_UPLOADS", 1)
    with pytest.raises(SnapshotError, match="not a backup"):
        restore(uploaded, tmp_path / "copy")
    engine = Engine.open(run)
    with pytest.raises(SnapshotError, match="a backup holds 1"):
        backup(run, engine.store, tmp_path / "more")
    engine.close()


def test_a_run_that_is_there_is_never_overwritten(run, saved):
    with pytest.raises(SnapshotError, match="something already"):
        restore(saved, run)


def test_every_damage_is_told_in_one_line_and_leaves_nothing(saved, tmp_path):
    chance, whole = random.Random(0), saved.read_bytes()
    for number in range(150):
        body = bytearray(whole)
        if number % 3 == 0:
            body = body[: chance.randrange(len(body))]
        elif number % 3 == 1:
            body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
        else:  # where the lists stand
            body[len(body) - 1 - chance.randrange(min(len(body), 1500))] ^= 1 << chance.randrange(8)
        (tmp_path / "damaged").write_bytes(body)
        why = refusal(tmp_path / "damaged", tmp_path / "copy")
        if why is not None:
            assert "\n" not in why
            assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged", "run", "saved"]
        else:  # a bit that means nothing, such as a time
            engine = Engine.open(tmp_path / "copy")
            assert engine.store.end == 30
            engine.close()
            shutil.rmtree(tmp_path / "copy")


def refusal(file: Path, folder: Path) -> str | None:
    try:
        restore(file, folder)
    except SnapshotError as error:
        return str(error)
    return None


def altered(saved: Path, out: Path, change) -> Path:
    with zipfile.ZipFile(saved) as archive, zipfile.ZipFile(out, "w") as other:
        for info in archive.infolist():
            body = archive.read(info)
            if info.filename == CONTENTS:
                told = json.loads(body)
                change(told, other)
                body = json.dumps(told)
            other.writestr(info.filename, body)
    return out


def named(name: str, mode: int = 0):
    def change(told, other) -> None:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        other.writestr(info, b"x")
        told["files"][name] = {"bytes": 1, "digest": "0" * 32}

    return change


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (named("../escaped"), "no backup does"), (named("/escaped"), "no backup does"),
        (named("snapshot/../../escaped.json"), "no backup does"), (named("snapshot/code.pkl"), "no backup does"),
        (named("media/../escaped.png"), "no backup does"), (named("media/" + "a" * 32), "no backup does"),
        (named("media/" + "a" * 32 + ".png", stat.S_IFLNK | 0o777), "no backup does"),
        (named("snapshot/link.json", stat.S_IFLNK | 0o777), "no backup does"),
        (lambda told, other: told["files"].pop("store.sqlite"), "members are missing"),
        (lambda told, other: told.update(format=99), "update it"),
        (lambda told, other: told["files"]["store.sqlite"].update(bytes=10**15), "sizes do not match"),
        (lambda told, other: told["files"]["store.sqlite"].update(digest="0"), "does not match its digest"),
        (lambda told, other: told.update(files=[]), "damaged"),
    ],
)  # fmt: skip
def test_a_trap_is_refused(saved, tmp_path, change, why):
    with pytest.raises(SnapshotError, match=why):
        restore(altered(saved, tmp_path / "trap", change), tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    assert not list(tmp_path.parent.glob("**/escaped*"))


def test_a_compressed_member_is_refused_before_it_can_grow(saved, tmp_path):
    with zipfile.ZipFile(saved) as archive, zipfile.ZipFile(tmp_path / "bomb", "w", zipfile.ZIP_DEFLATED) as other:
        for info in archive.infolist():
            other.writestr(info.filename, archive.read(info))
    with pytest.raises(SnapshotError, match="no backup does"):
        restore(tmp_path / "bomb", tmp_path / "copy")


def test_whoever_is_forgotten_meanwhile_is_not_in_the_backup(run, tmp_path):
    """The store is copied, then the person is forgotten by another process: the copy is made again."""
    engine = Engine.open(run)
    engine.observe([Entry("gone", "i1", "view", 1.0)])
    store, copied = engine.store, []

    class Slow:
        def backup(self, path: Path) -> None:
            store.backup(path)
            if not copied:
                engine.forget("gone")
            copied.append(path)

    backup(run, Slow(), tmp_path / "saved")
    assert len(copied) == 2
    assert b"gone" not in (tmp_path / "saved").read_bytes()
    engine.close()
