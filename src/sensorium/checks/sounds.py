"""The demo world's sounds: mood sets tempo and timbre, theme adds what one would hear there."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Floats
from sensorium.checks.drawing import LABEL

RATE = 16_000
Samples = NDArray[np.float64]
_SCALE = {"calm": (0, 2, 4, 7, 9), "lively": (0, 2, 4, 5, 7, 9, 11), "stormy": (0, 1, 3, 6, 8)}
_BEATS_PER_MINUTE = {"calm": 66, "lively": 152, "stormy": 96}


def tune(theme: str, mood: str, rng: np.random.Generator, *, seconds: float = 3.0, rate: int = RATE) -> Floats:
    """Mono samples within ±1, (seconds × rate,)."""
    count = int(seconds * rate)
    time = np.arange(count) / rate
    out = 0.55 * _notes(mood, rng, time, rate) + 0.45 * _place(theme, rng, time, rate)
    return (0.8 * out / max(float(np.abs(out).max()), 1e-6)).astype(np.float32)


def wav(samples: Floats, rate: int = RATE) -> bytes:
    """Sixteen-bit mono WAV bytes, with the label in an INFO chunk."""
    data = (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
    label = LABEL.encode() + b"\0" * (2 - len(LABEL) % 2)
    info = b"INFOICMT" + struct.pack("<I", len(label)) + label
    chunks = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, rate, rate * 2, 2, 16)
    chunks += b"LIST" + struct.pack("<I", len(info)) + info + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def _notes(mood: str, rng: np.random.Generator, time: Samples, rate: int) -> Samples:
    out = np.zeros(len(time))
    beat = 60 / (_BEATS_PER_MINUTE[mood] * rng.uniform(0.93, 1.07))
    root = (196.0 if mood == "lively" else 98.0 if mood == "stormy" else 130.8) * 2 ** (int(rng.integers(0, 5)) / 12)
    decay = {"calm": 1.2, "lively": 7.0, "stormy": 2.5}[mood]
    for start in np.arange(0, time[-1], beat):
        first = int(start * rate)
        t = time[first:] - time[first]
        pitch = root * 2 ** (int(rng.choice(_SCALE[mood])) / 12 + int(rng.integers(0, 2)))
        overtones = np.arange(1, 3 if mood == "calm" else 7)[:, None]
        wave = (np.sin(2 * np.pi * pitch * overtones * t) / overtones ** (2.2 if mood == "calm" else 1.0)).sum(0)
        attack = np.minimum(t / (0.08 if mood == "calm" else 0.005), 1)
        out[first:] += wave * attack * np.exp(-decay * t)
    if mood == "stormy":
        out += 0.8 * _smooth(rng.normal(size=len(time)), 160) * (1 + np.sin(2 * np.pi * 0.4 * time))
    return out / max(float(np.abs(out).max()), 1e-6)


def _place(theme: str, rng: np.random.Generator, time: Samples, rate: int) -> Samples:
    noise = rng.normal(size=len(time))
    match theme:
        case "train":  # puffs of steam in pairs, and a whistle
            pulse = np.exp(-18 * (time % 0.28)) + 0.6 * np.exp(-18 * ((time + 0.12) % 0.28))
            whistle = np.sin(2 * np.pi * 620 * time) * ((time % 2.0) < 0.35)
            out = _smooth(noise, 6) * pulse * 3 + 0.3 * whistle
        case "sea":  # breakers
            out = (
                _smooth(noise, 12) * (0.25 + np.clip(np.sin(2 * np.pi * (0.35 * time + rng.uniform())), 0, 1) ** 2) * 3
            )
        case "mountain":  # wind
            out = _smooth(noise, 60) * (1 + 0.6 * np.sin(2 * np.pi * 0.25 * time)) * 5
        case "city":  # traffic hum and horns
            horn = np.sign(np.sin(2 * np.pi * 392 * time)) * ((time % 1.4) < 0.22)
            out = 0.5 * np.sin(2 * np.pi * 58 * time) + 0.35 * horn + 0.3 * _smooth(noise, 20)
        case "forest":  # birds
            rise = 2600 + 900 * np.sin(2 * np.pi * 9 * time) + 400 * np.sin(2 * np.pi * 1.3 * time)
            song = np.sin(2 * np.pi * np.cumsum(rise) / rate) * ((time * rng.uniform(1.6, 2.4)) % 1 < 0.3)
            out = 0.7 * song + 0.1 * _smooth(noise, 30)
        case _:  # desert: a drone, and sand
            out = (
                np.sin(2 * np.pi * 73 * time)
                + 0.5 * np.sin(2 * np.pi * 110.3 * time)
                + 0.15 * np.diff(noise, prepend=0)
            )
    return out / max(float(np.abs(out).max()), 1e-6)


def _smooth(noise: Samples, width: int) -> Samples:
    """A moving average: the cheapest low-pass."""
    total = np.cumsum(np.concatenate([np.zeros(width), noise]))
    return (total[width:] - total[:-width]) / np.sqrt(width)
