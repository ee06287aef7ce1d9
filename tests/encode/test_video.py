"""Video: its frames by any picture encoder, its sound by any sound encoder, as the recipe names them."""

from pathlib import Path

import numpy as np
import pytest
from test_hub import write
from test_onnx import colours, moments

from sensorium.arrays import unit
from sensorium.checks import drawing, sounds
from sensorium.data.catalog import Catalog
from sensorium.data.content import AUDIO, IMAGE, VIDEO, Media
from sensorium.data.ids import Ids
from sensorium.encode.cache import Cache
from sensorium.encode.hub import HubAudioEncoder, HubImageEncoder
from sensorium.encode.media import Limits, decode_video
from sensorium.encode.open import open_encoders
from sensorium.encode.run import encode
from sensorium.encode.video import VideoEncoder
from sensorium.errors import MediaError, RecipeError


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[Path]:
    """Two drawn clips of two seconds; the second one is silent."""
    home = tmp_path_factory.mktemp("clips")
    made = []
    for number, (theme, mood, colour) in enumerate([("train", "calm", "red"), ("sea", "lively", "blue")]):
        track = sounds.tune(theme, mood, np.random.default_rng(number), seconds=2.0)
        pictures = drawing.frames(theme, mood, colour, [number], count=16, width=96, height=64)
        path = home / f"{number}.mp4"
        path.write_bytes(drawing.mp4(pictures, track * (number == 0), rate=sounds.RATE, per_second=8))
        made.append(path)
    return made


@pytest.fixture(scope="module")
def catalog(clips) -> Catalog:
    return Catalog(Ids(path.name for path in clips), {VIDEO: [Media((path,)) for path in clips]})


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("models")
    made = {name: write(name, home / name) for name in ("vit", "clap", "ast")}
    made["colours"] = colours(home / "colours.onnx", ["b", 3, 16, 16])
    made["moments"] = moments(home / "moments.onnx", ["b", "t"])
    return made


def only(encoders) -> VideoEncoder:
    assert list(encoders) == [VIDEO]
    return encoders[VIDEO]


def test_frames_and_sound_go_through_the_encoders_of_the_recipe(catalog, clips, folders):
    choice = {IMAGE: f"hub:{folders['vit']}", AUDIO: f"hub:{folders['clap']}"}
    encoder = only(open_encoders(catalog, choice))
    done = encode(catalog, {VIDEO: encoder}, Cache(None))
    assert not done.problems
    values = done.views[VIDEO].values
    assert values.shape == (2, 16 + 8)
    sees, hears = HubImageEncoder(str(folders["vit"])), HubAudioEncoder(str(folders["clap"]))
    for path, vector in zip(clips, values):
        frames, sound = decode_video(str(path), 32, 8, Limits(), 48_000)
        assert len(sound) == pytest.approx(2 * 48_000, rel=0.1)
        assert np.allclose(vector[:16], unit(sees.features(list(frames)).mean(0)), atol=1e-5)
        if path == clips[0]:
            assert np.allclose(vector[16:], unit(hears.features([sound])[0]), atol=1e-5)
        else:
            assert not vector[16:].any()
    assert np.array_equal(encoder.encode(catalog.content[VIDEO]), values)
    assert np.allclose(encoder.encode(catalog.content[VIDEO][::-1])[::-1], values, atol=1e-5)


def test_its_own_table_names_others_and_onnx_files_serve_as_well(catalog, folders):
    own = {"frames": 3, "image": f"onnx:{folders['colours']}", "audio": f"onnx:{folders['moments']}"}
    choice = {IMAGE: f"hub:{folders['vit']}", AUDIO: "none", VIDEO: own}
    encoder = only(open_encoders(catalog, choice))
    values = encode(catalog, {VIDEO: encoder}, Cache(None)).views[VIDEO].values
    assert values.shape == (2, 4 + 2)
    assert np.allclose(np.linalg.norm(values[:, :4], axis=1), 1, atol=1e-5)
    mixed = {VIDEO: {"image": {"use": f"onnx:{folders['colours']}", "mean": 0.0}, "audio": f"hub:{folders['ast']}"}}
    other = only(open_encoders(catalog, mixed))
    assert encode(catalog, {VIDEO: other}, Cache(None)).views[VIDEO].values.shape == (2, 4 + 16)
    assert other.fingerprint != encoder.fingerprint


def test_a_part_without_an_encoder_is_left_out(catalog, folders):
    image = f"onnx:{folders['colours']}"
    seen = encode(catalog, open_encoders(catalog, {IMAGE: image, AUDIO: "none"}), Cache(None)).views[VIDEO].values
    assert seen.shape == (2, 4)
    heard = {VIDEO: {"image": "none", "audio": f"onnx:{folders['moments']}"}}
    values = encode(catalog, open_encoders(catalog, heard), Cache(None)).views[VIDEO].values
    assert values.shape == (2, 2)
    assert values[0].any()
    assert not values[1].any()


def test_by_default_the_default_encoders_are_used(catalog, clips):
    encoder = only(open_encoders(catalog))
    assert "efficientnet" in encoder.fingerprint
    assert "yamnet" in encoder.fingerprint
    values = encode(catalog, {VIDEO: encoder}, Cache(None)).views[VIDEO].values
    assert values.shape == (2, 1280 + 1024)
    assert not values[1, 1280:].any()


def test_what_cannot_be_is_said_in_one_line(catalog, tmp_path):
    with pytest.raises(RecipeError, match="neither its pictures nor its sound"):
        open_encoders(catalog, {VIDEO: {"image": "none", "audio": "none"}})
    with pytest.raises(RecipeError, match=r"encode\.video\.image: no encoder 'efficientnets'"):
        open_encoders(catalog, {VIDEO: {"image": "efficientnets"}})
    with pytest.raises(RecipeError, match="did you mean 'frames'"):
        open_encoders(catalog, {VIDEO: {"frame": 3}})
    with pytest.raises(RecipeError, match="give 1 to 256"):
        open_encoders(catalog, {VIDEO: {"frames": 0}})
    assert open_encoders(catalog, {IMAGE: "none", AUDIO: "none", VIDEO: "none"}) == {}
    (tmp_path / "no.mp4").write_bytes(b"no clip")
    with pytest.raises(MediaError):
        VideoEncoder().encode([Media((tmp_path / "no.mp4",))])
