"""Open encoders by name: the names, the defaults, and what a recipe's `[encode]` section may say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sensorium.data.catalog import Catalog
from sensorium.data.content import ATTRIBUTES, AUDIO, IMAGE, LOOK, TEXT, TOKENS, VECTOR, VIDEO, WORDS
from sensorium.encode.attributes import AttributeEncoder, AttributeSettings
from sensorium.encode.audio import YamnetEncoder
from sensorium.encode.encoder import Encoder
from sensorium.encode.given import GivenEncoder
from sensorium.encode.hub import HubAudioEncoder, HubImageEncoder
from sensorium.encode.hubtext import HubTextEncoder
from sensorium.encode.image import EfficientNetEncoder
from sensorium.encode.look import LookEncoder
from sensorium.encode.onnx import OnnxAudioEncoder, OnnxImageEncoder
from sensorium.encode.remote import RemoteTextEncoder
from sensorium.encode.text import MultilingualEncoder, OnnxTextEncoder
from sensorium.encode.tokens import TokenEncoder
from sensorium.encode.video import VideoEncoder, VideoSettings
from sensorium.encode.words import WordEncoder, WordSettings
from sensorium.errors import RecipeError
from sensorium.settings import nearest, read_settings

Choice = str | Mapping[str, Any]

# Modality → name → class. The first name of a modality is its default; "none" leaves a modality out.
ENCODERS: Mapping[str, Mapping[str, type]] = {
    TEXT: {"use": MultilingualEncoder, "minilm": OnnxTextEncoder, "remote": RemoteTextEncoder},
    IMAGE: {"efficientnet": EfficientNetEncoder},
    AUDIO: {"yamnet": YamnetEncoder},
    VIDEO: {"frames": VideoSettings},
    ATTRIBUTES: {"table": AttributeSettings},
    WORDS: {"tfidf": WordSettings},
    LOOK: {"efficientnet": LookEncoder},
    TOKENS: {"hashed": TokenEncoder},  # the one that is left out unless it is asked for
}

# By what stands after the colon: `image = "hub:google/siglip-base-patch16-224"`, `text = "onnx:model.onnx"`.
PLACES: Mapping[str, tuple[str, Mapping[str, type]]] = {
    "hub": ("folder", {TEXT: HubTextEncoder, IMAGE: HubImageEncoder, AUDIO: HubAudioEncoder}),
    "onnx": ("file", {TEXT: OnnxTextEncoder, IMAGE: OnnxImageEncoder, AUDIO: OnnxAudioEncoder}),
}


def open_encoders(catalog: Catalog, choice: Mapping[str, Choice] | None = None) -> dict[str, Encoder]:
    """An encoder for every modality of which the catalogue holds something, as chosen or by default.

    A choice is a name (`image = "efficientnet"`), or a table with the name under `use` and that encoder's settings.
    Video goes through the picture and the sound encoder that are chosen, unless its own table names others.
    Nothing is loaded before it is used. **Raises** RecipeError for an unknown modality, name or setting.
    """
    choice = dict(choice or {})
    for modality, chosen in choice.items():
        if modality not in ENCODERS:
            raise RecipeError(f"encode: unknown modality {modality!r}; {nearest(modality, ENCODERS)}")
        opened = _open(modality, chosen)
        if isinstance(opened, VideoSettings):
            _video(opened, choice)
    encoders: dict[str, Encoder] = {}
    for modality, column in catalog.content.items():
        present = [content for content in column if content is not None]
        if not present:
            continue
        if modality.startswith(VECTOR):
            encoders[modality] = GivenEncoder.fit(modality, present)
            continue
        chosen = choice.get(modality) or next(iter(ENCODERS[modality]))
        opened = _open(modality, chosen)
        if isinstance(opened, AttributeSettings):
            encoders[modality] = AttributeEncoder.fit(present, opened)
        elif isinstance(opened, VideoSettings):
            encoders[modality] = _video(opened, choice)
        elif opened is not None:
            encoders[modality] = opened
    return encoders


def open_words(catalog: Catalog, choice: Mapping[str, Choice] | None = None) -> dict[str, Encoder]:
    """The encoder of the words of a catalogue's texts, beside that of their sense; learnt from the catalogue.

    A catalogue in which no word stands in two texts has none, and neither has one of which the texts are left out. Their
    tokens are there where the choice says so.
    """
    choice = choice or {}
    present = [content for content in catalog.content.get(TEXT, ()) if content is not None]
    tokens = _open(TOKENS, choice[TOKENS]) if present and TOKENS in choice else None
    found = {} if tokens is None else {TOKENS: tokens}
    if not present or (WORDS not in choice and TEXT in choice and _open(TEXT, choice[TEXT]) is None):
        return found
    settings = _open(WORDS, choice.get(WORDS) or next(iter(ENCODERS[WORDS])))
    encoder = None if settings is None else WordEncoder.fit(present, settings)
    return {WORDS: encoder, **found} if encoder is not None and encoder.vocabulary else found


def open_look(
    catalog: Catalog, choice: Mapping[str, Choice] | None = None, opened: Mapping[str, Encoder] | None = None
) -> dict[str, Encoder]:
    """The encoder of how a catalogue's pictures look, beside that of what they show (which is in `opened`, if at all).

    Pictures that another encoder than the default takes, or none, have it only where the recipe names it.
    """
    choice = choice or {}
    image = (opened or {}).get(IMAGE)
    shown = image if isinstance(image, EfficientNetEncoder) else None
    if not any(content is not None for content in catalog.content.get(IMAGE, ())):
        return {}
    if LOOK not in choice and shown is None:
        return {}
    encoder = _open(LOOK, choice.get(LOOK) or next(iter(ENCODERS[LOOK])))
    if encoder is None:
        return {}
    return {LOOK: LookEncoder(shown) if shown is not None and encoder == LookEncoder() else encoder}


def _video(settings: VideoSettings, choice: Mapping[str, Choice]) -> VideoEncoder:
    """A video encoder of the picture and the sound encoder that its settings name, else the recipe, else by default."""
    named = {IMAGE: settings.image, AUDIO: settings.audio}
    parts = {
        modality: _open(modality, own, f"encode.video.{modality}")
        if own
        else _open(modality, choice.get(modality) or next(iter(ENCODERS[modality])))
        for modality, own in named.items()
    }
    if parts[IMAGE] is None and parts[AUDIO] is None:
        raise RecipeError(
            "encode.video: neither its pictures nor its sound has an encoder; name one, or video = 'none'"
        )
    return VideoEncoder(settings.frames, settings.limits, parts[IMAGE], parts[AUDIO])


def _open(modality: str, chosen: Choice, where: str = "") -> Any:
    """The encoder (or the settings of one that is made later) of a choice; None for "none"."""
    where = where or f"encode.{modality}"
    values = {"use": chosen} if isinstance(chosen, str) else dict(chosen)
    name = str(values.pop("use", next(iter(ENCODERS[modality]))))
    if name == "none":
        return None
    kind, colon, place = name.partition(":")
    if colon and kind in PLACES and place:
        argument, classes = PLACES[kind]
        if modality not in classes:
            raise RecipeError(f"{where}: {kind}: takes {', '.join(classes)}, not {modality}")
        return read_settings(classes[modality], {argument: place, **values}, where=where)
    if name not in ENCODERS[modality]:
        known = [*ENCODERS[modality], *(f"{kind}:…" for kind, (_, classes) in PLACES.items() if modality in classes)]
        raise RecipeError(f"{where}: no encoder {name!r}; {nearest(name, known)}")
    return read_settings(ENCODERS[modality][name], values, where=where)
