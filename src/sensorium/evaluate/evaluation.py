"""What an evaluation found, as others read it: the protocol, a row a model, slices, the knock-out table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sensorium.data.catalog import Catalog
from sensorium.data.split import Split
from sensorium.data.vectors import Vectors
from sensorium.evaluate.ask import Answers
from sensorium.evaluate.compare import Difference, Interval
from sensorium.evaluate.metrics import Background
from sensorium.models.model import Features, Model


@dataclass(frozen=True)
class Result:
    """One model: its metrics over all people, 95 % intervals, and what it cost. `trials` is what validation saw,
    `left_out` what it was not shown, and why.
    """

    model: str
    metrics: Mapping[str, float]
    intervals: Mapping[str, Interval]
    fit_seconds: float
    evaluate_seconds: float
    peak_memory_mib: float
    settings: str = ""
    trials: Sequence[object] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    paired: Mapping[str, Difference] = field(default_factory=dict)  # the first model minus this one

    def plain(self) -> dict[str, Any]:
        """Dictionaries, lists, numbers and strings."""
        out = {
            "model": self.model,
            "metrics": {name: rounded(value) for name, value in self.metrics.items()},
            "intervals": {name: [rounded(i.low), rounded(i.high)] for name, i in self.intervals.items()},
            "fit_seconds": round(self.fit_seconds, 3),
            "evaluate_seconds": round(self.evaluate_seconds, 3),
            "peak_memory_mib": round(self.peak_memory_mib, 1),
            "settings": self.settings,
        }
        if self.trials:
            out["trials"] = [trial(entry) for entry in self.trials]
        if self.left_out:
            out["left_out"] = dict(self.left_out)
        if self.paired:
            out["paired"] = {
                name: {
                    "difference": rounded(d.difference), "low": rounded(d.low), "high": rounded(d.high),
                    "p": rounded(d.p), "people": d.people,
                }
                for name, d in self.paired.items()
            }  # fmt: skip
        return out


@dataclass(frozen=True)
class Part:
    """One slice of the targets: how many, of how many people, and each model's metrics on them."""

    people: int
    targets: int
    metrics: Mapping[str, Mapping[str, float]]  # by model
    intervals: Mapping[str, Mapping[str, Interval]]
    what: str = ""

    def plain(self) -> dict[str, Any]:
        """The first model's numbers stand at the top, everybody's under `models`."""
        first = next(iter(self.metrics), "")
        return {
            "what": self.what,
            "people": self.people,
            "targets": self.targets,
            "metrics": {name: rounded(v) for name, v in self.metrics.get(first, {}).items()},
            "intervals": {n: [rounded(i.low), rounded(i.high)] for n, i in self.intervals.get(first, {}).items()},
            "models": {
                model: {name: rounded(value) for name, value in metrics.items()}
                for model, metrics in self.metrics.items()
            },
        }


@dataclass(frozen=True, eq=False)
class First:
    """What stands behind the first row, for the pictures of a report; not part of the JSON."""

    model: Model
    features: Features
    split: Split
    answers: Answers
    background: Background
    people: Vectors | None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The whole of one evaluation. `results` has the chosen model first."""

    protocol: Mapping[str, Any]
    results: Sequence[Result]
    slices: Mapping[str, Part]
    knockout: Mapping[str, Any]
    first: First | None = None
    catalog: Catalog | None = None

    def json(self) -> dict[str, Any]:
        """`protocol`, `results`, `slices`, `knockout`: plain values, ready for `json.dumps`."""
        return {
            "protocol": dict(self.protocol),
            "results": [result.plain() for result in self.results],
            "slices": {name: part.plain() for name, part in self.slices.items()},
            "knockout": dict(self.knockout),
        }


def rounded(value: float) -> float | None:
    """Six digits after the point; None for what is not a number, which JSON cannot say.

    >>> rounded(0.12345678), rounded(float("nan"))
    (0.123457, None)
    """
    return round(float(value), 6) if math.isfinite(value) else None


def trial(entry: object) -> dict[str, Any]:
    """One thing that validation tried, by the names its class gives."""
    if isinstance(entry, Mapping):
        return {str(key): _plain(value) for key, value in entry.items()}
    names = getattr(entry, "__dataclass_fields__", None)
    if names is not None:
        return {name: _plain(getattr(entry, name)) for name in names if getattr(entry, name) is not None}
    return {"trial": str(entry)}


def _plain(value: object) -> Any:
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return rounded(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return rounded(float(value)) if hasattr(value, "__float__") else str(value)
