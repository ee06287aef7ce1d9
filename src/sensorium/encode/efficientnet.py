"""EfficientNet-Lite0 as a graph that onnxruntime runs: the published layers, with batch norms folded into convolutions.

onnxruntime runs it about twice as fast as torch on a CPU (see benchmarks/encoding.py), so the weights are read with torch
(`weights_only=True`: nothing of the file is executed) and written into an ONNX graph in memory.

**Source** Tan and Le 2019, EfficientNet, arXiv:1905.11946; the Lite variant: no squeeze-and-excitation, ReLU6.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sensorium.arrays import Floats
from sensorium.encode import wire

FEATURES, SIDE = 1280, 224
MIDDLE, MIDDLE_SIDE, MIDDLE_OUTPUT = 112, 14, "_blocks.10.sum"  # the last map before the strides end
# repeats, kernel, stride, expansion, channels in, channels out
STAGES = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)
EPSILON = 1e-3  # of the batch norms


def read_weights(path: str) -> dict[str, Floats]:
    """The float arrays of a `.pth` state dict."""
    import torch

    state: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return {name: value.numpy() for name, value in state.items() if value.is_floating_point()}


def graph(weights: Mapping[str, Floats]) -> bytes:
    """The network as an ONNX file: pixels (B, 3, 224, 224) → features (B, 1280), classes (B, 1000) as logits,
    and the map of block 10, (B, 112, 14, 14)."""
    made = _Graph(weights)
    x = made.convolution("pixels", "_conv_stem", "_bn0", stride=2, side=SIDE)
    side, block = SIDE // 2, 0
    for repeats, _, stride, expansion, wide_in, wide_out in STAGES:
        for repeat in range(repeats):
            name, step, before = f"_blocks.{block}", stride if repeat == 0 else 1, x
            if expansion != 1:
                x = made.convolution(x, f"{name}._expand_conv", f"{name}._bn0", side=side)
            x = made.convolution(x, f"{name}._depthwise_conv", f"{name}._bn1", stride=step, side=side, each=True)
            x = made.convolution(x, f"{name}._project_conv", f"{name}._bn2", side=side, clip=False)
            if repeat > 0 or (stride == 1 and wide_in == wide_out):
                x = made.add("Add", [x, before], f"{name}.sum")
            side, block = -(-side // step), block + 1
    x = made.convolution(x, "_conv_head", "_bn1", side=side)
    x = made.add("GlobalAveragePool", [x], "pooled")
    made.add("Flatten", [x], "features", axis=1)
    made.weight("_fc.weight", weights["_fc.weight"])
    made.weight("_fc.bias", weights["_fc.bias"])
    made.add("Gemm", ["features", "_fc.weight", "_fc.bias"], "classes", transB=1)
    outputs = [
        wire.value_info("features", ["batch", FEATURES]),
        wire.value_info("classes", ["batch", 1000]),
        wire.value_info(MIDDLE_OUTPUT, ["batch", MIDDLE, MIDDLE_SIDE, MIDDLE_SIDE]),
    ]
    return wire.model(made.nodes, made.weights, [wire.value_info("pixels", ["batch", 3, SIDE, SIDE])], outputs)


class _Graph:
    """Nodes and weights as they are added."""

    def __init__(self, state: Mapping[str, Floats]) -> None:
        self.state = state
        self.nodes: list[bytes] = []
        self.weights: list[bytes] = []
        self.weight("zero", np.zeros((), np.float32))
        self.weight("six", np.full((), 6, np.float32))

    def weight(self, name: str, values: Floats) -> None:
        self.weights.append(wire.tensor(name, np.asarray(values, np.float32)))

    def add(self, operator: str, inputs: list[str], output: str, **attributes: int | list[int]) -> str:
        self.nodes.append(wire.node(operator, inputs, output, **attributes))
        return output

    def convolution(
        self, x: str, name: str, norm: str, *, side: int, stride: int = 1, each: bool = False, clip: bool = True
    ) -> str:
        """Convolution with "same" padding, its batch norm folded in, and ReLU6 unless `clip` is False."""
        kernel = self.state[f"{name}.weight"]
        gain = self.state[f"{norm}.weight"] / np.sqrt(self.state[f"{norm}.running_var"] + np.float32(EPSILON))
        self.weight(f"{name}.weight", kernel * gain[:, None, None, None])
        self.weight(f"{name}.bias", self.state[f"{norm}.bias"] - self.state[f"{norm}.running_mean"] * gain)
        k = kernel.shape[2]
        pad = max((-(-side // stride) - 1) * stride + k - side, 0)
        pads = [pad // 2, pad // 2, pad - pad // 2, pad - pad // 2]
        inputs = [x, f"{name}.weight", f"{name}.bias"]
        group = len(kernel) if each else 1
        out = self.add(
            "Conv", inputs, f"{name}.out", kernel_shape=[k, k], strides=[stride, stride], pads=pads, group=group
        )
        return self.add("Clip", [out, "zero", "six"], f"{name}.clipped") if clip else out
