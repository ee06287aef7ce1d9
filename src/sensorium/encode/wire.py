"""Just enough of the protobuf wire format to read, extend and write ONNX files without another dependency.

**Source** protobuf.dev/programming-guides/encoding and onnx.proto3 (field numbers).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

FLOAT, INT64 = 1, 7  # TensorProto.DataType
ELEMENTS = {1: "<f4", 2: "u1", 3: "i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", 10: "<f2", 11: "<f8"}


def varint(number: int) -> bytes:
    """A number in base 128, lowest digits first.

    >>> varint(300).hex()
    'ac02'
    """
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number: int, value: bytes | str | int) -> bytes:
    """One field of a message: text and messages with their length, whole numbers as a varint."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    raw = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(raw)) + raw


def fields(message: bytes | memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message in order: number, and a whole number or the bytes.

    >>> [(n, v if isinstance(v, int) else bytes(v)) for n, v in fields(field(1, "ab") + field(2, 5))]
    [(1, b'ab'), (2, 5)]
    """
    view, at = memoryview(message), 0
    while at < len(view):
        tag, at = _varint(view, at)
        kind = tag & 7
        if kind == 0:
            number, at = _varint(view, at)
            yield tag >> 3, number
            continue
        if kind == 2:
            length, at = _varint(view, at)
        else:
            length = {1: 8, 5: 4}[kind]
        yield tag >> 3, view[at : at + length]
        at += length


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (view[at] & 127) << shift
        at += 1
        if view[at - 1] < 128:
            return value, at
        shift += 7


def with_output(model: bytes, name: str) -> bytes:
    """The ONNX file `model` with one more output, the inner value `name`.

    Messages that follow one another merge, so the addition is appended: a ModelProto whose graph (field 7) holds only
    the output (field 12).
    """
    return model + field(7, field(12, field(1, name)))


def constants(model: bytes) -> dict[str, NDArray]:
    """The small constants that the ONNX file `model` holds itself (those in an external file are left out)."""
    found: dict[str, NDArray] = {}
    for number, graph in fields(model):
        if number != 7 or isinstance(graph, int):
            continue
        for inner, tensor in fields(graph):
            if inner == 5 and not isinstance(tensor, int):
                read = _tensor(tensor)
                if read is not None:
                    found[read[0]] = read[1]
    return found


def _tensor(message: memoryview) -> tuple[str, NDArray] | None:
    shape: list[int] = []
    kind, name, raw = 0, "", None
    for number, value in fields(message):
        if number == 1:
            shape.extend([value] if isinstance(value, int) else _packed(value))
        elif number == 2 and isinstance(value, int):
            kind = value
        elif number == 8 and not isinstance(value, int):
            name = bytes(value).decode()
        elif number == 9 and not isinstance(value, int):
            raw = bytes(value)
        elif number == 4 and not isinstance(value, int):  # float_data
            raw = (raw or b"") + bytes(value)
        elif number == 5:  # int32_data, which also holds the small whole numbers
            numbers = [value] if isinstance(value, int) else _packed(value)
            raw = (raw or b"") + np.asarray(numbers, np.int64).astype(ELEMENTS.get(kind, "<i4")).tobytes()
        elif number == 13:  # external data
            return None
    if raw is None or kind not in ELEMENTS or len(raw) % np.dtype(ELEMENTS[kind]).itemsize:
        return None
    return name, np.frombuffer(raw, ELEMENTS[kind]).reshape(shape)


def _packed(view: memoryview) -> list[int]:
    numbers, at = [], 0
    while at < len(view):
        number, at = _varint(view, at)
        numbers.append(number)
    return numbers


def tensor(name: str, values: NDArray) -> bytes:
    """A TensorProto of float32 or int64 values."""
    values = np.ascontiguousarray(values)
    kind = FLOAT if values.dtype == np.float32 else INT64
    shape = b"".join(field(1, int(side)) for side in values.shape)
    return shape + field(2, kind) + field(8, name) + field(9, values.tobytes())


def node(operator: str, inputs: list[str], output: str, **attributes: int | list[int]) -> bytes:
    """A NodeProto; attributes are whole numbers or lists of them."""
    out = b"".join(field(1, name) for name in inputs) + field(2, output) + field(3, output) + field(4, operator)
    for name, value in attributes.items():
        if isinstance(value, int):
            out += field(5, field(1, name) + field(3, value) + field(20, 2))
        else:
            out += field(5, field(1, name) + b"".join(field(8, entry) for entry in value) + field(20, 7))
    return out


def value_info(name: str, shape: list[int | str]) -> bytes:
    """A ValueInfoProto of float32; a side with a name may have any length."""
    sides = b"".join(field(1, field(1, side) if isinstance(side, int) else field(2, side)) for side in shape)
    return field(1, name) + field(2, field(1, field(1, FLOAT) + field(2, sides)))


def model(
    nodes: list[bytes], weights: list[bytes], inputs: list[bytes], outputs: list[bytes], *, opset: int = 13
) -> bytes:
    """A whole ONNX file."""
    graph = b"".join(field(1, one) for one in nodes) + field(2, "graph") + b"".join(field(5, one) for one in weights)
    graph += b"".join(field(11, one) for one in inputs) + b"".join(field(12, one) for one in outputs)
    return field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, opset))
