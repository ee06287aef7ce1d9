"""Values as plain trees and arrays, and back: how anything learnt is saved without a line of code in the file.

A class is named, looked up among Sensorium's own dataclasses, and built from its fields.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sensorium.data.ids import Ids
from sensorium.errors import SensoriumError, SnapshotError

ROOMS = ("data", "encode", "fuse", "models")  # the rooms whose dataclasses may be named in a file
FORMAT = 1  # of a file that holds one value

Arrays = dict[str, NDArray[Any]]
V = TypeVar("V")


def plain(value: Any, arrays: Arrays, path: str) -> Any:
    """The value as JSON-ready data; its arrays go into `arrays` under their path."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else {"~": "float", "value": repr(float(value))}
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            return {"~": "objects", "values": [plain(entry, arrays, path) for entry in value.tolist()]}
        if value.dtype.kind == "U":
            return {"~": "strings", "values": value.tolist()}
        arrays[path] = np.ascontiguousarray(value)
        return {"~": "array", "name": path}
    if sparse.issparse(value):
        value = value.tocsc() if value.format == "csc" else value.tocsr()
        for name in ("data", "indices", "indptr"):
            arrays[f"{path}.{name}"] = getattr(value, name)
        return {"~": "sparse", "format": value.format, "shape": list(value.shape), "name": path}
    if isinstance(value, Ids):
        return {"~": "ids", "values": list(value)}
    if isinstance(value, slice):
        return {"~": "slice", "values": [value.start, value.stop]}
    if isinstance(value, Path):
        return {"~": "path", "value": str(value)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        fields = {
            f.name: plain(getattr(value, f.name), arrays, f"{path}.{f.name}")
            for f in dataclasses.fields(value)
            if f.init
        }
        return {"~": "object", "class": f"{kind.__module__}:{kind.__qualname__}", "fields": fields}
    if isinstance(value, Mapping):
        return {"~": "map", "entries": [[str(k), plain(v, arrays, f"{path}.{k}")] for k, v in value.items()]}
    if isinstance(value, tuple | list):
        kind_name = "tuple" if isinstance(value, tuple) else "list"
        return {"~": kind_name, "values": [plain(v, arrays, f"{path}.{place}") for place, v in enumerate(value)]}
    raise SnapshotError(f"{path}: a {type(value).__name__} cannot be saved")


def rebuilt(tree: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """The value that `plain` took apart. **Raises** SnapshotError for anything it would not have written."""
    if not isinstance(tree, dict):
        if isinstance(tree, list):
            raise SnapshotError("the manifest holds a bare list")
        return tree
    match tree["~"]:
        case "float":
            return float(tree["value"])
        case "objects":
            out = np.empty(len(tree["values"]), object)
            out[:] = [rebuilt(entry, arrays) for entry in tree["values"]]
            return out
        case "strings":
            return np.array(tree["values"], dtype=str)
        case "array":
            return arrays[tree["name"]]
        case "sparse":
            parts = tuple(arrays[f"{tree['name']}.{name}"] for name in ("data", "indices", "indptr"))
            kind = sparse.csc_array if tree["format"] == "csc" else sparse.csr_array
            matrix = kind(parts, shape=tuple(tree["shape"]))
            matrix.check_format(full_check=True)
            return matrix
        case "ids":
            return Ids(tree["values"])
        case "slice":
            return slice(*tree["values"])
        case "path":
            return Path(tree["value"])
        case "object":
            return _object(tree, arrays)
        case "map":
            return {key: rebuilt(value, arrays) for key, value in tree["entries"]}
        case "tuple":
            return tuple(rebuilt(value, arrays) for value in tree["values"])
        case "list":
            return [rebuilt(value, arrays) for value in tree["values"]]
    raise SnapshotError(f"the manifest holds an unknown kind of value: {tree['~']!r}")


def _object(tree: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Any:
    module, _, name = tree["class"].partition(":")
    place = module.split(".")
    if len(place) < 3 or place[0] != "sensorium" or place[1] not in ROOMS or not name.isidentifier():
        raise SnapshotError(f"the manifest names {tree['class']!r}, which is no class of Sensorium's")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        raise SnapshotError(f"the manifest names {tree['class']!r}, which this version does not have") from None
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)) or kind.__module__ != module:
        raise SnapshotError(f"the manifest names {tree['class']!r}, which is no dataclass")
    fields = {name: rebuilt(value, arrays) for name, value in tree["fields"].items()}
    return kind(**fields)


def save_value(value: Any, path: Path) -> None:
    """One value as one safetensors file, complete or not there at all; the same value gives the same bytes."""
    from safetensors.numpy import save_file

    arrays: Arrays = {}
    tree = plain(value, arrays, "value")
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        about = {"sensorium": json.dumps({"format": FORMAT, "value": tree}, ensure_ascii=False)}
        save_file(arrays, draft, metadata=about)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def load_value(path: Path, kind: type[V]) -> V:
    """The value of a file. **Raises** SnapshotError where it is missing, damaged, or holds something else than a `kind`."""
    from safetensors import safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads((file.metadata() or {})["sensorium"])
            if about["format"] != FORMAT:
                raise SnapshotError(
                    f"{path}: saved in format {about['format']}, this version reads {FORMAT}; fit it again"
                )
            value = rebuilt(about["value"], {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except FileNotFoundError:
        raise SnapshotError(f"there is no file {path}; check the name") from None
    except SensoriumError:
        raise
    except Exception as error:
        raise SnapshotError(f"{path}: nothing that Sensorium saved ({type(error).__name__}: {error})") from None
    if not isinstance(value, kind):
        raise SnapshotError(f"{path}: holds a {type(value).__name__}, not a {kind.__name__}")
    return value
