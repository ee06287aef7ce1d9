"""A decoding process: reads requests from its input, writes arrays to its output; may be killed at any time.

Request: one line of JSON. Answer: one line of JSON (shapes and types, or the reason of a refusal), then the arrays' bytes.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorium.encode.media import Limits, decode_picture, decode_sound, decode_video
from sensorium.errors import MediaError


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
    for line in sys.stdin.buffer:
        try:
            arrays = [np.ascontiguousarray(one) for one in decode(json.loads(line), limits)]
            head: dict[str, Any] = {"arrays": [[str(one.dtype), list(one.shape)] for one in arrays]}
        except MemoryError:
            arrays, head = [], {"error": "decoding it takes too much memory"}
        except MediaError as error:
            arrays, head = [], {"error": str(error)}
        except Exception as error:  # whatever a decoder says of a hostile file is the file's fault, not ours
            arrays, head = [], {"error": f"cannot be decoded: {type(error).__name__}: {error}".replace("\n", " ")[:200]}
        answers.write(json.dumps(head).encode() + b"\n")
        for one in arrays:
            answers.write(one.data if one.size else b"")
        answers.flush()


def settings(limits: Limits) -> bytes:
    """The first line a worker is sent."""
    return json.dumps(dataclasses.asdict(limits)).encode() + b"\n"


if __name__ == "__main__":
    serve()
