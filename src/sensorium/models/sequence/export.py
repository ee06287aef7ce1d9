"""A sequence model as one ONNX file. This file imports torch at its top: import it only where work starts."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sensorium.errors import MissingExtra

if TYPE_CHECKING:
    from sensorium.models.sequence.sequence import SequenceModel

OPSET = 17


class Scores(nn.Module):
    """From the columns of `SequenceModel.inputs` to the scores of all items: the network and the item table in one."""

    def __init__(self, model: SequenceModel, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.network = model.network
        self.register_buffer("items", torch.from_numpy(model.items.copy()))

    def forward(self, *columns: Tensor) -> Tensor:
        items: Tensor = self.items  # type: ignore[assignment]
        given = dict(zip(self.names, columns, strict=True))
        length = given.pop("length")
        hidden = self.network(nn.functional.embedding(given.pop("item"), items), **given)  # (B, T + 1, S)
        place = length[:, None, None].expand(-1, 1, hidden.shape[2])
        return hidden.gather(1, place)[:, 0] @ items.T


def written(model: SequenceModel, path: Path) -> Path:
    """The file, written in one move. **Raises** MissingExtra without `onnx`, with which torch checks what it wrote."""
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise MissingExtra("onnx", "export") from None
    batch, steps = 2, 3
    whole = torch.zeros((batch, steps), dtype=torch.int64)
    example = [whole, whole, whole, torch.zeros((batch, steps)), torch.tensor([steps, 1])]
    names = ["item", "kind", "gap", "weight", "length"]
    free = {name: {0: "batch", 1: "steps"} for name in names[:4]} | {"length": {0: "batch"}, "scores": {0: "batch"}}
    if model.profile:
        example.append(torch.zeros((batch, model.profile)))
        names.append("profile")
        free["profile"] = {0: "batch"}
    if model.reviews.shape[1]:
        example.append(torch.zeros((batch, steps, model.reviews.shape[1])))
        names.append("review")
        free["review"] = {0: "batch", 1: "steps"}
    path = Path(path)
    fresh = path.with_name(path.name + ".new")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about its own exporter, and of an LSTM whose batch is free
        torch.onnx.export(
            Scores(model, names).eval(), tuple(example), str(fresh), input_names=names, output_names=["scores"],
            dynamic_axes=free, opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    fresh.replace(path)
    return path
