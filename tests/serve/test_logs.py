"""Lines of the log can be read by machines, and name nobody."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest

from sensorium.errors import DataError, RecipeError
from sensorium.serve.logs import listen, tell


@pytest.fixture
def lines() -> Iterator[Any]:
    root, serving = logging.getLogger(), logging.getLogger("sensorium.serve")
    before = root.handlers[:], root.level, serving.level
    stream = io.StringIO()
    listen("info", stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:], root.level, serving.level = before
    logging.getLogger().setLevel(before[1])
    serving.setLevel(before[2])


def test_a_line_is_json_with_time_level_and_event(lines: Any) -> None:
    tell("request", status=200, route="/v1/items/{item}")
    tell("detail", logging.DEBUG)  # not asked for
    (one,) = lines()
    assert (one["level"], one["event"], one["status"], one["route"]) == ("info", "request", 200, "/v1/items/{item}")
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", one["time"])


def test_an_error_is_told_by_kind_and_place_not_by_what_it_says(lines: Any) -> None:
    def deep() -> None:
        raise DataError("event of user 'ann@example.com': time 'x'")

    try:
        deep()
    except DataError as error:
        tell("failed", logging.ERROR, error=error)
        logging.getLogger("asyncio").error(
            "Task exception was never retrieved\nfuture: user ann@example.com", exc_info=True
        )
        logging.getLogger("uvicorn.error").warning("client %s said %s", "ann@example.com", "x")
    told = lines()
    assert [one["event"] for one in told] == ["failed", "asyncio", "uvicorn.error"]
    assert told[0]["error"] == "DataError"
    assert told[0]["where"][-1].endswith("deep")
    assert "ann" not in json.dumps(told)


def test_an_unknown_level_is_one_line() -> None:
    with pytest.raises(RecipeError, match="debug, info, warning, error"):
        listen("loud")
