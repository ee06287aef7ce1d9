"""onnxruntime sessions, and fingerprints of the files that hold weights."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sensorium.arrays import digest
from sensorium.errors import DataError, MissingExtra
from sensorium.settings import nearest


def open_session(model: bytes | str | Path, threads: int = 1) -> Any:
    """A session of an ONNX file or its bytes, on the GPU where onnxruntime can use one.

    One thread by default: `in_parallel` runs several batches side by side, which needs no waiting at every layer.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    usable = onnxruntime.get_available_providers()
    providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in usable]
    try:
        return onnxruntime.InferenceSession(
            model if isinstance(model, bytes) else str(model), options, providers=providers
        )
    except Exception as error:
        name = "the model" if isinstance(model, bytes) else str(model)
        raise DataError(f"{name} is no ONNX file that onnxruntime can run: {one_line(error)}") from None


def existing(file: str) -> Path:
    """The path of an ONNX file that a recipe names. **Raises** DataError where there is none."""
    path = Path(file).expanduser()
    if not path.is_file():
        raise DataError(f"onnx:{file}: no such file")
    return path


def run(session: Any, output: str, fed: Mapping[str, Any], file: str) -> Any:
    """The named output (the first one where no name is given) of a session. **Raises** DataError where it fails."""
    known = [one.name for one in session.get_outputs()]
    if output and output not in known:
        raise DataError(f"{file}: no output {output!r}; {nearest(output, known)}")
    try:
        return session.run([output or known[0]], fed)[0]
    except Exception as error:  # onnxruntime has a class of its own for every kind of failure
        shapes = ", ".join(f"{name} {value.shape}" for name, value in fed.items())
        raise DataError(f"{file}: cannot be run on {shapes}: {one_line(error)}") from None


def one_line(error: Exception) -> str:
    """What another library says of a failure, short enough for the end of a line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def package_folder(module: str, package: str, extra: str) -> Path:
    """The folder of an installed module, found without importing it. **Raises** MissingExtra."""
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise MissingExtra(package, extra)
    return Path(next(iter(found.submodule_search_locations)))


def weights_digest(path: str | Path) -> str:
    """A short digest of a file's bytes; remembered as long as the file is unchanged."""
    status = os.stat(path)
    return _weights_digest(str(path), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _weights_digest(path: str, size: int, changed: int) -> str:
    import hashlib

    with open(path, "rb") as stream:
        return digest(hashlib.file_digest(stream, "sha256").digest())[:12]
