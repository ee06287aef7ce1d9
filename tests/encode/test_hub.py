"""Encoders by model folder: tiny models of every class, built here and saved, against transformers called directly."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from sensorium.data.catalog import Catalog
from sensorium.data.content import AUDIO, IMAGE, TEXT, Media, Text
from sensorium.data.ids import Ids
from sensorium.encode.cache import Cache
from sensorium.encode.hub import HubAudioEncoder, HubImageEncoder
from sensorium.encode.hubtext import HubTextEncoder
from sensorium.encode.open import open_encoders
from sensorium.encode.run import encode
from sensorium.errors import DataError

BODY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
SEES = BODY | {"image_size": 32, "patch_size": 8}
READS = BODY | {
    "vocab_size": 12,
    "max_position_embeddings": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MEAN, SPREAD = [0.48, 0.45, 0.40], [0.26, 0.25, 0.27]
WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "slow", "train", "snow", "a", "harbour", "through", "the", "night"]
TEXTS = ["a slow train", "snow", "the night through the snow a slow train", "a harbour", "nothing known here at all"]


def text(words: str) -> Text:
    return Text((("title", words),))


def tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", eos_token="[SEP]", model_max_length=16
    ).save_pretrained(folder)


def clap_config(**options) -> transformers.ClapConfig:
    hears = {"spec_size": 64, "num_mel_bins": 16, "depths": [1, 1], "num_attention_heads": [1, 2], "window_size": 4}
    hears |= {"patch_embeds_hidden_size": 8, "hidden_size": 16, "projection_dim": 8, "patch_size": 4, **options}
    return transformers.ClapConfig(
        text_config=READS | {"projection_dim": 8, "max_position_embeddings": 20}, audio_config=hears, projection_dim=8
    )


def write(name: str, folder: Path) -> Path:
    """A tiny model of a class, with random weights of a known seed, as a folder."""
    folder.mkdir(exist_ok=True)
    torch.manual_seed(7)
    if name == "vit":
        model = transformers.ViTModel(transformers.ViTConfig(**SEES))
    elif name == "clip":
        model = transformers.CLIPModel(transformers.CLIPConfig(text_config=READS, vision_config=SEES, projection_dim=8))
    elif name == "siglip":
        model = transformers.SiglipModel(transformers.SiglipConfig(text_config=READS, vision_config=SEES))
    elif name == "ast":
        model = transformers.ASTModel(transformers.ASTConfig(**BODY, max_length=64, num_mel_bins=16, patch_size=8))
        transformers.ASTFeatureExtractor(max_length=64, num_mel_bins=16).save_pretrained(folder)
    elif name in ("clap", "fused"):
        model = transformers.ClapModel(clap_config(enable_fusion=name == "fused"))
        how = "fusion" if name == "fused" else "rand_trunc"
        transformers.ClapFeatureExtractor(feature_size=16, max_length_s=2, truncation=how).save_pretrained(folder)
    else:
        model = transformers.BertModel(transformers.BertConfig(**READS))
    if name in ("clip", "siglip", "clap", "bert"):
        tokenizer(folder)
    if name in ("vit", "clip", "siglip"):
        (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": MEAN, "image_std": SPREAD}))
    with torch.no_grad():
        for value in model.parameters():  # far enough from zero that inputs tell
            if value.ndim > 1:
                value.normal_(0, 0.3)
    model.save_pretrained(folder)
    if name == "sentence":
        tokenizer(folder)
        (folder / "1_Pooling").mkdir()
        pooling = {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
        kinds = [("", "Transformer"), ("1_Pooling", "Pooling")]
        listed = [
            {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for place, (path, kind) in enumerate(kinds)
        ]
        (folder / "modules.json").write_text(json.dumps(listed))
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 16, "do_lower_case": False}))
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    home = tmp_path_factory.mktemp("models")
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = home / name
            write(name, made[name])
        return made[name]

    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Five pictures of the models' own size, and five sounds of different lengths, at 16 kHz."""
    import soundfile

    home, rng = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    for number in range(5):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(home / f"{number}.png")
        times = np.arange(int(16_000 * (0.4 + 0.5 * number))) / 16_000
        wave = 0.4 * np.sin(2 * np.pi * 220 * (number + 1) * times) + 0.05 * rng.normal(size=len(times))
        soundfile.write(home / f"{number}.wav", wave.astype(np.float32), 16_000, subtype="FLOAT")
    return home


def network(folder: Path):
    return transformers.AutoModel.from_pretrained(folder).eval()


def plain(values) -> np.ndarray:
    return getattr(values, "pooler_output", values).detach().numpy()


def check(opened, contents, size: int, *, of_unit_length: bool = False) -> np.ndarray:
    """What every encoder promises: shape, finite, the same again, and whatever the batch and its order are."""
    vectors = opened.encode(contents)
    assert vectors.shape == (len(contents), size) == (len(contents), opened.size)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    assert opened.encode([]).shape == (0, size)
    assert np.array_equal(vectors, opened.encode(contents))
    assert np.allclose(opened.encode(contents[::-1])[::-1], vectors, atol=1e-5)
    alone = np.concatenate([opened.encode([content]) for content in contents])
    assert np.allclose(alone, vectors, atol=1e-5)
    assert np.linalg.norm(vectors - vectors.mean(0), axis=1).min() > 1e-3, "contents cannot be told apart"
    if of_unit_length:
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    return vectors


@pytest.mark.parametrize(("name", "size"), [("vit", 16), ("clip", 8), ("siglip", 16)])
def test_pictures_are_what_transformers_makes_of_the_same_pixels(models, files, name, size):
    paths = [files / f"{number}.png" for number in range(5)]
    vectors = check(HubImageEncoder(str(models(name)), batch=2), [Media((path,)) for path in paths], size)
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths]) / 255
    fed = torch.tensor(((pixels - MEAN) / SPREAD).transpose(0, 3, 1, 2).astype(np.float32))
    model = network(models(name))
    with torch.inference_mode():
        if name == "vit":
            expected = model(pixel_values=fed).last_hidden_state[:, 0].numpy()
        else:
            expected = plain(model.get_image_features(pixel_values=fed))
    assert np.allclose(vectors, expected, atol=1e-4)


def test_sound_by_an_ast_is_what_transformers_makes_of_its_pieces(models, files):
    import soundfile

    paths = [files / f"{number}.wav" for number in range(5)]
    vectors = check(HubAudioEncoder(str(models("ast"))), [Media((path,)) for path in paths], 16)
    model, extractor = network(models("ast")), transformers.ASTFeatureExtractor.from_pretrained(models("ast"))
    piece = 16_000 * 64 // 100
    for path, vector in zip(paths, vectors):
        samples = soundfile.read(path, dtype="float32")[0]
        pieces = [samples[at : at + piece] for at in range(0, len(samples), piece)]
        pieces = pieces if len(pieces) == 1 or len(pieces[-1]) >= piece // 2 else pieces[:-1]
        heard = [plain(model(**extractor(one, sampling_rate=16_000, return_tensors="pt")))[0] for one in pieces]
        assert np.allclose(vector, np.mean(heard, axis=0), atol=1e-4)


@pytest.mark.parametrize("name", ["clap", "fused"])
def test_sound_by_a_clap_is_heard_at_its_own_rate(models, files, name):
    import soundfile
    import soxr

    paths = [files / f"{number}.wav" for number in range(5)]
    opened = HubAudioEncoder(str(models(name)))
    vectors = check(opened, [Media((path,)) for path in paths], 8)
    assert opened.rate == 48_000
    model, extractor = network(models(name)), transformers.ClapFeatureExtractor.from_pretrained(models(name))
    samples = soxr.resample(soundfile.read(paths[1], dtype="float32")[0], 16_000, 48_000)
    with torch.inference_mode():
        fed = extractor(samples, sampling_rate=48_000, return_tensors="pt")
        assert np.allclose(vectors[1], plain(model.get_audio_features(**fed))[0], atol=1e-4)


@pytest.mark.parametrize("name", ["clap", "fused"])
def test_a_long_sound_is_the_mean_of_its_pieces_and_a_short_rest_is_left_out(models, name):
    rng = np.random.default_rng(1)
    opened = HubAudioEncoder(str(models(name)))
    pieces = [rng.normal(0, 0.1, 96_000).astype(np.float32) for _ in range(3)]
    apart = np.mean([opened.features([piece])[0] for piece in pieces], axis=0)
    rest = np.zeros(40_000, np.float32)
    assert np.allclose(opened.features([np.concatenate([*pieces, rest])])[0], apart, atol=1e-5)


@pytest.mark.parametrize(("name", "size"), [("bert", 16), ("sentence", 16), ("clip", 8), ("siglip", 16), ("clap", 8)])
def test_texts_are_what_transformers_makes_of_the_same_tokens(models, name, size):
    opened = HubTextEncoder(str(models(name)), batch=2)
    vectors = check(opened, [text(words) for words in TEXTS], size, of_unit_length=True)
    folder = models(name)
    split = transformers.AutoTokenizer.from_pretrained(folder)
    model = network(folder)
    for words, vector in zip(TEXTS, vectors):
        fed = split(words, return_tensors="pt")
        with torch.inference_mode():
            if name in ("bert", "sentence"):
                expected = model(**fed).last_hidden_state[0].mean(0).numpy()
            elif name == "siglip":
                full = torch.zeros(1, 16, dtype=torch.long)
                full[0, : fed["input_ids"].shape[1]] = fed["input_ids"][0]
                expected = plain(model.get_text_features(input_ids=full))[0]
            else:
                expected = plain(model.get_text_features(fed["input_ids"], fed["attention_mask"]))[0]
        assert np.allclose(vector, expected / np.linalg.norm(expected), atol=1e-4)


def test_a_text_longer_than_the_model_reads_is_cut(models):
    for name in ("bert", "sentence", "clap"):
        opened = HubTextEncoder(str(models(name)))
        short, long = (opened.encode([text(" ".join(["snow", "night"] * times))]) for times in (8, 500))
        assert np.allclose(short, long, atol=1e-5)


def test_a_recipe_names_a_folder_for_every_modality_and_the_cache_keeps_its_vectors(models, files, tmp_path):
    catalog = Catalog(
        Ids(map(str, range(5))),
        {
            TEXT: [text(words) for words in TEXTS],
            IMAGE: [Media((files / f"{number}.png",)) for number in range(5)],
            AUDIO: [Media((files / f"{number}.wav",)) for number in range(5)],
        },
    )
    choice = {TEXT: f"hub:{models('clip')}", IMAGE: f"hub:{models('clip')}", AUDIO: f"hub:{models('ast')}"}
    done = encode(catalog, open_encoders(catalog, choice), Cache(tmp_path))
    assert not done.problems
    assert {modality: view.values.shape[1] for modality, view in done.views.items()} == {TEXT: 8, IMAGE: 8, AUDIO: 16}
    assert all(view.present.all() for view in done.views.values())
    again = encode(catalog, open_encoders(catalog, choice), Cache(tmp_path))
    assert set(again.computed.values()) == {0}
    assert all(np.array_equal(done.views[name].values, again.views[name].values) for name in choice)


def test_other_weights_have_another_fingerprint(models, tmp_path):
    copied = write("vit", tmp_path)
    assert HubImageEncoder(str(copied)).fingerprint == HubImageEncoder(str(models("vit"))).fingerprint
    raw = bytearray((tmp_path / "model.safetensors").read_bytes())
    raw[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(bytes(raw))
    assert HubImageEncoder(str(copied)).fingerprint != HubImageEncoder(str(models("vit"))).fingerprint


def refusal(opened) -> str:
    """The one line with which a folder is refused."""
    with pytest.raises(DataError) as caught:
        opened.fingerprint, opened.size  # noqa: B018
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", [HubTextEncoder, HubImageEncoder, HubAudioEncoder])
def test_pickled_weights_and_folders_that_are_none_are_refused(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    torch.save({"weight": torch.zeros(2)}, tmp_path / "pytorch_model.bin")
    assert "pickled" in refusal(kind(str(tmp_path)))
    (tmp_path / "pytorch_model.bin").unlink()
    assert "is it the folder of a model?" in refusal(kind(str(tmp_path)))
    assert "no such folder" in refusal(kind(str(tmp_path / "none")))


def test_a_damaged_folder_is_refused_in_one_line(models, tmp_path):
    folder = write("vit", tmp_path / "vit")
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    layer = next(name for name in weights if "attention" in name)
    save_file({name: value for name, value in weights.items() if name != layer}, folder / "model.safetensors")
    assert "its weights lack" in refusal(HubImageEncoder(str(folder)))
    (folder / "model.safetensors").write_bytes(b"nothing")
    refusal(HubImageEncoder(str(folder)))
    save_file(weights, folder / "model.safetensors")
    (folder / "preprocessor_config.json").write_text('{"image_mean": 3}')
    assert "image_mean" in refusal(HubImageEncoder(str(folder)))
    (folder / "config.json").write_text('{"model_type": "nothing known"}')
    refusal(HubImageEncoder(str(folder)))
    no_words = write("bert", tmp_path / "bert")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (no_words / name).unlink()
    assert "no vocabulary" in refusal(HubTextEncoder(str(no_words)))


def test_a_missing_pooler_is_not_made_up(tmp_path):
    """Weights without a pooler give the first token, the same each time, not what a random pooler makes of it."""
    from safetensors.torch import load_file, save_file

    torch.manual_seed(3)
    transformers.DeiTModel(transformers.DeiTConfig(**SEES)).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "pooler" not in name}
    assert len(kept) < len(weights)
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    pixels = [np.full((32, 32, 3), shade, np.uint8) for shade in (0, 90)]
    first, second = (HubImageEncoder(str(tmp_path)).features(pixels) for _ in range(2))
    assert np.array_equal(first, second)


def test_a_sentence_transformer_that_asks_for_foreign_code_or_pickles_is_refused(tmp_path):
    folder = write("sentence", tmp_path)
    torch.save({}, folder / "1_Pooling" / "pytorch_model.bin")
    assert "pickled" in refusal(HubTextEncoder(str(folder)))
    (folder / "1_Pooling" / "pytorch_model.bin").unlink()
    listed = (folder / "modules.json").read_text().replace("sentence_transformers.models.Pooling", "os.system")
    (folder / "modules.json").write_text(listed)
    assert "os.system" in refusal(HubTextEncoder(str(folder)))
