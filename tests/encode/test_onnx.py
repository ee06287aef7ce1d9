"""Encoders of any ONNX file, on tiny files written here field by field; the answers are numpy's."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from sensorium.data.catalog import Catalog
from sensorium.data.content import AUDIO, IMAGE, TEXT, Media, Text
from sensorium.data.ids import Ids
from sensorium.encode import wire
from sensorium.encode.audio import patches
from sensorium.encode.cache import Cache
from sensorium.encode.onnx import OnnxAudioEncoder, OnnxImageEncoder
from sensorium.encode.open import open_encoders
from sensorium.encode.run import encode
from sensorium.encode.text import OnnxTextEncoder
from sensorium.errors import RecipeError, SensoriumError

RNG = np.random.default_rng(5)
MATRIX = RNG.normal(size=(3, 4)).astype(np.float32)
TABLE = RNG.normal(size=(10, 6)).astype(np.float32)
FLOAT, INT64, INT32 = 1, 7, 6


def info(name: str, shape: list, kind: int = FLOAT) -> bytes:
    """A ValueInfoProto of any element type."""
    sides = b"".join(
        wire.field(1, wire.field(1, side) if isinstance(side, int) else wire.field(2, side)) for side in shape
    )
    return wire.field(1, name) + wire.field(2, wire.field(1, wire.field(1, kind) + wire.field(2, sides)))


def write(path: Path, nodes, weights, inputs, outputs) -> Path:
    path.write_bytes(wire.model(nodes, weights, inputs, outputs))
    return path


def colours(path: Path, shape: list, *, last: bool = False) -> Path:
    """A network that multiplies a picture's mean colour by a matrix: (B, 3, S, S) or (B, S, S, 3) → (B, 4)."""
    axes = [1, 2] if last else [2, 3]
    nodes = [
        wire.node("ReduceMean", ["pixels"], "colour", axes=axes, keepdims=0),
        wire.node("MatMul", ["colour", "matrix"], "vector"),
    ]
    return write(path, nodes, [wire.tensor("matrix", MATRIX)], [info("pixels", shape)], [info("vector", ["b", 4])])


def moments(path: Path, shape: list) -> Path:
    """A network that gives the mean and the greatest value along the last side of what it is fed, side by side."""
    last = len(shape) - 1
    nodes = [
        wire.node("ReduceMean", ["sound"], "mean", axes=[last], keepdims=1),
        wire.node("ReduceMax", ["sound"], "most", axes=[last], keepdims=1),
        wire.node("Concat", ["mean", "most"], "vector", axis=last),
    ]
    return write(path, nodes, [], [info("sound", shape)], [info("vector", [*shape[:-1], 2])])


def words(folder: Path, shape: list, kind: int = INT64) -> Path:
    """A network that looks every token up in a table, and its tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    known = ["[PAD]", "[UNK]", "slow", "train", "snow", "harbour", "night"]
    made = Tokenizer(models.WordLevel({word: place for place, word in enumerate(known)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.save(str(folder / "tokenizer.json"))
    nodes = [wire.node("Gather", ["table", "input_ids"], "hidden", axis=0)]
    inputs = [info("input_ids", shape, kind), info("attention_mask", shape, kind)]
    return write(folder / "words.onnx", nodes, [wire.tensor("table", TABLE)], inputs, [info("hidden", [*shape, 6])])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    home = tmp_path_factory.mktemp("files")
    for number in range(5):
        Image.fromarray(RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(home / f"{number}.png")
        wave = RNG.uniform(-0.5, 0.5, 9_000 + 3_000 * number).astype(np.float32)
        soundfile.write(home / f"{number}.wav", wave, 16_000, subtype="FLOAT")
    return home


def media(folder: Path, ending: str) -> list[Media]:
    return [Media((folder / f"{number}.{ending}",)) for number in range(5)]


def text(words: str) -> Text:
    return Text((("title", words),))


@pytest.mark.parametrize(
    ("shape", "last"),
    [(["b", 3, 8, 8], False), (["b", 8, 8, 3], True), (["b", 3, "h", "w"], False), ([2, 3, 8, 8], False)],
)
def test_a_picture_is_scaled_and_fed_as_the_file_takes_it(tmp_path, files, shape, last):
    opened = OnnxImageEncoder(str(colours(tmp_path / "m.onnx", shape, last=last)), side=8, mean=100.0, scale=50.0)
    vectors = opened.encode(media(files, "png"))  # five of them: a file that takes two at once is filled up
    pixels = np.stack([np.asarray(Image.open(files / f"{number}.png"), np.float32) for number in range(5)])
    assert np.allclose(vectors, ((pixels - 100) / 50).mean((1, 2)) @ MATRIX, atol=1e-5)
    assert opened.size == 4
    assert np.array_equal(opened.encode(media(files, "png")), vectors)
    assert np.allclose(opened.encode(media(files, "png")[::-1])[::-1], vectors, atol=1e-5)


def test_of_feature_maps_the_mean_is_taken_and_of_tokens_the_first(tmp_path):
    path = tmp_path / "maps.onnx"
    nodes = [wire.node("Relu", ["pixels"], "map"), wire.node("Reshape", ["pixels", "sides"], "tokens")]
    sides = [wire.tensor("sides", np.array([-1, 4, 12], np.int64))]
    write(
        path,
        nodes,
        sides,
        [info("pixels", ["b", 3, 4, 4])],
        [info("map", ["b", 3, 4, 4]), info("tokens", ["b", 4, 12])],
    )
    pixels = RNG.integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    fed = (pixels.transpose(0, 3, 1, 2) - np.float32(127.5)) / np.float32(127.5)
    assert np.allclose(OnnxImageEncoder(str(path)).features(list(pixels)), np.maximum(fed, 0).mean((2, 3)), atol=1e-6)
    tokens = OnnxImageEncoder(str(path), output="tokens").features(list(pixels))
    assert np.allclose(tokens, fed.reshape(2, 48)[:, :12], atol=1e-6)
    assert OnnxImageEncoder(str(path)).fingerprint != OnnxImageEncoder(str(path), output="tokens").fingerprint


@pytest.mark.parametrize("shape", [["t"], ["b", "t"], [1, "t"]])
def test_a_sound_is_fed_whole_where_the_file_takes_any_length(tmp_path, files, shape):
    vectors = OnnxAudioEncoder(str(moments(tmp_path / "m.onnx", shape))).encode(media(files, "wav"))
    waves = [soundfile.read(files / f"{number}.wav", dtype="float32")[0] for number in range(5)]
    assert np.allclose(vectors, [[wave.mean(), wave.max()] for wave in waves], atol=1e-6)


@pytest.mark.parametrize("shape", [[4000], [1, 4000], ["b", 4000]])
def test_a_sound_is_cut_where_the_file_takes_one_length(tmp_path, files, shape):
    vectors = OnnxAudioEncoder(str(moments(tmp_path / "m.onnx", shape))).encode(media(files, "wav"))
    for number, vector in enumerate(vectors):
        wave = soundfile.read(files / f"{number}.wav", dtype="float32")[0]
        pieces = np.pad(wave, (0, -len(wave) % 4000)).reshape(-1, 4000)
        assert np.allclose(vector, [pieces.mean(), pieces.max(1).mean()], atol=1e-6)


def test_a_file_that_takes_patches_gets_log_mel_patches(tmp_path, files):
    path = tmp_path / "patches.onnx"
    nodes = [wire.node("ReduceMean", ["patch"], "bands", axes=[1, 2], keepdims=0)]
    write(path, nodes, [], [info("patch", ["b", 1, 96, 64])], [info("bands", ["b", 64])])
    vectors = OnnxAudioEncoder(str(path)).encode(media(files, "wav"))
    wave = soundfile.read(files / "4.wav", dtype="float32")[0]
    assert np.allclose(vectors[4], patches(wave).mean((0, 1)), atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "kind"), [(["b", "t"], INT64), (["b", "t"], INT32), ([1, 4], INT64), ([2, "t"], INT32), (["b", 4], INT64)]
)
def test_tokens_are_averaged_over_the_text_and_not_over_its_padding(tmp_path, shape, kind):
    texts = ["slow train", "snow", "slow train snow harbour", "night night nothing"]
    ids = [[2, 3], [4], [2, 3, 4, 5], [6, 6, 1]]
    file = words(tmp_path, shape, kind)
    vectors = OnnxTextEncoder(str(file)).encode([text(one) for one in texts])
    means = np.stack([TABLE[row].mean(0) for row in ids])
    assert np.allclose(vectors, means / np.linalg.norm(means, axis=1, keepdims=True), atol=1e-5)
    first = OnnxTextEncoder(str(file), pooling="first").encode([text(one) for one in texts])
    firsts = TABLE[[row[0] for row in ids]]
    assert np.allclose(first, firsts / np.linalg.norm(firsts, axis=1, keepdims=True), atol=1e-5)


def test_a_text_longer_than_the_file_takes_is_cut(tmp_path):
    opened = OnnxTextEncoder(str(words(tmp_path, ["b", 4])))
    cut, long = opened.encode([text("slow train snow harbour"), text("slow train snow harbour night night")])
    assert np.allclose(cut, long)


def test_a_recipe_names_a_file_for_every_modality(tmp_path, files):
    catalog = Catalog(
        Ids(map(str, range(5))),
        {
            TEXT: [text("slow train"), text("snow"), text("harbour"), text("night"), None],
            IMAGE: media(files, "png"),
            AUDIO: media(files, "wav"),
        },
    )
    choice = {
        TEXT: f"onnx:{words(tmp_path, ['b', 't'])}",
        IMAGE: {"use": f"onnx:{colours(tmp_path / 'colours.onnx', ['b', 3, 8, 8])}", "mean": 0.0, "scale": 255.0},
        AUDIO: f"onnx:{moments(tmp_path / 'moments.onnx', ['b', 't'])}",
    }
    done = encode(catalog, open_encoders(catalog, choice), Cache(None))
    assert not done.problems
    assert {name: view.values.shape for name, view in done.views.items()} == {
        TEXT: (5, 6),
        IMAGE: (5, 4),
        AUDIO: (5, 2),
    }
    assert done.views[TEXT].present.tolist() == [True] * 4 + [False]


def refusal(opened, content) -> str:
    """The one line with which a file is refused, before anything of the catalogue is touched."""
    with pytest.raises(SensoriumError) as caught:
        opened.fingerprint, opened.size  # noqa: B018
    assert "\n" not in str(caught.value)
    catalog = Catalog(Ids(["a"]), {opened.modality: [content]})
    with pytest.raises(SensoriumError):
        encode(catalog, {opened.modality: opened}, Cache(None))
    return str(caught.value)


def test_garbage_and_missing_files_are_refused_in_one_line(tmp_path, files):
    whole = colours(tmp_path / "whole.onnx", ["b", 3, 8, 8]).read_bytes()
    contents = {OnnxImageEncoder: media(files, "png")[0], OnnxAudioEncoder: media(files, "wav")[0]}
    for kind, content in contents.items():
        assert "no such file" in refusal(kind(str(tmp_path / "gone.onnx")), content)
        for garbage in (
            b"",
            b"\x00" * 300,
            RNG.bytes(2000),
            whole[: len(whole) // 2],
            whole[:-30],
            json.dumps([1]).encode(),
        ):
            path = tmp_path / "garbage.onnx"
            path.write_bytes(garbage)
            refusal(kind(str(path)), content)
    assert "no such file" in refusal(OnnxTextEncoder(str(tmp_path / "gone.onnx")), text("a"))
    assert "no tokenizer.json" in refusal(OnnxTextEncoder(str(tmp_path / "whole.onnx")), text("a"))
    (tmp_path / "tokenizer.json").write_text("[]")
    assert "is no tokenizer" in refusal(OnnxTextEncoder(str(tmp_path / "whole.onnx")), text("a"))


def test_a_file_of_another_kind_is_refused_in_one_line(tmp_path, files):
    picture, sound = media(files, "png")[0], media(files, "wav")[0]
    image = str(colours(tmp_path / "image.onnx", ["b", 3, 8, 8]))
    audio = str(moments(tmp_path / "audio.onnx", ["b", "t"]))
    assert "takes tensor(float)" in refusal(OnnxImageEncoder(audio), picture)
    assert "sound needs" in refusal(OnnxAudioEncoder(image), sound)
    five = [info("pixels", ["b", 5, 8, 8])], [info("map", ["b", 5, 8, 8])]
    five = write(tmp_path / "five.onnx", [wire.node("Relu", ["pixels"], "map")], [], *five)
    assert "3, for RGB" in refusal(OnnxImageEncoder(str(five)), picture)
    assert "did you mean 'vector'?" in refusal(OnnxImageEncoder(image, output="vectors"), picture)
    file = words(tmp_path, ["b", "t"])
    file.rename(tmp_path / "other.onnx")
    assert "cannot be run" in refusal(OnnxTextEncoder(image), text("slow"))
    maps = write(
        tmp_path / "scalar.onnx",
        [wire.node("ReduceMean", ["pixels"], "mean", axes=[0, 1, 2, 3], keepdims=0)],
        [],
        [info("pixels", ["b", 3, 8, 8])],
        [info("mean", [])],
    )
    assert "no vector for each input" in refusal(OnnxImageEncoder(str(maps)), picture)


def test_a_picture_of_a_side_that_the_weights_do_not_fit_is_refused(tmp_path, files):
    """The file leaves the side open, its weights do not: 8 × 8 pixels flattened, times a matrix of 192 rows."""
    path = tmp_path / "flat.onnx"
    nodes = [wire.node("Flatten", ["pixels"], "flat", axis=1), wire.node("MatMul", ["flat", "matrix"], "vector")]
    weights = [wire.tensor("matrix", RNG.normal(size=(192, 2)).astype(np.float32))]
    write(path, nodes, weights, [info("pixels", ["b", 3, "h", "w"])], [info("vector", ["b", 2])])
    assert "cannot be run on pixels (1, 3, 224, 224)" in refusal(OnnxImageEncoder(str(path)), media(files, "png")[0])
    assert OnnxImageEncoder(str(path), side=8).encode(media(files, "png")).shape == (5, 2)


def test_a_setting_that_is_none_is_named(tmp_path):
    catalog = Catalog(Ids(["a"]), {TEXT: [text("a")]})
    with pytest.raises(RecipeError, match="did you mean 'pooling'"):
        open_encoders(catalog, {TEXT: {"use": "onnx:model.onnx", "poolin": "first"}})
    with pytest.raises(RecipeError, match="middle"):
        open_encoders(catalog, {TEXT: {"use": "onnx:model.onnx", "pooling": "middle"}})
