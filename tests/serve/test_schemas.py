"""Bodies are what the description says, to the type: text is no number, and a number is no truth value."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from sensorium.serve import gorse_wire as gorse
from sensorium.serve.experiments import BanditAsked
from sensorium.serve.models import Refresh
from sensorium.serve.operations import Rotation
from sensorium.serve.schemas import Ask, Event, Item

DID = {"user": "ann", "item": "film"}
FED = {"FeedbackType": "star", "UserId": "ann", "ItemId": "film"}
ARMS = {"name": "from", "arms": [{"name": "a"}, {"name": "b"}]}


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (Refresh, {"wait": 1}),
        (Ask, {"explain": "yes"}),
        (Ask, {"k": "5"}),
        (Ask, {"k": True}),
        (Ask, {"k": 5.5}),
        (Ask, {"caps": {"form": "3"}}),
        (Ask, {"diversity": "0.5"}),
        (Event, {**DID, "time": "5"}),
        (Event, {**DID, "value": True}),
        (Item, {"item_id": "film", "hidden": 0}),
        (BanditAsked, {**ARMS, "seed": "1"}),
        (Rotation, {"grace_seconds": "60"}),
        (gorse.Item, {"ItemId": "film", "IsHidden": 1}),
        (gorse.Feedback, {**FED, "Value": "1"}),
    ],
)
def test_what_is_of_another_type_is_refused(kind: type[BaseModel], body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        kind.model_validate(body)
    with pytest.raises(ValidationError):
        kind.model_validate_json(json.dumps(body))


@pytest.mark.parametrize("body", [{"k": 5, "diversity": 0, "seed": 3, "explain": True}, {"k": 5.0, "seed": 3.0}])
def test_a_whole_number_may_be_written_with_a_fraction_of_nought(body: dict[str, Any]) -> None:
    for ask in (Ask.model_validate(body), Ask.model_validate_json(json.dumps(body))):
        assert (ask.k, ask.seed) == (5, 3)
    assert BanditAsked.model_validate({**ARMS, "seed": 7.0}).seed == 7


def test_the_description_tells_the_bounds_of_whole_numbers() -> None:
    place = Ask.model_json_schema()["properties"]["pins"]["additionalProperties"]
    assert (place["minimum"], place["maximum"]) == (1, 1000)
    assert BanditAsked.model_json_schema()["properties"]["seed"]["maximum"] == 2**63 - 1
