"""Decoding of pictures, sound and video into plain arrays, within limits. Runs in a worker process: see `worker.py`.

A header is read before pixels are: what declares too much is refused without being decoded.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Floats
from sensorium.errors import MediaError

RATE = 16_000  # of all sound, in samples a second
# Formats that Pillow decodes itself; those that would start another program (EPS) or fetch something are left out.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "ICO", "TGA", "JPEG2000", "AVIF")


@dataclass(frozen=True)
class Limits:
    """What one file may cost. Time is wall time for one file, kept by whoever waits for the worker."""

    pixels: int = 64_000_000
    picture_bytes: int = 64 << 20
    sound_bytes: int = 512 << 20
    video_bytes: int = 2 << 30
    sound_seconds: float = 30.0  # what is read from the start; the rest is left unread
    seconds: float = 10.0
    memory_bytes: int = 3 << 30


def decode_picture(path: str, side: int, limits: Limits) -> NDArray[np.uint8]:
    """A picture as (side, side, 3) RGB: turned as its EXIF tag says, transparency on white, squeezed to a square.

    **Raises** MediaError where it is broken, too large or no picture.
    """
    import warnings

    from PIL import Image, ImageOps

    _bounded(path, limits.picture_bytes)
    warnings.simplefilter("ignore")
    Image.MAX_IMAGE_PIXELS = None  # checked below, by the header
    with Image.open(path, formats=FORMATS) as image:
        width, height = image.size
        if width * height > limits.pixels:
            raise MediaError(f"{width} × {height} pixels, more than {limits.pixels:,}")
        if image.format == "JPEG":
            image.draft("RGB", (side, side))  # decodes at a half, a quarter, an eighth of the size
        image.load()
        return squared(ImageOps.exif_transpose(image), side)


def squared(image: Any, side: int) -> NDArray[np.uint8]:
    """A Pillow image as (side, side, 3) RGB."""
    from PIL import Image

    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(ground, image)
    elif image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.asarray(image, np.float32)
        high = 65_535.0 if values.max(initial=0.0) > 255 else 255.0
        image = Image.fromarray(np.clip(values * (255.0 / high), 0, 255).astype(np.uint8))
    return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC))


def decode_sound(path: str, limits: Limits, rate: int = RATE) -> Floats:
    """Sound as mono samples in −1…1, `rate` a second, at most `limits.sound_seconds` of it.

    soundfile reads WAV, FLAC, OGG and MP3; what it cannot, PyAV tries (M4A, a video's track).

    **Raises** MediaError where it is broken or holds no sound.
    """
    _bounded(path, limits.sound_bytes)
    import soundfile

    try:
        with soundfile.SoundFile(path) as sound:
            if sound.samplerate < 1000 or sound.channels > 64:
                raise MediaError(f"{sound.samplerate} Hz, {sound.channels} channels is no sound that can be used")
            frames = int(min(max(sound.frames, 0), limits.sound_seconds * sound.samplerate))
            values = sound.read(frames, dtype="float32", always_2d=True).mean(1)
            return resampled(values, sound.samplerate, rate)
    except soundfile.LibsndfileError:
        found = _track(path, limits, rate)
    if found is None:
        raise MediaError("no sound in it")
    return found


def resampled(values: Floats, rate: int, wanted: int = RATE) -> Floats:
    """Mono samples at `wanted` a second, finite, in −1…1."""
    import soxr

    if values.size == 0:
        raise MediaError("a sound without samples")
    values = np.nan_to_num(values, nan=0.0, posinf=1.0, neginf=-1.0)
    out = soxr.resample(values, rate, wanted) if rate != wanted else values
    return np.clip(out, -1.0, 1.0).astype(np.float32)


def decode_video(
    path: str, side: int, frames: int, limits: Limits, rate: int = RATE
) -> tuple[NDArray[np.uint8], Floats]:
    """A video as (N, side, side, 3) RGB frames, evenly spaced over its length, and its sound track (empty if none).

    Seeks to the key frame at or before each of the evenly spaced times: a clip costs some tens of milliseconds, whatever
    its length. N is at most `frames`, fewer where key frames coincide and nothing else can be decoded.
    """
    import av

    _bounded(path, limits.video_bytes)
    pictures: list[NDArray[np.uint8]] = []
    with av.open(path, metadata_errors="ignore") as container:
        if not container.streams.video:
            raise MediaError("no pictures in it")
        stream = container.streams.video[0]
        if stream.width * stream.height > limits.pixels:
            raise MediaError(f"{stream.width} × {stream.height} pixels, more than {limits.pixels:,}")
        stream.thread_count = 1
        for frame in _spread(container, stream, frames):
            if frame.width * frame.height > limits.pixels:
                raise MediaError(f"{frame.width} × {frame.height} pixels, more than {limits.pixels:,}")
            small = frame.reformat(width=side, height=side, format="rgb24", interpolation="BICUBIC")
            pictures.append(small.to_ndarray())
    if not pictures:
        raise MediaError("not one picture in it can be decoded")
    try:
        sound = _track(path, limits, rate)
    except (MediaError, OSError, ValueError, RuntimeError):
        sound = None  # a broken track leaves the pictures
    return np.stack(pictures), np.zeros(0, np.float32) if sound is None else sound


def _spread(container: Any, stream: Any, count: int) -> list[Any]:
    """Frames at evenly spaced times; in a short clip without key frames to seek to, evenly spaced in order."""
    import av

    length = float(stream.duration * stream.time_base) if stream.duration else (container.duration or 0) / av.time_base
    found: dict[int, Any] = {}
    if length > 0:
        start = float((stream.start_time or 0) * stream.time_base)
        for place in range(count):
            at = start + length * (place + 0.5) / count
            try:
                container.seek(int(at / stream.time_base), stream=stream)
                frame = next(container.decode(stream), None)
            except av.FFmpegError:
                continue
            if frame is not None and frame.pts is not None:
                found.setdefault(frame.pts, frame)
    if len(found) >= min(count, 2):
        return [found[pts] for pts in sorted(found)]
    # One key frame or none: read on from the start, keeping a thinned-out list.
    kept: list[Any] = []
    step = 1
    try:
        container.seek(0)
        for number, frame in enumerate(container.decode(stream)):
            if number % step == 0:
                kept.append(frame)
            if len(kept) >= 4 * count:
                kept, step = kept[::2], step * 2
            if number >= 3000:
                break
    except (av.FFmpegError, OSError):
        pass  # what was decoded until here counts
    kept = kept or [found[pts] for pts in sorted(found)]
    if not kept:
        return []
    places = np.linspace(0, len(kept) - 1, min(count, len(kept))).round().astype(int)
    return [kept[place] for place in places]


def _track(path: str, limits: Limits, rate: int = RATE) -> Floats | None:
    """The first sound track by PyAV, or None where there is none."""
    import av

    parts: list[NDArray[Any]] = []
    with av.open(path, metadata_errors="ignore") as container:
        if not container.streams.audio:
            return None
        stream = container.streams.audio[0]
        resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
        wanted = int(limits.sound_seconds * rate)
        try:
            for frame in container.decode(stream):
                parts.extend(piece.to_ndarray().reshape(-1) for piece in resampler.resample(frame))
                if sum(map(len, parts)) >= wanted:
                    break
        except (av.FFmpegError, OSError):
            if not parts:
                raise
    if not parts:
        return None
    return resampled(np.concatenate(parts)[:wanted].astype(np.float32), rate, rate)


def _bounded(path: str, most: int) -> None:
    size = os.path.getsize(path)
    if size == 0:
        raise MediaError("an empty file")
    if size > most:
        raise MediaError(f"{size:,} bytes, more than {most:,}")
