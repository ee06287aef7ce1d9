"""What experiments and bandits found, as plain values, and the course of a difference as a plot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from sensorium.adapt.bandit import CONTEXT, Learnt
from sensorium.adapt.experiment import MISMATCH, Measured


def told(measured: Measured, plot: bool = True) -> dict[str, Any]:
    """What an experiment found, as plain values."""
    experiment, verdict = measured.experiment, measured.verdict()
    now = experiment.shares[-1]
    arms = []
    for arm in experiment.arms:
        people = measured.counted[arm.name]
        line: dict[str, Any] = {
            "name": arm.name, "wishes": arm.wishes, "share": now.of[arm.name], "people": people,
            "mean": measured.sums[arm.name] / people if people else None,
        }  # fmt: skip
        arms.append(line | (measured.told(arm.name) if arm.name in measured.compared else {}))
    return {
        "name": experiment.name, "control": experiment.control, "arms": arms, "traffic": now.traffic,
        "alpha": experiment.alpha, "goal": experiment.goal, "least_effect": experiment.least_effect,
        "horizon_seconds": experiment.horizon_seconds, "window_seconds": experiment.window_seconds,
        "began": experiment.shares[0].since, "ended": experiment.ended, "why": experiment.why, "kept": experiment.kept,
        "waiting": measured.waiting, "verdict": None if verdict is None else {"is": verdict[0], "arm": verdict[1]},
        "mismatch": {"log_evidence": measured.evidence, "alarm": measured.evidence > MISMATCH, "from": math.exp(MISMATCH)},
    } | ({"plot": measured.trace} if plot else {})  # fmt: skip


def learnt(one: Learnt) -> dict[str, Any]:
    """What a bandit knows, as plain values; of `linear` the chances for each context."""
    bandit = one.bandit
    means = one.means()
    chances = one.chances((0.0,) * len(CONTEXT))
    arms = [
        {
            "name": arm.name, "wishes": arm.wishes, "retired": arm.name in bandit.retired, "shown": int(one.shown[place]),
            "weight": float(one.weight[place]), "mean": float(means[place]), "chance": float(chances[place]),
        }
        for place, arm in enumerate(bandit.arms)
    ]  # fmt: skip
    settings = {"half_life_days": bandit.half_life_days, "least": bandit.least, "window_seconds": bandit.window_seconds}
    body = {"name": bandit.name, "kind": bandit.kind, "arms": arms, "goal": bandit.goal, **settings}
    if bandit.kind == "linear":
        said = [tuple(float(bool(n >> bit & 1)) for bit in range(len(CONTEXT))) for n in range(2 ** len(CONTEXT))]
        body["contexts"] = [{**dict(zip(CONTEXT, x)), "chances": one.chances(x).tolist()} for x in said]
    return body


def course(name: str, points: Sequence[Mapping[str, Any]]) -> str:
    """How the difference of one arm and its bounds went, over people, as inline SVG; "" before the first point."""
    if not points:
        return ""
    width, height, left, bottom, top = 480.0, 240.0, 52.0, 26.0, 12.0
    most = max(point["people"] for point in points)
    told = [point[name] for point in points]
    # The first bounds are the whole range; what is drawn is as high as the later half of them.
    late = told[len(told) // 2 :]
    high = max([1e-4, *(max(abs(one["lower"]), abs(one["upper"])) for one in late)]) * 1.2

    def x(people: float) -> float:
        return left + people / most * (width - left - 8)

    def y(value: float) -> float:
        return top + (1 - max(min(value / high, 1.0), -1.0)) / 2 * (height - top - bottom)

    def path(bound: str) -> list[str]:
        return [f"{x(point['people']):.1f},{y(one[bound]):.1f}" for point, one in zip(points, told, strict=True)]

    marks = "".join(
        f'<line x1="{left}" x2="{width - 8}" y1="{y(at):.1f}" y2="{y(at):.1f}" stroke="currentColor" '
        f'opacity="{0.2 if at else 0.7}"/>'
        f'<text x="{left - 6}" y="{y(at) + 4:.1f}" text-anchor="end" font-size="11" '
        f'fill="currentColor">{at:+.2g}</text>'
        for at in (-high, -high / 2, 0.0, high / 2, high)
    )
    return (
        f'<svg role="img" aria-label="{escape(name, quote=True)}: difference from the control" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" xmlns="http://www.w3.org/2000/svg">{marks}'
        f'<polygon points="{" ".join(path("upper") + path("lower")[::-1])}" fill="#4477aa" opacity=".2"/>'
        f'<polyline points="{" ".join(path("difference"))}" fill="none" stroke="#4477aa" stroke-width="2"/>'
        f'<text x="{width - 8}" y="{height - 6}" text-anchor="end" font-size="11" fill="currentColor">'
        f"{most:,} people</text></svg>"
    )
