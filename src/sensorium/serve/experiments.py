"""Routes for what is tried on people: experiments, bandits, and estimates of policies that were not shown."""

from __future__ import annotations

import asyncio
import inspect
import secrets
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Response
from pydantic import Field

from sensorium.adapt.bandit import Bandit
from sensorium.adapt.definition import ARMS, OURS, SUCCESS, Arm
from sensorium.adapt.experiment import Experiment, Shares
from sensorium.adapt.figures import learnt, told
from sensorium.adapt.policy import Logged, worth
from sensorium.errors import RecipeError
from sensorium.serve.native import WRONG, ready
from sensorium.serve.schemas import WHOLE, Wire
from sensorium.serve.service import Service

ROLES: Mapping[tuple[str, str], str] = {
    ("POST", "/v1/experiments"): "admin",
    ("POST", "/v1/experiments/[^/]+/(stop|shares)"): "admin",
    ("POST", "/v1/bandits"): "admin",
    ("DELETE", "/v1/bandits/[^/]+"): "admin",
    ("POST", "/v1/policies/estimate"): "admin",
}

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Fraction = Annotated[float, Field(ge=0, le=1)]
Plain = bool | int | float | Annotated[str, Field(max_length=512)]
Wish = Plain | Annotated[list[Plain], Field(max_length=100)] | Annotated[dict[str, Plain], Field(max_length=100)]
Seconds = Annotated[float, Field(ge=0, le=30 * 86400)]
Split = Annotated[
    dict[Name, Annotated[float, Field(ge=0, le=1e6)]],
    Field(max_length=ARMS, json_schema_extra={"additionalProperties": False}),  # what has no name of an arm is refused
]
Goal = Annotated[
    dict[Annotated[str, Field(max_length=64)], Fraction],
    Field(max_length=100, description="What an event of a kind is worth, from 0 to 1."),
]


class ArmAsked(Wire):
    """A way to answer: wishes of a request (`diversity`, `repeat` …) that take the place of the recipe's."""

    name: Name
    wishes: dict[str, Wish] = Field({}, max_length=20)


class Tried(Wire):
    """An answer's reward is the sum over its items of the best event within `window_seconds`, at most 1."""

    name: Name
    arms: Annotated[list[ArmAsked], Field(min_length=2, max_length=ARMS)]
    goal: Goal = Field(default_factory=lambda: dict(SUCCESS))
    window_seconds: Seconds = 600.0


class ExperimentAsked(Tried):
    """The first arm is the control. A person counts once: the rewards of their first `horizon_seconds`, at most 1."""

    shares: Split = Field(default_factory=dict, description="By arm; without them all are equal.")
    traffic: Fraction = 1.0
    horizon_seconds: Annotated[float, Field(ge=0, le=365 * 86400)] = 86400.0
    alpha: Annotated[float, Field(ge=1e-6, le=0.5)] = 0.05
    least_effect: Fraction = 0.0
    plan: Annotated[int, Field(ge=10, le=10**9), WHOLE] = 5_000
    most: Annotated[int, Field(ge=0, le=10**12), WHOLE] = 0
    stops: bool = True


class BanditAsked(Tried):
    """A name that is there already is changed: what is known of its arms stays."""

    kind: Literal["beta", "linear"] = "beta"
    half_life_days: Annotated[float, Field(ge=1e-6, le=1e6)] = 30.0
    least: Fraction = 0.02
    seed: Annotated[int, Field(ge=0, le=2**63 - 1), WHOLE] = 0
    retired: list[Name] = Field([], max_length=ARMS)


class Stop(Wire):
    """`keep`: the arm that everybody gets from now on; without it, what the recipe says."""

    keep: Name | None = None


class NewShares(Wire):
    """Nobody moves but to an arm that has grown."""

    shares: Split
    traffic: Fraction = 1.0


class PolicyAsked(Wire):
    """What `of` would have earned, had it taken its arms with the chances of `target`."""

    of: Name
    target: Split
    clip: Annotated[float, Field(ge=0, le=1e9)] = 0.0
    confidence: Annotated[float, Field(ge=0.5, le=0.9999)] = 0.95


def experiments(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter(responses=WRONG)
    adaptive = service.adaptive

    @routes.post("/v1/experiments")
    async def begin(asked: ExperimentAsked) -> Response:
        """Begins an experiment; people get their arms from the next request on, and keep them."""
        body = asked.model_dump(exclude={"arms", "shares", "traffic"})
        arms = await _arms(service, asked)
        shares = asked.shares or dict.fromkeys((arm.name for arm in arms), 1.0)
        since = (Shares(adaptive.clock(), shares, asked.traffic),)
        made = Experiment(**body, arms=arms, shares=since, salt=secrets.token_hex(16))
        await asyncio.to_thread(partial(adaptive.define, made))
        return ready(told(adaptive.experiment(made.name)))

    @routes.get("/v1/experiments")
    async def listed() -> Response:
        """All experiments with their figures, without plots; `lost` lines were not noted, `problem` is the journal's."""
        found = [told(one, plot=False) for one in adaptive.experiments]
        return ready({"experiments": found, "lost": adaptive.lost, "problem": adaptive.problem})

    @routes.get("/v1/experiments/{name}")
    async def one(name: str) -> Response:
        """Figures and the course of the bounds; both hold however often they are looked at."""
        return ready(told(adaptive.experiment(name)))

    @routes.post("/v1/experiments/{name}/stop")
    async def stop(name: str, asked: Stop) -> Response:
        """Ends an experiment, or says which arm everybody gets after its end."""
        await asyncio.to_thread(partial(adaptive.stop, name, keep=asked.keep))
        return ready(told(adaptive.experiment(name)))

    @routes.post("/v1/experiments/{name}/shares")
    async def reshare(name: str, asked: NewShares) -> Response:
        """Other shares from now on."""
        await asyncio.to_thread(partial(adaptive.reshare, name, asked.shares, asked.traffic))
        return ready(told(adaptive.experiment(name)))

    @routes.post("/v1/bandits")
    async def define(asked: BanditAsked) -> Response:
        """Begins, or changes, a bandit."""
        body = asked.model_dump(exclude={"arms", "retired"})
        made = Bandit(**body, arms=await _arms(service, asked), retired=tuple(asked.retired))
        await asyncio.to_thread(partial(adaptive.define, made))
        return ready(learnt(adaptive.bandit(made.name)))

    @routes.get("/v1/bandits")
    async def bandits() -> Response:
        """All bandits, and what they have learnt."""
        found = [learnt(one) for one in adaptive.bandits]
        return ready({"bandits": found, "lost": adaptive.lost, "problem": adaptive.problem})

    @routes.get("/v1/bandits/{name}")
    async def bandit(name: str) -> Response:
        """With what chance each arm is shown now, and what it earned."""
        return ready(learnt(adaptive.bandit(name)))

    @routes.delete("/v1/bandits/{name}")
    async def remove(name: str) -> Response:
        """Ends a bandit; the journal keeps what it showed."""
        await asyncio.to_thread(partial(adaptive.remove, name, "bandits"))
        return ready({"name": name})

    @routes.post("/v1/policies/estimate")
    async def estimate(asked: PolicyAsked) -> Response:
        """IPS, self-normalised IPS and doubly robust, with intervals, from what was shown with known chances."""
        logged, arms = await asyncio.to_thread(partial(adaptive.logged, asked.of))
        return ready(await asyncio.to_thread(partial(estimated, logged, arms, asked)))

    return routes


def estimated(logged: Logged, arms: list[str], asked: PolicyAsked) -> dict[str, Any]:
    """The estimates as plain values. **Raises** RecipeError for a target that is none."""
    strange = sorted(set(asked.target) - set(arms))
    total = sum(asked.target.values())
    if strange or not total:
        raise RecipeError(
            f"{asked.of!r} has no arm {strange[0]!r}" if strange else "target: give some arm a chance above 0"
        )
    chances = np.array([asked.target.get(arm, 0.0) / total for arm in arms])
    found = worth(logged, chances, clip=asked.clip, confidence=asked.confidence)
    return {**vars(found), "by": {name: one.plain() for name, one in found.by.items()}, "of": asked.of}


async def _arms(service: Service, asked: Tried) -> tuple[Arm, ...]:
    """The arms, once each of them has answered a stranger. **Raises** RecipeError that names the arm that cannot."""
    known = [name for name in inspect.signature(service.engine.recommend).parameters if name not in OURS]
    arms = tuple(Arm(arm.name, arm.wishes) for arm in asked.arms)
    for arm in arms:
        for wish in arm.wishes:
            if wish not in known:
                raise RecipeError(f"arm {arm.name!r}: no wish {wish!r}; known: {', '.join(known)}")
        try:
            await service.threaded(partial(service.engine.recommend, k=1, **arm.wishes))
        except Exception as error:  # of whatever kind: what a wish may hold is the engine's to say
            raise RecipeError(f"arm {arm.name!r}: {' '.join(str(error).split())[:300]}") from None
    return arms
