"""The demo world: the same bytes twice, all four media, gaps, and answers that follow from the truth."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from sensorium.checks.worlds import Truth, write_demo


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> tuple[Path, Truth]:
    folder = tmp_path_factory.mktemp("demo")
    return folder, write_demo(folder, items=90, people=60)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_same_seed_same_bytes(demo, tmp_path) -> None:
    folder, _ = demo
    write_demo(tmp_path, items=90, people=60)
    first = {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    again = {p.relative_to(tmp_path): p.read_bytes() for p in sorted(tmp_path.rglob("*")) if p.is_file()}
    assert first == again


def test_another_seed_is_another_world(demo, tmp_path) -> None:
    write_demo(tmp_path, items=90, people=60, seed=1)
    assert (tmp_path / "events.csv").read_bytes() != (demo[0] / "events.csv").read_bytes()


def test_four_media_two_languages_and_gaps(demo) -> None:
    folder, truth = demo
    for modality in ("text", "image", "audio", "video"):
        having = truth.about(modality=modality)
        assert 0 < len(having) < len(truth.items)
    assert truth.about(language="zh")
    assert truth.about(language="en")
    for row in rows(folder / "items.csv"):
        for column in ("image", "sound", "clip"):
            assert not row[column] or (folder / row[column]).stat().st_size > 500


def test_media_are_labelled_and_decodable(demo) -> None:
    import av
    import soundfile
    from PIL import Image

    folder, _ = demo
    media = folder / "media"
    with Image.open(next(iter(sorted(media.glob("*.jpg"))))) as picture:
        assert b"Generated" in picture.info["comment"]
    sound = next(iter(sorted(media.glob("*.wav"))))
    assert b"Generated" in sound.read_bytes()[:200]
    samples, rate = soundfile.read(sound)
    assert rate == 16_000
    assert np.abs(samples).max() > 0.5
    with av.open(str(next(iter(sorted(media.glob("*.mp4")))))) as clip:
        assert "Generated" in clip.metadata["comment"]
        assert len(list(clip.decode(video=0))) == 16


def test_nobody_touches_the_cold_and_everybody_follows_taste(demo) -> None:
    folder, truth = demo
    log = rows(folder / "events.csv")
    assert {row["event"] for row in log} == {"view", "cart", "buy", "rating", "review", "skip"}
    assert not {row["item_id"] for row in log} & set(truth.about(cold=True))
    times = [int(row["timestamp"]) for row in log]
    assert times == sorted(times)
    bought = [truth.pleasure(row["user_id"], [row["item_id"]]) for row in log if row["event"] == "buy"]
    skipped = [truth.pleasure(row["user_id"], [row["item_id"]]) for row in log if row["event"] == "skip"]
    assert np.mean(bought) > 0.65
    assert np.mean(skipped) < 0.35
