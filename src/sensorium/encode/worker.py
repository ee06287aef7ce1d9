"""A decoding process: reads requests from its input, writes arrays to its output; may be killed at any time.

Request: one line of JSON. Answer: one line of JSON (shapes and types, or the reason of a refusal), then the arrays' bytes.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import signal
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorium.encode.media import Limits, decode_picture, decode_sound, decode_video
from sensorium.encode.reasons import without_paths
from sensorium.errors import MediaError

READY = b"ready"  # the first line of its output, when the first request can be worked at
STARTING_SECONDS = 20.0  # what a process may take until then, beside the time of a file
NEEDED = {"picture": ("PIL.Image", "PIL.ImageOps"), "sound": ("soundfile", "soxr"), "video": ("av", "soxr")}


def decode(request: dict[str, Any], limits: Limits) -> list[NDArray]:
    """The arrays of one request."""
    kind, path = request["kind"], request["path"]
    if kind == "picture":
        return [decode_picture(path, request["side"], limits)]
    if kind == "sound":
        return [decode_sound(path, limits, request["rate"])]
    return list(decode_video(path, request["side"], request["frames"], limits, request["rate"]))


def confine(limits: Limits) -> None:
    """Take away from this process what decoding does not need: memory beyond the limit, core files, writing files."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def serve() -> None:
    """Answer requests until the input ends."""
    answers = os.fdopen(os.dup(1), "wb", buffering=1 << 20)
    os.dup2(2, 1)  # what a library prints goes where nobody mistakes it for an answer
    limits = Limits(**json.loads(sys.stdin.buffer.readline()))
    confine(limits)
    ready = False
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if not ready:  # the time that imports take is not the file's
            for name in NEEDED[request["kind"]]:
                importlib.import_module(name)
            answers.write(READY + b"\n")
            answers.flush()
            ready = True
        # Whoever waits ends this process in time. Where it is no more, the alarm ends a decoder that hangs.
        signal.setitimer(signal.ITIMER_REAL, limits.seconds + STARTING_SECONDS)
        try:
            arrays = [np.ascontiguousarray(one) for one in decode(request, limits)]
            head: dict[str, Any] = {"arrays": [[str(one.dtype), list(one.shape)] for one in arrays]}
        except MemoryError:
            arrays, head = [], {"error": "decoding it takes too much memory"}
        except MediaError as error:
            arrays, head = [], {"error": str(error)}
        except Exception as error:  # whatever a decoder says of a hostile file is the file's fault, not ours
            why = without_paths(str(error), request["path"]).replace("\n", " ")
            arrays, head = [], {"error": f"cannot be decoded: {type(error).__name__}: {why}"[:200].rstrip(" :")}
        signal.setitimer(signal.ITIMER_REAL, 0)
        answers.write(json.dumps(head).encode() + b"\n")
        for one in arrays:
            answers.write(one.data if one.size else b"")
        answers.flush()


def settings(limits: Limits) -> bytes:
    """The first line a worker is sent."""
    return json.dumps(dataclasses.asdict(limits)).encode() + b"\n"


if __name__ == "__main__":
    serve()
