"""Encoding a catalogue: hostile files are reported, the cache is trusted only as far as it is sound, work is not repeated."""

import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sensorium.data.catalog import Catalog
from sensorium.data.content import AUDIO, IMAGE, TEXT, VIDEO, Media, Text
from sensorium.data.ids import Ids
from sensorium.encode.cache import HEADER, REASON, Cache
from sensorium.encode.encoder import Only
from sensorium.encode.open import open_encoders
from sensorium.encode.reasons import without_paths
from sensorium.encode.run import content_digest, encode


def pictures(*paths: Path) -> Catalog:
    return Catalog(Ids(path.name for path in paths), {IMAGE: [Media((path,)) for path in paths]})


def words(*texts: str) -> Catalog:
    return Catalog(Ids(map(str, range(len(texts)))), {TEXT: [Text((("title", text),)) for text in texts]})


def picture(path: Path, seed: int = 0, **options) -> Path:
    down, across = np.mgrid[0:40, 0:60]
    pixels = np.stack([down * 6, across * 4, (down * across + 37 * seed) % 256], axis=2).astype(np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def bomb(path: Path) -> Path:
    """A PNG of a few hundred bytes whose header claims 60,000 × 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""))
    return path


def test_broken_files_are_reported_and_masked_and_the_rest_is_encoded(tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"GIF89a" + b"x" * 50)
    catalog = pictures(picture(tmp_path / "good.png"), broken, bomb(tmp_path / "bomb.png"), tmp_path / "gone.jpg")
    done = encode(catalog, open_encoders(catalog), Cache(tmp_path / "cache"))
    assert done.views[IMAGE].present.tolist() == [True, False, False, False]
    reasons = {problem.item: problem.reason for problem in done.problems}
    assert set(reasons) == {"broken.jpg", "bomb.png", "gone.jpg"}
    assert "60000 × 60000 pixels" in reasons["bomb.png"]
    assert "KeyError" not in reasons["broken.jpg"]


def test_a_photograph_of_several_pictures_and_a_turned_one_are_read(tmp_path):
    first = Image.open(picture(tmp_path / "plain.png"))
    first.save(tmp_path / "several.jpg", format="MPO", save_all=True, append_images=[first.copy()], quality=95)
    turned, exif = first.rotate(90, expand=True), Image.Exif()
    exif[0x0112] = 6  # turn it clockwise to see it upright
    turned.save(tmp_path / "turned.png", exif=exif)
    catalog = pictures(tmp_path / "plain.png", tmp_path / "several.jpg", tmp_path / "turned.png")
    values = encode(catalog, open_encoders(catalog), Cache(None)).views[IMAGE].values
    assert np.abs(values[0] - values[2]).max() < 1e-4
    assert np.corrcoef(values[0], values[1])[0, 1] > 0.8


def test_a_second_run_asks_no_encoder_and_a_damaged_cache_gives_the_same_vectors(tmp_path):
    catalog = words("a slow train", "雪中的火车", "a harbour", "a slow train")
    first = encode(catalog, open_encoders(catalog), Cache(tmp_path / "cache"))
    again = encode(catalog, open_encoders(catalog), Cache(tmp_path / "cache"))
    assert (first.computed[TEXT], again.computed[TEXT]) == (3, 0)
    assert np.array_equal(first.views[TEXT].values, again.views[TEXT].values)
    assert np.array_equal(first.views[TEXT].values[0], first.views[TEXT].values[3])
    rng = np.random.default_rng(0)
    for path in sorted((tmp_path / "cache").rglob("*")):
        if path.is_file() and path.stat().st_size > HEADER:
            raw = bytearray(path.read_bytes())
            for place in rng.integers(HEADER, len(raw), size=20):
                raw[place] ^= 0xFF
            path.write_bytes(bytes(raw))
    mended = encode(catalog, open_encoders(catalog), Cache(tmp_path / "cache"))
    assert np.allclose(mended.views[TEXT].values, first.views[TEXT].values, atol=1e-5)


def test_a_cut_tail_of_the_cache_loses_the_tail_alone(tmp_path):
    cache = Cache(tmp_path / "cache")
    kept = cache.vectors("encoder", 4)
    keys = [bytes([number]) * 16 for number in range(10)]
    for number, key in enumerate(keys):
        kept.put(key, np.full(4, number, np.float32))
    cache.flush()
    longest = max((path for path in (tmp_path / "cache").rglob("*") if path.is_file()), key=lambda p: p.stat().st_size)
    longest.write_bytes(longest.read_bytes()[:-3])
    from sensorium.encode.cache import take

    found, missing = take(Cache(tmp_path / "cache").vectors("encoder", 4), keys)
    assert len(found) + len(missing) == 10
    assert len(missing) >= 1
    assert all(np.array_equal(vector, np.full(4, key[0], np.float32)) for key, vector in found.items())


@pytest.mark.slow
def test_a_killed_run_keeps_what_it_had_finished(tmp_path):
    files = [picture(tmp_path / f"{number}.png", number) for number in range(400)]
    script = (
        "import sys; from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[2]); from test_run import pictures\n"
        "from sensorium.encode.cache import Cache; from sensorium.encode.open import open_encoders\n"
        "from sensorium.encode.run import encode\n"
        "home = Path(sys.argv[1]); c = pictures(*[home / f'{n}.png' for n in range(400)])\n"
        "encode(c, open_encoders(c), Cache(home / 'cache'))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path), str(Path(__file__).parent)])
    until = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < until:
        if sum(p.stat().st_size for p in tmp_path.glob("cache/**/*") if p.is_file()) > 200_000:
            break
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(30)
    done = encode(pictures(*files), open_encoders(pictures(*files)), Cache(tmp_path / "cache"))
    assert done.views[IMAGE].present.all()
    assert done.computed[IMAGE] < 400


def test_a_reason_names_no_place_whoever_had_the_bytes_first(tmp_path):
    first, second = tmp_path / "some one's" / "first.bin", tmp_path / "second.bin"
    first.parent.mkdir()
    for path in (first, second):
        path.write_bytes(np.random.default_rng(0).bytes(3000))
    for kind in (IMAGE, AUDIO, VIDEO):
        for path in (first, second):  # the second is not decoded any more
            catalog = Catalog(Ids(["n"]), {kind: [Media((path,))]})
            (problem,) = encode(catalog, open_encoders(catalog), Cache(tmp_path / "cache")).problems
            assert problem.reason.startswith("cannot be decoded: ")
            assert "/" not in problem.reason
            assert "first" not in problem.reason
            assert str(problem) == f"n: {kind} {path}: {problem.reason}"


def test_a_path_in_an_older_cache_is_not_told(tmp_path):
    (tmp_path / "new.png").write_bytes(b"none")
    catalog, cache = pictures(tmp_path / "new.png"), Cache(tmp_path / "cache")
    encoder = open_encoders(catalog)[IMAGE]
    key = content_digest(catalog.content[IMAGE][0], cache)
    old = b"cannot be decoded: UnidentifiedImageError: cannot identify image file '/srv/another run/uploads/0f.png'"
    cache.shard(f"{encoder.fingerprint} refused", REASON).put(key, old.ljust(REASON, b"\0"))
    (problem,) = encode(catalog, {IMAGE: encoder}, cache).problems
    assert problem.reason == "cannot be decoded: UnidentifiedImageError: cannot identify image file"


@pytest.mark.parametrize(
    ("reason", "left"),
    [
        ("cannot identify image file '/srv/a b/it\\'s.png'", "cannot identify image file"),
        ("cannot identify image file \"/srv/a b/it's.png\"", "cannot identify image file"),
        ("cannot identify image file '/srv/a b/cut o", "cannot identify image file"),
        ("cannot open b'/srv/a b': gone", "cannot open: gone"),
        ("Invalid data found: '/a/b.mp4'; last error log: [mov] none", "Invalid data found; last error log: [mov] none"),
        ("/srv/x.png is cut off at /srv/y", "is cut off at"),
        ("no file:///srv/x.png", "no"),
        ("https://host/v1: HTTP 500", "https://host/v1: HTTP 500"),
        ("60000 × 60000 pixels, more than 64,000,000; 1/2, 3 / 4", "60000 × 60000 pixels, more than 64,000,000; 1/2, 3 / 4"),
    ],
)  # fmt: skip
def test_whatever_looks_like_a_path_is_left_out(reason, left):
    assert without_paths(reason) == left


def test_files_that_no_encoder_of_a_run_reads_are_told(tmp_path):
    catalog = Catalog(
        Ids("ab"), {AUDIO: [None, Media((tmp_path / "none.wav",))], TEXT: [Text((("title", "A"),)), None]}
    )
    encoders = {TEXT: open_encoders(words("a"))[TEXT]}
    assert not encode(catalog, encoders, Cache(None)).problems
    (problem,) = encode(catalog, Only(encoders), Cache(None)).problems
    assert str(problem) == "b: audio: not used, the run made nothing of audio"
